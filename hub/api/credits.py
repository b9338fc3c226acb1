"""Credits: what a customer has, and what an admin gives or takes back."""

from hub.api.operation import ADMINS, Ask, Operation, operation
from hub.domain.errors import Refused
from hub.domain.ids import canonical
from hub.domain.model import Role
from hub.ports import Ledger
from hub.wire.http import Credits, Grant, GrantAnswer


class CreditsApi:
    def __init__(self, *, ledger: Ledger) -> None:
        self._ledger = ledger

    def operations(self) -> list[Operation]:
        return [
            operation("GET", "/api/customer/credits", self.balance, frozenset({Role.CUSTOMER})),
            operation("POST", "/api/admin/credits", self.grant, ADMINS, refuses=("no_credit",)),
        ]

    async def balance(self, ask: Ask[None, None]) -> Credits:
        """The customer's credits."""
        return Credits(balance=await self._ledger.balance(ask.identity.user_id))

    async def grant(self, ask: Ask[None, Grant]) -> GrantAnswer:
        """Give a customer credits, or take some back (negative); a balance never becomes negative."""
        customer_id, credits = canonical(ask.body.customer_id), ask.body.credits
        if customer_id is None:
            raise Refused("invalid_request", "customer_id is not a UUID.", field="customer_id")
        if not credits:
            raise Refused("invalid_request", "credits must not be 0.", field="credits")
        balance = await self._ledger.grant(customer_id, credits)
        return GrantAnswer(customer_id=customer_id, credits=credits, balance=balance)
