"""A month out of 400 days is read by index, with every way open to the planner: 200,000 rows of each age."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from hub.domain.reports import REPORTS
from persistence.postgres.analytics import PostgresAnalytics
from persistence.postgres.pool import Postgres
from tests.postgres.databases import TEMPLATE, Connection, fresh_database, make_migrated

PERIOD = "now() - interval '30 days'"
BIG = {"sessions", "session_assignments", "session_requests"}
PRIORITY = {name for name in REPORTS if name.startswith(("priority", "fallback", "notification"))}

# Foreign keys and triggers would cost most of the time and change no plan.
YEARS = """
    set session_replication_role = replica;
    insert into customers (id, full_name)
        select md5(g::text)::uuid, 'Customer ' || g from generate_series(0, 4999) g;
    insert into mechanics (id, first_name, last_name, status)
        select md5('m' || g)::uuid, 'Mechanic', g::text, 'approved' from generate_series(0, 199) g;
    create temp table old as
        select g, md5((g % 5000)::text)::uuid as customer, md5('m' || g % 200)::uuid as mechanic,
            now() - interval '400 days' * (1 - g / 200000.0) as t
        from generate_series(1, 200000) g;
    insert into sessions (id, customer_user_id, session_type, plan_code, payment, status, mechanic_id,
            created_at, ended_at)
        select ('5' || lpad(g::text, 31, '0'))::uuid, customer, 'chat', 'chat10', 'paid', 'completed',
            mechanic, t, t + interval '9 minutes'
        from old;
    insert into session_assignments (id, session_id, status, routing_type, mechanic_id, preferred_mechanic_id,
            priority_notified_at, accepted_at, fallback_reason, created_at)
        select ('a' || lpad(g::text, 31, '0'))::uuid, ('5' || lpad(g::text, 31, '0'))::uuid, 'accepted',
            case when g % 4 = 0 then 'priority_broadcast' else 'broadcast' end, mechanic,
            case when g % 4 = 0 then mechanic end, case when g % 4 = 0 then t + interval '1 second' end,
            t + interval '40 seconds', case when g % 40 = 0 then 'priority_timeout' end, t
        from old;
    insert into session_requests (customer_id, mechanic_id, session_type, plan_code, status, routing_type,
            preferred_mechanic_id, priority_notified_at, accepted_at, created_at)
        select customer, mechanic, 'video', 'video15', 'accepted',
            case when g % 4 = 0 then 'priority_broadcast' end, case when g % 4 = 0 then mechanic end,
            case when g % 4 = 0 then t + interval '1 second' end, t + interval '50 seconds', t
        from old;
    set session_replication_role = origin;
    analyze;
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def years(postgres_url: str) -> AsyncIterator[str]:
    server = await asyncpg.connect(postgres_url, ssl=False)
    await make_migrated(server, postgres_url, TEMPLATE)
    async with fresh_database(server, postgres_url, TEMPLATE) as url:
        connection = await asyncpg.connect(url)
        await connection.execute(YEARS)
        await connection.close()
        yield url
    await server.close()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", REPORTS)
async def test_a_report_reads_by_index(years: str, name: str) -> None:
    connection: Connection = await asyncpg.connect(years)
    text = await connection.fetchval(f"explain (format json) select * from analytics_{name}({PERIOD})")
    await connection.close()
    found = list(nodes(json.loads(text)[0]["Plan"]))

    scanned = {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"}
    indexes = {node["Index Name"] for node in found if "Index Name" in node}
    assert not scanned & BIG
    assert "Function Scan" not in {node["Node Type"] for node in found}, "not one plan"
    assert indexes & {"session_requests_created_at_idx", "session_requests_priority_analytics_idx"}
    if name in PRIORITY:
        assert "session_assignments_priority_created_at_idx" in indexes
    else:
        assert {"session_assignments_created_at_idx", "sessions_created_at_idx"} & indexes


@pytest.mark.asyncio(loop_scope="module")
async def test_every_report_is_made_of_so_much(years: str) -> None:
    postgres = Postgres(years)
    await postgres.connect()
    analytics = PostgresAnalytics(postgres)

    reports = {name: await analytics.report(name, 30) for name in REPORTS}

    await postgres.close()
    assert json.loads(json.dumps(reports)) == reports
    assert all(reports.values())
    (share,) = reports["favorite_share"]
    assert share["bookings"] == pytest.approx(30_000, rel=0.01)
    assert share["favorite_share"] == pytest.approx(0.25, abs=0.01)
