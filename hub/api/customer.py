"""What customers, and services on their behalf, do."""

from hub.api.operation import Ask, Header, Operation, operation
from hub.booking import BookingDesk, BookingRequest
from hub.desk import Desk
from hub.domain.errors import Refused
from hub.domain.ids import canonical
from hub.domain.model import Payment, RequestType, Role, RoutingType
from hub.identity import Identity
from hub.ports import Clock, Directory
from hub.wire.http import (
    ActiveSession,
    IntakeAnswer,
    IntakeRequest,
    PlanList,
    PlanView,
    RequestAnswer,
    request_answer,
)
from hub.wire.views import assignment_view, remaining, rfc3339, routing_view, session_view

_IDEMPOTENCY_KEY = Header(
    name="Idempotency-Key",
    about="The same key, customer and body give the same booking for 24 hours.",
    max_length=255,
)


class CustomerApi:
    def __init__(self, *, booking: BookingDesk, desk: Desk, directory: Directory, clock: Clock) -> None:
        self._booking = booking
        self._desk = desk
        self._directory = directory
        self._clock = clock

    def operations(self) -> list[Operation]:
        customer = frozenset({Role.CUSTOMER})
        may_book = frozenset({Role.CUSTOMER, Role.SERVICE})
        return [
            operation(
                "POST", "/api/intake/start", self.book, may_book, status=201,
                headers=(_IDEMPOTENCY_KEY,),
                refuses=(
                    "payment_required", "no_credit", "active_session_exists", "idempotency_key_reused",
                    "journal_full",
                ),
            ),
            operation("GET", "/api/customer/active-session", self.active_session, customer),
            operation(
                "POST", "/api/customer/sessions/{id}/end", self.end, customer, refuses=("not_found",)
            ),
            operation("GET", "/api/plans", self.plans, None),
        ]  # fmt: skip

    async def book(self, ask: Ask[None, IntakeRequest]) -> IntakeAnswer:
        """Book. With an `Idempotency-Key`, the same key, customer and body give the same booking."""
        request, key = _booking_request(ask.body, ask.identity), ask.header(_IDEMPOTENCY_KEY)
        if key is None:
            session = await self._booking.book(request)
        else:
            session = await self._booking.book_for_a_day(request, key)
        now = self._clock.now()
        return IntakeAnswer(
            session=session_view(session),
            assignment=assignment_view(session),
            routing=routing_view(session, now),
            server_time=rfc3339(now),
        )

    async def active_session(self, ask: Ask[None, None]) -> ActiveSession:
        """The customer's session that is pending, waiting, live or scheduled."""
        session = await self._desk.active_session(ask.identity.user_id)
        now = self._clock.now()
        return ActiveSession(
            session=session_view(session) if session else None,
            assignment=assignment_view(session) if session else None,
            server_time=rfc3339(now),
            expires_in_ms=remaining(session.expires_at, now) if session else None,
        )

    async def end(self, ask: Ask[None, None]) -> RequestAnswer:
        """Cancel a session that has not begun, complete a live one; one that has ended stays as it is."""
        session = await self._desk.end_as_customer(ask.identity.user_id, ask.path("id"))
        return request_answer(session, self._clock.now())

    async def plans(self, ask: Ask[None, None]) -> PlanList:
        """What can be booked, with prices."""
        return PlanList(
            items=[
                PlanView(
                    plan_code=plan.code,
                    name=plan.name,
                    session_type=plan.session_type,
                    price_cents=plan.price_cents,
                    credits=plan.credits,
                    priority_window_minutes=plan.window_minutes,
                )
                for plan in await self._directory.plans()
                if plan.active
            ],
            next_cursor=None,
        )


def _booking_request(body: IntakeRequest, identity: Identity) -> BookingRequest:
    """What the body asks for, with what the hub takes where it is silent."""
    own = identity.role is Role.CUSTOMER
    return BookingRequest(
        customer_id=_customer_id(body, identity),
        customer_name=identity.name if own else None,
        customer_email=identity.email if own else None,
        actor_id=identity.user_id,
        actor_role=identity.role,
        plan_code=body.plan_code,
        session_type=body.session_type,
        payment=Payment(body.payment or Payment.FREE),
        preferred_mechanic_id=body.preferred_mechanic_id or None,
        routing_type=body.routing_type or RoutingType.BROADCAST,
        priority_window_minutes=body.priority_window_minutes,
        wait_if_offline=body.wait_if_offline,
        workshop_id=_workshop_id(body.workshop_id),
        is_urgent=body.is_urgent or False,
        request_type=body.request_type or RequestType.GENERAL,
        requested_brand=body.requested_brand or None,
        notes=body.notes,
        metadata=body.metadata or {},
    )


def _customer_id(body: IntakeRequest, identity: Identity) -> str:
    named = canonical(body.customer_id) if body.customer_id else None
    if body.customer_id and named is None:
        raise Refused("invalid_request", "customer_id is not a UUID.", field="customer_id")
    if identity.role is not Role.CUSTOMER:
        if named is None:
            raise Refused("invalid_request", "Say whom you book for.", field="customer_id")
        return named
    if named not in (None, identity.user_id):
        raise Refused("forbidden", "You can book for yourself only.")
    return identity.user_id


def _workshop_id(text: str | None) -> str | None:
    if not text:
        return None
    known = canonical(text)
    if known is None:
        raise Refused("invalid_request", "workshop_id is not a UUID.", field="workshop_id")
    return known
