"""For simulations: enters people, and counts what became of their bookings."""

from collections.abc import Mapping, Sequence

from persistence.postgres.pool import Postgres

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
_CREDITS = """
INSERT INTO credit_ledger (customer_id, delta, reason)
SELECT id, $2::integer, 'grant' FROM unnest($1::uuid[]) AS people (id)
WHERE (SELECT coalesce(sum(delta), 0) FROM credit_ledger WHERE customer_id = people.id) < $2::integer
"""
_SESSIONS = "SELECT id FROM sessions WHERE id = ANY($1::uuid[])"
_ASSIGNMENTS = "SELECT count(*) FROM session_assignments WHERE session_id = ANY($1::uuid[])"
_EVENTS = "SELECT count(*) FROM session_events WHERE session_id = ANY($1::uuid[])"


_PURSE = 100
"""Credits with which a simulated customer sets out."""


class Census:
    """Each call uses a connection of its own: a simulation may outlive its database. Raises `StoreFailed`."""

    def __init__(self, url: str) -> None:
        self._postgres = Postgres(url)

    async def enter(
        self, mechanics: Sequence[tuple[str, str, str]], favorites: Mapping[str, Sequence[str]]
    ) -> None:
        """Mechanics as (id, first name, last name), favourites per customer in rank order."""
        ranked = [(c, m, rank) for c, chosen in favorites.items() for rank, m in enumerate(chosen, 1)]
        async with self._postgres.own_connection() as connection, connection.transaction():
            await connection.execute(_MECHANICS, *_columns(mechanics))
            await connection.execute(_CUSTOMERS, list(favorites))
            await connection.execute(_CREDITS, list(favorites), _PURSE)
            if ranked:
                await connection.execute(_FAVORITES, *_columns(ranked))

    async def count(self, session_ids: Sequence[str]) -> tuple[set[str], int, int]:
        """(which of these sessions have rows, how many assignments and events they have)."""
        async with self._postgres.own_connection() as connection:
            found = await connection.fetch(_SESSIONS, session_ids)
            return (
                {str(row["id"]) for row in found},
                await connection.fetchval(_ASSIGNMENTS, session_ids),
                await connection.fetchval(_EVENTS, session_ids),
            )


def _columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
