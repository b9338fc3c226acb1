"""Stripe's events about checkouts, as far as bookings follow from them."""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct


class EventOutcome(StrEnum):
    """What became of an event."""

    DISPATCHED = "dispatched"
    IGNORED = "ignored"
    NEEDS_ATTENTION = "needs_attention"


class Verdict(Struct, frozen=True, kw_only=True):
    """How an event ends; `detail` says why where no session came of it."""

    outcome: EventOutcome
    session_id: str | None = None
    detail: str | None = None


class StripeEvent(Struct, frozen=True, kw_only=True):
    """A stored event; times in ms. Of its checkout, what a booking is made of.

    It is to do while `handled_at` is None. Name and email are the customer's where the hub knows them, else
    those of whoever paid. `metadata` is as it came: texts, if Stripe keeps to its own rules.
    """

    event_id: str
    type: str
    received_at: int
    handled_at: int | None = None
    outcome: EventOutcome | None = None
    session_id: str | None = None
    detail: str | None = None
    checkout_id: str | None = None
    payment_status: str | None = None
    customer_name: str | None = None
    customer_email: str | None = None
    metadata: Mapping[str, object] = {}

    def said(self, name: str) -> str | None:
        """What the metadata says under this name; None where that is nothing."""
        value = self.metadata.get(name)
        return (str(value).strip() or None) if value is not None else None
