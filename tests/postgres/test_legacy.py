"""The older table: each row becomes a session once, whatever happens meanwhile, and reports never notice."""

import asyncio
import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from hub.domain.ids import assignment_of, event_id
from hub.domain.model import AssignmentStatus, Fallback, SessionStatus
from persistence.postgres.legacy import Archived, Imported, OlderTable, OlderTableError
from persistence.postgres.migrate import Migrator
from persistence.postgres.record import PostgresRecord
from tests.postgres.databases import Connection
from tests.postgres.test_analytics_sql import NAMES

ANA = "00000000-0000-0000-0000-0000000000a1"
BEN = "00000000-0000-0000-0000-0000000000a2"
GONE = "00000000-0000-0000-0000-0000000000a9"
CARL = "00000000-0000-0000-0000-0000000000c1"
DORA = "00000000-0000-0000-0000-0000000000c2"

DAY = "2026-03-01 09:00:00.123456+00"


def row(n: int) -> str:
    return f"{n:08x}-0000-4000-8000-00000000beef"


# What each row is, by number; times are seconds after DAY plus n minutes.
#   1 accepted by Ana, who was asked first, 60 s after     4 cancelled, with all that can be filled in
#     her notification                                     5 accepted by a mechanic who was deleted
#   2 Ana is asked, lets it pass; Ben accepts              6 pending for months; odd in every way allowed
#   3 pending for months, everyone was notified
ROWS = f"""
    insert into mechanics (id, first_name, last_name, status) values
        ('{ANA}', 'Ana', 'Diaz', 'approved'), ('{BEN}', 'Ben', 'Eck', 'approved');
    insert into customers (id, full_name) values ('{DORA}', 'Dora Today');
    create temp table said (
        n int, customer uuid, mechanic uuid, preferred uuid, kind session_type, plan text,
        status session_request_status, routing text, accepted int, notified int, sent int, updated int
    );
    insert into said values
        (1, '{CARL}', '{ANA}', '{ANA}', 'chat', 'chat10', 'accepted', 'priority_broadcast', 61, 1, 1, 900),
        (2, '{CARL}', '{BEN}', '{ANA}', 'video', 'video15', 'accepted', 'priority_broadcast', 700, 2, 2, 800),
        (3, '{DORA}', null, null, 'diagnostic', 'free', 'pending', null, null, null, 5, 5),
        (4, '{DORA}', null, '{BEN}', 'chat', 'chat10', 'cancelled', 'priority_broadcast', null, 3, null, 30),
        (5, '{CARL}', '{GONE}', null, 'chat', 'chat10', 'accepted', 'broadcast', 40, null, 2, 40),
        (6, '{CARL}', null, null, 'chat', 'unheard of', 'pending', 'carrier pigeon', null, null, null, 0);
    insert into session_requests (
        id, customer_id, mechanic_id, preferred_mechanic_id, session_type, plan_code, status, routing_type,
        created_at, accepted_at, priority_notified_at, notification_sent_at, updated_at, customer_name
    )
    select (lpad(to_hex(n), 8, '0') || '-0000-4000-8000-00000000beef')::uuid, customer, mechanic, preferred,
        kind, plan, status, routing, t, t + make_interval(secs => accepted),
        t + make_interval(secs => notified), t + make_interval(secs => sent),
        t + make_interval(secs => updated), case customer when '{CARL}' then 'Carl Lind' else 'Dora Once' end
    from (select *, timestamptz '{DAY}' + make_interval(mins => n) as t from said) as each;
    drop table said;
    update session_requests set
        customer_email = 'dora@example.com', notes = 'It squeaks', metadata = '{{"car": "T4"}}',
        is_urgent = true, request_type = 'brand_specialist', requested_brand = 'VW',
        extracted_keywords = '{{squeak,brake}}', customer_country = 'DE', customer_city = 'Ulm',
        is_follow_up = true, preferred_workshop_id = '{BEN}', priority_window_minutes = 5,
        expires_at = created_at + interval '1 hour'
    where id = '{row(4)}';
    update session_requests set metadata = '["a list"]', request_type = 'whatever', expires_at = 'infinity',
        priority_window_minutes = 0
    where id = '{row(6)}';
"""


@pytest_asyncio.fixture
async def older(committed: Connection) -> Connection:
    await committed.execute(ROWS)
    return committed


@pytest.fixture
def table(database_url: str) -> OlderTable:
    """Its batches are smaller than what there is to do."""
    return OlderTable(database_url, batch=4)


