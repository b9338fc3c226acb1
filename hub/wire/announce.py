"""From the events of a decision to the messages on sockets: who is told what."""

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from hub.domain.decision import Decision
from hub.domain.ids import event_id
from hub.domain.model import AssignmentStatus, Event, EventType, Fallback, PresenceState, Session
from hub.wire import hints, server
from hub.wire.hints import NOTHING, Audience, Delivery, Hint, PresenceChange
from hub.wire.server import (
    AssignmentClosed,
    CustomerNews,
    EventMessage,
    NewAssignment,
    OfferEnded,
    Payload,
    PresenceUpdate,
    PrioritySessionRequest,
    ServerEvent,
)
from hub.wire.views import (
    assignment_view,
    maybe_rfc3339,
    presence_view,
    remaining,
    request_view,
    rfc3339,
    session_view,
)

_encoder = msgspec.json.Encoder()

_EndReason = Literal["timeout", "declined", "rescinded"]

_CLOSED = {
    EventType.ACCEPTED: server.ASSIGNMENT_ACCEPTED,
    EventType.CANCELLED: server.ASSIGNMENT_CANCELLED,
    EventType.EXPIRED: server.ASSIGNMENT_EXPIRED,
}
_STATUS_CLOSED = {
    AssignmentStatus.ACCEPTED: EventType.ACCEPTED,
    AssignmentStatus.CANCELLED: EventType.CANCELLED,
    AssignmentStatus.EXPIRED: EventType.EXPIRED,
}


