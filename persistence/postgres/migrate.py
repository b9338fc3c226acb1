"""Applies and undoes the schema's migrations, one transaction each, all under one advisory lock.

Every node may migrate when it starts: the lock makes all but one wait, and those find nothing left to do.

MigrationError has a stable `code`:
    would_lose_data     down() would drop rows and was not told yes
    unknown_migration   the database's last migration is not of this version
    failed              Postgres refused a statement; nothing of that migration was kept
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import asyncpg

from persistence.postgres import verify
from persistence.postgres.migration_files import SCHEMA, Migration, history_sql, load_migrations

if TYPE_CHECKING:
    from persistence.postgres.verify import Connection

ADVISORY_LOCK = int.from_bytes(b"hub-migr")

# A migration that waits for a lock makes everyone behind it wait too; better to fail and be run again.
LOCK_TIMEOUT = "5s"


class MigrationError(Exception):
    """A migration was refused or failed; `code` is stable, the message is for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """One migration in this database. `changed`: its SQL is no longer what was applied here."""

    name: str
    applied_at: datetime | None
    changed: bool


@dataclass(frozen=True, slots=True)
class _Applied:
    name: str
    applied_at: datetime
    checksum: str


class Migrator:
    """Migrates the database behind a connection that is in no transaction, or behind a URL."""

    def __init__(self, target: Connection | str, *, migrations: Sequence[Migration] | None = None) -> None:
        self._target = target
        self._migrations = load_migrations() if migrations is None else migrations

    async def up(self) -> list[str]:
        """Applies what is missing; the names applied, in order. Waits while another process migrates."""
        names = []
        async with self._connected() as connection, _locked(connection):
            async with _step(connection, "hub_migrations"):
                await connection.execute(history_sql())
            done = {applied.name for applied in await _history(connection)}
            for migration in self._migrations:
                if migration.name in done:
                    continue
                async with _step(connection, migration.name):
                    await connection.execute(migration.up)
                    await connection.execute(
                        "insert into hub_migrations (name, checksum) values ($1, $2)",
                        migration.name,
                        migration.checksum,
                    )
                names.append(migration.name)
        return names

    async def down(self, *, yes: bool) -> str | None:
        """Undoes the last migration; its name, None where there is none left.

        Unless `yes`, raises would_lose_data where rows would go that up() would not bring back.
        """
        async with self._connected() as connection, _locked(connection):
            history = await _history(connection)
            if not history:
                return None
            name = history[-1].name
            migration = next((known for known in self._migrations if known.name == name), None)
            if migration is None:
                raise MigrationError("unknown_migration", f"{name} is from another version of this hub")
            async with _step(connection, name):
                if not yes and (tables := await _tables_losing_rows(connection, migration)):
                    raise MigrationError(
                        "would_lose_data", f"undoing {name} deletes the rows of {', '.join(tables)}"
                    )
                await connection.execute(migration.down)
                await connection.execute("delete from hub_migrations where name = $1", name)
            return name

    async def status(self) -> list[MigrationStatus]:
        """Every known migration in order, then those that only the database knows, which count as changed."""
        async with self._connected() as connection:
            history = {applied.name: applied for applied in await _history(connection)}
        statuses = []
        for migration in self._migrations:
            applied = history.pop(migration.name, None)
            if applied is None:
                statuses.append(MigrationStatus(migration.name, None, changed=False))
            else:
                changed = applied.checksum != migration.checksum
                statuses.append(MigrationStatus(migration.name, applied.applied_at, changed))
        return statuses + [
            MigrationStatus(unknown.name, unknown.applied_at, changed=True) for unknown in history.values()
        ]

    async def verify(self) -> list[str]:
        """What the schema lacks or has otherwise, one line a thing, naming it; empty when whole."""
        async with self._connected() as connection:
            try:
                return await verify.absences(connection, self._migrations)
            except asyncpg.PostgresError as error:
                raise MigrationError("failed", f"cannot verify: {error}") from error

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        if not isinstance(self._target, str):
            yield self._target
            return
        connection = await asyncpg.connect(self._target)
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def _locked(connection: Connection) -> AsyncIterator[None]:
    await connection.execute("select pg_advisory_lock($1)", ADVISORY_LOCK)
    try:
        yield
    finally:
        # A lost connection has given its lock up.
        if not connection.is_closed():
            await connection.execute("select pg_advisory_unlock($1)", ADVISORY_LOCK)


@asynccontextmanager
async def _step(connection: Connection, name: str) -> AsyncIterator[None]:
    try:
        async with connection.transaction():
            await verify.enter_schema(connection)
            await connection.execute("select set_config('lock_timeout', $1, true)", LOCK_TIMEOUT)
            yield
    except asyncpg.PostgresError as error:
        raise MigrationError("failed", f"{name}: {error}") from error


async def _history(connection: Connection) -> list[_Applied]:
    async with connection.transaction():
        await verify.enter_schema(connection)
        if await connection.fetchval("select to_regclass('hub_migrations')") is None:
            return []
        rows = await connection.fetch("select name, applied_at, checksum from hub_migrations order by name")
    return [_Applied(**row) for row in rows]


async def _tables_losing_rows(connection: Connection, migration: Migration) -> list[str]:
    """Tries down and up again, to learn which tables would go and which of their rows would come back."""
    before = await _tables(connection)
    trial = connection.transaction()
    await trial.start()
    try:
        await connection.execute(migration.down)
        dropped = sorted(before - await _tables(connection))
        if not dropped:
            return []
        await connection.execute(migration.up)
        restored = await _tables(connection)
        rows = {table: await _rows(connection, table) if table in restored else [] for table in dropped}
    finally:
        await trial.rollback()
    # The trial's locks went with it, and what is written after the look below would be lost unseen.
    await connection.execute(f"lock table {', '.join(dropped)} in access exclusive mode")
    return [table for table in dropped if not await _only_has(connection, table, rows[table])]


async def _tables(connection: Connection) -> set[str]:
    rows = await connection.fetch(
        """
        select oid::regclass::text as name from pg_class
        where relnamespace = $1::regnamespace and relkind = 'r'
        """,
        SCHEMA,
    )
    return {row["name"] for row in rows}


# When a row was made says nothing about whether it is worth keeping.
_ROW = "(to_jsonb(t) - '{created_at,updated_at}'::text[])"


async def _rows(connection: Connection, table: str) -> list[str]:
    return [row["row"] for row in await connection.fetch(f"select {_ROW}::text as row from {table} as t")]


async def _only_has(connection: Connection, table: str, rows: list[str]) -> bool:
    query = f"select not exists (select from {table} as t where {_ROW} <> all ($1::text[]::jsonb[]))"
    return bool(await connection.fetchval(query, rows))
