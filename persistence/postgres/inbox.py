"""The inbox of Stripe's events: stored before anything comes of them, each with what became of it."""

import asyncpg
import msgspec

from hub.domain.checkout import EventOutcome, StripeEvent, Verdict
from persistence.postgres.pool import Postgres
from persistence.postgres.query_files import load

_QUERIES = load("inbox")

_BEGINNING = (0, "")


def _query(*names: str) -> str:
    return "\n".join(_QUERIES[name] for name in names)


_OF_ID = _query("stored", "of_id")
_LEFT = _query("stored", "left")
_SIBLINGS = _query("stored", "siblings")
_PAGE = _query("stored", "before", "newest")
_PAGE_UNHANDLED = _query("stored", "before", "unhandled", "newest")
_PAGE_WITH_OUTCOME = _query("stored", "before", "with_outcome", "newest")


class PostgresInbox:
    """A place in a list is (received, ms; id)."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def store(self, event_id: str, kind: str, payload: str) -> StripeEvent:
        """The event as it is stored, now or at an earlier time."""
        async with self._postgres.connection() as connection:
            await connection.execute(_QUERIES["store"], event_id, kind, payload)
            row = await connection.fetchrow(_OF_ID, event_id)
        assert row is not None
        return _event(row)

    async def get(self, event_id: str) -> StripeEvent | None:
        found = await self._postgres.fetch(_OF_ID, event_id)
        return _event(found[0]) if found else None

    async def left(
        self, *, older_than_s: float, limit: int, after: tuple[int, str] | None = None
    ) -> list[StripeEvent]:
        """Those that are still to do, oldest first."""
        found = await self._postgres.fetch(_LEFT, older_than_s, limit, *(after or _BEGINNING))
        return [_event(row) for row in found]

    async def siblings(self, event: StripeEvent) -> list[StripeEvent]:
        """The other events of the same checkout."""
        if event.checkout_id is None:
            return []
        found = await self._postgres.fetch(_SIBLINGS, event.checkout_id, event.event_id)
        return [_event(row) for row in found]

    async def page(
        self,
        limit: int,
        *,
        outcome: EventOutcome | None = None,
        unhandled: bool = False,
        before: tuple[int, str] | None = None,
    ) -> list[StripeEvent]:
        """Newest first: all, those with this outcome, or those still to do."""
        place = (limit, *(before or (None, None)))
        if unhandled:
            found = await self._postgres.fetch(_PAGE_UNHANDLED, *place)
        elif outcome is not None:
            found = await self._postgres.fetch(_PAGE_WITH_OUTCOME, *place, outcome)
        else:
            found = await self._postgres.fetch(_PAGE, *place)
        return [_event(row) for row in found]

    async def finish(self, event_id: str, verdict: Verdict) -> StripeEvent | None:
        """The event with this end to it; None where it had one before. Only that a session was booked is
        still written over `needs_attention`."""
        done = await self._postgres.fetch(
            _QUERIES["finish"], event_id, verdict.outcome, verdict.session_id, verdict.detail
        )
        return await self.get(event_id) if done else None

    async def reopen(self, event_id: str) -> StripeEvent | None:
        """The event, to do again; None where it does not need attention."""
        reopened = await self._postgres.fetch(_QUERIES["reopen"], event_id)
        return await self.get(event_id) if reopened else None


def _event(row: asyncpg.Record) -> StripeEvent:
    values = dict(row)
    metadata = msgspec.json.decode(values["metadata"] or "null")
    values["metadata"] = metadata if isinstance(metadata, dict) else {}
    return msgspec.convert(values, StripeEvent)
