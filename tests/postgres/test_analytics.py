"""Reports as the hub reads them: values that JSON knows, few at a time, none for long."""

import asyncio
import json

import pytest

from hub.domain.errors import StoreFailed, Unavailable
from hub.domain.overview import StripeInbox
from hub.domain.reports import REPORTS
from persistence.postgres.analytics import PostgresAnalytics
from persistence.postgres.pool import Postgres
from tests.postgres.databases import Connection

BOOKING = """
    insert into mechanics (id, first_name, last_name, status)
        values ('00000000-0000-4000-8000-00000000000a', 'Ana', 'Diaz', 'approved');
    insert into customers (id) values ('00000000-0000-4000-8000-00000000000c');
    insert into sessions (id, customer_user_id, session_type, plan_code, payment, status, mechanic_id)
        values ('00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-00000000000c', 'video',
            'video15', 'paid', 'live', '00000000-0000-4000-8000-00000000000a');
    insert into session_assignments (id, session_id, status, routing_type, mechanic_id, preferred_mechanic_id,
            priority_notified_at, accepted_at)
        values ('00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-000000000001', 'accepted',
            'priority_broadcast', '00000000-0000-4000-8000-00000000000a',
            '00000000-0000-4000-8000-00000000000a', now(), now() + interval '3 seconds');
"""


@pytest.fixture
def reader(postgres: Postgres) -> PostgresAnalytics:
    return PostgresAnalytics(postgres)


async def test_every_report_is_plain(reader: PostgresAnalytics, committed: Connection) -> None:
    await committed.execute(BOOKING)

    reports = {name: await reader.report(name, 30) for name in REPORTS}

    assert json.loads(json.dumps(reports)) == reports
    assert reports["priority_requests_by_favorite"] == [
        {
            "mechanic_id": "00000000-0000-4000-8000-00000000000a",
            "mechanic_name": "Ana Diaz",
            "requests": 1,
            "accepted": 1,
            "accepted_by_favorite": 1,
            "pending": 0,
        }
    ]
    assert reports["sessions_by_type"][0]["day"].count("-") == 2
    assert reports["revenue_by_routing"][0]["revenue_cents"] == 2999


async def test_days_are_counted_back_from_now(reader: PostgresAnalytics, committed: Connection) -> None:
    await committed.execute(BOOKING)
    for table in ("sessions", "session_assignments"):
        await committed.execute(f"update {table} set created_at = now() - interval '36 hours'")

    assert (await reader.report("favorite_share", 1))[0]["bookings"] == 0
    assert (await reader.report("favorite_share", 2))[0]["bookings"] == 1


async def test_what_is_no_report_is_never_sent(reader: PostgresAnalytics) -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        await reader.report("x(); drop table sessions; --", 30)


async def test_a_report_that_hangs_gives_its_connection_back(
    postgres: Postgres, committed: Connection
) -> None:
    reader = PostgresAnalytics(postgres, statement_s=0.05)
    async with committed.transaction():
        await committed.execute("lock table sessions in access exclusive mode")
        with pytest.raises(StoreFailed):
            await reader.report("favorite_share", 30)

    assert await PostgresAnalytics(postgres).report("favorite_share", 30)


async def test_reports_leave_room_for_everything_else(postgres: Postgres, committed: Connection) -> None:
    reader = PostgresAnalytics(postgres, wait_s=0.05)
    async with committed.transaction():
        await committed.execute("lock table sessions in access exclusive mode")
        many = [asyncio.create_task(reader.report("favorite_share", 30)) for _ in range(12)]
        refused, running = await asyncio.wait(many, return_when=asyncio.FIRST_COMPLETED)
        assert await postgres.fetch("select 1")
        while len(running) > 2:
            more, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            refused |= more
        assert all(isinstance(task.exception(), Unavailable) for task in refused)
    assert all(await asyncio.gather(*running))


async def test_the_stripe_inbox_is_counted(reader: PostgresAnalytics, committed: Connection) -> None:
    await committed.execute(
        """insert into stripe_events (event_id, type, payload, handled_at, outcome) values
            ('a', 't', '{}', null, null), ('b', 't', '{}', now(), 'needs_attention'),
            ('c', 't', '{}', now(), 'needs_attention'), ('d', 't', '{}', now(), 'ignored')"""
    )
    assert await reader.stripe_inbox() == StripeInbox(unhandled=1, needs_attention=2)
