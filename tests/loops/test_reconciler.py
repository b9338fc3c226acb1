"""The reconciler over a real Valkey and a real Postgres: whatever was broken is whole after a round."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from hub.domain import commands as cmd
from hub.domain.errors import Refused
from hub.domain.footprint import footprint
from hub.domain.ids import assignment_of, new_id, new_session_id
from hub.domain.model import Session, SessionStatus
from hub.loops.journal_writer import JournalWriter
from hub.loops.ranks import Ranks
from hub.loops.reconciler import Reconciler
from persistence.postgres.pool import Postgres
from persistence.postgres.record import PostgresRecord
from persistence.redis import keys
from persistence.redis.survey import RedisSurvey
from tests.dispatch.office import Office, assert_in_place, work_of
from tests.dispatch.test_moving_targets import arrive, wish_for
from tests.domain.samples import ANA, BEN, CUSTOMER, CUSTOMERS, ORPHAN_MS
from tests.patience import until
from tests.postgres.databases import Connection
from tests.redis.bench import SHARDS

AT_ONCE = -60_000
"""Whatever happened counts as settled."""


class House:
    """A node's loops over both stores."""

    def __init__(self, office: Office, postgres: Postgres, connection: Connection) -> None:
        self.office = office
        self.bench = office.bench
        self.postgres = postgres
        self.sql = connection
        self.mended: list[str] = []
        self.record = PostgresRecord(postgres, orphan_ms=ORPHAN_MS)
        ranks = Ranks("n1", SHARDS)
        self.writer = JournalWriter(
            journal=self.bench.journal, live=self.bench.live, record=self.record, ranks=ranks
        )
        self.reconciler = self.another()

    def another(
        self,
        *,
        settled_ms: int = AT_ONCE,
        ranks: Ranks | None = None,
        record: PostgresRecord | None = None,
    ) -> Reconciler:
        return Reconciler(
            dispatcher=self.office.dispatcher,
            record=record or self.record,
            journal=self.bench.journal,
            survey=RedisSurvey(self.bench.client, SHARDS),
            ranks=ranks or Ranks("n1", SHARDS),
            gate=self.office.gate,
            mended=self.mended.append,
            settled_ms=settled_ms,
        )

    async def booked(self, customer_id: str = CUSTOMER, key: str = "first") -> Session:
        session = await self.office.book(customer_id, key)
        await self.writer.flush()
        return session

    async def offered(self, mechanic_id: str = ANA, **options: Any) -> Session:
        self.office.directory.add(mechanic_id)
        await arrive(self.bench, mechanic_id, "phone")
        session = await self.office.book(asked=await wish_for(self.office.dispatcher, mechanic_id), **options)
        await self.writer.flush()
        return session

    async def held(self, *, live: bool = False) -> Session:
        session = await self.office.book()
        session = await self.office.execute(session.id, cmd.Accept(mechanic_id=ANA))
        if live:
            session = await self.office.execute(session.id, cmd.Start(ANA))
        await self.writer.flush()
        return session

    async def round(self) -> list[str]:
        """What was mended."""
        self.mended.clear()
        count = await self.reconciler.step()
        assert count == len(self.mended)
        await self.writer.flush()
        return sorted(self.mended)

    async def now(self, session: Session) -> Session:
        (found,) = await self.bench.sessions.get([session.id])
        assert found is not None
        return found

    async def row(self, session: Session) -> Any:
        return await self.sql.fetchrow(
            "select s.*, a.status as assignment from sessions s join session_assignments a"
            " on a.session_id = s.id where s.id = $1",
            session.id,
        )

    async def whole(self, session: Session) -> None:
        """Both stores agree about the session, and nothing is left to mend."""
        assert await self.round() == []
        now = await self.now(session)
        await assert_in_place(self.bench, now)
        row = await self.row(session)
        assert (row["status"], row["assignment"]) == (now.status, now.assignment_status)


@pytest_asyncio.fixture
async def house(office: Office, postgres: Postgres, committed: Connection) -> AsyncIterator[House]:
    await committed.execute(
        "insert into mechanics (id, status) values ($1, 'approved'), ($2, 'approved')",
        ANA,
        BEN,
    )
    yield House(office, postgres, committed)


# What is in order


