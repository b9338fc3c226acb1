"""What a mechanic's work has come to, counted from the record."""

import msgspec

from hub.domain.statistics import MechanicNumbers
from persistence.postgres.pool import PATIENCE_S, Postgres
from persistence.postgres.query_files import load

_QUERIES = load("statistics")
_NAMES = 200


class PostgresStatistics:
    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def of_mechanic(self, mechanic_id: str, days: int | None) -> MechanicNumbers:
        """Of the last `days`, None: of all time; favourites are those of now. Zeros where nobody is known."""
        async with self._postgres.connection() as connection:
            (favorites,) = await connection.fetch(
                _QUERIES["favorites"], mechanic_id, _NAMES, timeout=PATIENCE_S
            )
            (priority,) = await connection.fetch(_QUERIES["priority"], mechanic_id, days, timeout=PATIENCE_S)
            (sessions,) = await connection.fetch(_QUERIES["sessions"], mechanic_id, days, timeout=PATIENCE_S)
        answered = priority["average"] is not None
        numbers = {
            **favorites,
            "priority": {**priority, "response_seconds": dict(priority) if answered else None},
            "sessions": dict(sessions),
            "repeat_customers": dict(sessions),
        }
        return msgspec.convert(numbers, MechanicNumbers)
