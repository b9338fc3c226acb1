"""What customers, and services on their behalf, do."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.api.web import answer, guarded, read_body
from hub.booking import BookingDesk, BookingRequest
from hub.desk import Desk
from hub.domain.errors import Refused
from hub.domain.ids import canonical
from hub.domain.model import Role, RoutingType
from hub.identity import Identity
from hub.ports import Clock, Directory
from hub.wire.http import ActiveSession, IntakeAnswer, IntakeRequest, PlanView, RequestAnswer
from hub.wire.views import assignment_view, remaining, rfc3339, routing_view, session_view

_intake = msgspec.json.Decoder(IntakeRequest)
_MAX_KEY = 255


class CustomerApi:
    def __init__(self, *, booking: BookingDesk, desk: Desk, directory: Directory, clock: Clock) -> None:
        self._booking = booking
        self._desk = desk
        self._directory = directory
        self._clock = clock

    def routes(self) -> list[Route]:
        customer = frozenset({Role.CUSTOMER})
        may_book = frozenset({Role.CUSTOMER, Role.SERVICE})
        return [
            guarded("/api/intake/start", self.book, may_book, "POST"),
            guarded("/api/customer/active-session", self.active_session, customer),
            guarded("/api/customer/sessions/{id}/end", self.end, customer, "POST"),
            Route("/api/plans", self.plans, methods=["GET"]),
        ]

    async def book(self, request: Request, identity: Identity) -> Response:
        body = await read_body(request, _intake)
        key = request.headers.get("idempotency-key") or None
        if key is not None and len(key) > _MAX_KEY:
            raise Refused("invalid_request", "The key is too long.", field="Idempotency-Key")
        session = await self._booking.book(_booking_request(body, identity), key)
        now = self._clock.now()
        return answer(
            IntakeAnswer(
                session=session_view(session),
                assignment=assignment_view(session),
                routing=routing_view(session, now),
                server_time=rfc3339(now),
            ),
            201,
        )

    async def active_session(self, request: Request, identity: Identity) -> Response:
        session = await self._desk.active_session(identity.user_id)
        now = self._clock.now()
        return answer(
            ActiveSession(
                session=session_view(session) if session else None,
                assignment=assignment_view(session) if session else None,
                server_time=rfc3339(now),
                expires_in_ms=remaining(session.expires_at, now) if session else None,
            )
        )

    async def end(self, request: Request, identity: Identity) -> Response:
        session = await self._desk.end_as_customer(identity.user_id, request.path_params["id"])
        return answer(RequestAnswer(session=session_view(session), assignment=assignment_view(session)))

    async def plans(self, request: Request) -> Response:
        items = [
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
        ]
        return answer({"items": items, "next_cursor": None})


def _booking_request(body: IntakeRequest, identity: Identity) -> BookingRequest:
    """What the body asks for, with what the hub takes where it is silent."""
    own = identity.role is Role.CUSTOMER
    return BookingRequest(
        customer_id=_customer_id(body, identity),
        customer_name=identity.name if own else None,
        customer_email=identity.email if own else None,
        actor_id=identity.user_id,
        plan_code=body.plan_code,
        session_type=body.session_type,
        payment=body.payment or "free",
        preferred_mechanic_id=body.preferred_mechanic_id or None,
        routing_type=RoutingType(body.routing_type or RoutingType.BROADCAST),
        priority_window_minutes=body.priority_window_minutes,
        wait_if_offline=body.wait_if_offline or False,
        workshop_id=_workshop_id(body.workshop_id),
        is_urgent=body.is_urgent or False,
        request_type=body.request_type or "general",
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