class Announcer:
    def hints(
        self, before: Session | None, decision: Decision, declined: frozenset[str], due: int | None
    ) -> list[str]:
        """The messages for the bus that tell of a decision; `due` is a deadline that is near."""
        session = decision.session
        targeted: list[str] = []
        deliveries: list[Delivery] = []
        for event in decision.events:
            if event.type is EventType.OFFERED and session.target_connection and session.target_node:
                hint = Hint(deliver=[self.priority_request(session, event.at)])
                targeted.append(hints.encode(hint, session.target_node))
            else:
                deliveries += self.deliveries(event, session, before, declined)
        if deliveries or due:
            targeted.append(hints.encode(Hint(deliver=deliveries, due=due)))
        return targeted

    def deliveries(
        self, event: Event, session: Session, before: Session | None, declined: frozenset[str]
    ) -> list[Delivery]:
        match event.type:
            case EventType.NOTIFIED:
                return [self._notified(event, session)]
            case EventType.DECLINED if event.data["priority"]:
                ended = self._offer_ended(event, session, event.data["mechanic_id"], "declined")
                # The next favourite's name may stand in the session by now.
                name = before.preferred_mechanic_name if before is not None else None
                return [ended, self._favorite_declined(event, session, name)]
            case EventType.OFFER_EXPIRED:
                timeout = event.data["reason"] == Fallback.PRIORITY_TIMEOUT
                reason: _EndReason = "timeout" if timeout else "rescinded"
                return [self._offer_ended(event, session, event.data["mechanic_id"], reason)]
            case EventType.BROADCAST:
                return [self.new_assignment(session, declined), self._searching(event, session)]
            case EventType.ACCEPTED:
                told = self._closed(event, session)
                if before is not None and before.offered_to not in (None, session.mechanic_id):
                    told.insert(0, self._offer_ended(event, session, before.offered_to or "", "rescinded"))
                if event.actor_id != session.mechanic_id:
                    # Whoever others chose for it has asked nothing, and may not have been told of it.
                    told += [d for d in self.session_updated(session) if d.to == session.mechanic_id]
                return told
            case EventType.CANCELLED | EventType.EXPIRED:
                closed = self._closed(event, session)
                if before is not None and before.offered_to:
                    closed.insert(0, self._offer_ended(event, session, before.offered_to, "rescinded"))
                return closed
            case EventType.STARTED:
                return self.session_updated(session)
            case EventType.COMPLETED:
                forget = Delivery(
                    audience=Audience.TOLD, frame=NOTHING, assignment_id=session.assignment_id, over=True
                )
                return [*self.session_updated(session), forget]
        return []

    def priority_request(self, session: Session, now: int) -> Delivery:
        """For the one connection that the decision chose."""
        assert session.expires_at is not None
        assert session.target_connection is not None
        who = session.customer_name or "A customer"
        window = _duration(session.waves[session.wave].window_ms)
        payload = PrioritySessionRequest(
            request=request_view(session),
            target_mechanic_id=session.offered_to or "",
            priority_window_minutes=session.priority_window_minutes,
            expires_at=rfc3339(session.expires_at),
            expires_in_ms=remaining(session.expires_at, now) or 0,
            server_time=rfc3339(now),
            message=f"{who} specifically requested you! You have {window} priority access.",
            version=session.version,
        )
        return Delivery(
            audience=Audience.CONNECTION,
            to=session.target_connection,
            assignment_id=session.assignment_id,
            frame=_frame(
                server.PRIORITY_SESSION_REQUEST,
                session,
                payload,
                f"{EventType.OFFERED}:{session.wave}:{session.target_connection}",
                occasion=0,
            ),
        )

    def new_assignment(self, session: Session, declined: frozenset[str]) -> Delivery:
        payload = NewAssignment(
            request=request_view(session),
            routing_type=session.routing_type,
            version=session.version,
            fallback_reason=session.fallback_reason or UNSET,
        )
        return Delivery(
            audience=Audience.ONLINE,
            assignment_id=session.assignment_id,
            exclude=sorted(declined),
            frame=_frame(server.NEW_ASSIGNMENT, session, payload, EventType.BROADCAST),
        )

    def session_updated(self, session: Session) -> list[Delivery]:
        """The present state, for the customer and the mechanic who has the session."""
        message = f"The session is {session.status}."
        people = [session.customer_id, *([session.mechanic_id] if session.mechanic_id else [])]
        news = self._news(
            session, message, mechanic_id=session.mechanic_id, mechanic_name=session.mechanic_name
        )
        frame = _frame(server.SESSION_UPDATED, session, news, "session_updated")
        return [Delivery(audience=Audience.USER, to=person, frame=frame) for person in people]

    def ended(self, session: Session) -> list[Delivery]:
        """How a request ended that was open before, recomputed from its state; nothing while it is open."""
        kind = _STATUS_CLOSED.get(session.assignment_status)
        if kind is None:
            return []
        event = Event(session_id=session.id, type=kind, at=session.updated_at, version=session.version)
        return self._closed(event, session)

    def presence(self, change: PresenceChange, now: int) -> EventMessage:
        """For whoever watches the mechanic."""
        view = presence_view(PresenceState(status=change.status, last_seen=change.last_seen))
        payload = PresenceUpdate(
            mechanic_id=change.mechanic_id,
            is_online=view.is_online,
            status=view.status,
            last_seen=view.last_seen,
        )
        return server.PRESENCE_UPDATE.message(
            payload,
            event_id=event_id(change.mechanic_id, change.last_seen or 0, change.status),
            at=rfc3339(now),
        )

    def _notified(self, event: Event, session: Session) -> Delivery:
        name = session.preferred_mechanic_name
        news = self._news(
            session,
            f"Waiting for {name or 'your favourite mechanic'}'s response…",
            mechanic_id=event.data["mechanic_id"],
            mechanic_name=name,
            expires_at=maybe_rfc3339(session.expires_at),
            expires_in_ms=remaining(session.expires_at, event.at),
            server_time=rfc3339(event.at),
        )
        return _to_customer(server.FAVORITE_NOTIFIED, session, news, event.type)

    def _favorite_declined(self, event: Event, session: Session, name: str | None) -> Delivery:
        news = self._news(
            session,
            f"{name or 'Your favourite mechanic'} cannot take your request now.",
            mechanic_id=event.data["mechanic_id"],
            mechanic_name=name,
        )
        return _to_customer(server.FAVORITE_DECLINED, session, news, event.type)

    def _searching(self, event: Event, session: Session) -> Delivery:
        reason = event.data.get("reason")
        message = "Finding another mechanic…" if reason else "Finding a mechanic…"
        news = self._news(session, message, reason=reason or UNSET)
        return _to_customer(server.SEARCHING, session, news, event.type)

    def _offer_ended(self, event: Event, session: Session, mechanic_id: str, reason: _EndReason) -> Delivery:
        payload = OfferEnded(
            assignment_id=session.assignment_id,
            session_id=session.id,
            reason=reason,
            version=session.version,
        )
        frame = _frame(server.OFFER_ENDED, session, payload, f"offer_ended:{event.type}")
        return Delivery(audience=Audience.USER, to=mechanic_id, frame=frame)

    def _closed(self, event: Event, session: Session) -> list[Delivery]:
        kind = _CLOSED[event.type]
        payload = AssignmentClosed(
            assignment_id=session.assignment_id,
            session_id=session.id,
            mechanic_id=session.mechanic_id,
            version=session.version,
            reason=event.data.get("reason") or _why_closed(event, session),
        )
        occasion = session.ended_at or session.accepted_at or 0
        told = Delivery(
            audience=Audience.TOLD,
            # Who has it may have come to another node since they were told, or never have been asked.
            to="" if session.active else session.mechanic_id or "",
            assignment_id=session.assignment_id,
            frame=_frame(kind, session, payload, event.type, occasion),
            over=not session.active,
        )
        mine = msgspec.structs.replace(payload, mechanic_name=session.mechanic_name)
        return [told, _to_customer(kind, session, mine, event.type, occasion)]

    def _news(
        self,
        session: Session,
        message: str,
        *,
        mechanic_id: str | None = None,
        mechanic_name: str | None = None,
        reason: str | UnsetType = UNSET,
        expires_at: str | UnsetType | None = UNSET,
        expires_in_ms: int | UnsetType | None = UNSET,
        server_time: str | UnsetType = UNSET,
    ) -> CustomerNews:
        return CustomerNews(
            session=session_view(session),
            assignment=assignment_view(session),
            message=message,
            version=session.version,
            mechanic_id=mechanic_id or UNSET,
            mechanic_name=mechanic_name if mechanic_id else UNSET,
            reason=reason,
            expires_at=expires_at,
            expires_in_ms=expires_in_ms,
            server_time=server_time,
        )


