"""Bodies of HTTP requests and answers."""

from http import HTTPStatus
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from hub.domain.model import RequestType, RoutingType, Session, SessionType
from hub.wire.server import PresenceUpdate
from hub.wire.views import (
    AssignmentView,
    Metadata,
    PresenceView,
    QueueItem,
    RoutingView,
    SessionView,
    Timestamp,
    Uuid,
    assignment_view,
    remaining,
    rfc3339,
    session_view,
)

Short = Annotated[str, Meta(max_length=200)]
Obstacle = Literal["recovering", "draining", "deaf"]


class Page(Struct, frozen=True, kw_only=True):
    """Which part of a list: `cursor` is the `next_cursor` of the part before."""

    limit: Annotated[int, Meta(ge=1, le=200)] = 200
    cursor: Short | None = None


class IntakeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A booking. `null` and an empty id mean absent."""

    plan_code: Annotated[str, Meta(min_length=1, max_length=100, examples=["free"])]
    session_type: SessionType | None = None
    payment: Literal["free", "credit"] | None = None
    preferred_mechanic_id: str | None = None
    routing_type: RoutingType | None = None
    priority_window_minutes: Annotated[int, Meta(ge=1, le=60)] | None = None
    wait_if_offline: bool | None = None
    workshop_id: Short | None = None
    is_urgent: bool | None = None
    request_type: RequestType | None = None
    requested_brand: Short | None = None
    notes: Annotated[str, Meta(max_length=2000)] | None = None
    metadata: Metadata | None = None
    customer_id: Short | None = None


class IntakeAnswer(Struct, frozen=True, kw_only=True):
    """The booking, and who is asked first."""

    session: SessionView
    assignment: AssignmentView
    routing: RoutingView
    server_time: Timestamp


class ReasonBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a mechanic declines or releases, or an admin steps in; the body may be left out."""

    reason: Annotated[str, Meta(max_length=500)] | None = None


class ActiveSession(Struct, frozen=True, kw_only=True):
    """The customer's session that has not ended; null where there is none."""

    session: SessionView | None
    assignment: AssignmentView | None
    server_time: Timestamp
    expires_in_ms: int | None


class MechanicSession(Struct, frozen=True, kw_only=True):
    """The newest session the mechanic holds, and the others."""

    session: SessionView | None
    assignment: AssignmentView | None
    others: list[QueueItem]


class QueueAnswer(Struct, frozen=True, kw_only=True):
    """Requests that the mechanic may accept now."""

    assignments: list[QueueItem]
    next_cursor: str | None
    server_time: Timestamp


class RequestAnswer(Struct, frozen=True, kw_only=True):
    """A session with its assignment; `expires_in_ms` is what is left of a favourite's turn."""

    session: SessionView
    assignment: AssignmentView
    server_time: Timestamp
    expires_in_ms: int | None


class PlanView(Struct, frozen=True, kw_only=True):
    """What can be booked: a booking names its `plan_code`."""

    plan_code: str
    name: str
    session_type: SessionType
    price_cents: int
    credits: int
    priority_window_minutes: int | None


class PlanList(Struct, frozen=True, kw_only=True):
    """All plans that can be booked; there is one page of them."""

    items: list[PlanView]
    next_cursor: str | None


class Credits(Struct, frozen=True, kw_only=True):
    """What a customer has left."""

    balance: int


class Grant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`credits`: how many are added; negative takes them back."""

    customer_id: Short
    credits: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)]


class GrantAnswer(Struct, frozen=True, kw_only=True):
    """`balance`: what the customer has now."""

    customer_id: Uuid
    credits: int
    balance: int


class PresenceQuery(Page, frozen=True):
    """Either `ids`, up to 500 separated by commas, or everyone whose `status` is this."""

    ids: str | None = None
    status: Literal["online"] | None = None


class PresenceAnswer(Struct, frozen=True, kw_only=True):
    """Each id as it was asked for, with what is known of that mechanic."""

    presence: dict[str, PresenceView]


class OnlineList(Struct, frozen=True, kw_only=True):
    """Mechanics who are online, longest first."""

    items: list[PresenceUpdate]
    next_cursor: str | None


class Liveness(Struct, frozen=True, kw_only=True):
    """The process answers."""

    status: Literal["alive"]
    node: str


class Readiness(Struct, frozen=True, kw_only=True):
    """`because`: what keeps the node from being ready; nothing where it is."""

    status: Literal["ready", "not_ready"]
    node: str
    because: list[Obstacle]


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457, with the stable `code` that the socket uses too."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    session: SessionView | None = None
    assignment: AssignmentView | None = None
    server_time: Timestamp | None = None
    expires_in_ms: int | None = None


def request_answer(session: Session, now: int) -> RequestAnswer:
    return RequestAnswer(
        session=session_view(session),
        assignment=assignment_view(session),
        server_time=rfc3339(now),
        expires_in_ms=remaining(session.expires_at, now),
    )


AT_ONCE = "hub.http"
"""Name of the ASGI extension that writes an answer in one piece: (status, headers with its length, body)."""
HANG_UP = "hub.http.hang_up"
"""Name of the ASGI extension that ends the connection without an answer: ()."""
PROBLEM_JSON = "application/problem+json"


def problem(status: int, code: str, detail: str, **more: Any) -> Problem:
    return Problem(
        type=f"urn:hub:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        **more,
    )
