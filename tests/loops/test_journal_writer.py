"""The journal writer over real stores: what one shard suffers is no other's business."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio

from hub.domain.errors import StoreFailed
from hub.domain.ids import new_id, shard_of_user
from hub.domain.model import Session
from hub.domain.records import JournalEntry
from hub.loops.journal_writer import JournalWriter
from hub.loops.ranks import Ranks
from persistence.postgres.pool import Postgres
from persistence.postgres.record import PostgresRecord
from persistence.redis import keys
from persistence.redis.journal import RedisJournal
from tests.dispatch.office import Office
from tests.domain.samples import ORPHAN_MS
from tests.patience import until
from tests.postgres.databases import Connection
from tests.redis.bench import SHARDS, listening


class Workshop:
    """A node's writer, what it was asked to write, and its alarms."""

    def __init__(self, office: Office, postgres: Postgres, sql: Connection) -> None:
        self.office = office
        self.bench = office.bench
        self.sql = sql
        self.alarms: list[str] = []
        self.record = PostgresRecord(postgres, orphan_ms=ORPHAN_MS)
        self.writer = self.another(self.bench.journal)

    def another(self, journal: RedisJournal) -> JournalWriter:
        return JournalWriter(
            journal=journal,
            live=self.bench.live,
            record=self.record,
            ranks=Ranks("n1", SHARDS),
            alarm=self.alarms.append,
        )

    async def booked(self, shard: int) -> Session:
        """A session whose customer is of this shard."""
        while True:
            customer = new_id()
            if shard_of_user(customer, SHARDS) == shard:
                return await self.office.book(customer)

    async def in_the_way(self, session: Session) -> None:
        """The session's customer has another active row."""
        await self.sql.execute("insert into customers (id) values ($1)", session.customer_id)
        await self.sql.execute(
            "insert into sessions (id, customer_user_id, session_type, plan_code)"
            " values (gen_random_uuid(), $1, 'chat', 'free')",
            session.customer_id,
        )

    async def out_of_the_way(self, session: Session) -> None:
        await self.sql.execute(
            "delete from sessions where customer_user_id = $1 and id <> $2", session.customer_id, session.id
        )

    async def recorded(self, session: Session) -> bool:
        return await self.sql.fetchval("select 1 from sessions where id = $1", session.id) is not None

    async def waiting(self, shard: int) -> int:
        return int(await self.bench.raw.xlen(keys.journal(shard)))


@pytest_asyncio.fixture
async def workshop(office: Office, postgres: Postgres, committed: Connection) -> Workshop:
    return Workshop(office, postgres, committed)


@contextlib.asynccontextmanager
async def running(writer: JournalWriter) -> AsyncIterator[None]:
    task = asyncio.create_task(writer.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_refused_shard_is_set_aside_and_goes_on_by_itself(workshop: Workshop) -> None:
    stuck, others = await workshop.booked(0), [await workshop.booked(shard) for shard in (1, 2, 3)]
    await workshop.in_the_way(stuck)

    await workshop.writer.flush()

    assert [await workshop.recorded(session) for session in others] == [True] * 3
    assert not await workshop.recorded(stuck)
    await workshop.out_of_the_way(stuck)
    async with running(workshop.writer):
        await until(lambda: workshop.recorded(stuck))
    assert workshop.alarms == []


async def test_whoever_runs_the_hub_is_told_why_a_shard_is_stuck(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = await workshop.booked(2)
    await workshop.in_the_way(stuck)

    for _ in range(6):
        await workshop.writer.flush()

    assert workshop.alarms == ["journal_stuck"]
    (line,) = [vars(record) for record in caplog.records if record.message == "journal_stuck"]
    assert line["shard"] == 2
    assert "uq_active_session_per_customer" in line["reason"]
    assert stuck.customer_id in line["reason"]


async def test_a_commit_does_not_hasten_what_was_refused(workshop: Workshop) -> None:
    stuck = await workshop.booked(0)
    await workshop.in_the_way(stuck)
    await workshop.writer.flush()
    await workshop.out_of_the_way(stuck)

    workshop.writer.committed(workshop.office.commits[-1])

    assert await workshop.writer.step() == 0


async def test_an_entry_that_cannot_be_read_is_kept_and_stops_its_shard_alone(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    strange = {"command": new_id(), "events": '[{"of": "a later version"}]'}
    entry = await workshop.bench.raw.xadd(keys.journal(1), strange)
    behind, other = await workshop.booked(1), await workshop.booked(3)

    await workshop.writer.flush()

    assert await workshop.recorded(other)
    assert not await workshop.recorded(behind)
    assert await workshop.waiting(1) == 2
    assert f"hub:{{1}}:journal {entry} cannot be read" in vars(caplog.records[-1])["reason"]
    await workshop.bench.raw.xdel(keys.journal(1), entry)
    await workshop.writer.flush()
    assert await workshop.recorded(behind)


async def test_what_another_wrote_is_trimmed_and_told_of_once(workshop: Workshop) -> None:
    """The other died between its transaction and the trim."""
    session = await workshop.booked(2)
    journal = workshop.bench.journal

    class Dying(RedisJournal):
        async def trim(self, cursors: dict[int, str], epochs: Mapping[int, str]) -> None:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await workshop.another(Dying(workshop.bench.client, journal.shards)).flush()
    assert await workshop.recorded(session)
    assert await workshop.waiting(2) == 1

    async with listening(workshop.bench.bus) as ear:
        await workshop.writer.flush()
        await workshop.writer.flush()
        told = [message for message in await ear.messages(2) if "recorded" in message]
    assert await workshop.waiting(2) == 0
    assert len(told) == 1


async def test_a_trim_that_fails_is_made_up_for(workshop: Workshop) -> None:
    session = await workshop.booked(2)

    class Failing(RedisJournal):
        fails = 1

        async def trim(self, cursors: dict[int, str], epochs: Mapping[int, str]) -> None:
            if self.fails:
                self.fails -= 1
                raise StoreFailed("Redis does not answer", maybe_done=True)
            await super().trim(cursors, epochs)

    await workshop.another(Failing(workshop.bench.client, SHARDS)).flush()
    assert await workshop.recorded(session)
    assert await workshop.waiting(2) == 0


async def test_where_much_waits_one_part_does_not_wait_for_the_other(workshop: Workshop) -> None:
    last = {}
    for shard in (0, 1):
        for _ in range(250):
            last[shard] = await workshop.booked(shard)
    written = asyncio.Event()

    class Waiting(RedisJournal):
        async def read(self, after: dict[int, str], limit: int) -> dict[int, list[JournalEntry]]:
            if 0 in after:
                await written.wait()
            return await super().read(after, limit)

    async with running(workshop.another(Waiting(workshop.bench.client, SHARDS))):
        await until(lambda: workshop.recorded(last[1]))
        assert not await workshop.recorded(last[0])
        written.set()
        await until(lambda: workshop.recorded(last[0]))
