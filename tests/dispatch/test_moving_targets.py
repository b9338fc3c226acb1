"""Mechanics who come and go while an offer to them is being made."""

from msgspec.structs import replace

from hub.dispatch import Dispatcher
from hub.domain import commands as cmd
from hub.domain.errors import StoreFailed
from hub.domain.model import AssignmentStatus, Candidate, RoutingType, Session, Status
from hub.domain.plan import Wish
from hub.domain.records import BookingSnapshot, Snapshot
from persistence.redis import keys
from persistence.redis.sessions import RedisSessions
from tests.dispatch.office import Office
from tests.domain.samples import ANA, BEN
from tests.redis.bench import SHARDS, Bench

MINUTE = 60_000


class Interrupted(RedisSessions):
    """Something happens just before a session is loaded."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.client, SHARDS)
        self._bench = bench
        self.arriving: str | None = None
        self.leaving: str | None = None

    async def load_booking(
        self, customer_id: str, session_id: str, *, earlier_id: str | None = None
    ) -> BookingSnapshot:
        if self.arriving:
            await arrive(self._bench, ANA, self.arriving)
            self.arriving = None
        if self.leaving:
            await self._bench.presence.disconnect(ANA, self.leaving, "node", grace_ms=MINUTE)
            self.leaving = None
        return await super().load_booking(customer_id, session_id, earlier_id=earlier_id)

    async def load(self, session_id: str) -> Snapshot:
        if self.arriving:
            await arrive(self._bench, ANA, self.arriving)
            self.arriving = None
        return await super().load(session_id)


class Narrow(RedisSessions):
    """A session is no more when somebody loads it who has just found it offered."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.client, SHARDS)
        self._bench = bench

    async def offered_to(self, mechanic_id: str) -> list[Session]:
        found = await super().offered_to(mechanic_id)
        for session in found:
            await self._bench.raw.delete(keys.session(self._bench.shard(session), session.id))
        return found


async def arrive(bench: Bench, mechanic_id: str, connection: str) -> None:
    await bench.presence.connect(
        mechanic_id, connection, "node", status=Status.ONLINE, mechanic=True, limit=5
    )


async def wish_for(dispatcher: Dispatcher, *mechanic_ids: str, wait: bool = False) -> Wish:
    found = await dispatcher.candidates(mechanic_ids)
    return Wish(
        routing_type=RoutingType.SEQUENCE if len(mechanic_ids) > 1 else RoutingType.PRIORITY,
        preferred=True,
        candidates=tuple(found.values()),
        wait=wait,
        default_window_ms=10 * MINUTE,
    )


async def now(bench: Bench, session: Session) -> Session:
    (found,) = await bench.sessions.get([session.id])
    assert found is not None
    return found


async def test_who_connects_while_they_are_waited_for_gets_the_offer(bench: Bench) -> None:
    sessions = Interrupted(bench)
    office = Office(bench, sessions=sessions)
    office.directory.add(ANA)
    asked = await wish_for(office.dispatcher, ANA, wait=True)
    sessions.arriving = "phone"

    booked = await now(bench, await office.book(asked=asked))

    assert booked.assignment_status is AssignmentStatus.OFFERED
    assert booked.target_connection == "phone"


async def test_an_offer_to_a_connection_that_has_just_gone_goes_to_the_next(bench: Bench) -> None:
    sessions = Interrupted(bench)
    office = Office(bench, sessions=sessions)
    office.directory.add(ANA)
    await arrive(bench, ANA, "tablet")
    await bench.next_ms()
    await arrive(bench, ANA, "phone")
    asked = await wish_for(office.dispatcher, ANA)
    sessions.leaving = "phone"

    booked = await now(bench, await office.book(asked=asked))

    assert booked.target_connection == "tablet"


async def test_old_news_of_connections_takes_no_offer_away(bench: Bench) -> None:
    """The goodbye of an old socket was read before the new one came, and is applied after it."""
    office = Office(bench)
    office.directory.add(ANA)
    await arrive(bench, ANA, "new")
    booked = await office.book(asked=await wish_for(office.dispatcher, ANA))
    nobody = Candidate(mechanic_id=ANA, status=Status.ONLINE)

    await office.execute(booked.id, cmd.Retarget(nobody, "old"))

    assert (await now(bench, booked)).target_connection == "new"


async def test_when_nothing_is_known_of_the_next_favourite_everyone_is_asked(bench: Bench) -> None:
    office = Office(bench)
    office.directory.add(ANA, BEN)
    for mechanic_id in (ANA, BEN):
        await arrive(bench, mechanic_id, f"phone of {mechanic_id}")
    booked = await office.book(asked=await wish_for(office.dispatcher, ANA, BEN))
    assert booked.offered_to == ANA

    async def away(mechanic_id: str) -> None:
        raise StoreFailed("Postgres is away.", maybe_done=False)

    office.directory.mechanic = away  # type: ignore[method-assign]  # the record has gone away
    moved = await office.execute(booked.id, cmd.Decline(ANA))

    assert moved.assignment_status is AssignmentStatus.OPEN


async def test_a_restored_booking_answers_its_key_again(bench: Bench) -> None:
    """What the record restores has no fingerprint any more."""
    office = Office(bench)
    booked = await office.book(fingerprint="as asked")
    await bench.raw.flushall()
    for shard in range(SHARDS):
        await bench.raw.set(keys.epoch(shard), "second")
    await bench.sessions.restore(_without_fingerprint(booked), booked.version)

    again, new = await office.try_book(fingerprint="as asked")

    assert again is not None
    assert (again.id, new) == (booked.id, False)


def _without_fingerprint(session: Session) -> Session:
    return replace(session, fingerprint=None, version=session.version + 1_000)


async def test_what_is_no_more_moves_nowhere(bench: Bench) -> None:
    office = Office(bench, sessions=Narrow(bench))
    office.directory.add(ANA)
    for news in (office.dispatcher.mechanic_moved, office.dispatcher.mechanic_left):
        await arrive(bench, ANA, "phone")
        session = await office.book(key=news.__name__, asked=await wish_for(office.dispatcher, ANA))
        assert session.offered_to == ANA
        await news(ANA)
        assert await bench.sessions.get([session.id]) == [None]
        await bench.raw.delete(keys.active(bench.shard(session), session.customer_id))
