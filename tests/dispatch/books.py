"""A ledger in memory, for what books with credits."""

from collections.abc import Sequence

from hub.domain.errors import Refused, StoreFailed
from hub.domain.records import Debit


class FakeLedger:
    """One customer's. `debits`: session → its debit that stands; `away`: Postgres does not answer."""

    def __init__(self, credits: int = 0) -> None:
        self.credits = credits
        self.debits: dict[str, int] = {}
        self.asked = 0
        self.away = False

    async def debit(
        self,
        customer_id: str,
        session_id: str,
        credits: int,
        *,
        name: str | None = None,
        email: str | None = None,
    ) -> int | None:
        self.asked += 1
        self._answer()
        if session_id in self.debits:
            return None
        if self.credits < credits:
            raise Refused("no_credit", "Too few.")
        self.credits -= credits
        self.debits[session_id] = self.asked
        return self.asked

    async def refund(self, debit_id: int) -> bool:
        """Every debit is of one credit."""
        self._answer()
        stood = [session_id for session_id, number in self.debits.items() if number == debit_id]
        for session_id in stood:
            del self.debits[session_id]
            self.credits += 1
        return bool(stood)

    async def grant(self, customer_id: str, credits: int) -> int:
        raise NotImplementedError

    async def balance(self, customer_id: str) -> int:
        raise NotImplementedError

    async def abandoned(
        self, *, older_than_s: float, younger_than_s: float | None, limit: int, after: int = 0
    ) -> Sequence[Debit]:
        """All that stand."""
        self.asked += 1
        self._answer()
        numbers = sorted((number, session_id) for session_id, number in self.debits.items() if number > after)
        return [Debit(id=number, session_id=session_id) for number, session_id in numbers[:limit]]

    def _answer(self) -> None:
        if self.away:
            raise StoreFailed("Postgres is away.", maybe_done=True)
