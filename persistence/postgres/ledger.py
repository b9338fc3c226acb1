"""Customers' credits: a ledger that only grows, and a balance that cannot become negative."""

from hub.domain.errors import Refused
from hub.domain.records import Debit
from persistence.postgres.pool import PATIENCE_S, Connection, Postgres
from persistence.postgres.query_files import load

_LEDGER = load("ledger")


class PostgresLedger:
    """Everything that takes credits holds the customer's row from the look to the commit."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def debit(
        self,
        customer_id: str,
        session_id: str,
        credits: int,
        *,
        name: str | None = None,
        email: str | None = None,
    ) -> int | None:
        """Take credits for a session that is about to be booked: the debit's number.

        None where the session is somebody else's to book: it has a debit, or is on record. A debit that was
        refunded before the session came to be counts for nothing. Raises `Refused` (no_credit).
        """
        async with self._postgres.transaction() as connection:
            await _lock(connection, customer_id, name, email)
            standing = await connection.fetchrow(_LEDGER["standing"], customer_id, session_id)
            assert standing is not None
            if standing["recorded"] or (standing["debited"] and not standing["refunded"]):
                return None
            if standing["balance"] < credits:
                raise Refused("no_credit", f"This takes {credits} credits; you have {standing['balance']}.")
            if standing["refunded"]:
                await connection.execute(_LEDGER["forget"], session_id)
            entered = await connection.fetchval(_LEDGER["enter"], customer_id, session_id, -credits, "debit")
            return int(entered)

    async def refund(self, debit_id: int) -> bool:
        """Give a debit back; False where that was done before."""
        return bool(await self._postgres.fetch(_LEDGER["refund"], debit_id))

    async def grant(self, customer_id: str, credits: int) -> int:
        """The balance after adding credits, or taking some back; raises `Refused` (no_credit)."""
        async with self._postgres.transaction() as connection:
            await _lock(connection, customer_id)
            balance = int(await connection.fetchval(_LEDGER["balance"], customer_id))
            if balance + credits < 0:
                raise Refused("no_credit", f"This takes {-credits} credits; the customer has {balance}.")
            await connection.execute(_LEDGER["enter"], customer_id, None, credits, "grant")
            return balance + credits

    async def balance(self, customer_id: str) -> int:
        ((balance,),) = await self._postgres.fetch(_LEDGER["balance"], customer_id)
        return int(balance)

    async def abandoned(
        self, *, older_than_s: float, younger_than_s: float | None, limit: int, after: int = 0
    ) -> list[Debit]:
        """Debits that no session keeps, by number from behind `after` on."""
        found = await self._postgres.fetch(
            _LEDGER["abandoned"], older_than_s, younger_than_s, limit, after, patience_s=PATIENCE_S
        )
        return [Debit(id=row["id"], session_id=row["session_id"]) for row in found]


async def _lock(
    connection: Connection, customer_id: str, name: str | None = None, email: str | None = None
) -> None:
    if await connection.fetchrow(_LEDGER["lock"], customer_id) is None:
        await connection.execute(_LEDGER["know"], customer_id, name, email)
        await connection.execute(_LEDGER["lock"], customer_id)