async def test_what_agrees_is_left_alone(house: House) -> None:
    await house.offered()
    ended = await house.booked(CUSTOMERS[1])
    await house.office.execute(ended.id, cmd.Cancel())
    await house.writer.flush()
    assert await house.round() == []


async def test_what_has_just_changed_may_be_on_its_way(house: House) -> None:
    lost = await house.booked(CUSTOMERS[1])
    await house.booked()
    await house.sql.execute("update sessions set notes = 'x'")
    await house.bench.raw.delete(house.bench.key(lost), keys.open_requests(house.bench.shard(lost)))
    await house.another(settled_ms=60_000).step()
    assert not {"session_missing", "row_differs"} & set(house.mended)


async def test_a_shard_that_is_far_behind_is_left_alone(house: House) -> None:
    session = await house.booked()
    journal = keys.journal(house.bench.shard(session))
    await house.sql.execute("update sessions set version = 0")
    await house.bench.raw.delete(journal)
    await house.bench.raw.xadd(journal, {"command": new_id(), "events": "[]"}, id="1-0")
    assert await house.reconciler.step() == 0


async def test_nothing_is_done_while_the_gate_is_shut_or_data_is_lost(house: House) -> None:
    session = await house.booked()
    await house.bench.raw.delete(house.bench.key(session))
    house.office.gate.shut()
    assert await house.reconciler.step() == 0
    house.office.gate.open()
    await house.bench.raw.delete(keys.epoch(house.bench.shard(session)))
    assert await house.reconciler.step() == 0


# Redis has lost something