async def everything(connection: Connection) -> dict[str, list[str]]:
    tables = ("customers", "sessions", "session_assignments", "session_participants", "session_events")
    return {
        name: [
            each["row"] for each in await connection.fetch(f"select t::text as row from {name} t order by 1")
        ]
        for name in (*tables, "session_requests")
    }


async def reports(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    return {
        name: [
            tuple(each)
            for each in await connection.fetch(f"select * from analytics_{name}('2026-03-01', now())")
        ]
        for name in NAMES
    }


# Import


async def test_a_row_becomes_a_session_with_all_it_tells(older: Connection, table: OlderTable) -> None:
    assert await table.import_rows() == Imported(imported=6, skipped=0, conflicts=[])
    session = await older.fetchrow("select * from sessions where id = $1", row(4))
    request = await older.fetchrow("select * from session_requests where id = $1", row(4))
    assert session is not None
    assert request is not None
    kept = {"customer_name", "customer_email", "notes", "is_urgent", "request_type", "requested_brand"}
    kept |= {
        "extracted_keywords",
        "customer_country",
        "customer_city",
        "is_follow_up",
        "created_at",
        "updated_at",
    }
    kept |= {"plan_code", "mechanic_id", "session_type"}
    assert {name: session[name] for name in kept} == {name: request[name] for name in kept}
    assert (session["customer_user_id"], session["workshop_id"]) == (
        request["customer_id"],
        request["preferred_workshop_id"],
    )
    assert (session["status"], session["payment"], session["version"]) == ("cancelled", "paid", 1)
    assert session["ended_at"] == request["updated_at"]
    assert json.loads(session["metadata"]) == {"car": "T4"}
    assert json.loads(request["metadata"])["imported"]["hub"]

    assignment = await older.fetchrow("select * from session_assignments where session_id = $1", row(4))
    assert assignment is not None
    kept = {
        "preferred_mechanic_id",
        "priority_window_minutes",
        "priority_notified_at",
        "accepted_at",
        "expires_at",
    }
    assert {name: assignment[name] for name in kept} == {name: request[name] for name in kept}
    assert (str(assignment["id"]), assignment["status"]) == (assignment_of(row(4)), "cancelled")


async def test_statuses_routing_and_fallbacks_follow_the_row(older: Connection, table: OlderTable) -> None:
    await table.import_rows()
    found = await older.fetch(
        """
        select s.status, s.payment, a.status as assignment, a.routing_type, a.fallback_reason,
            a.priority_window_minutes as window, a.mechanic_id::text, s.request_type, s.metadata
        from sessions s join session_assignments a on a.session_id = s.id order by s.created_at
        """
    )
    shape = [tuple(each) for each in found]
    priority, timeout = "priority_broadcast", "priority_timeout"
    assert shape == [
        ("completed", "paid", "accepted", priority, None, 10, ANA, "general", "{}"),
        ("completed", "paid", "accepted", priority, timeout, 10, BEN, "general", "{}"),
        ("expired", "free", "expired", "broadcast", None, 10, None, "general", "{}"),
        ("cancelled", "paid", "cancelled", priority, None, 5, None, "brand_specialist", '{"car": "T4"}'),
        ("completed", "paid", "accepted", "broadcast", None, 10, None, "general", "{}"),
        ("expired", "free", "expired", "broadcast", None, 1, None, "general", '{"value": ["a list"]}'),
    ]
    assert await older.fetchval("select bool_and(ended_at between created_at and now()) from sessions")


async def test_who_took_part_and_what_happened(older: Connection, table: OlderTable) -> None:
    await table.import_rows()
    events = await older.fetch(
        """
        select type, coalesce(actor_id::text, data ->> 'mechanic_id'), data -> 'imported' = 'true', version
        from session_events where session_id = $1 order by at, type in ('offered', 'broadcast')
        """,
        row(2),
    )
    assert [tuple(event) for event in events] == [
        ("created", CARL, True, 1),
        ("offered", ANA, True, 1),
        ("notified", ANA, True, 1),
        ("offer_expired", ANA, True, 1),
        ("broadcast", None, True, 1),
        ("accepted", BEN, True, 1),
        ("completed", None, True, 1),
    ]
    taken = (
        "select data -> 'priority' = 'true' from session_events where type = 'accepted' and session_id = $1"
    )
    assert [await older.fetchval(taken, row(n)) for n in (1, 2, 5)] == [True, False, False]
    created = event_id(row(2), 1, "created")
    assert await older.fetchval(
        "select session_id::text from session_events where event_id = $1", created
    ) == row(2)
    people = await older.fetch(
        "select user_id::text, role, left_at is not null from session_participants where session_id = $1",
        row(5),
    )
    assert {tuple(person) for person in people} == {(CARL, "customer", True), (GONE, "mechanic", True)}


async def test_customers_are_made_where_there_are_none(older: Connection, table: OlderTable) -> None:
    await table.import_rows()
    names = await older.fetch("select full_name from customers order by id")
    assert [name for (name,) in names] == ["Carl Lind", "Dora Today"]
    assert await older.fetchval(
        "select created_at from customers where id = $1", CARL
    ) == await older.fetchval("select min(created_at) from session_requests where customer_id = $1", CARL)


async def test_an_import_again_adds_nothing(older: Connection, table: OlderTable) -> None:
    await table.import_rows()
    after = await everything(older)
    assert await table.import_rows() == Imported(imported=0, skipped=6, conflicts=[])
    assert await everything(older) == after
    # The older table comes back out of a backup, without its flags.
    await older.execute("update session_requests set metadata = metadata - 'imported'")
    assert await table.import_rows() == Imported(imported=0, skipped=6, conflicts=[])
    assert {**await everything(older), "session_requests": []} == {**after, "session_requests": []}
    assert await table.import_rows() == Imported(imported=0, skipped=6, conflicts=[])


async def test_a_dry_run_only_counts(older: Connection, table: OlderTable) -> None:
    before = await everything(older)
    assert await table.import_rows(dry_run=True) == Imported(imported=6, skipped=0, conflicts=[])
    assert await everything(older) == before


async def test_a_key_of_the_apps_own_is_no_mark_of_ours(
    older: Connection, table: OlderTable, tmp_path: Path
) -> None:
    own: list[Any] = [True, "2019-05-01T00:00:00+00:00", {"by": "csv", "at": None}]
    for n, value in enumerate(own, 1):
        await older.execute(
            "update session_requests set metadata = $1 where id = $2", json.dumps({"imported": value}), row(n)
        )
    before = await reports(older)
    assert sum(day[2] for day in before["sessions_by_type"]) == 6
    assert await table.import_rows() == Imported(imported=6, skipped=0, conflicts=[])
    assert await table.import_rows() == Imported(imported=0, skipped=6, conflicts=[])
    rows = (
        "select (metadata -> 'imported' -> 'before')::text from session_requests order by created_at limit 2"
    )
    assert [json.loads(was) for (was,) in await older.fetch(rows)] == own[:2]
    await table.archive(tmp_path / "rows.jsonl")
    kept = "select (metadata -> 'imported')::text from session_requests order by created_at limit 3"
    assert [json.loads(value) for (value,) in await older.fetch(kept)] == own


async def test_infinite_times_stop_nothing(
    older: Connection, table: OlderTable, record: PostgresRecord, tmp_path: Path
) -> None:
    columns = ("created_at", "updated_at", "accepted_at", "priority_notified_at", "notification_sent_at")
    for n, column in enumerate(columns, 1):
        for sign in ("", "-"):
            value = f"{sign}infinity"
            await older.execute(
                "insert into session_requests (id, customer_id, preferred_mechanic_id, session_type,"
                f" plan_code, status, {column}) values ($1, $2, $3, 'chat', 'free', 'accepted', '{value}')",
                row(100 + n + 10 * len(sign)),
                CARL,
                ANA,
            )
    await older.execute(
        "insert into session_requests (customer_id, session_type, plan_code, created_at, updated_at)"
        " values ($1, 'chat', 'free', 'infinity', '-infinity')",
        CARL,
    )
    assert await table.import_rows() == Imported(imported=17, skipped=0, conflicts=[])
    assert await older.fetchval(
        "select bool_and(isfinite(created_at) and isfinite(updated_at) and isfinite(ended_at)) from sessions"
    )
    for n in range(101, 106):
        assert await record.session(row(n)) is not None
    await reports(older)
    done = await table.archive(tmp_path / "rows.jsonl")
    assert done is not None
    assert done.rows == 17


async def test_ids_of_other_bookings_are_conflicts_and_nothing_of_them_changes(
    older: Connection, table: OlderTable
) -> None:
    await older.execute(
        f"""
        insert into sessions (id, customer_user_id, session_type, plan_code, status) values
            ('{row(2)}', '{DORA}', 'chat', 'free', 'live'),
            ('{row(99)}', '{DORA}', 'chat', 'free', 'completed');
        insert into session_assignments (id, session_id) values ('{assignment_of(row(5))}', '{row(99)}');
        """
    )
    assert await table.import_rows() == Imported(imported=4, skipped=0, conflicts=[row(2), row(5)])
    assert await older.fetchval("select status from sessions where id = $1", row(2)) == "live"
    left = await older.fetch(
        "select id::text from session_requests where metadata ->> 'imported' is null order by 1"
    )
    assert [row_id for (row_id,) in left] == [row(2), row(5)]
    assert await table.import_rows() == Imported(imported=0, skipped=4, conflicts=[row(2), row(5)])


async def test_imported_sessions_read_as_sessions(
    older: Connection, table: OlderTable, record: PostgresRecord
) -> None:
    """Their ids end in no customer's checksum, which only live sessions need."""
    await table.import_rows()
    timed_out = await record.session(row(2))
    assert timed_out is not None
    assert (timed_out.status, timed_out.assignment_status) == (
        SessionStatus.COMPLETED,
        AssignmentStatus.ACCEPTED,
    )
    assert (timed_out.fallback_reason, timed_out.mechanic_id) == (Fallback.PRIORITY_TIMEOUT, BEN)
    for n in range(1, 7):
        session = await record.session(row(n))
        assert session is not None
        assert not session.active
    assert [page async for page in record.active_pages()] == []
    assert await record.expire_orphans() == 0


# Interruptions


MANY = 3_000

CROWD = f"""
    insert into session_requests (customer_id, session_type, plan_code, status, created_at)
    select md5((n % 100)::text)::uuid, 'chat', 'chat10', 'accepted',
        timestamptz '{DAY}' + n % 500 * interval '1 s'
    from generate_series(1, {MANY}) n
"""

IMPORT = """
import asyncio, sys
from persistence.postgres.legacy import OlderTable
asyncio.run(OlderTable(sys.argv[1], batch=50).import_rows())
"""


async def whole(connection: Connection, count: int) -> None:
    """Every row is in every table once, and flagged."""
    for name in ("sessions", "session_assignments", "session_requests where metadata ? 'imported'"):
        assert await connection.fetchval(f"select count(*) from {name}") == count
    assert await connection.fetchval("select count(*) from session_events where type = 'created'") == count
    assert (
        await connection.fetchval("select count(*) from session_participants where role = 'customer'")
        == count
    )


async def test_a_killed_import_goes_on_where_it_was(committed: Connection, database_url: str) -> None:
    await committed.execute(CROWD)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", IMPORT, database_url)
    while not await committed.fetchval("select count(*) from sessions"):
        assert process.returncode is None
    process.kill()
    await process.wait()
    # The server may still be at what it was sent last.
    await committed.execute("begin; lock table session_requests in share mode; commit")
    done = await committed.fetchval("select count(*) from sessions")
    assert 0 < done < MANY
    assert done % 50 == 0
    flagged = await committed.fetchval("select count(*) from session_requests where metadata ? 'imported'")
    assert flagged == done
    assert await OlderTable(database_url).import_rows() == Imported(
        imported=MANY - done, skipped=done, conflicts=[]
    )
    await whole(committed, MANY)


async def test_two_imports_at_once_share_the_rows(committed: Connection, database_url: str) -> None:
    await committed.execute(CROWD)
    both = await asyncio.gather(*(OlderTable(database_url, batch=70).import_rows() for _ in range(2)))
    assert sum(each.imported for each in both) == MANY
    assert [each.conflicts for each in both] == [[], []]
    await whole(committed, MANY)


# Reports


async def test_reports_say_the_same_after_import_and_archive(
    older: Connection, table: OlderTable, tmp_path: Path
) -> None:
    """But for what was pending, which has expired: it is not here, and tested below."""
    await older.execute("update session_requests set status = 'cancelled' where status = 'pending'")
    before = await reports(older)
    assert "carrier pigeon" not in str(before), "what was no routing of ours counts as a broadcast"
    await table.import_rows()
    assert await reports(older) == before
    await table.archive(tmp_path / "rows.jsonl")
    assert await reports(older) == before


async def test_pending_requests_count_as_expired(older: Connection, table: OlderTable) -> None:
    await older.execute("update session_requests set preferred_mechanic_id = $1 where id = $2", ANA, row(3))

    async def counts() -> tuple[int, int, int, int]:
        found = await reports(older)
        days = found["sessions_by_type"]
        favorites = found["priority_requests_by_favorite"]
        return (
            sum(day[2] for day in days),
            sum(day[5] for day in days),
            sum(favorite[2] for favorite in favorites),
            sum(favorite[5] for favorite in favorites),
        )

    assert await counts() == (6, 0, 4, 1)
    await table.import_rows()
    assert await counts() == (6, 2, 4, 0)


# Archive


def names_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


async def archived(connection: Connection) -> bool:
    return bool(await connection.fetchval("select to_regclass('session_requests_archived') is not null"))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
async def test_the_archive_has_every_row(
    older: Connection, table: OlderTable, tmp_path: Path, name: str
) -> None:
    await table.import_rows()
    path = tmp_path / name
    assert await table.archive(path) == Archived(path=str(path), rows=6)
    text = gzip.decompress(path.read_bytes()).decode() if name.endswith(".gz") else path.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["id"] for line in lines] == [row(n) for n in range(1, 7)]
    assert lines[3]["created_at"] == "2026-03-01T09:04:00.123456+00:00"
    assert lines[3]["extracted_keywords"] == ["squeak", "brake"]
    assert await older.fetchval("select count(*) from session_requests_archived") == 6
    assert names_in(tmp_path) == [name]
    assert path.stat().st_mode & 0o077 == 0


