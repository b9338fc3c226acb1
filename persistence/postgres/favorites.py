"""Customers' favourite mechanics, in the order in which they are asked.

A change is one transaction under the customer's row.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import asyncpg

from hub.domain.errors import Refused
from hub.domain.records import Favorite
from persistence.postgres.directory import PostgresDirectory
from persistence.postgres.pool import Connection, Postgres
from persistence.postgres.query_files import load

LIMIT = 200
"""Favourites a customer may have; what plain SQL wrote beyond it stays."""

_QUERIES = load("favorites")
_PAGE = f"{_QUERIES['listed']}\n{_QUERIES['page']}"
_ONE = f"{_QUERIES['listed']}\n{_QUERIES['one']}"

V = TypeVar("V")


class PostgresFavorites:
    """What is written here, the `directory` knows before the answer."""

    def __init__(self, postgres: Postgres, directory: PostgresDirectory) -> None:
        self._postgres = postgres
        self._directory = directory

    async def page(self, customer_id: str, limit: int, *, after: int = 0) -> list[Favorite]:
        """Those behind the rank `after`, first choice first."""
        rows = await self._postgres.fetch(_PAGE, customer_id, limit, after)
        return [_favorite(row) for row in rows]

    async def put(
        self, customer_id: str, mechanic_id: str, rank: int | None, *, name: str | None, email: str | None
    ) -> tuple[Favorite, bool]:
        """The favourite as it now stands, and whether it is new. Without a rank a new one comes last and a
        known one stays. Raises `Refused` (not_found, too_many_favorites)."""

        async def change(connection: Connection) -> tuple[Favorite, bool]:
            await connection.execute(_QUERIES["make_customer"], customer_id, name, email)
            await connection.fetch(_QUERIES["hold_customer"], customer_id)
            if not await connection.fetch(_QUERIES["hold_mechanic"], mechanic_id):
                raise Refused("not_found", "There is no such mechanic.")
            order = await _order(connection, customer_id)
            new = mechanic_id not in order
            if new and len(order) >= LIMIT:
                raise Refused("too_many_favorites", f"You may have {LIMIT} favourites.")
            if new:
                await connection.execute(_QUERIES["add"], customer_id, mechanic_id)
            order = placed(order, mechanic_id, rank)
            await connection.execute(_QUERIES["renumber"], customer_id, order)
            (row,) = await connection.fetch(_ONE, customer_id, mechanic_id)
            return _favorite(row), new

        return await self._change(customer_id, change)

    async def remove(self, customer_id: str, mechanic_id: str) -> None:
        """Those behind move up; what was no favourite changes nothing."""

        async def change(connection: Connection) -> None:
            await connection.fetch(_QUERIES["hold_customer"], customer_id)
            await connection.execute(_QUERIES["remove"], customer_id, mechanic_id)
            order = await _order(connection, customer_id)
            await connection.execute(_QUERIES["renumber"], customer_id, order)

        await self._change(customer_id, change)

    async def _change(self, customer_id: str, change: Callable[[Connection], Awaitable[V]]) -> V:
        async with self._postgres.transaction() as connection:
            await connection.execute(_QUERIES["limits"])
            outcome = await change(connection)
        await self._directory.favorites_written(customer_id)
        return outcome


def placed(order: Sequence[str], mechanic_id: str, rank: int | None) -> list[str]:
    """The order with this mechanic at the rank, or where they belong without one."""
    others = [each for each in order if each != mechanic_id]
    if rank is not None:
        place = rank - 1
    else:
        place = order.index(mechanic_id) if mechanic_id in order else len(others)
    return [*others[:place], mechanic_id, *others[place:]]


async def _order(connection: Connection, customer_id: str) -> list[str]:
    return [row["mechanic_id"] for row in await connection.fetch(_QUERIES["order"], customer_id)]


def _favorite(row: asyncpg.Record) -> Favorite:
    return Favorite(**row)
