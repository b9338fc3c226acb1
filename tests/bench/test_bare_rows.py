"""What the journal is held against writes the same rows as the hub, each once."""

import asyncpg

from hub.domain.model import EventType
from persistence.postgres.pool import Postgres
from persistence.postgres.record import PostgresRecord
from tests.bench.bare_rows import TABLES, BareRows
from tests.postgres.databases import Connection, address
from tests.postgres.journal import ORPHAN_MS, Journal, booking, event


async def test_the_same_rows_are_written_once(
    postgres: Postgres, database_url: str, server: Connection
) -> None:
    journal = Journal(PostgresRecord(postgres, orphan_ms=ORPHAN_MS))
    hubs = await asyncpg.connect(database_url)
    bare = await BareRows.open(database_url)
    try:
        for _ in range(2):
            for session in [booking() for _ in range(3)]:
                journal.add(session, event(session, EventType.CREATED))
            await journal.drain()
            assert await bare.write() > 0
        theirs = await asyncpg.connect(address(database_url, "bare"))
        for table in TABLES:
            rows = f"select * from {table} order by 1, 2"
            assert await theirs.fetch(rows) == await hubs.fetch(rows) != []
        await theirs.close()
    finally:
        await bare.close()
        await hubs.close()
        await server.execute("drop database bare")
