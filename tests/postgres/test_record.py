"""The journal becomes rows once, in order, whatever is repeated, refused, forked or written twice at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from hub.domain.errors import StoreFailed
from hub.domain.ids import new_id
from hub.domain.model import (
    AssignmentStatus,
    EventType,
    SessionStatus,
)
from hub.domain.records import FORK, JournalEntry
from persistence.postgres.pool import Postgres
from persistence.postgres.record import PostgresRecord, Read
from tests.postgres.databases import Connection
from tests.postgres.journal import NOW, ORPHAN_MS, Journal, accepted, booking, ended, event, step


@pytest.fixture
def connection(committed: Connection) -> Connection:
    """What it writes is seen by the pool."""
    return committed


async def everything(connection: Connection) -> list[Any]:
    """Every row that a drain may write, with where it lies on disk: equal only if nothing was written."""
    tables = ("customers", "sessions", "session_participants", "session_assignments", "session_events")
    rows = [await connection.fetch(f"select t.ctid, t.xmin, t.* from {t} t order by t.ctid") for t in tables]
    return [tuple(row.values()) for table in rows for row in table]


async def test_versions_of_a_batch_become_one_row_with_its_history(
    journal: Journal, connection: Connection, mechanic: str
) -> None:
    booked = booking(notes="It rattles", metadata='{"car":"T4"}')
    taken = accepted(booked, mechanic)
    live = step(taken, status=SessionStatus.LIVE, started_at=taken.updated_at + 1_000)
    journal.add(booked, event(booked, EventType.CREATED, booked.customer_id, routing_type="broadcast"))
    journal.add(taken, event(taken, EventType.ACCEPTED, mechanic, mechanic_id=mechanic))
    last = journal.add(live, event(live, EventType.STARTED, mechanic))
    result = await journal.drain()
    assert (result.entries, result.buried, result.skipped) == (3, 0, frozenset())
    assert result.cursors == {0: last.id}
    row = await connection.fetchrow("select *, command_id::text as command from sessions")
    assert row is not None
    assert (row["status"], row["version"], row["command"]) == ("live", 3, last.command_id)
    assert (row["notes"], str(row["mechanic_id"])) == ("It rattles", mechanic)
    assert row["created_at"].timestamp() == pytest.approx(NOW / 1000, abs=1e-6)
    people = await connection.fetch("select role, left_at from session_participants order by role")
    assert [tuple(p) for p in people] == [("customer", None), ("mechanic", None)]
    customer = await connection.fetchrow("select full_name, email from customers")
    assert tuple(customer or ()) == ("Cora Lind", "cora@example.com")
    types = await connection.fetch("select type from session_events order by version")
    assert [t["type"] for t in types] == ["created", "accepted", "started"]


async def test_a_replay_changes_nothing(journal: Journal, connection: Connection, mechanic: str) -> None:
    booked = booking()
    taken = accepted(booked, mechanic)
    released = step(
        taken, status=SessionStatus.PENDING, assignment_status=AssignmentStatus.OPEN, mechanic_id=None
    )
    done = ended(released)
    journal.add(booked, event(booked, EventType.CREATED, booked.customer_id))
    journal.add(taken, event(taken, EventType.ACCEPTED, mechanic, mechanic_id=mechanic))
    journal.add(released, event(released, EventType.RELEASED, mechanic, mechanic_id=mechanic))
    journal.add(done, event(done, EventType.CANCELLED, booked.customer_id))
    entries = journal.streams[0]
    for entry in entries:
        await journal.record.write([entry], bury=journal.bury)
    await connection.execute("update customers set full_name = 'Cora Lindgren'")
    before = await everything(connection)
    await journal.drain()
    for entry in entries:
        written = await journal.record.write([entry], bury=journal.bury)
        assert written.rows == 0
    assert await everything(connection) == before
    assert journal.buried == []
    left = await connection.fetch(
        "select role, (extract(epoch from left_at) * 1000)::bigint as left_at from session_participants"
    )
    assert {tuple(row) for row in left} == {
        ("customer", done.ended_at),
        ("mechanic", released.updated_at),
    }


async def test_a_mechanic_may_come_back(journal: Journal, connection: Connection, mechanic: str) -> None:
    booked = booking()
    taken = accepted(booked, mechanic)
    released = step(taken, status=SessionStatus.PENDING, assignment_status=AssignmentStatus.OPEN)
    again = accepted(released, mechanic)
    for session, kind in ((taken, EventType.ACCEPTED), (released, EventType.RELEASED)):
        journal.add(session, event(session, kind, mechanic, mechanic_id=mechanic))
        await journal.drain()
    journal.add(again, event(again, EventType.ACCEPTED, mechanic, mechanic_id=mechanic))
    await journal.drain()
    assert (
        await connection.fetchval("select left_at from session_participants where role = 'mechanic'") is None
    )


async def test_an_event_that_comes_twice_is_one(journal: Journal, connection: Connection) -> None:
    booked = booking()
    created = event(booked, EventType.CREATED, booked.customer_id)
    journal.add(booked, created, created)
    journal.add(None, created, event(booked, EventType.SEEN, new_id()))
    await journal.drain()
    assert await connection.fetchval("select count(*) from session_events") == 2


async def test_a_known_name_is_never_lost(journal: Journal, connection: Connection) -> None:
    first = booking()
    gone = ended(first)
    nameless = booking(first.customer_id, customer_name=None, customer_email=None, created_at=NOW + 5_000)
    journal.add(first)
    journal.add(gone)
    journal.add(nameless)
    await journal.drain()
    name = await connection.fetchrow("select full_name, email from customers")
    assert tuple(name or ()) == ("Cora Lind", "cora@example.com")
    renamed = booking(first.customer_id, customer_name="Cora Berg", created_at=NOW + 9_000)
    journal.add(ended(nameless))
    journal.add(renamed)
    await journal.drain()
    assert await connection.fetchval("select full_name from customers") == "Cora Berg"


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "against the record"])
async def test_a_fork_is_buried_and_the_row_stays(
    journal: Journal, connection: Connection, together: bool
) -> None:
    booked = booking()
    ours = journal.add(step(booked, notes="ours"))
    if not together:
        await journal.drain()
    theirs = journal.add(step(booked, notes="theirs"))
    other = journal.add(booking())
    result = await journal.drain()
    assert journal.buried == [(theirs.id, FORK)]
    assert result.buried == 1
    assert result.cursors == {0: other.id}
    rows = await connection.fetch("select notes, command_id::text from sessions where notes is not null")
    assert [tuple(row) for row in rows] == [("ours", ours.command_id)]
    assert await connection.fetchval("select count(*) from sessions") == 2


@pytest.mark.parametrize(
    ("poison", "code"),
    [
        ({"notes": "nul \0 byte"}, "22021"),
        ({"session_type": "fax"}, "23514"),
        ({"metadata": "not json"}, "22P02"),
        ({"workshop_id": "not an id"}, "22000"),
        ({"plan_code": None}, "23502"),
    ],
    ids=["nul", "check", "json", "uuid", "null"],
)
async def test_poison_is_buried_alone(
    journal: Journal, connection: Connection, poison: dict[str, Any], code: str
) -> None:
    before = [journal.add(booking()) for _ in range(5)]
    bad = journal.add(booking(**poison))
    after = [journal.add(booking()) for _ in range(3)]
    journal.add(booking(), shard=1)
    result = await journal.drain()
    assert [entry_id for entry_id, _ in journal.buried] == [bad.id]
    assert journal.buried[0][1].startswith(f"{code}: ")
    assert (result.entries, result.buried) == (10, 1)
    assert result.cursors[0] == after[-1].id
    assert await connection.fetchval("select count(*) from sessions") == len(before) + len(after) + 1


async def test_poison_among_the_events_is_buried(journal: Journal, connection: Connection) -> None:
    booked = booking()
    journal.add(booked, event(booked, EventType.CREATED, booked.customer_id))
    bad = journal.add(None, event(booked, EventType.SEEN, new_id(), note="\0"))
    await journal.drain()
    assert [entry_id for entry_id, _ in journal.buried] == [bad.id]
    assert await connection.fetchval("select count(*) from session_events") == 1


async def test_nothing_moves_where_an_entry_cannot_be_buried(
    journal: Journal, record: PostgresRecord, connection: Connection
) -> None:
    journal.add(booking())
    journal.add(booking(session_type="fax"))

    async def refuse(entry: JournalEntry, error: str) -> None:
        raise StoreFailed("Redis does not answer", maybe_done=True)

    with pytest.raises(StoreFailed):
        await journal.drain([0], bury=refuse)
    assert await connection.fetchval("select count(*) from sessions") == 0
    assert await connection.fetchval("select last_id from journal_cursor") == ""


async def test_a_deleted_mechanic_becomes_null_and_stays_in_history(
    journal: Journal, connection: Connection, mechanic: str
) -> None:
    taken = accepted(booking(preferred_mechanic_id=mechanic), mechanic)
    await connection.execute("delete from mechanics")
    journal.add(taken, event(taken, EventType.ACCEPTED, mechanic, mechanic_id=mechanic))
    await journal.drain()
    assert journal.buried == []
    assert await connection.fetchval("select count(*) from sessions where mechanic_id is null") == 1
    ids = await connection.fetchrow("select mechanic_id, preferred_mechanic_id from session_assignments")
    assert tuple(ids or ()) == (None, None)
    assert await connection.fetchval("select actor_id::text from session_events") == mechanic


async def test_ending_one_and_booking_the_next_in_one_batch(journal: Journal, connection: Connection) -> None:
    first = booking()
    journal.add(first)
    await journal.drain()
    journal.add(ended(first))
    second = booking(first.customer_id)
    journal.add(second)
    journal.add(ended(second))
    third = booking(first.customer_id)
    journal.add(third)
    await journal.drain()
    active = await connection.fetch("select id::text from sessions where status = 'pending'")
    assert [row["id"] for row in active] == [third.id]


async def test_what_the_record_knows_to_be_over_keeps_nobody_waiting(
    journal: Journal, record: PostgresRecord, connection: Connection
) -> None:
    """A node that comes late remembers an accept, and the same customer's next booking."""
    first = booking()
    second = booking(first.customer_id, created_at=first.created_at + 1)
    await record.write([journal.add(ended(accepted(first, new_id())))], bury=journal.bury)
    entries = [journal.add(accepted(first, new_id())), journal.add(second)]
    assert (await record.write(entries, bury=journal.bury)).waiting == frozenset()
    assert (await record.write(entries, bury=journal.bury)).waiting == frozenset()
    active = await connection.fetch("select id::text from sessions where status = 'pending'")
    assert [row["id"] for row in active] == [second.id]