async def test_who_reads_the_older_name_reads_sessions(
    older: Connection, table: OlderTable, tmp_path: Path
) -> None:
    columns = """
        select attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum) from pg_attribute
        where attrelid = 'session_requests'::regclass and attnum > 0 and not attisdropped order by attnum
    """
    await older.execute("alter table session_requests add column shoe_size numeric(4,1)")
    before = await older.fetch(columns)
    rows = await older.fetch("select * from session_requests where id <> $1 order by id", row(6))
    await table.import_rows()
    await older.execute(
        f"""
        insert into sessions (id, customer_user_id, session_type, plan_code)
            values ('{row(7)}', '{CARL}', 'chat', 'free');
        insert into session_assignments (id, session_id, status) values ('{row(8)}', '{row(7)}', 'open');
        """
    )
    await table.archive(tmp_path / "rows.jsonl")
    assert await older.fetch(columns) == before
    view = await older.fetch(
        "select * from session_requests where id not in ($1, $2) order by id", row(6), row(7)
    )
    # What the unified tables do not have, or have in another way, is told in their terms.
    unlike = {"mechanic_id", "status", "routing_type", "notification_sent_at"}
    nulls = {"request_type", "extracted_keywords", "is_urgent", "is_follow_up"}
    for old, new in zip(rows, view, strict=True):
        same = {
            name for name in dict(old) if name not in unlike and not (name in nulls and old[name] is None)
        }
        assert {name: new[name] for name in same} == {name: old[name] for name in same}
    assert [str(new["mechanic_id"] or "") for new in view] == [ANA, BEN, "", "", ""]
    assert [new["status"] for new in view] == ["accepted", "accepted", "cancelled", "cancelled", "accepted"]
    assert all(new["notification_sent_at"] for new in view)
    assert await older.fetchval("select status from session_requests where id = $1", row(7)) == "pending"


