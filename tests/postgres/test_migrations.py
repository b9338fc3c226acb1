"""The migrations go up, down and up again, safely beside each other and never silently over data."""

import asyncio
from pathlib import Path

import asyncpg
import pytest
from asyncpg.exceptions import LockNotAvailableError

from persistence.postgres.migrate import MigrationError, Migrator
from persistence.postgres.migration_files import Migration, load_migrations
from persistence.postgres.pool import Postgres
from persistence.postgres.record import PostgresRecord
from tests.postgres.databases import Connection

pytestmark = pytest.mark.asyncio

NAMES = [migration.name for migration in load_migrations()]

A_CUSTOMER = "insert into customers (id) values ('00000000-0000-0000-0000-0000000000c1')"
OLDER_ROW = """
    insert into session_requests (customer_id, session_type, plan_code)
    values ('00000000-0000-0000-0000-0000000000c1', 'chat', 'chat10')
"""

BY_SETTING = (
    "select public.expire_orphaned_sessions(coalesce((select make_interval(secs => value::float8)"
    " from public.hub_settings where key = 'orphan_seconds'), '2 hours'))"
)
AGED = """
    insert into customers (id) select md5(n::text)::uuid from generate_series(0, 3) n;
    insert into sessions (id, customer_user_id, session_type, plan_code, notes, created_at)
    select md5(n::text)::uuid, md5(n::text)::uuid, 'chat', 'free', n,
        now() - n * interval '1 hour' - interval '1 minute'
    from generate_series(0, 3) n
"""


async def down_to(migrator: Migrator, name: str) -> None:
    while [status.name for status in await migrator.status() if status.applied_at][-1] != name:
        await migrator.down(yes=True)


async def test_up_twice_applies_each_migration_once(empty_url: str) -> None:
    migrator = Migrator(empty_url)
    assert await migrator.up() == NAMES
    assert await migrator.up() == []
    assert await migrator.verify() == []


async def test_the_sql_itself_may_run_twice(connection: Connection) -> None:
    await connection.execute("set search_path to public, pg_temp")
    for migration in load_migrations():
        await connection.execute(migration.up)
    assert await Migrator(connection).verify() == []


async def test_every_migration_goes_down_and_up_again(empty_url: str) -> None:
    migrator = Migrator(empty_url)
    await migrator.up()
    for depth in range(1, len(NAMES) + 1):
        undone = [await migrator.down(yes=True) for _ in range(depth)]
        assert undone == NAMES[::-1][:depth]
        assert await migrator.up() == NAMES[-depth:]
        assert await migrator.verify() == []


async def test_the_last_down_leaves_nothing_but_the_history(connection: Connection) -> None:
    migrator = Migrator(connection)
    while await migrator.down(yes=True):
        pass
    left = await connection.fetch(
        """
        select relname::text as name from pg_class where relnamespace = 'public'::regnamespace
            and relkind in ('r', 'v')
        union all select proname::text from pg_proc where pronamespace = 'public'::regnamespace
        union all select typname::text from pg_type where typnamespace = 'public'::regnamespace
            and typtype = 'e'
        """
    )
    assert [row["name"] for row in left] == ["hub_migrations"]
    assert await migrator.down(yes=True) is None


async def test_down_needs_no_yes_where_up_brings_everything_back(connection: Connection) -> None:
    migrator = Migrator(connection)
    undone = [await migrator.down(yes=False) for _ in NAMES]
    assert undone == NAMES[::-1]


@pytest.mark.parametrize(
    ("statement", "name", "tables"),
    [
        (A_CUSTOMER, "0001_people", "customers"),
        ("update feature_flags set is_enabled = true", "0001_people", "feature_flags"),
        ("insert into journal_cursor (shard, epoch) values (0, 'e')", "0002_sessions", "journal_cursor"),
        (OLDER_ROW, "0005_session_requests", "session_requests"),
    ],
)
async def test_down_refuses_to_lose_rows(
    connection: Connection, statement: str, name: str, tables: str
) -> None:
    migrator = Migrator(connection)
    await connection.execute(statement)
    await down_to(migrator, name)
    with pytest.raises(MigrationError, match=f"undoing {name} deletes the rows of {tables}$") as refusal:
        await migrator.down(yes=False)
    assert refusal.value.code == "would_lose_data"
    assert (await migrator.status())[NAMES.index(name)].applied_at is not None
    assert await migrator.down(yes=True) == name


async def test_concurrent_ups_do_not_clash(empty_url: str) -> None:
    applied = await asyncio.gather(*(Migrator(empty_url).up() for _ in range(4)))
    assert sorted(applied) == [[], [], [], NAMES]
    assert await Migrator(empty_url).verify() == []


async def test_status_tells_what_is_applied_and_what_changed(empty_url: str) -> None:
    migrator = Migrator(empty_url)
    assert [(status.name, status.applied_at) for status in await migrator.status()] == [
        (name, None) for name in NAMES
    ]
    await Migrator(empty_url, migrations=load_migrations()[:2]).up()
    first, second, third = (await migrator.status())[:3]
    assert first.applied_at
    assert second.applied_at
    assert not third.applied_at

    edited = Migration(first.name, "select 1", "select 1")
    statuses = await Migrator(empty_url, migrations=[edited]).status()
    assert [(status.name, status.changed) for status in statuses] == [(first.name, True), (second.name, True)]


