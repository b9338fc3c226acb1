"""Paid bookings: Stripe's events become sessions, one for a checkout.

An event is stored before anything comes of it, and done once its outcome is stored, too. To handle it again
comes to the same, whoever does and however often: the session's id derives from the event's.
"""

import json
import logging
import math
from collections.abc import Callable
from typing import Any

from hub.booking import BookingDesk, BookingRequest
from hub.domain.checkout import EventOutcome, StripeEvent, Verdict
from hub.domain.errors import ActiveSessionExists, Refused, Unavailable
from hub.domain.ids import canonical, derived_session_id
from hub.domain.model import Payment, Role, RoutingType, SessionType
from hub.ports import Inbox, Record

logger = logging.getLogger("hub.checkout")

COMPLETED = "checkout.session.completed"
PAID_LATER = "checkout.session.async_payment_succeeded"

_PAID = ("paid", "no_payment_required")
_MAX_ID = 255
_MAX_TEXT = 200


class CheckoutDesk:
    """`alarm` is told what a person should look at."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        booking: BookingDesk,
        record: Record,
        alarm: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._inbox = inbox
        self._booking = booking
        self._record = record
        self._alarm = alarm

    async def receive(self, payload: bytes) -> StripeEvent:
        """Store an event and handle it; without an outcome where a store is away, and then the loop does it.

        Raises `Refused` (malformed), or `StoreFailed` where it is not stored.
        """
        event_id, kind, text = _read(payload)
        return await self._handled_if_possible(await self._inbox.store(event_id, kind, text))

    async def retry(self, event_id: str, admin_id: str) -> StripeEvent:
        """Handle what needed attention, or was left, again; raises `Refused` (not_found)."""
        known = "\x00" not in event_id
        event = (await self._inbox.reopen(event_id) or await self._inbox.get(event_id)) if known else None
        if event is None:
            raise Refused("not_found", "There is no such event.")
        return await self._handled_if_possible(event, admin_id)

    async def handle(self, event: StripeEvent, actor_id: str | None = None) -> StripeEvent:
        """The event with its outcome; raises `Unavailable`, and then it is still to do."""
        if event.handled_at is not None:
            return event
        verdict = await self._verdict(event, actor_id)
        done = await self._inbox.finish(event.event_id, verdict)
        if done is None:
            return await self._inbox.get(event.event_id) or event
        if verdict.outcome is EventOutcome.NEEDS_ATTENTION:
            logger.error("stripe_needs_attention", extra={"event": event.event_id, "detail": verdict.detail})
            self._alarm("stripe_needs_attention")
        return done

    async def _handled_if_possible(self, event: StripeEvent, actor_id: str | None = None) -> StripeEvent:
        try:
            return await self.handle(event, actor_id)
        except Unavailable as error:
            logger.warning("stripe_event_waits", extra={"event": event.event_id, "detail": error.detail})
            return event

    async def _verdict(self, event: StripeEvent, actor_id: str | None) -> Verdict:
        try:
            if (reason := _nothing_to_book(event)) is not None:
                return _ignored(reason)
            return await self._booked(event, booking_request(event, actor_id))
        except Refused as refusal:
            where = f"{refusal.field}: " if refusal.field else ""
            return Verdict(outcome=EventOutcome.NEEDS_ATTENTION, detail=where + refusal.detail)

    async def _booked(self, event: StripeEvent, request: BookingRequest) -> Verdict:
        session_id = _session_id(request, event)
        epoch = await self._booking.life(request.customer_id)
        # The keys in Redis by which a repeated booking finds the first one do not stay for ever.
        if await self._record.session(session_id) is not None:
            return _dispatched(session_id)
        for sibling in await self._inbox.siblings(event):
            if sibling.outcome is EventOutcome.DISPATCHED or await self._record.session(
                _session_id(request, sibling)
            ):
                return _ignored_for(sibling)
        try:
            session = await self._booking.book(request, _key(event), epoch=epoch)
        except ActiveSessionExists as refusal:
            held = refusal.session.id if refusal.session else None
            # A sibling that is being handled elsewhere may have come after the first look.
            for sibling in await self._inbox.siblings(event):
                if held == _session_id(request, sibling):
                    return _ignored_for(sibling)
            raise Refused(refusal.code, f"The customer has an active session: {held}.") from None
        return _dispatched(session.id)


def booking_request(event: StripeEvent, actor_id: str | None = None) -> BookingRequest:
    """What was paid for; raises `Refused` where nobody can tell for whom or what. `actor_id`: the admin who
    handles it, if one does.

    Wishes about the way to a mechanic that make no sense are as good as none: it is paid for.
    """
    customer_id = canonical(event.said("customer_id") or "")
    if customer_id is None:
        raise Refused("invalid_request", "The metadata have no UUID there.", field="customer_id")
    session_type, routing_type = event.said("session_type"), event.said("routing_type")
    return BookingRequest(
        customer_id=customer_id,
        customer_name=_cut(event.customer_name),
        customer_email=_cut(event.customer_email),
        actor_id=actor_id or customer_id,
        actor_role=Role.ADMIN if actor_id else Role.CUSTOMER,
        plan_code=event.said("plan_code") or "",
        payment=Payment.PAID,
        session_type=SessionType(session_type) if session_type in set(SessionType) else None,
        routing_type=RoutingType(routing_type) if routing_type in set(RoutingType) else RoutingType.BROADCAST,
        preferred_mechanic_id=_cut(event.said("preferred_mechanic_id")),
        priority_window_minutes=_minutes(event.said("priority_window_minutes")),
    )


def _nothing_to_book(event: StripeEvent) -> str | None:
    """Why an event is none to book for; raises `Refused` where nobody can tell whether it is."""
    if event.type not in (COMPLETED, PAID_LATER):
        return "Events of this type book nothing."
    if event.payment_status == "unpaid":
        if event.type == PAID_LATER:
            raise Refused("invalid_request", "It says paid by its type, unpaid here.", field="payment_status")
        return f"Not paid yet; {PAID_LATER} follows once it is."
    if event.type == COMPLETED and event.payment_status not in _PAID:
        raise Refused("invalid_request", "It does not say whether it is paid.", field="payment_status")
    return None


def _read(payload: bytes) -> tuple[str, str, str]:
    """(id, type, the event as JSON that Postgres can keep) of what Stripe sent."""
    try:
        event = _clean(json.loads(payload))
        text = json.dumps(event, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        raise Refused("malformed", "The body is not JSON.") from None
    named = [event.get(name) for name in ("id", "type")] if isinstance(event, dict) else []
    # No slash: an event is retried under its id.
    names = [name for name in named if isinstance(name, str) and 0 < len(name) <= _MAX_ID and "/" not in name]
    if len(names) != 2:
        raise Refused("malformed", "An event is an object with an id and a type.")
    return names[0], names[1], text


def _clean(value: Any) -> Any:
    """Postgres takes neither NUL nor lone surrogates, and an event is not lost for them."""
    if isinstance(value, str):
        return value.encode("utf-8", "ignore").decode().replace("\x00", "")
    if isinstance(value, dict):
        return {_clean(name): _clean(part) for name, part in value.items()}
    return [_clean(part) for part in value] if isinstance(value, list) else value


def _cut(text: str | None) -> str | None:
    return (text.strip()[:_MAX_TEXT] or None) if text is not None else None


def _minutes(text: str | None) -> int | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return int(min(60.0, max(1.0, number))) if math.isfinite(number) else None


def _key(event: StripeEvent) -> str:
    """No customer's Idempotency-Key can be the same: a header holds no line break."""
    return f"stripe\n{event.event_id}"


def _session_id(request: BookingRequest, event: StripeEvent) -> str:
    return derived_session_id(request.customer_id, _key(event))


def _dispatched(session_id: str) -> Verdict:
    return Verdict(outcome=EventOutcome.DISPATCHED, session_id=session_id)


def _ignored(detail: str) -> Verdict:
    return Verdict(outcome=EventOutcome.IGNORED, detail=detail)


def _ignored_for(sibling: StripeEvent) -> Verdict:
    return _ignored(f"Already booked by {sibling.event_id}.")
