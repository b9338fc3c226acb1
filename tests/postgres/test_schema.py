"""What the schema does by itself: notifications, the one active session, deletes, orphans, history."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
import pytest_asyncio
from asyncpg.exceptions import (
    CheckViolationError,
    ForeignKeyViolationError,
    RestrictViolationError,
    UniqueViolationError,
)

from tests.postgres.databases import Connection

pytestmark = pytest.mark.asyncio

ANA = "00000000-0000-0000-0000-0000000000a1"
CARL = "00000000-0000-0000-0000-0000000000c1"
SESSION = "00000000-0000-0000-0000-000000000051"
ASSIGNMENT = "00000000-0000-0000-0000-0000000000f1"

PEOPLE = f"""
    insert into mechanics (id, first_name, last_name, status) values ('{ANA}', 'Ana', 'Diaz', 'approved');
    insert into customers (id) values ('{CARL}');
"""


@pytest_asyncio.fixture
async def heard(committed: Connection, database_url: str) -> AsyncIterator["asyncio.Queue[tuple[str, str]]"]:
    """What another node hears, as (channel, payload)."""
    await committed.execute(PEOPLE)
    queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def put(_connection: object, _pid: int, channel: str, payload: object) -> None:
        queue.put_nowait((channel, str(payload)))

    node = await asyncpg.connect(database_url)
    await node.add_listener("hub_changes", put)
    await node.add_listener("hub_orphans", put)
    yield queue
    await node.close()


async def book(
    connection: Connection, session: str, status: str = "pending", age: timedelta = timedelta()
) -> None:
    await connection.execute(
        """
        insert into sessions (id, customer_user_id, session_type, plan_code, status, version, created_at)
        values ($1, $2, 'chat', 'chat10', $3, 7, now() - $4::interval)
        """,
        session,
        CARL,
        status,
        age,
    )


@pytest.mark.parametrize(
    ("statement", "table", "key"),
    [
        ("update feature_flags set is_enabled = true", "feature_flags", "ENABLE_FAVORITES_PRIORITY"),
        (
            "insert into hub_settings (key, value) values ('offline_policy', '1')",
            "hub_settings",
            "offline_policy",
        ),
        ("delete from plans where plan_code = 'video15'", "plans", "video15"),
        ("truncate plans", "plans", None),
        (f"insert into customer_favorites values ('{CARL}', '{ANA}')", "customer_favorites", CARL),
        ("update mechanics set status = 'suspended'", "mechanics", ANA),
        ("update mechanics set priority_window_minutes = 5, is_online = true", "mechanics", ANA),
        ("delete from mechanics", "mechanics", ANA),
    ],
)
async def test_a_change_by_plain_sql_is_told(
    committed: Connection,
    heard: "asyncio.Queue[tuple[str, str]]",
    statement: str,
    table: str,
    key: str | None,
) -> None:
    await committed.execute(statement)
    channel, payload = await asyncio.wait_for(heard.get(), 5)
    assert channel == "hub_changes"
    assert json.loads(payload) == {"table": table, "key": key}


async def test_the_presence_mirror_is_not_told(
    committed: Connection, heard: "asyncio.Queue[tuple[str, str]]"
) -> None:
    await committed.execute("update mechanics set is_online = true, last_seen_at = now(), updated_at = now()")
    # Postgres delivers in the order of commits: were the mirror told, it would be heard first.
    await committed.execute("update feature_flags set is_enabled = true")
    _, payload = await asyncio.wait_for(heard.get(), 5)
    assert json.loads(payload)["table"] == "feature_flags"


async def test_deleting_a_favourite_mechanic_tells_of_the_customer_too(
    committed: Connection, heard: "asyncio.Queue[tuple[str, str]]"
) -> None:
    await committed.execute(f"insert into customer_favorites values ('{CARL}', '{ANA}')")
    await asyncio.wait_for(heard.get(), 5)
    await committed.execute("delete from mechanics")
    told = [json.loads((await asyncio.wait_for(heard.get(), 5))[1])["table"] for _ in range(2)]
    assert sorted(told) == ["customer_favorites", "mechanics"]


@pytest.mark.parametrize("status", ["pending", "waiting", "live", "scheduled"])
async def test_a_customer_has_one_active_session(connection: Connection, status: str) -> None:
    await connection.execute(PEOPLE)
    await book(connection, "00000000-0000-0000-0000-000000000050", "completed")
    await book(connection, SESSION, status)
    with pytest.raises(UniqueViolationError, match="uq_active_session_per_customer"):
        await book(connection, "00000000-0000-0000-0000-000000000052")


async def test_deleting_a_mechanic_leaves_the_record(connection: Connection) -> None:
    await connection.execute(PEOPLE)
    await book(connection, SESSION)
    await connection.execute(
        f"""
        update sessions set mechanic_id = '{ANA}';
        insert into session_assignments (id, session_id, mechanic_id, preferred_mechanic_id)
            values ('{ASSIGNMENT}', '{SESSION}', '{ANA}', '{ANA}');
        insert into session_participants (session_id, user_id, role) values ('{SESSION}', '{ANA}',
            'mechanic');
        insert into session_requests (customer_id, session_type, plan_code, preferred_mechanic_id)
            values ('{CARL}', 'chat', 'chat10', '{ANA}');
        insert into customer_favorites values ('{CARL}', '{ANA}');
        delete from mechanics;
        """
    )
    row = await connection.fetchrow(
        """
        select (select mechanic_id from sessions), a.mechanic_id, a.preferred_mechanic_id,
            (select preferred_mechanic_id from session_requests),
            (select count(*) from customer_favorites), (select count(*) from session_participants)
        from session_assignments a
        """
    )
    assert row is not None
    assert tuple(row) == (None, None, None, None, 0, 1)


async def test_an_assignment_goes_with_its_session_and_a_customer_with_history_stays(
    connection: Connection,
) -> None:
    await connection.execute(PEOPLE)
    await book(connection, SESSION)
    await connection.execute(
        f"insert into session_assignments (id, session_id) values ('{ASSIGNMENT}', '{SESSION}')"
    )
    with pytest.raises(ForeignKeyViolationError):
        async with connection.transaction():
            await connection.execute("delete from customers")
    await connection.execute("delete from sessions")
    assert await connection.fetchval("select count(*) from session_assignments") == 0


async def test_orphans_are_expired_told_and_keep_their_version(
    committed: Connection, heard: "asyncio.Queue[tuple[str, str]]"
) -> None:
    await book(committed, SESSION, "waiting", timedelta(hours=3))
    assert await committed.fetchval("select expire_orphaned_sessions('4 hours')") == 0
    assert await committed.fetchval("select expire_orphaned_sessions()") == 1
    session = await committed.fetchrow("select status, version, ended_at, updated_at from sessions")
    assert session is not None
    assert (session["status"], session["version"]) == ("expired", 7)
    assert session["ended_at"] == session["updated_at"]
    assert await asyncio.wait_for(heard.get(), 5) == ("hub_orphans", SESSION)
    assert await committed.fetchval("select expire_orphaned_sessions()") == 0


@pytest.mark.parametrize(
    ("status", "age"), [("live", 30), ("scheduled", 30), ("completed", 30), ("pending", 1)]
)
async def test_what_is_no_orphan_is_left(connection: Connection, status: str, age: int) -> None:
    await connection.execute(PEOPLE)
    await book(connection, SESSION, status, timedelta(hours=age))
    assert await connection.fetchval("select expire_orphaned_sessions()") == 0


async def test_expiry_passes_over_rows_that_the_journal_is_writing(
    committed: Connection, database_url: str
) -> None:
    await committed.execute(PEOPLE)
    await book(committed, SESSION, age=timedelta(hours=3))
    writer = await asyncpg.connect(database_url)
    async with writer.transaction():
        await writer.execute("update sessions set status = 'live', version = 8")
        assert await committed.fetchval("select expire_orphaned_sessions()") == 0
    await writer.close()


async def test_events_are_never_rewritten(connection: Connection) -> None:
    await connection.execute(
        f"""
        insert into session_events (event_id, session_id, type)
            values (gen_random_uuid(), '{SESSION}', 'created')
        """
    )
    with pytest.raises(RestrictViolationError, match="append only"):
        await connection.execute("update session_events set type = 'expired'")


async def test_updated_at_follows_people_and_leaves_the_journal_alone(connection: Connection) -> None:
    await connection.execute(PEOPLE)
    await book(connection, SESSION)
    await connection.execute(
        """
        update mechanics set tier = 'gold', updated_at = 'epoch';
        update sessions set notes = 'hum', updated_at = 'epoch';
        """
    )
    assert await connection.fetchval("select updated_at > now() - interval '1 minute' from mechanics")
    assert await connection.fetchval("select updated_at = 'epoch' from sessions")


async def test_credits_are_refunded_once_and_in_the_right_direction(connection: Connection) -> None:
    await connection.execute(PEOPLE)
    entry = "insert into credit_ledger (customer_id, session_id, delta, reason) values ($1, $2, $3, $4)"
    await connection.execute(entry, CARL, None, 5, "grant")
    await connection.execute(entry, CARL, None, 5, "grant")
    await connection.execute(entry, CARL, SESSION, -3, "debit")
    await connection.execute(entry, CARL, SESSION, 3, "refund")
    with pytest.raises(UniqueViolationError):
        async with connection.transaction():
            await connection.execute(entry, CARL, SESSION, 3, "refund")
    with pytest.raises(CheckViolationError):
        async with connection.transaction():
            await connection.execute(entry, CARL, None, 3, "debit")
    assert await connection.fetchval("select sum(delta) from credit_ledger") == 10


async def test_the_seeds(connection: Connection) -> None:
    plans = await connection.fetch(
        "select plan_code, name, session_type, price_cents, credits from plans order by 4"
    )
    assert [tuple(plan) for plan in plans] == [
        ("free", "Free Diagnostic", "diagnostic", 0, 0),
        ("chat10", "Quick Chat", "chat", 999, 1),
        ("video15", "Expert Video", "video", 2999, 3),
    ]
    flag = await connection.fetchrow(
        "select flag_key, flag_name, is_enabled, enabled_for_roles, rollout_percentage from feature_flags"
    )
    assert flag is not None
    assert tuple(flag) == (
        "ENABLE_FAVORITES_PRIORITY",
        "Favorites Priority Broadcast",
        False,
        ["admin", "customer"],
        100,
    )
