"""A real server for the session; each test meets a fresh schema in it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TypeAlias
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from hub.domain.ids import new_id
from persistence.embedded import EmbeddedPostgres
from persistence.postgres.migrate import Migrator
from persistence.postgres.pool import Postgres
from persistence.postgres.record import PostgresRecord
from tests.postgres.journal import ORPHAN_MS, Journal

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

TEMPLATE = "hub_template"
SHARED = "hub_shared"


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


@pytest_asyncio.fixture
async def database_url(server: Connection, postgres_url: str) -> AsyncIterator[str]:
    """A database of the test's own that has every migration, for what needs commits or connections."""
    await make_migrated(server, postgres_url, TEMPLATE)
    async with fresh_database(server, postgres_url, TEMPLATE) as url:
        yield url


@pytest_asyncio.fixture
async def committed(database_url: str) -> AsyncIterator[Connection]:
    """A connection to `database_url`."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def connection(server: Connection, postgres_url: str) -> AsyncIterator[Connection]:
    """A connection to a migrated database that all tests share, in a transaction that is rolled back."""
    await make_migrated(server, postgres_url, SHARED)
    connection = await asyncpg.connect(_url(postgres_url, SHARED))
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


@asynccontextmanager
async def fresh_database(server: Connection, postgres_url: str, template: str) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex}"
    await server.execute(f"create database {name} template {template}")
    yield _url(postgres_url, name)
    await server.execute(f"drop database {name} with (force)")


async def make_migrated(server: Connection, postgres_url: str, name: str) -> None:
    if not await server.fetchval("select exists (select from pg_database where datname = $1)", name):
        await server.execute(f"create database {name}")
        await Migrator(_url(postgres_url, name)).up()


def _url(server_url: str, database: str) -> str:
    # Loading certificates that no local server has takes longer than most tests.
    return urlsplit(server_url)._replace(path=f"/{database}", query="sslmode=disable").geturl()


@pytest_asyncio.fixture
async def postgres(database_url: str) -> AsyncIterator[Postgres]:
    postgres = Postgres(database_url)
    await postgres.connect()
    yield postgres
    await postgres.close()


@pytest.fixture
def record(postgres: Postgres) -> PostgresRecord:
    return PostgresRecord(postgres, orphan_ms=ORPHAN_MS)


@pytest.fixture
def journal(record: PostgresRecord) -> Journal:
    return Journal(record)


@pytest_asyncio.fixture
async def mechanic(connection: Connection) -> str:
    mechanic_id = new_id()
    await connection.execute(
        "insert into mechanics (id, first_name, last_name, status) values ($1, 'Mia', 'Kraft', 'approved')",
        mechanic_id,
    )
    return mechanic_id
