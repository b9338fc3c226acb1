"""Claims see their own rows and no more, and broken claims see none."""

import json

import pytest
import pytest_asyncio

from tests.postgres.databases import Connection

pytestmark = pytest.mark.asyncio

ANA = "00000000-0000-0000-0000-0000000000a1"
BEN = "00000000-0000-0000-0000-0000000000a2"
NEW = "00000000-0000-0000-0000-0000000000a3"
CARL = "00000000-0000-0000-0000-0000000000c1"
DORA = "00000000-0000-0000-0000-0000000000c2"

PROTECTED = (
    "credit_ledger",
    "customer_favorites",
    "customers",
    "mechanics",
    "session_assignments",
    "session_events",
    "session_participants",
    "session_requests",
    "sessions",
    "stripe_events",
)

# Carl's session is offered to Ana alone, Dora's is open to everyone; Ben once accepted Dora's
# and gave it back.
DATA = f"""
    insert into mechanics (id, status) values ('{ANA}', 'approved'), ('{BEN}', 'approved'), ('{NEW}',
        'pending');
    insert into customers (id) values ('{CARL}'), ('{DORA}');
    insert into customer_favorites select id, '{ANA}' from customers;
    insert into credit_ledger (customer_id, delta, reason) select id, 5, 'grant' from customers;
    insert into sessions (id, customer_user_id, session_type, plan_code)
        select id, id, 'chat', 'chat10' from customers;
    insert into session_assignments (id, session_id, status, preferred_mechanic_id) values
        (gen_random_uuid(), '{CARL}', 'offered', '{ANA}'), (gen_random_uuid(), '{DORA}', 'open', null);
    insert into session_participants (session_id, user_id, role) select id, id, 'customer' from customers;
    insert into session_participants (session_id, user_id, role) values ('{DORA}', '{BEN}', 'mechanic');
    insert into session_events (event_id, session_id, type)
        select gen_random_uuid(), id, 'created' from sessions;
    insert into session_requests (customer_id, session_type, plan_code, preferred_mechanic_id) values
        ('{CARL}', 'chat', 'chat10', '{ANA}'), ('{DORA}', 'chat', 'chat10', null);
    insert into stripe_events (event_id, type, payload) values ('evt_1', 'x', '{{}}');
"""


@pytest_asyncio.fixture
async def dashboard(connection: Connection) -> Connection:
    """A connection under a role that may do anything to every table, as far as the policies let it."""
    await connection.execute(DATA)
    await connection.execute(
        """
        create role hub_test_dashboard;
        grant select, insert, update, delete on all tables in schema public to hub_test_dashboard;
        set role hub_test_dashboard;
        """
    )
    return connection


async def seen(connection: Connection, claims: str | None) -> dict[str, int]:
    if claims is not None:
        await connection.execute("select set_config('request.jwt.claims', $1, false)", claims)
    counts = {table: await connection.fetchval(f"select count(*) from {table}") for table in PROTECTED}
    return {table: count for table, count in counts.items() if count}


def claims_of(role: str, sub: str) -> str:
    return json.dumps({"sub": sub, "role": role})


async def test_a_customer_sees_own_rows_only(dashboard: Connection) -> None:
    assert await seen(dashboard, claims_of("customer", CARL)) == {
        "credit_ledger": 1,
        "customer_favorites": 1,
        "customers": 1,
        "session_assignments": 1,
        "session_events": 1,
        "session_participants": 1,
        "session_requests": 1,
        "sessions": 1,
    }
    assert await dashboard.fetchval("select bool_and(customer_user_id = $1) from sessions", CARL)
    assert await dashboard.fetchval("select bool_and(session_id = $1) from session_assignments", CARL)
    assert await dashboard.fetchval("select bool_and(id = $1) from customers", CARL)


async def test_a_mechanic_sees_offers_and_open_requests(dashboard: Connection) -> None:
    assert await seen(dashboard, claims_of("mechanic", ANA)) == {
        "mechanics": 1,
        "session_assignments": 2,
        "session_requests": 1,
        "sessions": 2,
    }


async def test_a_mechanic_does_not_see_anothers_offer_but_what_they_took_part_in(
    dashboard: Connection,
) -> None:
    assert await seen(dashboard, claims_of("mechanic", BEN)) == {
        "mechanics": 1,
        "session_assignments": 1,
        "session_events": 1,
        "session_participants": 2,
        "sessions": 1,
    }
    assert await dashboard.fetchval("select bool_and(id = $1) from sessions", DORA)


async def test_a_mechanic_who_is_not_approved_sees_no_requests(dashboard: Connection) -> None:
    assert await seen(dashboard, claims_of("mechanic", NEW)) == {"mechanics": 1}


async def test_an_admin_sees_everything(dashboard: Connection) -> None:
    everything = await seen(dashboard, claims_of("admin", ANA))
    assert set(everything) == set(PROTECTED)
    assert everything["customers"] == 2
    assert everything["mechanics"] == 3
    nested = json.dumps({"sub": ANA, "role": "authenticated", "app_metadata": {"role": "admin"}})
    assert await seen(dashboard, nested) == everything


@pytest.mark.parametrize(
    "claims",
    [
        None,
        "",
        "null",
        "{}",
        "[]",
        "7",
        '"admin"',
        "not json",
        '{"sub": "',
        '{"sub": "\\u0000"}',
        "[" * 100_000,
        json.dumps({"sub": CARL}),
        json.dumps({"role": "customer"}),
        json.dumps({"role": "customer", "sub": "not-a-uuid"}),
        json.dumps({"role": "mechanic", "sub": ""}),
        json.dumps({"role": "customer", "sub": [CARL]}),
        json.dumps({"role": ["admin"], "sub": CARL}),
        json.dumps({"role": "authenticated", "sub": CARL, "user_metadata": {"role": "admin"}}),
        claims_of("customer", ANA),
        claims_of("service", CARL),
    ],
    ids=lambda claims: str(claims)[:40],
)
async def test_claims_that_prove_nothing_see_nothing(dashboard: Connection, claims: str | None) -> None:
    assert await seen(dashboard, claims) == {}
    assert await dashboard.fetchval("select count(*) from booking_requests") == 0


async def test_reports_are_for_admins(dashboard: Connection) -> None:
    report = "select bookings from analytics_favorite_share('-infinity', 'infinity')"
    await dashboard.execute("select set_config('request.jwt.claims', $1, false)", claims_of("mechanic", ANA))
    assert await dashboard.fetchval(report) == 0
    await dashboard.execute("select set_config('request.jwt.claims', $1, false)", claims_of("admin", ANA))
    assert await dashboard.fetchval(report) == 4


@pytest.mark.parametrize("role", ["customer", "mechanic", "admin"])
async def test_policies_let_nobody_write(dashboard: Connection, role: str) -> None:
    await dashboard.execute("select set_config('request.jwt.claims', $1, false)", claims_of(role, CARL))
    for table in PROTECTED:
        assert await dashboard.execute(f"delete from {table}") == "DELETE 0"


async def test_the_owner_is_not_bound(dashboard: Connection) -> None:
    await dashboard.execute("reset role")
    assert set(await seen(dashboard, "")) == set(PROTECTED)
