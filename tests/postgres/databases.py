"""One server for a worker, and databases in it: for a test of its own, shared, or nothing in them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TypeAlias
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from persistence.embedded import EmbeddedPostgres
from persistence.postgres.migrate import Migrator
from persistence.postgres.migration_files import SCHEMA, catalog_sql
from persistence.postgres.pool import Postgres
from persistence.postgres.verify import enter_schema

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

TEMPLATE = "hub_template"
_TABLES = "select tablename from pg_tables where schemaname = 'public'"
_RESTARTS = "select array_agg(format('select setval(%s, 1, false)', seqrelid)) from pg_sequence"
_SCHEMAS = "select nspname from pg_namespace where nspname !~ '^pg_(temp|toast)'"
_END = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1"


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's own database; tests make theirs beside it."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server.url
    server.stop()


@pytest_asyncio.fixture
async def server(postgres_url: str) -> AsyncIterator[Connection]:
    """A connection to the server's own database."""
    connection = await asyncpg.connect(postgres_url, ssl=False)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def empty_url(server: Connection, postgres_url: str) -> AsyncIterator[str]:
    """A database with nothing in it."""
    async with fresh_database(server, postgres_url, "template1") as url:
        yield url


@pytest.fixture(scope="session")
def stock(postgres_url: str) -> "Stock":
    return Stock(postgres_url)


@pytest_asyncio.fixture
async def database_url(server: Connection, stock: "Stock") -> AsyncIterator[str]:
    """A database of the test's own that has every migration, for what needs commits or connections."""
    async with stock.lent(server) as url:
        yield url


@pytest_asyncio.fixture
async def committed(database_url: str) -> AsyncIterator[Connection]:
    """A connection to `database_url`."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def postgres(database_url: str) -> AsyncIterator[Postgres]:
    postgres = Postgres(database_url)
    await postgres.connect()
    yield postgres
    await postgres.close()


@asynccontextmanager
async def fresh_database(server: Connection, postgres_url: str, template: str) -> AsyncIterator[str]:
    name = await _create(server, template)
    yield address(postgres_url, name)
    await _drop(server, name)


async def make_migrated(server: Connection, postgres_url: str, name: str) -> None:
    if not await server.fetchval("select exists (select from pg_database where datname = $1)", name):
        await server.execute(f"create database {name}")
        await Migrator(address(postgres_url, name)).up()


def address(server_url: str, database: str) -> str:
    # The server has no TLS, and asking for it would cost every connection a round trip.
    return urlsplit(server_url)._replace(path=f"/{database}", query="sslmode=disable").geturl()


async def _create(server: Connection, template: str) -> str:
    name = f"test_{uuid4().hex}"
    await server.execute(f"create database {name} template {template}")
    return name


async def _drop(server: Connection, name: str) -> None:
    await server.execute(f"drop database {name} with (force)")


class Stock:
    """Migrated databases that go from test to test: putting one back takes less than making one."""

    def __init__(self, postgres_url: str) -> None:
        self._postgres_url = postgres_url
        self._spare: list[str] = []
        self._objects: set[asyncpg.Record] = set()
        self._put_back = ""

    @asynccontextmanager
    async def lent(self, server: Connection) -> AsyncIterator[str]:
        await make_migrated(server, self._postgres_url, TEMPLATE)
        name = self._spare.pop() if self._spare else await _create(server, TEMPLATE)
        url = address(self._postgres_url, name)
        if not self._put_back:
            await self._look(url)
        yield url
        await server.execute(_END, name)
        if await self._as_made(url):
            self._spare.append(name)
        else:
            await _drop(server, name)

    async def _look(self, url: str) -> None:
        """What a new database has."""
        connection = await asyncpg.connect(url)
        self._objects = await _objects(connection)
        statements = ["set session_replication_role = replica", *await connection.fetchval(_RESTARTS)]
        for (table,) in await connection.fetch(_TABLES):
            rows = await connection.fetchval(f"select quote_literal(json_agg(t)) from {table} t")
            statements.append(f"delete from {table}")
            if rows:
                statements.append(
                    f"insert into {table} select * from json_populate_recordset(null::{table}, {rows})"
                )
        self._put_back = "; ".join(statements)
        await connection.close()

    async def _as_made(self, url: str) -> bool:
        """Puts its rows back; False where more than rows is different."""
        connection = await asyncpg.connect(url)
        try:
            if await _objects(connection) != self._objects:
                return False
            await connection.execute(self._put_back)
            return True
        finally:
            await connection.close()


async def _objects(connection: Connection) -> set[asyncpg.Record]:
    async with connection.transaction():
        await enter_schema(connection)
        objects = await connection.fetch(catalog_sql(), SCHEMA)
        return {*objects, *await connection.fetch(_SCHEMAS)}
