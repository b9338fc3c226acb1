"""A commit whose reply is lost is answered once it is known, and has happened exactly once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from hub.domain import commands as cmd
from hub.domain.errors import StoreFailed, Unavailable
from hub.domain.model import EventType
from hub.domain.records import Outcome
from persistence.redis import keys, scripts
from persistence.redis.sessions import RedisSessions
from tests.dispatch.office import Office, assert_in_place, history
from tests.domain.samples import ANA, BEN, CUSTOMER, online, wish
from tests.line import Line
from tests.patience import PATIENCE_S
from tests.redis.bench import Bench, open_bench

COMMIT = scripts.COMMIT.digest.encode()


@pytest_asyncio.fixture
async def line(bench: Bench) -> AsyncIterator[Line]:
    line = Line(bench.url, COMMIT)
    await line.open()
    yield line
    await line.close()


@pytest_asyncio.fixture
async def far_office(line: Line) -> AsyncIterator[Office]:
    """At the far end of the line that breaks."""
    async with open_bench(line.url) as far:
        yield Office(far)


CUTS = [["request"], ["reply"], ["reply", "reply"], ["request", "reply", "request"]]


@pytest.mark.parametrize("cuts", CUTS, ids="-".join)
async def test_a_booking_is_made_once(
    office: Office, far_office: Office, line: Line, bench: Bench, cuts: list[str]
) -> None:
    await office.execute((await office.book()).id, cmd.Cancel(CUSTOMER))
    line.cuts = list(cuts)

    session, new = await far_office.try_book(key="second", fingerprint="abc")

    assert line.cuts == []
    assert session is not None
    assert new
    assert await history(bench, session) == [EventType.CREATED, EventType.BROADCAST]
    assert [event.type for event in far_office.events] == [EventType.CREATED, EventType.BROADCAST]
    assert len(far_office.commits) == 1
    await assert_in_place(bench, session)


@pytest.mark.parametrize("cuts", CUTS, ids="-".join)
@pytest.mark.parametrize(
    ("command", "told"),
    [
        (cmd.Accept(mechanic_id=ANA), EventType.ACCEPTED),
        (cmd.Cancel(CUSTOMER), EventType.CANCELLED),
    ],
    ids=["accept", "cancel"],
)
async def test_a_command_is_done_once(
    office: Office,
    far_office: Office,
    line: Line,
    bench: Bench,
    cuts: list[str],
    command: cmd.Command,
    told: EventType,
) -> None:
    session = await office.book()
    # Scripts are known by their digests from here on.
    await far_office.execute(session.id, cmd.Decline(ANA))
    line.cuts = list(cuts)

    done = await far_office.execute(session.id, command)

    assert line.cuts == []
    assert done.version == session.version + 1
    assert (await history(bench, session)).count(told) == 1
    assert [event.type for event in far_office.events].count(told) == 1
    await assert_in_place(bench, done)


class DoubtfulSessions(RedisSessions):
    """Loses the replies to commits while `after` says what to do once the commit has really happened."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.client, bench.sessions.shards)
        self.after: Callable[[], Any] | None = None
        self.happened: list[Outcome] = []

    async def commit(self, *args: Any, **options: Any) -> tuple[Outcome, str]:
        outcome, detail = await super().commit(*args, **options)
        self.happened.append(outcome)
        if self.after is not None:
            after, self.after = self.after, None
            await after()
            raise StoreFailed("The reply was lost.", maybe_done=True)
        return outcome, detail


async def test_a_failure_without_doubt_is_told_at_once(bench: Bench) -> None:
    class Refusing(RedisSessions):
        async def commit(self, *args: Any, **options: Any) -> tuple[Outcome, str]:
            raise StoreFailed("Out of memory.", maybe_done=False)

    office = Office(bench, sessions=Refusing(bench.client, bench.sessions.shards))

    with pytest.raises(StoreFailed):
        await office.book()
    assert office.commits == []


async def test_somebody_else_going_on_does_not_hide_that_it_happened(office: Office, bench: Bench) -> None:
    session = await office.book()
    sessions = DoubtfulSessions(bench)
    doubtful = Office(bench, sessions=sessions)

    async def start() -> None:
        await office.execute(session.id, cmd.Start(ANA))

    sessions.after = start
    accepted = await doubtful.execute(session.id, cmd.Accept(mechanic_id=ANA))

    assert sessions.happened == [Outcome.COMMITTED, Outcome.REPEATED]
    assert accepted.version == session.version + 1
    assert len(doubtful.commits) == 1


async def test_what_may_have_happened_before_data_was_lost_is_not_denied(bench: Bench) -> None:
    """The commit happened, the record may have it; then the data was lost, and the reply with it.

    "Recovering" would say that it did not happen and will not: the answer has to wait for the recovery.
    """
    sessions = DoubtfulSessions(bench)
    office = Office(bench, sessions=sessions)
    shard = bench.presence.shard(CUSTOMER)

    async def lose() -> None:
        await bench.raw.delete(keys.epoch(shard))

    sessions.after = lose
    booking = asyncio.create_task(office.try_book())
    async with asyncio.timeout(PATIENCE_S):
        waiting = asyncio.create_task(office.gate.suspected.wait())
        await asyncio.wait({waiting, booking}, return_when=asyncio.FIRST_COMPLETED)
        await waiting
        # What recovery does: the session is restored from the record, the epoch set last.
        office.gate.shut()
        await bench.raw.set(keys.epoch(shard), "second-epoch")
        office.gate.open()
        try:
            session, _ = await booking
        except Unavailable as error:
            pytest.fail(f"denied what has happened: {error}")

    assert session is not None
    await assert_in_place(bench, session)


@pytest.mark.parametrize(
    ("command", "told"),
    [(cmd.Decline(BEN), EventType.DECLINED), (cmd.Acknowledge(ANA, EventType.SEEN), EventType.SEEN)],
    ids=["decline", "ack"],
)
async def test_history_that_was_added_stays_so_whoever_comes_next(
    office: Office, bench: Bench, command: cmd.Command, told: EventType
) -> None:
    """It takes no version; somebody's accept comes between it and its repetition."""
    asked = wish(online(ANA)) if isinstance(command, cmd.Acknowledge) else None
    session = await office.book(asked=asked)
    sessions = DoubtfulSessions(bench)
    doubtful = Office(bench, sessions=sessions)

    async def accept() -> None:
        await office.execute(session.id, cmd.Accept(mechanic_id=ANA))

    sessions.after = accept
    await doubtful.execute(session.id, command)

    assert sessions.happened == [Outcome.COMMITTED, Outcome.REPEATED]
    assert (await history(bench, session)).count(told) == 1
