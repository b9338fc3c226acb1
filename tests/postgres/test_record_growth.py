"""What a drain costs Postgres does not grow with what is on record."""

import pytest

from hub.domain.model import AssignmentStatus, EventType, SessionStatus
from persistence.postgres.pool import Postgres
from tests.postgres.databases import Connection
from tests.postgres.journal import Journal, accepted, booking, event, step


@pytest.fixture
def connection(committed: Connection) -> Connection:
    """What it writes is seen by the pool."""
    return committed


async def test_drains_are_planned_once_and_read_no_table_as_a_whole_though_it_was_empty_then(
    journal: Journal, connection: Connection, postgres: Postgres
) -> None:
    await connection.fetch("select pg_stat_force_next_flush()")
    await connection.fetch("select pg_stat_reset()")
    for _ in range(12):
        for _ in range(5):
            booked = booking()
            journal.add(booked, event(booked, EventType.CREATED, booked.customer_id))
        await journal.drain()
    ((planned_anew,),) = await postgres.fetch(
        "select sum(custom_plans) from pg_prepared_statements"
        " where statement like '%insert into session_events%'"
    )
    assert planned_anew == 0
    await postgres.fetch("select pg_stat_force_next_flush()")
    read = await connection.fetch(
        "select relname, seq_tup_read from pg_stat_user_tables"
        " where relname = 'customers' or relname ~ '^session_(participants|assignments|events)$|^sessions$'"
    )
    assert {row["relname"]: row["seq_tup_read"] for row in read} == {
        "customers": 0,
        "sessions": 0,
        "session_participants": 0,
        "session_assignments": 0,
        "session_events": 0,
    }


async def test_a_mechanic_may_leave_and_come_back_in_one_batch(
    journal: Journal, connection: Connection, mechanic: str
) -> None:
    booked = booking()
    taken = accepted(booked, mechanic)
    journal.add(taken, event(taken, EventType.ACCEPTED, mechanic, mechanic_id=mechanic))
    await journal.drain()
    released = step(taken, status=SessionStatus.PENDING, assignment_status=AssignmentStatus.OPEN)
    again = accepted(released, mechanic)
    journal.add(released, event(released, EventType.RELEASED, mechanic, mechanic_id=mechanic))
    journal.add(again, event(again, EventType.ACCEPTED, mechanic, mechanic_id=mechanic))
    await journal.drain()
    row = await connection.fetchrow(
        "select joined_at, left_at from session_participants where role = 'mechanic'"
    )
    assert row is not None
    assert (row["joined_at"].timestamp() * 1000, row["left_at"]) == (pytest.approx(again.accepted_at), None)
