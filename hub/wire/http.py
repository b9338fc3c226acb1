"""Bodies of HTTP requests and answers."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from hub.wire.views import AssignmentView, QueueItem, RoutingView, SessionView

Short = Annotated[str, Meta(max_length=200)]


class IntakeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A booking. `null` and an empty id mean absent."""

    plan_code: Annotated[str, Meta(min_length=1, max_length=100)]
    session_type: Literal["chat", "video", "diagnostic"] | None = None
    payment: Literal["free", "credit"] | None = None
    preferred_mechanic_id: Short | None = None
    routing_type: Literal["broadcast", "priority_broadcast", "favorites_sequence"] | None = None
    priority_window_minutes: Annotated[int, Meta(ge=1, le=60)] | None = None
    wait_if_offline: bool | None = None
    workshop_id: Short | None = None
    is_urgent: bool | None = None
    request_type: Literal["general", "brand_specialist"] | None = None
    requested_brand: Short | None = None
    notes: Annotated[str, Meta(max_length=2000)] | None = None
    metadata: dict[str, Any] | None = None
    customer_id: Short | None = None


class IntakeAnswer(Struct, frozen=True, kw_only=True):
    session: SessionView
    assignment: AssignmentView
    routing: RoutingView
    server_time: str


class ReasonBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a mechanic declines or releases; the body may be left out."""

    reason: Annotated[str, Meta(max_length=500)] | None = None


class ActiveSession(Struct, frozen=True, kw_only=True):
    session: SessionView | None
    assignment: AssignmentView | None
    server_time: str
    expires_in_ms: int | None = None


class MechanicSession(Struct, frozen=True, kw_only=True):
    """The newest session the mechanic holds, and the others."""

    session: SessionView | None
    assignment: AssignmentView | None
    others: list[QueueItem]


class QueueAnswer(Struct, frozen=True, kw_only=True):
    assignments: list[QueueItem]
    next_cursor: str | None
    server_time: str


class RequestAnswer(Struct, frozen=True, kw_only=True):
    session: SessionView
    assignment: AssignmentView


class PlanView(Struct, frozen=True, kw_only=True):
    plan_code: str
    name: str
    session_type: str
    price_cents: int
    credits: int
    priority_window_minutes: int | None


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
