"""What tests of the record have beside a database: the shared one, a record, a journal, a mechanic."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from hub.domain.ids import new_id
from persistence.postgres.pool import Postgres
from persistence.postgres.record import PostgresRecord
from tests.postgres.databases import Connection, address, make_migrated
from tests.postgres.journal import ORPHAN_MS, Journal

SHARED = "hub_shared"


@pytest_asyncio.fixture
async def connection(server: Connection, postgres_url: str) -> AsyncIterator[Connection]:
    """A connection to a migrated database that all tests share, in a transaction that is rolled back."""
    await make_migrated(server, postgres_url, SHARED)
    connection = await asyncpg.connect(address(postgres_url, SHARED))
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


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
