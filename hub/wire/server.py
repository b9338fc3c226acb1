"""Messages that the hub sends on `/ws`, and the payloads of its events."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from hub.domain.model import Role, RoutingType, Status
from hub.wire.client import RequestId
from hub.wire.views import QueueItem, RequestView


class ServerMessage(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Anything the hub may send."""


class Welcome(ServerMessage, tag="welcome", frozen=True):
    """Everything open for this user, so that a missed push never loses an offer."""

    connection_id: str
    user_id: str
    role: Role
    server_time: str
    heartbeat_seconds: int
    assignments: list[QueueItem]
    more: bool | UnsetType = UNSET


class ErrorBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    code: str
    detail: str
    field: str | None = None
    retry_after: int | None = None


class Reply(ServerMessage, tag="reply", frozen=True):
    """The answer to the request with this `id`; further fields depend on the request."""

    id: RequestId | None
    ok: bool
    error: ErrorBody | UnsetType = UNSET
    server_time: str | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    session: Any = UNSET
    assignment: Any = UNSET
    assignments: list[QueueItem] | UnsetType = UNSET
    more: bool | UnsetType = UNSET
    presence: dict[str, Any] | UnsetType = UNSET
    expires_at: str | UnsetType = UNSET


class EventMessage(ServerMessage, tag="event", frozen=True):
    """At least once, in no promised order between sessions; `event_id` is the same on every repeat."""

    event: str
    event_id: str
    at: str
    payload: Any


class ErrorMessage(ServerMessage, tag="error", frozen=True):
    code: str
    detail: str


class GoingAway(ServerMessage, tag="going_away", frozen=True):
    """Reconnect at a random moment within this time."""

    reconnect_ms: int


class PrioritySessionRequest(Struct, frozen=True, kw_only=True):
    request: RequestView
    target_mechanic_id: str
    priority_window_minutes: int
    expires_at: str
    expires_in_ms: int
    server_time: str
    message: str
    version: int


class NewAssignment(Struct, frozen=True, kw_only=True):
    request: RequestView
    routing_type: RoutingType
    version: int
    fallback_reason: str | UnsetType = UNSET


class AssignmentClosed(Struct, frozen=True, kw_only=True):
    """`assignment_accepted`, `assignment_cancelled`, `assignment_expired`."""

    assignment_id: str
    session_id: str
    mechanic_id: str | None
    version: int
    mechanic_name: str | UnsetType | None = UNSET
    reason: str | UnsetType = UNSET


class OfferEnded(Struct, frozen=True, kw_only=True):
    assignment_id: str
    session_id: str
    reason: str
    version: int


class CustomerNews(Struct, frozen=True, kw_only=True):
    """`favorite_notified`, `favorite_declined`, `searching`, `session_updated`: what a customer app shows."""

    session: Any
    assignment: Any
    message: str
    version: int
    mechanic_id: str | UnsetType | None = UNSET
    mechanic_name: str | UnsetType | None = UNSET
    reason: str | UnsetType = UNSET
    expires_at: str | UnsetType | None = UNSET
    expires_in_ms: int | UnsetType | None = UNSET
    server_time: str | UnsetType = UNSET


class PresenceUpdate(Struct, frozen=True, kw_only=True):
    mechanic_id: str
    is_online: bool
    status: Status
    last_seen: str | None
