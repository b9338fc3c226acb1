"""Proves that a database has the whole schema, without a second copy of it to keep in step.

The migrations run once more in a scratch schema, in a transaction that is always rolled back, and one query
prints what the catalog says of both schemas. The same server prints both, so its version's way of writing an
expression cancels out. Only scratch tables are locked; of live ones the catalog is read, and the seed rows.

Needs the CREATE privilege on the database (to make a schema), no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg

from persistence.postgres.migration_files import SCHEMA, Migration, catalog_sql, history_sql

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]

OLDER = "session_requests"
ARCHIVED = "session_requests_archived"
"""The name that archiving gives the older table; a view of the old name and columns takes its place."""

# Of a longer text "differs" says as much as the text would.
_PRINTABLE = 160


@dataclass(slots=True)
class _Thing:
    relation: str | None
    facts: dict[str, str | None] = field(default_factory=dict)


_Catalog = Mapping[tuple[str, str], _Thing]


@dataclass(frozen=True, slots=True)
class _Seed:
    table: str
    key: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Whole:
    """What a whole schema has: its catalog and the rows that come with it."""

    catalog: _Catalog
    seeds: Sequence[_Seed]


async def enter_schema(connection: Connection, schema: str = SCHEMA) -> None:
    """Until the transaction ends, unqualified names mean this schema.

    pg_temp comes last, so that nobody's temporary table poses as one of the hub's, neither now nor in
    functions that keep this path.
    """
    await connection.execute("select set_config('search_path', quote_ident($1) || ', pg_temp', true)", schema)


async def absences(connection: Connection, migrations: Sequence[Migration]) -> list[str]:
    """One line for each thing that the migrations make and the database lacks or has otherwise.

    Things that people added, and the wording of comments, are theirs.
    """
    return await absences_from(connection, await pristine(connection, migrations))


async def absences_from(connection: Connection, whole: Whole) -> list[str]:
    """The same for a schema that was looked at before."""
    async with connection.transaction():
        await enter_schema(connection)
        actual = await _catalog(connection, SCHEMA)
        found = list(_differences(whole.catalog, actual))
        for seed in whole.seeds:
            if _can_hold(actual, seed) and not await _has_row(connection, seed):
                found.append(f"row {', '.join(seed.key.values())} of {seed.table}: absent")
    return sorted(found)


async def pristine(connection: Connection, migrations: Sequence[Migration]) -> Whole:
    """The schema as the migrations make it on this server."""
    scratch = f"hub_verify_{uuid4().hex}"
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"create schema {scratch}")
        await enter_schema(connection, scratch)
        for script in (history_sql(), *(migration.up for migration in migrations)):
            await connection.execute(script)
        return Whole(await _catalog(connection, scratch), await _seeds(connection, scratch))
    finally:
        await transaction.rollback()


async def _catalog(connection: Connection, schema: str) -> _Catalog:
    things: dict[tuple[str, str], _Thing] = {}
    for row in await connection.fetch(catalog_sql(), schema):
        thing = things.setdefault((row["kind"], row["name"]), _Thing(row["relation"]))
        value: str | None = row["value"]
        thing.facts[row["fact"]] = value and value.replace(schema, SCHEMA)
    return things


async def _seeds(connection: Connection, schema: str) -> list[_Seed]:
    keys = await connection.fetch(
        """
        select c.conrelid::regclass::text, array_agg(a.attname::text order by a.attnum)
        from pg_constraint c
        join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any (c.conkey)
        where c.contype = 'p' and c.connamespace = $1::regnamespace
        group by c.conrelid
        """,
        schema,
    )
    seeds = []
    for table, columns in keys:
        key = ", ".join(f"{column}::text" for column in columns)
        rows = await connection.fetch(f"select {key} from {table}")
        seeds += [_Seed(table, dict(row)) for row in rows]
    return seeds


def _can_hold(actual: _Catalog, seed: _Seed) -> bool:
    return all(("column", f"{seed.table}.{column}") in actual for column in seed.key)


async def _has_row(connection: Connection, seed: _Seed) -> bool:
    condition = " and ".join(f"{column}::text = ${n}" for n, column in enumerate(seed.key, 1))
    query = f"select exists (select from {seed.table} where {condition})"
    return bool(await connection.fetchval(query, *seed.key.values()))


def _differences(expected: _Catalog, actual: _Catalog) -> Iterator[str]:
    archived = ("view", OLDER) in actual
    absent_owners = {
        name for kind, name in expected if (kind, name) not in actual and not kind.startswith("comment on ")
    }
    if archived:
        absent_owners.discard(OLDER)
    for (kind, name), thing in expected.items():
        facts = thing.facts
        if archived and thing.relation == OLDER:
            if kind != "column":
                continue
            facts = {fact: value for fact, value in facts.items() if fact in ("", "type")}
        if not absent_owners.isdisjoint(_owners(kind, name, thing)):
            continue
        found = actual.get((kind, name))
        if found is None:
            yield f"{kind} {name}: absent"
        else:
            yield from _fact_differences(f"{kind} {name}", facts, found.facts, archived=archived)


def _owners(kind: str, name: str, thing: _Thing) -> Iterator[str]:
    """What this thing cannot be without, and need not be named beside."""
    if thing.relation is not None and thing.relation != name:
        yield thing.relation
    if kind.startswith("comment on "):
        yield name


def _fact_differences(
    thing: str, expected: Mapping[str, str | None], actual: Mapping[str, str | None], *, archived: bool
) -> Iterator[str]:
    for fact, wanted in expected.items():
        value = actual.get(fact)
        if value == wanted or (archived and _unarchived(value) == _unarchived(wanted)):
            continue
        if max(len(value or ""), len(wanted or "")) > _PRINTABLE:
            yield f"{thing}: {fact} differs"
        else:
            yield f"{thing}: {fact} is {value or 'none'}, expected {wanted or 'none'}"


def _unarchived(text: str | None) -> str | None:
    return text and re.sub(rf"\b{ARCHIVED}\b", OLDER, text)
