"""verify() names each thing that is absent or different, exactly, and nothing that people added."""

import pytest

from persistence.postgres import verify
from persistence.postgres.migrate import Migrator
from persistence.postgres.migration_files import load_migrations
from tests.postgres.databases import Connection

pytestmark = pytest.mark.asyncio

FAVORITE_KEY = "session_assignments_preferred_mechanic_id_fkey"

CHANGES = {
    "drop index uq_active_session_per_customer": "index uq_active_session_per_customer: absent",
    """
    drop index sessions_created_at_idx; create index sessions_created_at_idx on sessions (updated_at)
    """: (
        "index sessions_created_at_idx: definition is CREATE INDEX sessions_created_at_idx ON public.sessions"
        " USING btree (updated_at), expected CREATE INDEX sessions_created_at_idx ON public.sessions"
        " USING btree (created_at)"
    ),
    "alter table session_assignments alter priority_window_minutes drop default": (
        "column session_assignments.priority_window_minutes: default is none, expected 10"
    ),
    "alter table session_assignments alter priority_window_minutes set default 15": (
        "column session_assignments.priority_window_minutes: default is 15, expected 10"
    ),
    "alter table session_requests alter customer_id drop not null": (
        "column session_requests.customer_id: nullability is nullable, expected not null"
    ),
    "alter table hub_settings alter key type varchar(40)": (
        "column hub_settings.key: type is character varying(40), expected text"
    ),
    "alter table credit_ledger alter id drop identity": (
        "column credit_ledger.id: identity is none, expected d"
    ),
    "alter table customers drop column email": "column customers.email: absent",
    "comment on column customers.email is null": "comment on column customers.email: absent",
    "comment on table customers is null": "comment on table customers: absent",
    "comment on view priority_requests is null": "comment on view priority_requests: absent",
    "comment on type session_type is null": "comment on type session_type: absent",
    "comment on function hub_claims() is null": "comment on function hub_claims(): absent",
    f"alter table session_assignments drop constraint {FAVORITE_KEY}": (
        f"constraint {FAVORITE_KEY} on session_assignments: absent"
    ),
    f"""
    alter table session_assignments drop constraint {FAVORITE_KEY}, add constraint {FAVORITE_KEY}
        foreign key (preferred_mechanic_id) references mechanics (id)
    """: (
        f"constraint {FAVORITE_KEY} on session_assignments: definition is FOREIGN KEY (preferred_mechanic_id)"
        " REFERENCES mechanics(id), expected FOREIGN KEY (preferred_mechanic_id) REFERENCES mechanics(id)"
        " ON DELETE SET NULL"
    ),
    "drop trigger plans_notify on plans": "trigger plans_notify on plans: absent",
    "alter table plans disable trigger plans_notify": (
        "trigger plans_notify on plans: state is disabled, expected enabled"
    ),
    "drop function analytics_favorite_share": (
        "function analytics_favorite_share(since timestamp with time zone, until timestamp with time zone):"
        " absent"
    ),
    "alter function expire_orphaned_sessions security definer": (
        "function expire_orphaned_sessions(older_than interval): definition differs"
    ),
    "drop policy sessions_read on sessions": "policy sessions_read on sessions: absent",
    "alter policy stripe_events_read on stripe_events using (true)": (
        "policy stripe_events_read on stripe_events: using is true, expected"
        " (( SELECT hub_claim_role() AS hub_claim_role) = 'admin'::text)"
    ),
    "alter table customers disable row level security": (
        "table customers: row level security is off, expected on"
    ),
    "alter type session_type add value 'audio'": (
        "type session_type: labels is chat, video, diagnostic, audio, expected chat, video, diagnostic"
    ),
    "drop table journal_cursor": "table journal_cursor: absent",
    "create or replace view priority_requests as select * from booking_requests": (
        "view priority_requests: definition differs"
    ),
    "delete from plans where plan_code = 'chat10'": "row chat10 of plans: absent",
    "delete from feature_flags": "row ENABLE_FAVORITES_PRIORITY of feature_flags: absent",
}


@pytest.mark.parametrize(("statement", "line"), CHANGES.items())
async def test_one_change_is_one_line(connection: Connection, statement: str, line: str) -> None:
    await connection.execute(statement)
    assert await Migrator(connection).verify() == [line]