@pytest.mark.parametrize("stops", [True, False], ids=["recovering", "well"])
async def test_a_round_ends_where_recovery_begins(
    house: House, monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    """It would take its time from it, and everyone waits for that."""
    monkeypatch.setattr("hub.loops.reconciler._PAGE", 1)
    monkeypatch.setattr("hub.loops.reconciler._BREATH_S", 0)
    for customer in CUSTOMERS:
        await house.booked(customer)
    pages: dict[str, int] = {"rows": 0, "places": 0}
    record, survey = house.record, house.reconciler._survey
    active_after, walk = record.active_after, survey.walk

    async def page_of_rows(*arguments: Any) -> Any:
        pages["rows"] += 1
        if stops:
            house.office.gate.shut()
        return await active_after(*arguments)

    async def page_of_places(*_: Any) -> Any:
        pages["places"] += 1
        return str(3 - pages["places"]), (await walk("0"))[1]

    monkeypatch.setattr(record, "active_after", page_of_rows)
    monkeypatch.setattr(survey, "walk", page_of_places)
    await house.reconciler.step()
    assert [count > 1 for count in pages.values()] == [not stops] * 2


async def test_a_deleted_session_goes_on_from_its_row(house: House) -> None:
    session = await house.offered()
    await house.bench.raw.delete(house.bench.key(session))
    assert "session_missing" in await house.round()
    now = await house.now(session)
    assert now.version > session.version + 1_000
    assert (now.offered_to, now.target_connection) == (ANA, "phone")
    await house.whole(session)


async def test_a_session_that_fell_behind_goes_on_from_its_row(house: House) -> None:
    session = await house.booked()
    await house.sql.execute("update sessions set version = 5, status = 'cancelled', ended_at = now()")
    await house.sql.execute("update session_assignments set version = 5, status = 'cancelled'")
    assert await house.round() == ["session_behind"]
    now = await house.now(session)
    assert (now.status, now.version) == (SessionStatus.CANCELLED, 1_005)
    await house.whole(session)
    assert await house.bench.raw.pttl(house.bench.key(session)) > 0


async def test_a_hash_that_is_no_session_any_more_is_written_anew(house: House) -> None:
    session = await house.booked()
    await house.bench.raw.hdel(house.bench.key(session), "customer_id")
    await house.bench.raw.hset(house.bench.key(session), "version", "many")
    assert await house.round() == ["session_broken"]
    await house.whole(session)


@pytest.mark.parametrize("field", ["routing_reason", "status", "waves"])
async def test_a_session_that_only_a_newer_node_can_read_is_left_to_it(house: House, field: str) -> None:
    session = await house.held()
    await house.bench.raw.hset(house.bench.key(session), field, "newer=than=this")
    before = await house.bench.raw.hgetall(house.bench.key(session))
    assert await house.round() == []
    assert await house.bench.raw.hgetall(house.bench.key(session)) == before
    assert await work_of(house.bench, ANA) == {session.id}


async def test_how_long_a_session_may_wait_is_noted_for_the_database(house: House) -> None:
    record = PostgresRecord(house.postgres, orphan_ms=10_800_000)
    reconciler = house.another(record=record)
    running = asyncio.create_task(reconciler.run())

    async def noted() -> bool:
        query = "select value::float8 from hub_settings where key = 'orphan_seconds'"
        return bool(await house.sql.fetchval(query) == 10_800)

    await until(noted)
    running.cancel()


async def test_lost_places_are_taken_again(house: House) -> None:
    session = await house.offered()
    raw, shard = house.bench.raw, house.bench.shard(session)
    await raw.delete(
        keys.active(shard, CUSTOMER),
        keys.deadlines(shard),
        keys.offers(shard, ANA),
        keys.open_requests(shard),
    )
    missing = ["claim_missing", *["deadline_missing"] * len(footprint(session).deadlines), "offer_missing"]
    assert await house.round() == missing
    assert [s.id for s in await house.bench.sessions.offered_to(ANA)] == [session.id]
    await house.whole(session)


async def test_a_deadline_that_was_moved_away_comes_back(house: House) -> None:
    session = await house.booked()
    deadlines = keys.deadlines(house.bench.shard(session))
    await house.bench.raw.zadd(deadlines, {f"orphan:{session.id}": session.orphan_at * 2})
    assert await house.round() == ["deadline_missing"]
    await house.whole(session)


async def test_open_requests_are_listed_again(house: House) -> None:
    session = await house.booked()
    await house.bench.raw.delete(keys.open_requests(house.bench.shard(session)))
    assert await house.round() == ["open_missing"]
    await house.whole(session)


@pytest.mark.parametrize("live", [False, True])
async def test_what_a_mechanic_holds_is_noted_again(house: House, live: bool) -> None:
    session = await house.held(live=live)
    shard = house.bench.presence.shard(ANA)
    await house.bench.raw.delete(keys.work(shard, ANA), keys.live(shard, ANA))
    assert await house.round() == ["work_missing"]
    assert await work_of(house.bench, ANA) == {session.id}
    assert await house.bench.raw.smembers(keys.live(shard, ANA)) == ({session.id} if live else set())
    await house.whole(session)


async def test_a_mechanic_whose_grace_was_lost_goes_offline(house: House) -> None:
    await arrive(house.bench, ANA, "phone")
    await house.bench.presence.disconnect(ANA, "phone", "node", grace_ms=1)
    deadlines = keys.deadlines(house.bench.presence.shard(ANA))
    await house.bench.raw.delete(deadlines)
    assert await house.round() == ["grace_missing"]
    assert await house.bench.raw.zscore(deadlines, f"grace:{ANA}") is not None
    assert await house.round() == []


# Redis has kept something


async def test_places_of_an_ended_session_are_cleared(house: House) -> None:
    session = await house.booked()
    await house.office.execute(session.id, cmd.Cancel())
    await house.writer.flush()
    raw, shard = house.bench.raw, house.bench.shard(session)
    await raw.set(keys.active(shard, CUSTOMER), session.id)
    await raw.zadd(keys.open_requests(shard), {session.assignment_id: 1})
    await raw.zadd(keys.deadlines(shard), {f"orphan:{session.id}": 1})
    assert await house.round() == ["claim_left", "deadline_left", "open_left"]
    await house.whole(session)


async def test_places_of_a_session_that_is_gone_are_cleared(house: House) -> None:
    gone = new_session_id(CUSTOMER)
    raw, shard = house.bench.raw, house.bench.sessions.shard(gone)
    await raw.set(keys.active(shard, CUSTOMER), gone)
    await raw.zadd(keys.open_requests(shard), {assignment_of(gone): 1, "rubbish": 2})
    await raw.sadd(keys.offers(shard, ANA), assignment_of(gone))
    await raw.sadd(keys.work(house.bench.presence.shard(ANA), ANA), gone)
    found = await house.round()
    assert found == ["claim_left", "offer_left", "open_left", "open_left", "work_left"]
    assert await work_of(house.bench, ANA) == set()
    assert await house.round() == []


async def test_a_place_that_was_just_claimed_is_not_taken_away(house: House) -> None:
    session = await house.booked()
    assert await house.bench.presence.claim_work(ANA, session.id, 1)
    assert await house.round() == []
    assert await work_of(house.bench, ANA) == {session.id}


# Postgres has lost something, or was told otherwise


async def test_a_deleted_row_is_written_again(house: House) -> None:
    session = await house.held()
    await house.sql.execute("delete from sessions")
    assert await house.round() == ["row_missing"]
    people = await house.sql.fetch("select user_id::text, role from session_participants order by role")
    assert [tuple(person) for person in people] == [(CUSTOMER, "customer"), (ANA, "mechanic")]
    await house.whole(session)


async def test_a_deleted_assignment_is_written_again(house: House) -> None:
    session = await house.booked()
    await house.sql.execute("delete from session_assignments")
    assert await house.round() == ["row_missing"]
    await house.whole(session)


async def test_the_deleted_row_of_an_ended_session_stays_deleted(house: House) -> None:
    session = await house.booked()
    await house.office.execute(session.id, cmd.Cancel())
    await house.writer.flush()
    await house.sql.execute("delete from sessions")
    assert await house.round() == []


@pytest.mark.parametrize(
    "statement",
    [
        "update sessions set status = 'cancelled', ended_at = now()",
        "update sessions set notes = 'by hand'",
        "update session_assignments set status = 'open', expires_at = null",
    ],
)
async def test_a_row_that_was_changed_by_hand_is_written_again(house: House, statement: str) -> None:
    session = await house.offered()
    await house.sql.execute(statement)
    assert await house.round() == ["row_differs"]
    assert (await house.row(session))["notes"] is None
    await house.whole(session)


async def test_a_row_whose_last_entry_was_lost_is_written_again(house: House) -> None:
    session = await house.booked()
    await house.office.execute(session.id, cmd.Cancel())
    await house.bench.raw.delete(keys.journal(house.bench.shard(session)))
    assert await house.round() == ["row_behind"]
    await house.whole(session)


async def test_a_row_that_was_expired_while_nobody_listened_expires_the_session(house: House) -> None:
    session = await house.booked()
    assert await house.sql.fetchval("select expire_orphaned_sessions('-1 minutes')") == 1
    assert await house.round() == ["orphan_unheard"]
    assert (await house.now(session)).status is SessionStatus.EXPIRED
    await house.whole(session)


async def test_a_row_that_was_expired_too_late_is_put_right(house: House) -> None:
    """The session was started, which the row did not show yet."""
    session = await house.held()
    await house.office.execute(session.id, cmd.Start(ANA))
    assert await house.sql.fetchval("select expire_orphaned_sessions('-1 minutes')") == 1
    listening = asyncio.create_task(house.reconciler.run())
    house.reconciler.orphan_reported(session.id)
    another = await house.office.book(CUSTOMERS[1])
    house.reconciler.orphan_reported(another.id)

    async def followed() -> bool:
        return (await house.now(another)).status is SessionStatus.EXPIRED

    await until(followed)
    listening.cancel()
    await house.writer.flush()
    assert (await house.now(session)).status is SessionStatus.LIVE
    await house.whole(session)


async def test_what_the_record_cannot_hold_is_not_written_for_ever(house: House) -> None:
    session = await house.booked()
    await house.sql.execute(
        "create function stubborn() returns trigger language plpgsql as"
        " $$ begin new.notes = 'mine'; return new; end $$;"
        "create trigger stubborn before update on sessions for each row execute function stubborn();"
        "update sessions set version = version"
    )
    assert await house.round() == ["row_differs"]
    assert await house.round() == []
    assert (await house.now(session)).version == session.version + 1


async def test_a_row_whose_end_was_lost_is_closed_once_the_keys_are_gone(house: House) -> None:
    session = await house.held(live=True)
    await house.bench.raw.delete(house.bench.key(session), keys.active(house.bench.shard(session), CUSTOMER))
    await house.sql.execute("update sessions set updated_at = now() - interval '3 hours'")
    assert await house.round() == ["session_lost", "work_left"]
    row = await house.row(session)
    assert (row["status"], row["assignment"]) == ("cancelled", "accepted")
    assert row["ended_at"] is not None
    why = await house.sql.fetchval("select data->>'reason' from session_events where type = 'cancelled'")
    assert why == "lost"
    assert await house.round() == []
    await house.booked(key="second")


async def test_a_booking_that_the_lost_sessions_row_keeps_out_gets_in(house: House) -> None:
    """The hash is deleted and the customer books again: uq_active_session_per_customer stops the journal."""
    lost = await house.booked()
    raw, shard = house.bench.raw, house.bench.shard(lost)
    await raw.delete(house.bench.key(lost))
    later = await house.office.book(key="second")
    (entry,) = await raw.xrange(keys.journal(shard))
    await raw.delete(keys.journal(shard))
    await raw.xadd(keys.journal(shard), entry[1], id="2-0")
    await house.sql.execute("update journal_cursor set last_id = '1-0'")
    assert await house.round() == ["session_lost"]
    assert (await house.row(lost))["status"] == "expired"
    assert await house.round() == ["open_left"]
    await house.whole(later)


# Beside live traffic


async def test_commits_meanwhile_are_neither_undone_nor_stopped(house: House) -> None:
    """Every place is taken away again and again while sessions are decided."""
    sessions = [await house.office.book(new_id(), f"{n}") for n in range(12)]
    done = asyncio.Event()

    async def live(session: Session, nth: int) -> None:
        for _ in range(4):
            await house.office.execute(session.id, cmd.Accept(mechanic_id=ANA))
            await house.office.execute(session.id, cmd.Release(ANA))
        if nth % 2:
            await house.office.execute(session.id, cmd.Cancel())

    async def harm() -> None:
        while not done.is_set():
            for session in sessions:
                shard = house.bench.shard(session)
                await house.bench.raw.delete(
                    keys.open_requests(shard), keys.active(shard, session.customer_id)
                )
            await house.reconciler.step()
            await house.writer.flush()

    harming = asyncio.create_task(harm())
    await asyncio.gather(*(live(session, nth) for nth, session in enumerate(sessions)))
    done.set()
    await harming
    await house.round()
    assert await house.round() == []
    for nth, session in enumerate(sessions):
        now = await house.now(session)
        assert now.status is (SessionStatus.CANCELLED if nth % 2 else SessionStatus.PENDING)
        await assert_in_place(house.bench, now)
        assert (await house.row(session))["status"] == now.status
    assert await work_of(house.bench, ANA) == set()
    assert await house.sql.fetchval("select count(*) from session_events where type = 'accepted'") == 48


async def test_an_ended_customer_can_book_whatever_was_left(house: House) -> None:
    session = await house.booked()
    await house.office.execute(session.id, cmd.Cancel())
    shard = house.bench.shard(session)
    await house.bench.raw.set(keys.active(shard, CUSTOMER), session.id)
    await house.writer.flush()
    await house.round()
    with pytest.raises(Refused):
        await house.office.execute(session.id, cmd.Accept(mechanic_id=ANA))
    assert (await house.booked(key="second")).id != session.id


async def test_what_was_mended_is_remembered(house: House) -> None:
    session = await house.booked()
    for _ in range(60):
        await house.bench.raw.delete(keys.open_requests(house.bench.shard(session)))
        await house.reconciler.step()
    recent = house.reconciler.recent
    assert len(recent) == 50
    assert (recent[-1].what, recent[-1].subject, recent[-1].version) == ("open_missing", session.id, 1)
    assert 0 <= await house.bench.now() - recent[-1].at < 60_000


async def test_only_the_shards_first_node_mends(house: House) -> None:
    session = await house.booked()
    await house.bench.raw.delete(keys.open_requests(house.bench.shard(session)))
    nodes = ("n1", "n2", "n3")
    found = []
    for name in nodes:
        ranks = Ranks(name, SHARDS)
        ranks.update(nodes)
        first = house.bench.shard(session) in ranks.first()
        found.append((await house.another(ranks=ranks).step() == 1, first))
    assert sorted(found) == [(False, False), (False, False), (True, True)]
