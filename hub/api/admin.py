"""What admins do to single bookings, and the entries that Postgres refused."""

from typing import Any

from hub.api.operation import ADMINS, Ask, Operation, operation
from hub.api.web import cursor_text
from hub.control import ControlDesk
from hub.domain.errors import Refused
from hub.domain.model import Event
from hub.domain.records import DeadLetter
from hub.domain.timeline import Actor, Happening, Offer
from hub.identity import Identity
from hub.ports import Clock, Inspection
from hub.wire.admin import (
    ActorView,
    AssignBody,
    DeadLetterList,
    DeadLetterView,
    HappeningView,
    LetterEvent,
    OfferView,
    RetryAnswer,
    TimelineAnswer,
)
from hub.wire.http import Page, ReasonBody, RequestAnswer, request_answer
from hub.wire.views import assignment_view, maybe_rfc3339, remaining, rfc3339, session_view

_ENDED = ("not_found", "cancelled", "expired", "invalid_state")


class AdminApi:
    def __init__(self, *, control: ControlDesk, inspection: Inspection, clock: Clock) -> None:
        self._control = control
        self._inspection = inspection
        self._clock = clock

    def operations(self) -> list[Operation]:
        one = "/api/admin/assignments/{id}"
        return [
            operation("GET", f"{one}/timeline", self.timeline, ADMINS, refuses=("not_found",)),
            operation("POST", f"{one}/broadcast", self.broadcast, ADMINS, refuses=_ENDED),
            operation(
                "POST", f"{one}/assign", self.assign, ADMINS,
                refuses=(*_ENDED, "mechanic_not_approved", "taken", "at_capacity"),
            ),
            operation("POST", f"{one}/cancel", self.cancel, ADMINS, refuses=_ENDED),
            operation("GET", "/api/admin/dead-letters", self.dead_letters, ADMINS),
            operation(
                "POST", "/api/admin/dead-letters/{id}/retry", self.retry_letter, ADMINS,
                refuses=("not_found", "invalid_state"),
            ),
        ]  # fmt: skip

    async def timeline(self, ask: Ask[None, None]) -> TimelineAnswer:
        """Everything that happened to a booking, and the same as offers: whose turn came, and what of it."""
        timeline = await self._control.timeline(ask.path("id"))
        now = self._clock.now()
        return TimelineAnswer(
            session=session_view(timeline.session),
            assignment=assignment_view(timeline.session),
            events=[_happening_view(each) for each in timeline.happenings],
            offers=[_offer_view(offer, timeline.names.get(offer.mechanic_id)) for offer in timeline.offers],
            server_time=rfc3339(now),
            expires_in_ms=remaining(timeline.session.expires_at, now),
        )

    async def broadcast(self, ask: Ask[None, ReasonBody]) -> RequestAnswer:
        """Open a request to everyone now, whoever's turn it is; one that is open stays as it is."""
        session = await self._control.broadcast(_admin(ask.identity), ask.path("id"), ask.body.reason)
        return request_answer(session, self._clock.now())

    async def assign(self, ask: Ask[None, AssignBody]) -> RequestAnswer:
        """Accept a request for a mechanic, whoever's turn it is."""
        session = await self._control.assign(_admin(ask.identity), ask.path("id"), ask.body.mechanic_id)
        return request_answer(session, self._clock.now())

    async def cancel(self, ask: Ask[None, ReasonBody]) -> RequestAnswer:
        """Cancel a session that has not ended, a live one too."""
        session = await self._control.cancel(_admin(ask.identity), ask.path("id"), ask.body.reason)
        return request_answer(session, self._clock.now())

    async def dead_letters(self, ask: Ask[Page, None]) -> DeadLetterList:
        """Entries of the journal that Postgres refused, newest first."""
        limit, cursor = ask.page
        found = await self._inspection.dead_letters(limit + 1, before=cursor)
        last = found[limit - 1] if len(found) > limit else None
        return DeadLetterList(
            items=[_letter_view(letter) for letter in found[:limit]],
            next_cursor=cursor_text((last.at, last.id)) if last else None,
        )

    async def retry_letter(self, ask: Ask[None, None]) -> RetryAnswer:
        """Give Postgres an entry again. If it is refused again, it comes back under another id.

        One whose error is `fork` tells of another past than the record: it stays where it is.
        """
        letter_id = ask.path("id")
        entry = await self._inspection.retry(letter_id)
        if entry is None:
            raise Refused("not_found", "There is no such dead letter.")
        return RetryAnswer(id=letter_id, entry=entry)


def _admin(identity: Identity) -> Actor:
    return Actor(id=identity.user_id, role=identity.role, name=identity.name)


def _happening_view(happening: Happening) -> HappeningView:
    event, actor = happening.event, happening.actor
    return HappeningView(
        event_id=happening.id,
        type=event.type,
        at=rfc3339(event.at),
        version=event.version,
        actor=ActorView(id=actor.id, role=actor.role, name=actor.name) if actor else None,
        data=_data_view(event),
    )


def _data_view(event: Event) -> dict[str, Any]:
    """The event's data with its time as all times are shown."""
    due = event.data.get("expires_at")
    return event.data | ({"expires_at": rfc3339(due)} if isinstance(due, int) else {})


def _offer_view(offer: Offer, name: str | None) -> OfferView:
    return OfferView(
        mechanic_id=offer.mechanic_id,
        mechanic_name=name,
        wave=offer.wave,
        offered_at=rfc3339(offer.offered_at),
        notified_at=maybe_rfc3339(offer.notified_at),
        delivered_at=maybe_rfc3339(offer.delivered_at),
        seen_at=maybe_rfc3339(offer.seen_at),
        ended_at=maybe_rfc3339(offer.ended_at),
        outcome=offer.outcome,
        reason=offer.reason,
        response_ms=offer.response_ms,
    )


def _letter_view(letter: DeadLetter) -> DeadLetterView:
    entry = letter.entry
    named = [entry.session.id] if entry.session else [event.session_id for event in entry.events]
    return DeadLetterView(
        id=letter.id,
        shard=entry.shard,
        entry=entry.id,
        error=letter.error,
        at=rfc3339(letter.at),
        command_id=entry.command_id,
        session_id=next(iter(named), None),
        session=session_view(entry.session) if entry.session else None,
        events=[
            LetterEvent(
                event_id=event.id,
                type=event.type,
                at=rfc3339(event.at),
                version=event.version,
                actor_id=event.actor_id,
                data=_data_view(event),
            )
            for event in entry.events
        ],
    )
