"""Bodies of Stripe's webhook, and of what admins see of its events."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from hub.domain.checkout import EventOutcome, StripeEvent
from hub.wire.http import Page
from hub.wire.views import Timestamp, Uuid, maybe_rfc3339, rfc3339


class StripeEventBody(Struct, frozen=True, kw_only=True):
    """An event as Stripe sends it, with all that is in it."""

    id: str
    type: str
    data: Annotated[dict[str, Any], Meta(description="With the checkout as its `object`.")] = {}


class StripeReceipt(Struct, frozen=True, kw_only=True):
    """`outcome` is null while the event is stored but not handled; that follows."""

    received: bool
    event_id: str
    outcome: EventOutcome | None
    session_id: Uuid | None


class StripeEventQuery(Page, frozen=True):
    """`outcome`: only events of which this became; `unhandled`: those still to do."""

    outcome: Literal["dispatched", "ignored", "needs_attention", "unhandled"] | None = None


class StripeEventView(Struct, frozen=True, kw_only=True):
    """`customer_id` and `plan_code` are what the metadata say."""

    event_id: str
    type: str
    received_at: Timestamp
    handled_at: Timestamp | None
    outcome: EventOutcome | None
    session_id: Uuid | None
    detail: str | None
    customer_id: str | None
    plan_code: str | None


class StripeEventList(Struct, frozen=True, kw_only=True):
    """Stripe's events, newest first."""

    items: list[StripeEventView]
    next_cursor: str | None


def stripe_receipt(event: StripeEvent) -> StripeReceipt:
    return StripeReceipt(
        received=True, event_id=event.event_id, outcome=event.outcome, session_id=event.session_id
    )


def stripe_event_view(event: StripeEvent) -> StripeEventView:
    return StripeEventView(
        event_id=event.event_id,
        type=event.type,
        received_at=rfc3339(event.received_at),
        handled_at=maybe_rfc3339(event.handled_at),
        outcome=event.outcome,
        session_id=event.session_id,
        detail=event.detail,
        customer_id=event.said("customer_id"),
        plan_code=event.said("plan_code"),
    )