async def test_an_archived_table_passes_verify_and_migrates(
    older: Connection, table: OlderTable, database_url: str, tmp_path: Path
) -> None:
    await table.import_rows()
    await table.archive(tmp_path / "rows.jsonl")
    migrator = Migrator(database_url)
    assert await migrator.verify() == []
    definition = await older.fetchval("select pg_get_viewdef('session_requests'::regclass)")
    names = [status.name for status in await migrator.status()]
    undone = [await migrator.down(yes=False) for name in names if name > "0005_session_requests"]
    assert await archived(older)
    assert await migrator.up() == undone[::-1]
    assert await migrator.verify() == []
    assert await older.fetchval("select pg_get_viewdef('session_requests'::regclass)") == definition
    while await migrator.down(yes=True):
        pass
    assert not await archived(older)


async def test_an_archived_table_is_left_alone(older: Connection, table: OlderTable, tmp_path: Path) -> None:
    await table.import_rows()
    path = tmp_path / "rows.jsonl"
    await table.archive(path)
    assert await table.archive(path) is None
    assert await table.archive(tmp_path / "other.jsonl") is None
    assert names_in(tmp_path) == ["rows.jsonl"]
    await older.execute("update session_requests_archived set metadata = '{}' where id = $1", row(3))
    await older.execute("delete from sessions where id = $1", row(3))
    await older.execute("delete from session_events where session_id = $1", row(3))
    assert await table.import_rows() == Imported(imported=1, skipped=5, conflicts=[])


