"""Migrations over a database in use: rows outlive every step up and down that keeps their table."""

import asyncio
import os
from unittest.mock import patch

import asyncpg
import pytest
from click.testing import CliRunner, Result

from hub.cli.migrate import migrate
from persistence.postgres.migrate import Migrator
from persistence.postgres.migration_files import load_migrations
from tests.postgres.databases import Connection

pytestmark = pytest.mark.asyncio

MIGRATIONS = load_migrations()
NAMES = [migration.name for migration in MIGRATIONS]
ANA, MIA, ZOE = (f"{n}0000000-0000-4000-8000-000000000000" for n in range(1, 4))
LIVE, ENDED = (f"{n}0000000-0000-8000-8000-000000000000" for n in range(4, 6))

# A database in use: something in every table, by table, in an order that foreign keys allow.
USE = {
    "mechanics": f"""
        insert into mechanics (id, first_name, last_name, status, tier, brands, priority_window_minutes)
        values ('{ANA}', 'Ana', 'Silva', 'approved', 'gold', '{{Audi,BMW}}', 7)""",
    "customers": f"""
        insert into customers (id, full_name, email)
        values ('{MIA}', 'Mia Berg', 'mia@example.com'), ('{ZOE}', null, null)""",
    "customer_favorites": f"insert into customer_favorites values ('{MIA}', '{ANA}', 1, '2026-01-02')",
    "feature_flags": "update feature_flags set is_enabled = true, rollout_percentage = 40",
    "hub_settings": """
        insert into hub_settings (key, value) values ('test_setting', '{"a": [1, 2]}')""",
    "plans": """
        update plans set price_cents = 1099 where plan_code = 'chat10';
        insert into plans (plan_code, name, session_type, price_cents, credits)
        values ('gold', 'Gold', 'video', 9900, 9)""",
    "credit_ledger": f"""
        insert into credit_ledger (customer_id, session_id, delta, reason)
        values ('{MIA}', null, 5, 'grant'), ('{MIA}', '{LIVE}', -1, 'debit'),
            ('{ZOE}', '{ENDED}', -3, 'debit'), ('{ZOE}', '{ENDED}', 3, 'refund')""",
    "stripe_events": f"""
        insert into stripe_events (event_id, type, payload, handled_at, outcome, session_id) values
            ('evt_1', 'checkout.session.completed', '{{"data": {{"object": {{"id": "cs_1"}}}}}}', now(),
                'dispatched', '{LIVE}'),
            ('evt_2', 'checkout.session.completed', '{{}}', null, null, null)""",
    "sessions": f"""
        insert into sessions (id, customer_user_id, mechanic_id, session_type, plan_code, payment, status,
            notes, metadata, started_at, ended_at, version, command_id) values
            ('{LIVE}', '{MIA}', '{ANA}', 'chat', 'chat10', 'credit', 'live', 'häufig “laut”',
                '{{"car": "T4"}}', now(), null, 4, gen_random_uuid()),
            ('{ENDED}', '{ZOE}', null, 'video', 'gold', 'paid', 'expired', null, '{{}}', null,
                now(), 2, null)""",
    "session_participants": f"""
        insert into session_participants (session_id, user_id, role)
        values ('{LIVE}', '{MIA}', 'customer'), ('{LIVE}', '{ANA}', 'mechanic')""",
    "session_assignments": f"""
        insert into session_assignments (id, session_id, mechanic_id, status, routing_type,
            preferred_mechanic_id, priority_notified_at, accepted_at, version) values
            ('{"c" + LIVE[1:]}', '{LIVE}', '{ANA}', 'accepted', 'priority_broadcast', '{ANA}', now(),
                now(), 4),
            ('{"d" + ENDED[1:]}', '{ENDED}', null, 'expired', 'broadcast', null, null, null, 2)""",
    "session_events": f"""
        insert into session_events (event_id, session_id, type, actor_id, version, data)
        values (gen_random_uuid(), '{LIVE}', 'created', '{MIA}', 1, '{{}}'),
            (gen_random_uuid(), '{LIVE}', 'accepted', '{ANA}', 3, '{{"mechanic_id": "{ANA}"}}')""",
    "journal_cursor": "insert into journal_cursor (shard, epoch, last_id) values (3, 'e', '17-4')",
    "session_requests": f"""
        insert into session_requests (customer_id, session_type, plan_code, status, preferred_mechanic_id,
            priority_notified_at) values ('{MIA}', 'chat', 'chat10', 'accepted', '{ANA}', now())""",
}

