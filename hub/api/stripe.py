"""Stripe's webhook, and what became of its events."""

from collections.abc import Sequence

from hub import signature
from hub.api.operation import ADMINS, Ask, Header, Operation, operation
from hub.api.web import cursor_text
from hub.checkout import CheckoutDesk
from hub.domain.checkout import EventOutcome
from hub.domain.errors import Unavailable
from hub.ports import Clock, Inbox
from hub.wire.stripe import (
    StripeEventBody,
    StripeEventList,
    StripeEventQuery,
    StripeEventView,
    StripeReceipt,
    stripe_event_view,
    stripe_receipt,
)

_MAX_EVENT = 1_048_576
_UNTIL_CONFIGURED_S = 60

_SIGNATURE = Header(name="Stripe-Signature", about="Stripe's signature, scheme v1.", required=True)


class StripeApi:
    """`secrets`: those with which Stripe may sign; without any, no event is taken."""

    def __init__(self, *, checkout: CheckoutDesk, inbox: Inbox, clock: Clock, secrets: Sequence[str]) -> None:
        self._checkout = checkout
        self._inbox = inbox
        self._clock = clock
        self._secrets = secrets

    def operations(self) -> list[Operation]:
        events = "/api/admin/stripe/events"
        return [
            operation(
                "POST", "/api/stripe/webhook", self.receive, None, body=StripeEventBody, raw=_MAX_EVENT,
                headers=(_SIGNATURE,), refuses=("invalid_signature",),
            ),
            operation("GET", events, self.events, ADMINS),
            operation(
                "POST", f"{events}/{{event_id}}/retry", self.retry_event, ADMINS, refuses=("not_found",)
            ),
        ]  # fmt: skip

    async def receive(self, ask: Ask[None, bytes]) -> StripeReceipt:
        """Take an event: it is stored, then booked where somebody paid. A repeat changes nothing."""
        if not self._secrets:
            raise Unavailable(
                "unavailable", "HUB_STRIPE_WEBHOOK_SECRETS is not set.", retry_after=_UNTIL_CONFIGURED_S
            )
        signature.check(ask.header(_SIGNATURE), ask.body, self._secrets, self._clock.now() / 1000)
        return stripe_receipt(await self._checkout.receive(ask.body))

    async def events(self, ask: Ask[StripeEventQuery, None]) -> StripeEventList:
        """Stripe's events and what became of them, newest first."""
        limit, cursor = ask.page
        wanted = ask.query.outcome
        unhandled = wanted == "unhandled"
        found = await self._inbox.page(
            limit + 1,
            outcome=EventOutcome(wanted) if wanted and not unhandled else None,
            unhandled=unhandled,
            before=cursor,
        )
        last = found[limit - 1] if len(found) > limit else None
        return StripeEventList(
            items=[stripe_event_view(event) for event in found[:limit]],
            next_cursor=cursor_text((last.received_at, last.event_id)) if last else None,
        )

    async def retry_event(self, ask: Ask[None, None]) -> StripeEventView:
        """Handle again what needed attention; what was booked or ignored stays as it is."""
        event = await self._checkout.retry(ask.path("event_id"), ask.identity.user_id)
        return stripe_event_view(event)