TABLE_COLUMNS = """
    pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v')
"""

# For every object of a kind: the statement that removes it, and the line that must tell.
REMOVALS = {
    "tables": """
        select format('drop table if exists %I cascade', c.relname), format('table %s: absent', c.relname)
        from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
    """,
    "views": """
        select format('drop view if exists %I cascade', c.relname), format('view %s: absent', c.relname)
        from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'v'
    """,
    "columns": f"""
        select format('alter table %I drop column %I cascade', c.relname, a.attname),
            format('column %s.%s: absent', c.relname, a.attname)
        from {TABLE_COLUMNS} and c.relkind = 'r'
    """,
    "column comments": f"""
        select format('comment on column %I.%I is null', c.relname, a.attname),
            format('comment on column %s.%s: absent', c.relname, a.attname)
        from {TABLE_COLUMNS}
    """,
    "table comments": """
        select format('comment on %s %I is null', k.kind, c.relname),
            format('comment on %s %s: absent', k.kind, c.relname)
        from pg_class c join (values ('r', 'table'), ('v', 'view')) as k (relkind,
            kind) on k.relkind = c.relkind::text
        where c.relnamespace = 'public'::regnamespace
    """,
    "defaults": f"""
        select format('alter table %I alter %I drop default', c.relname, a.attname),
            format('column %s.%s: default is none, expected %s',
                c.relname, a.attname, pg_get_expr(d.adbin, d.adrelid))
        from {TABLE_COLUMNS} and d.oid is not null
    """,
    "not nulls": f"""
        select format('alter table %I alter %I drop not null', c.relname, a.attname),
            format('column %s.%s: nullability is nullable, expected not null', c.relname, a.attname)
        from {TABLE_COLUMNS} and a.attnotnull and not exists (
            select from pg_constraint where conrelid = c.oid and contype = 'p' and a.attnum = any (conkey)
        )
    """,
    "constraints": """
        select format('alter table %I drop constraint if exists %I cascade', c.relname, k.conname),
            format('constraint %s on %s: absent', k.conname, c.relname)
        from pg_constraint k join pg_class c on c.oid = k.conrelid
        where k.connamespace = 'public'::regnamespace and k.contype in ('p', 'u', 'f', 'c')
    """,
    "indexes": """
        select format('drop index %I', i.relname), format('index %s: absent', i.relname)
        from pg_class i
        where i.relnamespace = 'public'::regnamespace and i.relkind = 'i'
            and not exists (select from pg_constraint where conindid = i.oid)
    """,
    "triggers": """
        select format('drop trigger %I on %I', t.tgname, c.relname),
            format('trigger %s on %s: absent', t.tgname, c.relname)
        from pg_trigger t join pg_class c on c.oid = t.tgrelid where not t.tgisinternal
    """,
    "policies": """
        select format('drop policy %I on %I', p.polname, c.relname),
            format('policy %s on %s: absent', p.polname, c.relname)
        from pg_policy p join pg_class c on c.oid = p.polrelid
    """,
    "functions": """
        select format('drop function if exists %s cascade', p.oid::regprocedure),
            format('function %s(%s): absent', p.proname, pg_get_function_identity_arguments(p.oid))
        from pg_proc p where p.pronamespace = 'public'::regnamespace
    """,
    "function comments": """
        select format('comment on function %s is null', p.oid::regprocedure),
            format('comment on function %s(%s): absent', p.proname, pg_get_function_identity_arguments(p.oid))
        from pg_proc p where p.pronamespace = 'public'::regnamespace
    """,
    "types": """
        select format('drop type %I cascade', typname), format('type %s: absent', typname)
        from pg_type where typnamespace = 'public'::regnamespace and typtype = 'e'
    """,
    "type comments": """
        select format('comment on type %I is null', typname), format('comment on type %s: absent', typname)
        from pg_type where typnamespace = 'public'::regnamespace and typtype = 'e'
    """,
    "identities": f"""
        select format('alter table %I alter %I drop identity', c.relname, a.attname),
            format('column %s.%s: identity is none, expected %s', c.relname, a.attname, a.attidentity)
        from {TABLE_COLUMNS} and a.attidentity <> ''
    """,
    "row level security": """
        select format('alter table %I disable row level security', c.relname),
            format('table %s: row level security is off, expected on', c.relname)
        from pg_class c where c.relnamespace = 'public'::regnamespace and c.relrowsecurity
    """,
    "enabled triggers": """
        select format('alter table %I disable trigger %I', c.relname, t.tgname),
            format('trigger %s on %s: state is disabled, expected enabled', t.tgname, c.relname)
        from pg_trigger t join pg_class c on c.oid = t.tgrelid where not t.tgisinternal
    """,
    "seed rows": """
        select format('delete from plans where plan_code = %L', plan_code), format('row %s of plans: absent',
            plan_code) from plans
        union all
        select format('delete from feature_flags where flag_key = %L', flag_key),
            format('row %s of feature_flags: absent', flag_key) from feature_flags
        union all
        select format('delete from hub_settings where key = %L', key),
            format('row %s of hub_settings: absent', key) from hub_settings
    """,
}
BRINGING_OTHERS_DOWN = {"tables", "views", "columns", "constraints", "functions", "types"}
LEAST = {"types": 2, "type comments": 2, "identities": 1}


