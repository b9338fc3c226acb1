"""Messages that the hub sends on `/ws`, and its events: what each is called, who gets it, what it carries."""

from typing import Any, Generic, Literal, TypeVar

from msgspec import UNSET, Struct, UnsetType

from hub.domain.model import Fallback, Role, RoutingType, Status
from hub.wire.client import RequestId
from hub.wire.views import (
    AssignmentView,
    PresenceView,
    QueueItem,
    RequestView,
    SessionView,
    Timestamp,
    Uuid,
)


class ServerMessage(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Anything the hub may send."""


class Welcome(ServerMessage, tag="welcome", frozen=True):
    """Everything open for this user, so that a missed push never loses an offer."""

    connection_id: Uuid
    user_id: Uuid
    role: Role
    server_time: Timestamp
    heartbeat_seconds: int
    assignments: list[QueueItem]
    more: bool | UnsetType = UNSET


class ErrorBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why something did not happen; `code` is the same as on HTTP."""

    code: str
    detail: str
    field: str | None = None
    retry_after: int | None = None


class Reply(ServerMessage, tag="reply", frozen=True):
    """The answer to the request with this `id`; further fields depend on the request."""

    id: RequestId | None
    ok: bool
    error: ErrorBody | UnsetType = UNSET
    server_time: Timestamp | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    session: SessionView | UnsetType = UNSET
    assignment: AssignmentView | UnsetType = UNSET
    assignments: list[QueueItem] | UnsetType = UNSET
    more: bool | UnsetType = UNSET
    presence: dict[str, PresenceView] | UnsetType = UNSET
    expires_at: Timestamp | UnsetType = UNSET
    expires_in_ms: int | UnsetType | None = UNSET


class EventMessage(ServerMessage, tag="event", frozen=True):
    """At least once, in no promised order between sessions; `event_id` is the same on every repeat."""

    event: str
    event_id: Uuid
    at: Timestamp
    payload: Any


class ErrorMessage(ServerMessage, tag="error", frozen=True):
    """The refusal of a message without `id`, or the reason why the socket is closed next."""

    code: str
    detail: str


class GoingAway(ServerMessage, tag="going_away", frozen=True):
    """Reconnect at a random moment within this time."""

    reconnect_ms: int


class PrioritySessionRequest(Struct, frozen=True, kw_only=True):
    """A request that only this mechanic may accept until `expires_at`."""

    request: RequestView
    target_mechanic_id: Uuid
    priority_window_minutes: int
    expires_at: Timestamp
    expires_in_ms: int
    server_time: Timestamp
    message: str
    version: int


class NewAssignment(Struct, frozen=True, kw_only=True):
    """`fallback_reason`: why it is no longer a favourite's alone."""

    request: RequestView
    routing_type: RoutingType
    version: int
    fallback_reason: Fallback | UnsetType = UNSET


class AssignmentClosed(Struct, frozen=True, kw_only=True):
    """`mechanic_name` comes to the customer only."""

    assignment_id: Uuid
    session_id: Uuid
    mechanic_id: Uuid | None
    version: int
    reason: str
    mechanic_name: str | UnsetType | None = UNSET


class OfferEnded(Struct, frozen=True, kw_only=True):
    """A turn that is over without an accept."""

    assignment_id: Uuid
    session_id: Uuid
    reason: Literal["timeout", "declined", "rescinded"]
    version: int


class CustomerNews(Struct, frozen=True, kw_only=True):
    """What a customer app shows."""

    session: SessionView
    assignment: AssignmentView
    message: str
    version: int
    mechanic_id: Uuid | UnsetType | None = UNSET
    mechanic_name: str | UnsetType | None = UNSET
    reason: str | UnsetType = UNSET
    expires_at: Timestamp | UnsetType | None = UNSET
    expires_in_ms: int | UnsetType | None = UNSET
    server_time: Timestamp | UnsetType = UNSET


class PresenceUpdate(Struct, frozen=True, kw_only=True):
    """A mechanic with their presence."""

    mechanic_id: Uuid
    is_online: bool
    status: Status
    last_seen: Timestamp | None


Payload = TypeVar("Payload", bound=Struct)


class ServerEvent(Struct, Generic[Payload], frozen=True):
    """A name with the one type of payload that goes under it. `to`: who gets it; `about`: when."""

    name: str
    payload: type[Payload]
    to: str
    about: str

    def message(self, payload: Payload, *, event_id: str, at: Timestamp) -> EventMessage:
        return EventMessage(event=self.name, event_id=event_id, at=at, payload=payload)


PRIORITY_SESSION_REQUEST = ServerEvent(
    "priority_session_request",
    PrioritySessionRequest,
    "one connection of the favourite: the one that was active last",
    "It is this mechanic's turn alone, until `expires_at`.",
)
NEW_ASSIGNMENT = ServerEvent(
    "new_assignment",
    NewAssignment,
    "every approved mechanic who is online, but those who declined it",
    "A request is open to everyone.",
)
ASSIGNMENT_ACCEPTED = ServerEvent(
    "assignment_accepted",
    AssignmentClosed,
    "every mechanic who was told of the request, and the customer",
    "Somebody has the request.",
)
ASSIGNMENT_CANCELLED = ServerEvent(
    "assignment_cancelled",
    AssignmentClosed,
    "every mechanic who was told of the request, and the customer",
    "The customer or an admin cancelled the request.",
)
ASSIGNMENT_EXPIRED = ServerEvent(
    "assignment_expired",
    AssignmentClosed,
    "every mechanic who was told of the request, and the customer",
    "The request was pending or waiting for too long.",
)
OFFER_ENDED = ServerEvent(
    "offer_ended",
    OfferEnded,
    "the favourite whose turn it was",
    "The turn is over without an accept.",
)
FAVORITE_NOTIFIED = ServerEvent(
    "favorite_notified",
    CustomerNews,
    "the customer",
    "The request was written to the favourite's socket.",
)
FAVORITE_DECLINED = ServerEvent(
    "favorite_declined",
    CustomerNews,
    "the customer",
    "The favourite said no.",
)
SEARCHING = ServerEvent(
    "searching",
    CustomerNews,
    "the customer",
    "The request goes to everyone; `reason` says why, where it was a favourite's before.",
)
SESSION_UPDATED = ServerEvent(
    "session_updated",
    CustomerNews,
    "the customer, and the mechanic who has the session",
    "The session began or ended.",
)
PRESENCE_UPDATE = ServerEvent(
    "presence_update",
    PresenceUpdate,
    "everyone who watches the mechanic",
    "A mechanic's presence changed.",
)

EVENTS: tuple[ServerEvent[Any], ...] = (
    PRIORITY_SESSION_REQUEST,
    NEW_ASSIGNMENT,
    ASSIGNMENT_ACCEPTED,
    ASSIGNMENT_CANCELLED,
    ASSIGNMENT_EXPIRED,
    OFFER_ENDED,
    FAVORITE_NOTIFIED,
    FAVORITE_DECLINED,
    SEARCHING,
    SESSION_UPDATED,
    PRESENCE_UPDATE,
)
