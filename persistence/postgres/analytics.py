"""The reports of migration 0007, read a few at a time so that they leave connections for everything else."""

import asyncio
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from hub.domain.errors import Unavailable
from hub.domain.overview import StripeInbox
from hub.domain.reports import REPORTS
from persistence.postgres.pool import PATIENCE_S, Postgres
from persistence.postgres.query_files import load

_QUERIES = load("analytics")


class PostgresAnalytics:
    """`at_once` reports are made; another waits `wait_s` for its turn. Each may take `statement_s`."""

    def __init__(
        self, postgres: Postgres, *, at_once: int = 2, wait_s: float = 5.0, statement_s: float = 8.0
    ) -> None:
        self._postgres = postgres
        self._places = asyncio.Semaphore(at_once)
        self._wait_s = wait_s
        self._statement_ms = round(statement_s * 1000)

    async def report(self, name: str, days: int) -> list[dict[str, Any]]:
        """The rows of one of `REPORTS` over the last `days`, of values that JSON knows."""
        query = _QUERIES["report"].format(name=REPORTS[REPORTS.index(name)])
        try:
            async with asyncio.timeout(self._wait_s):
                await self._places.acquire()
        except TimeoutError:
            raise Unavailable("unavailable", "Other reports are being made; ask again.") from None
        try:
            async with self._postgres.connection() as connection, connection.transaction(readonly=True):
                await connection.fetch(_QUERIES["limits"], str(self._statement_ms))
                return [_plain(dict(row)) for row in await connection.fetch(query, days, timeout=PATIENCE_S)]
        finally:
            self._places.release()

    async def stripe_inbox(self) -> StripeInbox:
        (row,) = await self._postgres.fetch(_QUERIES["stripe_inbox"])
        return StripeInbox(unhandled=row["unhandled"], needs_attention=row["needs_attention"])


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    match value:
        case UUID():
            return str(value)
        case date():
            return value.isoformat()
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
    return value