@pytest.mark.parametrize("kind", sorted(REMOVALS.keys() & BRINGING_OTHERS_DOWN))
async def test_every_object_of_a_kind_is_proved(connection: Connection, kind: str) -> None:
    """Each one is removed on its own, and told of."""
    removals = await connection.fetch(REMOVALS[kind])
    whole = await verify.pristine(connection, load_migrations())
    assert len(removals) >= LEAST.get(kind, 3)
    for statement, line in removals:
        trial = connection.transaction()
        await trial.start()
        await connection.execute(statement)
        assert line in await verify.absences_from(connection, whole), statement
        await trial.rollback()
    assert await verify.absences_from(connection, whole) == []


@pytest.mark.parametrize("kind", sorted(REMOVALS.keys() - BRINGING_OTHERS_DOWN))
async def test_all_objects_of_a_kind_are_told_of_and_nothing_else(connection: Connection, kind: str) -> None:
    removals = await connection.fetch(REMOVALS[kind])
    whole = await verify.pristine(connection, load_migrations())
    assert len(removals) >= LEAST.get(kind, 3)
    for statement, _ in removals:
        await connection.execute(statement)
    assert await verify.absences_from(connection, whole) == sorted(line for _, line in removals)


async def test_every_table_column_and_function_has_a_comment(connection: Connection) -> None:
    bare = await connection.fetch(
        f"""
        select c.relname || '.' || a.attname from {TABLE_COLUMNS} and col_description(c.oid, a.attnum) is null
        union all
        select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v')
            and obj_description(oid, 'pg_class') is null
        union all
        select proname from pg_proc where pronamespace = 'public'::regnamespace
            and obj_description(oid, 'pg_proc') is null
        """
    )
    assert bare == []


async def test_every_foreign_key_that_can_be_deleted_through_has_an_index(connection: Connection) -> None:
    bare = await connection.fetch(
        """
        select conrelid::regclass, conname from pg_constraint k
        where contype = 'f' and connamespace = 'public'::regnamespace and not exists (
            select from pg_index i where i.indrelid = k.conrelid and i.indkey[0] = k.conkey[1]
        )
        """
    )
    assert bare == []


async def test_what_people_add_or_reword_is_theirs(connection: Connection) -> None:
    await connection.execute(
        """
        create table dashboards (id integer);
        alter table mechanics add column shoe_size integer;
        create index mechanics_tier_idx on mechanics (tier);
        comment on table sessions is 'Ours';
        insert into plans (plan_code, name, session_type) values ('gold', 'Gold', 'video');
        update plans set price_cents = 1099 where plan_code = 'chat10';
        """
    )
    assert await Migrator(connection).verify() == []


async def test_an_empty_database_lacks_everything_and_stays_empty(empty_url: str) -> None:
    told = await Migrator(empty_url).verify()
    assert {"table hub_migrations: absent", "table sessions: absent", "view booking_requests: absent"} < set(
        told
    )
    assert not any(line.startswith("column") for line in told)
    assert await Migrator(empty_url).verify() == told
