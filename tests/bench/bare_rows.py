"""The least that the journal's rows cost Postgres: the same rows, told by COPY to another database of the
same server with the same tables; nothing is read, folded or compared."""

import asyncio
import time
from collections.abc import Sequence
from io import BytesIO
from typing import TypeAlias

import asyncpg
import httpx

from hub.app import migrator

_DATABASE = "bare"
_BOOKINGS = 500
_HANDS = 2
"""Transactions at once, as the hub has."""

TABLES = {
    "customers": "SELECT c.* FROM customers c JOIN sessions s ON s.customer_user_id = c.id",
    "sessions": "SELECT s.* FROM sessions s",
    "session_participants": "SELECT t.* FROM session_participants t JOIN sessions s ON s.id = t.session_id",
    "session_assignments": "SELECT t.* FROM session_assignments t JOIN sessions s ON s.id = t.session_id",
    "session_events": "SELECT t.* FROM session_events t JOIN sessions s ON s.id = t.session_id",
}

Part = Sequence[tuple[str, bytes]]
"""What one transaction writes, table by table."""

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


class BareRows:
    def __init__(self, source: Pool, target: Pool) -> None:
        self._source = source
        self._target = target
        self._written: set[str] = set()

    @classmethod
    async def open(cls, url: str) -> "BareRows":
        """Beside the hub's database at this address, with its mechanics."""
        bare = str(httpx.URL(url).copy_with(path=f"/{_DATABASE}"))
        source = await asyncpg.create_pool(url, min_size=1, max_size=1)
        await source.execute(f"CREATE DATABASE {_DATABASE}")
        await migrator(bare).up()
        target = await asyncpg.create_pool(bare, min_size=_HANDS, max_size=_HANDS)
        await target.copy_to_table(
            "mechanics", source=BytesIO(await _copied(source, "SELECT * FROM mechanics")), format="binary"
        )
        return cls(source, target)

    async def close(self) -> None:
        await self._source.close()
        await self._target.close()

    async def write(self) -> float:
        """Rows a second of those that are new since the last time."""
        rows = await self._source.fetch("SELECT id::text FROM sessions")
        new = [row["id"] for row in rows if row["id"] not in self._written]
        self._written.update(new)
        parts = [
            [
                (table, await _copied(self._source, f"{query} WHERE s.id = ANY($1::uuid[])", ids))
                for table, query in TABLES.items()
            ]
            for ids in (new[start : start + _BOOKINGS] for start in range(0, len(new), _BOOKINGS))
        ]
        begin = time.monotonic()
        written = await asyncio.gather(*(self._tell(parts[hand::_HANDS]) for hand in range(_HANDS)))
        return sum(written) / (time.monotonic() - begin)

    async def _tell(self, parts: Sequence[Part]) -> int:
        written = 0
        async with self._target.acquire() as connection:
            for part in parts:
                async with connection.transaction():
                    for table, rows in part:
                        status = await connection.copy_to_table(table, source=BytesIO(rows), format="binary")
                        written += int(status.split()[1])
        return written


async def _copied(source: Pool, query: str, *arguments: object) -> bytes:
    copied = BytesIO()
    await source.copy_from_query(query, *arguments, output=copied, format="binary")
    return copied.getvalue()