async def test_a_second_active_session_waits_for_the_first_to_end(
    journal: Journal, record: PostgresRecord, connection: Connection
) -> None:
    first = booking()
    await record.write([journal.add(first)], bury=journal.bury)
    second = journal.add(booking(first.customer_id))
    assert second.session is not None
    other = journal.add(booking())
    written = await record.write([second, other], bury=journal.bury)
    assert written.waiting == {second.session.id}
    assert await connection.fetchval("select count(*) from sessions") == 2
    written = await record.write([journal.add(ended(first)), second], bury=journal.bury)
    assert not written.waiting
    assert await connection.fetchval("select count(*) from sessions") == 3
    assert journal.buried == []


async def test_of_two_active_sessions_the_earlier_goes_first_and_an_old_version_waits_for_nobody(
    journal: Journal, record: PostgresRecord, connection: Connection
) -> None:
    first = booking()
    second = booking(first.customer_id, created_at=first.created_at + 1)
    entries = [journal.add(second), journal.add(first)]
    assert (await record.write(entries, bury=journal.bury)).waiting == {second.id}
    await record.write([journal.add(ended(first))], bury=journal.bury)
    for entry in entries:
        assert not (await record.write([entry], bury=journal.bury)).waiting
    active = await connection.fetch("select id::text from sessions where status = 'pending'")
    assert [row["id"] for row in active] == [second.id]


