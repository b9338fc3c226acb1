"""From the events of a decision to the messages on sockets: who is told what."""

from collections.abc import Callable

import msgspec
from msgspec import UNSET, Raw, UnsetType

from hub.domain.decision import Decision
from hub.domain.ids import event_id
from hub.domain.model import AssignmentStatus, Event, EventType, Fallback, Session
from hub.wire import hints
from hub.wire.hints import NOTHING, Audience, Delivery, Hint
from hub.wire.server import (
    AssignmentClosed,
    CustomerNews,
    EventMessage,
    NewAssignment,
    OfferEnded,
    PrioritySessionRequest,
)
from hub.wire.views import assignment_view, maybe_rfc3339, remaining, request_view, rfc3339, session_view

NameOf = Callable[[str], str | None]

_encoder = msgspec.json.Encoder()

_ENDED_BECAUSE = {Fallback.PRIORITY_TIMEOUT: "timeout"}


class Announcer:
    """`name_of` gives a mechanic's name from what is at hand, without waiting."""

    def __init__(self, name_of: NameOf) -> None:
        self._name_of = name_of

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
                return [ended, self._favorite_declined(event, session)]
            case EventType.OFFER_EXPIRED:
                reason = _ENDED_BECAUSE.get(event.data["reason"], "rescinded")
                return [self._offer_ended(event, session, event.data["mechanic_id"], reason)]
            case EventType.BROADCAST:
                return [self.new_assignment(session, declined), self._searching(event, session)]
            case EventType.ACCEPTED:
                return self._closed(event, session, "assignment_accepted")
            case EventType.CANCELLED | EventType.EXPIRED:
                closed = self._closed(event, session, f"assignment_{event.type}")
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
        minutes = session.priority_window_minutes
        unit = "minute" if minutes == 1 else "minutes"
        who = session.customer_name or "A customer"
        payload = PrioritySessionRequest(
            request=request_view(session),
            target_mechanic_id=session.offered_to or "",
            priority_window_minutes=minutes,
            expires_at=rfc3339(session.expires_at),
            expires_in_ms=remaining(session.expires_at, now) or 0,
            server_time=rfc3339(now),
            message=f"{who} specifically requested you! You have {minutes} {unit} priority access.",
            version=session.version,
        )
        return Delivery(
            audience=Audience.CONNECTION,
            to=session.target_connection,
            assignment_id=session.assignment_id,
            frame=_frame(
                "priority_session_request",
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
            frame=_frame("new_assignment", session, payload, EventType.BROADCAST),
        )

    def session_updated(self, session: Session) -> list[Delivery]:
        """The present state, for the customer and the mechanic who has the session."""
        message = f"Your session is {session.status}."
        people = [session.customer_id, *([session.mechanic_id] if session.mechanic_id else [])]
        news = self._news(session, message, mechanic_id=session.mechanic_id)
        frame = _frame("session_updated", session, news, "session_updated")
        return [Delivery(audience=Audience.USER, to=person, frame=frame) for person in people]

    def ended(self, session: Session) -> list[Delivery]:
        """How a request ended that was open before, recomputed from its state; nothing while it is open."""
        match session.assignment_status:
            case AssignmentStatus.ACCEPTED:
                name, kind = "assignment_accepted", EventType.ACCEPTED
            case AssignmentStatus.CANCELLED:
                name, kind = "assignment_cancelled", EventType.CANCELLED
            case AssignmentStatus.EXPIRED:
                name, kind = "assignment_expired", EventType.EXPIRED
            case _:
                return []
        event = Event(session_id=session.id, type=kind, at=session.updated_at, version=session.version)
        return self._closed(event, session, name)

    def _notified(self, event: Event, session: Session) -> Delivery:
        mechanic_id = event.data["mechanic_id"]
        name = self._name_of(mechanic_id)
        news = self._news(
            session,
            f"Waiting for {name or 'your favourite mechanic'}'s response…",
            mechanic_id=mechanic_id,
            expires_at=maybe_rfc3339(session.expires_at),
            expires_in_ms=remaining(session.expires_at, event.at),
            server_time=rfc3339(event.at),
        )
        return _to_customer("favorite_notified", session, news, event.type)

    def _favorite_declined(self, event: Event, session: Session) -> Delivery:
        name = self._name_of(event.data["mechanic_id"]) or "Your favourite mechanic"
        news = self._news(
            session,
            f"{name} cannot take your request now.",
            mechanic_id=event.data["mechanic_id"],
        )
        return _to_customer("favorite_declined", session, news, event.type)

    def _searching(self, event: Event, session: Session) -> Delivery:
        reason = event.data.get("reason")
        message = "Finding another mechanic…" if reason else "Finding a mechanic…"
        news = self._news(session, message, reason=reason or UNSET)
        return _to_customer("searching", session, news, event.type)

    def _offer_ended(self, event: Event, session: Session, mechanic_id: str, reason: str) -> Delivery:
        payload = OfferEnded(
            assignment_id=session.assignment_id,
            session_id=session.id,
            reason=reason,
            version=session.version,
        )
        frame = _frame("offer_ended", session, payload, f"offer_ended:{event.type}")
        return Delivery(audience=Audience.USER, to=mechanic_id, frame=frame)

    def _closed(self, event: Event, session: Session, name: str) -> list[Delivery]:
        payload = AssignmentClosed(
            assignment_id=session.assignment_id,
            session_id=session.id,
            mechanic_id=session.mechanic_id,
            version=session.version,
            reason=event.data.get("reason", UNSET),
        )
        occasion = session.ended_at or session.accepted_at or 0
        told = Delivery(
            audience=Audience.TOLD,
            assignment_id=session.assignment_id,
            frame=_frame(name, session, payload, event.type, occasion),
            over=not session.active,
        )
        mechanic = self._name_of(session.mechanic_id) if session.mechanic_id else None
        mine = msgspec.structs.replace(payload, mechanic_name=mechanic)
        return [told, _to_customer(name, session, mine, event.type, occasion)]

    def _news(
        self,
        session: Session,
        message: str,
        *,
        mechanic_id: str | None = None,
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
            mechanic_name=self._name_of(mechanic_id) if mechanic_id else UNSET,
            reason=reason,
            expires_at=expires_at,
            expires_in_ms=expires_in_ms,
            server_time=server_time,
        )


def _frame(name: str, session: Session, payload: object, kind: str, occasion: int | None = None) -> Raw:
    """`occasion` tells apart what may happen more than once to a session: by default its version. What can be
    told again after later changes names an occasion that those leave alone, so that it keeps its id."""
    message = EventMessage(
        event=name,
        event_id=event_id(session.id, session.version if occasion is None else occasion, kind),
        at=rfc3339(session.updated_at),
        payload=payload,
    )
    return Raw(_encoder.encode(message))


def _to_customer(
    name: str, session: Session, payload: object, kind: str, occasion: int | None = None
) -> Delivery:
    frame = _frame(name, session, payload, f"customer:{kind}", occasion)
    return Delivery(audience=Audience.USER, to=session.customer_id, frame=frame)