async def test_rows_that_are_not_imported_keep_the_table(
    older: Connection, table: OlderTable, tmp_path: Path
) -> None:
    await table.import_rows()
    await older.execute("update session_requests set metadata = metadata - 'imported' where id = $1", row(3))
    with pytest.raises(OlderTableError, match="1 rows of session_requests are not imported"):
        await table.archive(tmp_path / "rows.jsonl")
    assert not await archived(older)
    assert names_in(tmp_path) == []


async def test_no_file_is_overwritten_unless_forced(
    older: Connection, table: OlderTable, tmp_path: Path
) -> None:
    await table.import_rows()
    path = tmp_path / "rows.jsonl"
    path.write_text("precious")
    with pytest.raises(OlderTableError, match="exists already"):
        await table.archive(path)
    with pytest.raises(OlderTableError, match="No such file or directory"):
        await table.archive(tmp_path / "nowhere" / "rows.jsonl")
    assert path.read_text() == "precious"
    assert not await archived(older)
    assert await table.archive(path, force=True) == Archived(path=str(path), rows=6)
    assert len(path.read_text().splitlines()) == 6


async def test_two_archives_at_once_make_one(older: Connection, database_url: str, tmp_path: Path) -> None:
    await OlderTable(database_url).import_rows()
    both = await asyncio.gather(
        *(OlderTable(database_url).archive(tmp_path / f"{n}.jsonl") for n in range(2))
    )
    assert [done.rows for done in both if done] == [6]
    assert len(names_in(tmp_path)) == 1