async def test_two_writers_at_once_one_writes_and_one_skips(
    journal: Journal, postgres: Postgres, connection: Connection
) -> None:
    for shard in (0, 1):
        booked = booking()
        journal.add(booked, event(booked, EventType.CREATED, booked.customer_id), shard=shard)
    reading, go_on = asyncio.Event(), asyncio.Event()

    def pausing(read: Read) -> Callable[[dict[int, str]], Awaitable[dict[int, list[JournalEntry]]]]:
        async def paused(after: dict[int, str]) -> dict[int, list[JournalEntry]]:
            reading.set()
            await go_on.wait()
            return await read(after)

        return paused

    first = asyncio.create_task(journal.drain([0], read=pausing(journal.read)))
    await reading.wait()
    other = Journal(PostgresRecord(postgres, orphan_ms=ORPHAN_MS))
    other.streams = journal.streams
    second = await other.drain([0, 1])
    assert second.skipped == {0}
    assert set(second.cursors) == {1}
    go_on.set()
    assert set((await first).cursors) == {0}
    assert (await other.drain()).entries == 0
    assert await connection.fetchval("select count(*) from session_events") == 2


async def test_a_cursor_of_another_epoch_starts_again(journal: Journal, connection: Connection) -> None:
    journal.add(booking())
    last = journal.add(booking())
    await journal.drain([0])
    await journal.drain([0])
    assert journal.asked == [{0: ""}, {0: last.id}]
    journal.streams[0].clear()
    reborn = journal.add(booking())
    result = await journal.drain([0], {0: "second"})
    assert journal.asked[-1] == {0: ""}
    assert result.cursors == {0: reborn.id}
    cursor = await connection.fetchrow("select epoch, last_id from journal_cursor")
    assert tuple(cursor or ()) == ("second", reborn.id)
    assert await connection.fetchval("select count(*) from sessions") == 3