Rows = dict[str, list[dict[str, object]]]


async def tables(connection: Connection) -> set[str]:
    found = await connection.fetch(
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'"
    )
    return {row["relname"] for row in found} - {"hub_migrations"}


async def use(connection: Connection) -> None:
    present = await tables(connection)
    assert present <= USE.keys(), "a table that this test does not fill"
    for table, statement in USE.items():
        if table in present:
            await connection.execute(statement)
            assert await connection.fetchval(f"select count(*) from {table}") > 0


async def rows(connection: Connection) -> Rows:
    return {
        table: [dict(row) for row in await connection.fetch(f"select * from {table} order by 1, 2")]
        for table in sorted(await tables(connection))
    }


def unharmed(before: Rows, after: Rows) -> None:
    """Everything that was there is there, with every value that it had."""
    for table, old in before.items():
        assert len(after[table]) == len(old), table
        for was, now in zip(old, after[table], strict=True):
            assert was.items() <= now.items(), table


@pytest.mark.parametrize("nth", range(1, len(NAMES)), ids=NAMES[1:])
async def test_a_database_in_use_goes_up_down_and_up(empty_url: str, nth: int) -> None:
    connection = await asyncpg.connect(empty_url)
    await Migrator(connection, migrations=MIGRATIONS[:nth]).up()
    await use(connection)
    before = await rows(connection)
    migrator = Migrator(connection, migrations=MIGRATIONS[: nth + 1])

    assert await migrator.up() == [NAMES[nth]]
    upgraded = await rows(connection)
    unharmed(before, upgraded)
    assert await migrator.verify() == []

    assert await migrator.down(yes=True) == NAMES[nth]
    downgraded = await rows(connection)
    assert downgraded == before

    assert await migrator.up() == [NAMES[nth]]
    unharmed(before, await rows(connection))
    assert await migrator.verify() == []
    await connection.close()


async def test_a_database_in_use_skips_releases(empty_url: str) -> None:
    connection = await asyncpg.connect(empty_url)
    await Migrator(connection, migrations=MIGRATIONS[:2]).up()
    await use(connection)
    before = await rows(connection)
    assert await Migrator(connection).up() == NAMES[2:]
    unharmed(before, await rows(connection))
    assert await Migrator(connection).verify() == []
    await connection.close()


async def command(url: str, *arguments: str) -> Result:
    """The real command, in a thread since it runs an event loop of its own."""
    with patch.dict(os.environ, {"HUB_POSTGRES_URL": url}):
        return await asyncio.to_thread(CliRunner().invoke, migrate, arguments)


async def test_the_command_says_what_it_did_and_exits_accordingly(empty_url: str) -> None:
    absent = await command(empty_url, "verify")
    assert absent.exit_code == 1
    assert "table sessions: absent" in absent.stderr

    first = await command(empty_url, "up")
    assert (first.exit_code, first.stdout.splitlines()) == (0, [f"applied {name}" for name in NAMES])
    assert (await command(empty_url, "up")).stdout == "up to date\n"
    assert (await command(empty_url, "verify")).stdout == "complete\n"

    connection = await asyncpg.connect(empty_url)
    await use(connection)
    undone = 0
    while (down := await command(empty_url, "down")).exit_code == 0:
        undone += 1
    assert down.exit_code == 1
    assert "deletes the rows of" in down.stderr
    statuses = (await command(empty_url, "status")).stdout.splitlines()
    assert [line.endswith("not applied") for line in statuses] == [
        nth >= len(NAMES) - undone for nth in range(len(NAMES))
    ]
    down = await command(empty_url, "down", "--yes")
    assert (down.exit_code, down.stdout) == (0, f"undone {NAMES[-undone - 1]}\n")

    again = await command(empty_url, "up")
    assert (again.exit_code, len(again.stdout.splitlines())) == (0, undone + 1)
    await connection.execute("drop index uq_active_session_per_customer")
    broken = await command(empty_url, "verify")
    assert (broken.exit_code, broken.stderr) == (1, "index uq_active_session_per_customer: absent\n")
    await connection.close()


async def test_an_unreachable_database_is_a_failure_of_the_command() -> None:
    unreachable = await command("postgresql://127.0.0.1:1/none", "up")
    assert unreachable.exit_code == 1
    assert "Error" in unreachable.stderr