def _frame(
    event: ServerEvent[Payload], session: Session, payload: Payload, kind: str, occasion: int | None = None
) -> Raw:
    """`occasion` tells apart what may happen more than once to a session: by default its version. What can be
    told again after later changes names an occasion that those leave alone, so that it keeps its id."""
    message = event.message(
        payload,
        event_id=event_id(session.id, session.version if occasion is None else occasion, kind),
        at=rfc3339(session.updated_at),
    )
    return Raw(_encoder.encode(message))


def _to_customer(
    event: ServerEvent[Payload], session: Session, payload: Payload, kind: str, occasion: int | None = None
) -> Delivery:
    frame = _frame(event, session, payload, f"customer:{kind}", occasion)
    return Delivery(audience=Audience.USER, to=session.customer_id, frame=frame)


def _why_closed(event: Event, session: Session) -> str:
    """In a word, where nobody gave a reason of their own."""
    match event.type:
        case EventType.ACCEPTED:
            return "accepted" if event.actor_id in (None, session.mechanic_id) else "assigned"
        case EventType.CANCELLED if event.actor_id is not None:
            return "customer" if event.actor_id == session.customer_id else "admin"
    return event.type


def _duration(ms: int) -> str:
    """In words, to the second; parts of one count as a whole one."""
    minutes, seconds = divmod(-(-ms // 1000), 60)
    parts = [(minutes, "minute"), (seconds, "second")]
    return " ".join(f"{n} {unit}{'s' if n > 1 else ''}" for n, unit in parts if n)