async def test_a_life_that_the_record_has_left_behind_is_not_drained(
    journal: Journal, record: PostgresRecord, connection: Connection
) -> None:
    """Whoever restores has begun the next one here, and will in the store, or has by now."""
    kept = journal.add(booking(), shard=1)
    journal.add(booking())
    await journal.drain([0])
    await record.begin({0: "second"})
    for lives in ({}, {0: "second", 1: "first"}):

        async def now(lives: dict[int, str] = lives) -> dict[int, str]:
            return lives

        result = await journal.drain(now=now)
        assert (result.cursors, result.skipped) == ({1: kept.id}, frozenset())
    assert journal.asked[1:] == [{1: ""}, {1: kept.id}]
    assert await record.cursors() == {0: ("second", ""), 1: ("first", kept.id)}


async def test_a_shard_without_an_epoch_is_left_alone(journal: Journal) -> None:
    journal.add(booking())
    assert (await journal.drain([0], {1: "first"})).cursors == {}
    assert journal.asked == []


async def test_a_drain_that_finds_nothing_knows_how_far_the_record_is(journal: Journal) -> None:
    last = journal.add(booking())
    await journal.drain()
    result = await journal.drain()
    assert (result.entries, result.cursors) == (0, {0: last.id})


async def test_a_deleted_cursor_comes_back(journal: Journal, connection: Connection) -> None:
    journal.add(booking())
    await journal.drain([0])
    await connection.execute("delete from journal_cursor")
    assert (await journal.drain([0])).skipped == {0}
    assert (await journal.drain([0])).skipped == frozenset()


async def test_a_lost_connection_moves_nothing(journal: Journal, connection: Connection) -> None:
    journal.add(booking())

    async def cut(after: dict[int, str]) -> dict[int, list[JournalEntry]]:
        await connection.fetch(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        return await journal.read(after)

    with pytest.raises(StoreFailed) as failure:
        await journal.drain([0], read=cut)
    assert failure.value.maybe_done
    assert await connection.fetchval("select count(*) from sessions") == 0
    assert (await journal.drain([0])).entries == 1


async def test_a_refused_statement_is_told_without_anybodys_data(record: PostgresRecord) -> None:
    """Whoever runs the hub must know the constraint and the key."""
    journal = Journal(record)
    first = booking()
    journal.add(first)
    journal.add(booking(first.customer_id))
    with pytest.raises(StoreFailed) as failure:
        await journal.drain()
    assert not failure.value.maybe_done
    assert first.customer_id not in failure.value.detail
    assert isinstance(failure.value.__cause__, asyncpg.UniqueViolationError)
    assert "uq_active_session_per_customer" in failure.value.reason
    assert f"Key (customer_user_id)=({first.customer_id})" in failure.value.reason