async def test_a_failing_migration_leaves_nothing_of_itself(empty_url: str) -> None:
    broken = Migration("0001_broken", "create table half (); select 1 / 0", "select 1")
    migrator = Migrator(empty_url, migrations=[broken])
    with pytest.raises(MigrationError, match="0001_broken: division by zero") as failure:
        await migrator.up()
    assert failure.value.code == "failed"
    assert [status.applied_at for status in await migrator.status()] == [None]
    # A second try meets neither a half-made table nor a lock that the first one kept.
    assert await Migrator(
        empty_url, migrations=[Migration("0001_broken", "create table half ()", "")]
    ).up() == ["0001_broken"]


async def test_down_refuses_what_another_version_applied(empty_url: str) -> None:
    await Migrator(empty_url).up()
    with pytest.raises(MigrationError) as refusal:
        await Migrator(empty_url, migrations=load_migrations()[:-1]).down(yes=True)
    assert refusal.value.code == "unknown_migration"


async def test_an_older_table_from_before_is_completed_and_kept(empty_url: str) -> None:
    connection = await asyncpg.connect(empty_url)
    await Migrator(connection, migrations=load_migrations()[:5]).up()
    await connection.execute(OLDER_ROW)
    await connection.execute(
        """
        alter table session_requests
            drop column preferred_mechanic_id, drop column priority_window_minutes,
                drop column priority_notified_at;
        delete from hub_migrations where name >= '0005'
        """
    )
    await Migrator(connection).up()
    assert await connection.fetchval("select priority_window_minutes from session_requests") == 10
    assert await Migrator(connection).verify() == []
    await connection.close()


async def test_an_archived_older_table_is_accepted(connection: Connection) -> None:
    migrator = Migrator(connection)
    columns = await connection.fetchval(
        """
        select string_agg(format('null::%s as %I', format_type(atttypid, atttypmod), attname), ',
            ' order by attnum)
        from pg_attribute where attrelid = 'session_requests'::regclass and attnum > 0
        """
    )
    await connection.execute("alter table session_requests rename to session_requests_archived")
    await connection.execute(f"create view session_requests as select {columns}")
    assert await migrator.verify() == []

    await down_to(migrator, "0005_session_requests")
    assert await migrator.up() == NAMES[NAMES.index("0006_row_level_security") :]
    assert await migrator.verify() == []

    await connection.execute("drop view session_requests")
    await connection.execute("create view session_requests as select null::uuid as id")
    assert "column session_requests.customer_id: absent" in await migrator.verify()


async def test_pg_cron_gets_one_hourly_job(empty_url: str) -> None:
    """The test server lacks the extension itself; these are its table and functions, as documented."""
    connection = await asyncpg.connect(empty_url)
    await connection.execute(
        """
        create schema cron;
        create table cron.job (jobid bigserial, jobname text unique, schedule text, command text);
        create function cron.schedule(job_name text, schedule text,
            command text) returns bigint language sql as
            'insert into cron.job (jobname, schedule, command) values ($1, $2, $3) returning jobid';
        create function cron.unschedule(job_id bigint) returns boolean language sql as
            'delete from cron.job where jobid = job_id returning true';
        """
    )
    migrator = Migrator(connection)
    await migrator.up()
    assert await migrator.verify() == []
    assert [
        tuple(row) for row in await connection.fetch("select jobname, schedule, command from cron.job")
    ] == [("expire-orphaned-sessions", "0 * * * *", BY_SETTING)]
    await down_to(migrator, "0007_analytics")
    command = await connection.fetchval("select command from cron.job")
    assert command == "select public.expire_orphaned_sessions()"
    await migrator.up()
    assert await connection.fetchval("select command from cron.job") == BY_SETTING
    await down_to(migrator, "0003_notifications")
    assert await connection.fetchval("select count(*) from cron.job") == 0
    await connection.close()


@pytest.mark.parametrize(("hours", "left"), [(1, {0}), (2, {0, 1}), (3, {0, 1, 2})])
async def test_the_job_goes_by_the_age_that_nodes_write(
    postgres: Postgres, committed: Connection, hours: int, left: set[int]
) -> None:
    await committed.execute(AGED)
    await PostgresRecord(postgres, orphan_ms=9 * 3_600_000).note_orphan_age()
    await PostgresRecord(postgres, orphan_ms=hours * 3_600_000).note_orphan_age()
    await committed.execute(BY_SETTING)
    active = await committed.fetch("select notes::int from sessions where status = 'pending'")
    assert {number for (number,) in active} == left
    assert await committed.fetchval("select count(*) from hub_settings") == (hours != 2)


async def test_verify_waits_for_no_writer(committed: Connection, database_url: str) -> None:
    """Nor can any wait for it: it takes no lock that this one would not conflict with."""
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await other.execute("lock table sessions, session_assignments, mechanics, plans in exclusive mode")
        await committed.execute("set lock_timeout to '100ms'")
        assert await Migrator(committed).verify() == []
        with pytest.raises(LockNotAvailableError):
            await committed.execute("update plans set name = name")
    await other.close()


async def test_the_scripts_name_no_schema_and_come_in_pairs() -> None:
    folder = Path(__file__).parents[2] / "persistence" / "postgres" / "migrations"
    assert sorted(path.name for path in folder.glob("0*")) == sorted(
        f"{name}.{way}.sql" for name in NAMES for way in ("up", "down")
    )
    assert not any("public." in migration.up + migration.down for migration in load_migrations())
