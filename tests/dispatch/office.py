"""A dispatcher with real stores; what is not a store is faked here."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from hub.clock import StoreClock
from hub.dispatch import Dispatcher, DispatchPolicy, Gate
from hub.domain import commands as cmd
from hub.domain.decision import Decision
from hub.domain.flags import Flag
from hub.domain.footprint import footprint
from hub.domain.model import Event, EventType, Mechanic, Plan, Session
from hub.domain.plan import Wish
from hub.domain.records import JournalEntry
from hub.ports import PresenceStore, SessionStore
from persistence.redis import keys
from tests.domain.samples import CUSTOMER, ORPHAN_MS, draft, wish
from tests.redis.bench import Bench


class FakeDirectory:
    """Knows the mechanics it was told of."""

    def __init__(self) -> None:
        self.mechanics: dict[str, Mechanic] = {}

    def add(self, *mechanic_ids: str) -> None:
        for mechanic_id in mechanic_ids:
            self.mechanics[mechanic_id] = Mechanic(id=mechanic_id, name=mechanic_id, approved=True)

    async def mechanic(self, mechanic_id: str) -> Mechanic | None:
        return self.mechanics.get(mechanic_id)

    async def favorites(self, customer_id: str) -> Sequence[str]:
        raise NotImplementedError

    async def plan(self, code: str) -> Plan | None:
        raise NotImplementedError

    async def plans(self) -> Sequence[Plan]:
        raise NotImplementedError

    async def flag(self, key: str) -> Flag:
        raise NotImplementedError

    async def settings(self) -> Mapping[str, object]:
        raise NotImplementedError


class FakeAnnouncements:
    """Says what happened by its event's name alone."""

    def hints(
        self, before: Session | None, decision: Decision, declined: frozenset[str], due: int | None
    ) -> list[str]:
        return [f"* {event.type}" for event in decision.events]


class Office:
    """A dispatcher, its parts, and what it told its process."""

    def __init__(
        self,
        bench: Bench,
        *,
        sessions: SessionStore | None = None,
        presence: PresenceStore | None = None,
        policy: DispatchPolicy | None = None,
    ) -> None:
        self.bench = bench
        self.gate = Gate()
        self.gate.open()
        self.directory = FakeDirectory()
        self.commits: list[JournalEntry] = []
        self.events: list[Event] = []
        self.dispatcher = Dispatcher(
            sessions=sessions or bench.sessions,
            presence=presence or bench.presence,
            directory=self.directory,
            announcements=FakeAnnouncements(),
            clock=StoreClock(),
            gate=self.gate,
            policy=policy or DispatchPolicy(),
            on_commit=self.commits.append,
            on_event=lambda event, session: self.events.append(event),
        )
        self.execute = self.dispatcher.execute

    async def book(
        self,
        customer_id: str = CUSTOMER,
        key: str = "first",
        *,
        asked: Wish | None = None,
        fingerprint: str | None = None,
    ) -> Session:
        session, _ = await self.try_book(customer_id, key, asked=asked, fingerprint=fingerprint)
        assert session is not None
        return session

    async def try_book(
        self,
        customer_id: str = CUSTOMER,
        key: str = "first",
        *,
        asked: Wish | None = None,
        fingerprint: str | None = None,
    ) -> tuple[Session | None, bool]:
        asked_for = replace(draft(customer_id, key), fingerprint=fingerprint)
        command = cmd.Book(draft=asked_for, wish=asked or wish(), actor_id=customer_id, orphan_ms=ORPHAN_MS)
        return await self.dispatcher.book(command)


async def history(bench: Bench, session: Session) -> list[EventType]:
    """Every event of the session that reached the journal, in order."""
    entries = await bench.entries(bench.shard(session))
    return [event.type for entry in entries for event in entry.events if event.session_id == session.id]


async def work_of(bench: Bench, mechanic_id: str) -> set[str]:
    found: set[str] = await bench.raw.smembers(keys.work(bench.presence.shard(mechanic_id), mechanic_id))
    return found


async def assert_in_place(bench: Bench, session: Session) -> None:
    """The store holds the session, and its places are those that follow from it; no debt is left."""
    shard, marks = bench.shard(session), footprint(session)
    assert await bench.sessions.get([session.id]) == [session]
    assert await bench.raw.get(keys.active(shard, session.customer_id)) == (
        session.id if marks.claim else None
    )
    assert await bench.raw.zscore(keys.open_requests(shard), session.assignment_id) == marks.open_at
    deadlines = await bench.raw.zrange(keys.deadlines(shard), 0, -1, withscores=True)
    mine = {m: at for m, at in deadlines if session.id in m or session.assignment_id in m}
    assert mine == marks.deadlines
