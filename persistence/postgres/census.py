"""For simulations: enters people, and counts what became of their bookings."""

from collections.abc import Mapping, Sequence

import asyncpg

_MECHANICS = """
INSERT INTO mechanics (id, first_name, last_name, status)
SELECT id, first_name, last_name, 'approved'
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS people (id, first_name, last_name)
ON CONFLICT (id) DO NOTHING
"""
_CUSTOMERS = "INSERT INTO customers (id) SELECT unnest($1::uuid[]) ON CONFLICT (id) DO NOTHING"
_FAVORITES = """
INSERT INTO customer_favorites (customer_id, mechanic_id, rank)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::integer[])
ON CONFLICT (customer_id, mechanic_id) DO UPDATE SET rank = excluded.rank
"""
_SESSIONS = "SELECT id FROM sessions WHERE id = ANY($1::uuid[])"
_ASSIGNMENTS = "SELECT count(*) FROM session_assignments WHERE session_id = ANY($1::uuid[])"
_EVENTS = "SELECT count(*) FROM session_events WHERE session_id = ANY($1::uuid[])"


class Census:
    """Each call uses a connection of its own: a simulation may outlive its database."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def enter(
        self, mechanics: Sequence[tuple[str, str, str]], favorites: Mapping[str, Sequence[str]]
    ) -> None:
        """Mechanics as (id, first name, last name), favourites per customer in rank order."""
        ranked = [(c, m, rank) for c, chosen in favorites.items() for rank, m in enumerate(chosen, 1)]
        connection = await asyncpg.connect(self._url)
        try:
            async with connection.transaction():
                await connection.execute(
                    _MECHANICS, *(list(column) for column in zip(*mechanics, strict=True))
                )
                await connection.execute(_CUSTOMERS, list(favorites))
                if ranked:
                    await connection.execute(
                        _FAVORITES, *(list(column) for column in zip(*ranked, strict=True))
                    )
        finally:
            await connection.close()

    async def count(self, session_ids: Sequence[str]) -> tuple[set[str], int, int]:
        """(which of these sessions have rows, how many assignments and events they have)."""
        connection = await asyncpg.connect(self._url)
        try:
            found = await connection.fetch(_SESSIONS, session_ids)
            return (
                {str(row["id"]) for row in found},
                await connection.fetchval(_ASSIGNMENTS, session_ids),
                await connection.fetchval(_EVENTS, session_ids),
            )
        finally:
            await connection.close()