async def test_a_row_that_comes_meanwhile_is_waited_for(
    older: Connection, table: OlderTable, database_url: str, tmp_path: Path
) -> None:
    await table.import_rows()
    other = await asyncpg.connect(database_url)
    late = other.transaction()
    await late.start()
    await other.execute(
        "insert into session_requests (customer_id, session_type, plan_code) values ($1, 'chat', 'free')",
        CARL,
    )
    archiving = asyncio.create_task(table.archive(tmp_path / "rows.jsonl"))
    waiting = (
        "select exists (select from pg_locks where not granted and relation = 'session_requests'::regclass)"
    )
    while not await older.fetchval(waiting):
        assert not archiving.done()
    await late.commit()
    await other.close()
    with pytest.raises(OlderTableError, match="1 rows"):
        await archiving


async def test_without_the_table_it_says_so(empty_url: str, tmp_path: Path) -> None:
    with pytest.raises(OlderTableError, match="hub migrate up"):
        await OlderTable(empty_url).import_rows()
    with pytest.raises(OlderTableError, match="hub migrate up"):
        await OlderTable(empty_url).archive(tmp_path / "rows.jsonl")


@pytest.mark.parametrize(
    ("role", "sub", "count"),
    [
        ("customer", CARL, 4),
        ("customer", DORA, 2),
        ("mechanic", ANA, 2),
        ("mechanic", BEN, 2),
        ("mechanic", CARL, 0),
        ("service", CARL, 0),
        ("", CARL, 0),
        ("admin", GONE, 6),
    ],
)
async def test_the_view_shows_claims_what_the_table_did(
    older: Connection, table: OlderTable, tmp_path: Path, role: str, sub: str, count: int
) -> None:
    reader = f"hub_reader_{os.getpid()}"
    await older.execute(f"create role {reader}; grant select on session_requests to {reader}")
    try:
        await table.import_rows()
        await older.execute(
            "select set_config('request.jwt.claims', $1, false)", json.dumps({"role": role, "sub": sub})
        )
        await older.execute(f"set role {reader}")
        assert await older.fetchval("select count(*) from session_requests") == count
        await older.execute("reset role")
        await table.archive(tmp_path / "rows.jsonl")
        await older.execute(
            """
            create function pry(text) returns boolean language plpgsql cost 0.0001
                as 'begin raise notice ''seen %'', $1; return true; end'
            """
        )
        pried: list[Any] = []
        older.add_log_listener(lambda _, message: pried.append(message))
        await older.execute(f"set role {reader}")
        assert await older.fetchval("select count(*) from session_requests where pry(plan_code)") == count
        await older.execute("reset role")
        await asyncio.sleep(0)
        assert len(pried) == count
    finally:
        await older.execute(f"reset role; drop owned by {reader}; drop role {reader}")
