"""Sessions, assignments and presence as clients see them, on HTTP and on sockets alike."""

import functools
import math
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from hub.domain.model import (
    AssignmentStatus,
    Fallback,
    Payment,
    PresenceState,
    RequestType,
    RoutingReason,
    RoutingType,
    Session,
    SessionStatus,
    SessionType,
    Status,
)

Uuid = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
Timestamp = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Metadata = Annotated[
    dict[str, Any], Meta(description="Anything that the booking carries along, 4 KB of JSON.")
]


class SessionView(Struct, frozen=True, kw_only=True):
    """A customer's request for a mechanic, from its booking to its end."""

    id: Uuid
    customer_id: Uuid
    customer_name: str | None
    mechanic_id: Uuid | None
    session_type: SessionType
    plan_code: str
    payment: Payment
    status: SessionStatus
    notes: str | None
    is_urgent: bool
    request_type: RequestType
    requested_brand: str | None
    workshop_id: Uuid | None
    metadata: Metadata
    created_at: Timestamp
    updated_at: Timestamp
    started_at: Timestamp | None
    ended_at: Timestamp | None
    version: int


class AssignmentView(Struct, frozen=True, kw_only=True):
    """Whom a session is offered to and who has it: each session has one."""

    id: Uuid
    session_id: Uuid
    mechanic_id: Uuid | None
    status: AssignmentStatus
    routing_type: RoutingType
    preferred_mechanic_id: Uuid | None
    priority_window_minutes: int
    priority_notified_at: Timestamp | None
    expires_at: Timestamp | None
    fallback_reason: Fallback | None
    wave: int
    accepted_at: Timestamp | None
    version: int


class RequestView(Struct, frozen=True, kw_only=True):
    """A session with its assignment."""

    session: SessionView
    assignment: AssignmentView


class QueueItem(Struct, frozen=True, kw_only=True):
    """`priority`: it is this mechanic's turn and nobody else's, for `expires_in_ms`."""

    session: SessionView
    assignment: AssignmentView
    priority: bool
    expires_in_ms: int | None


class RoutingView(Struct, frozen=True, kw_only=True):
    """Who gets the request first, until when; or why everyone does."""

    type: Literal["priority", "broadcast"]
    mechanic_id: Uuid | None
    expires_at: Timestamp | None
    expires_in_ms: int | None
    reason: RoutingReason | None


class PresenceView(Struct, frozen=True, kw_only=True):
    """A mechanic's presence; whoever is busy or away is online too."""

    is_online: bool
    status: Status
    last_seen: Timestamp | None


OFFLINE = PresenceView(is_online=False, status=Status.OFFLINE, last_seen=None)


def rfc3339(ms: int) -> str:
    """UTC with milliseconds."""
    seconds, rest = divmod(ms, 1000)
    return f"{_to_the_second(seconds)}.{rest:03d}Z"


@functools.lru_cache(maxsize=4096)
def _to_the_second(seconds: int) -> str:
    """Times that are told lie close together, and to format one anew takes twenty times as long."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def maybe_rfc3339(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(ms)


def session_view(session: Session) -> SessionView:
    return SessionView(
        id=session.id,
        customer_id=session.customer_id,
        customer_name=session.customer_name,
        mechanic_id=session.mechanic_id,
        session_type=session.session_type,
        plan_code=session.plan_code,
        payment=session.payment,
        status=session.status,
        notes=session.notes,
        is_urgent=session.is_urgent,
        request_type=session.request_type,
        requested_brand=session.requested_brand,
        workshop_id=session.workshop_id,
        metadata=msgspec.json.decode(session.metadata),
        created_at=rfc3339(session.created_at),
        updated_at=rfc3339(session.updated_at),
        started_at=maybe_rfc3339(session.started_at),
        ended_at=maybe_rfc3339(session.ended_at),
        version=session.version,
    )


def assignment_view(session: Session) -> AssignmentView:
    return AssignmentView(
        id=session.assignment_id,
        session_id=session.id,
        mechanic_id=session.mechanic_id,
        status=session.assignment_status,
        routing_type=session.routing_type,
        preferred_mechanic_id=session.preferred_mechanic_id,
        priority_window_minutes=session.priority_window_minutes,
        priority_notified_at=maybe_rfc3339(session.priority_notified_at),
        expires_at=maybe_rfc3339(session.expires_at),
        fallback_reason=session.fallback_reason,
        wave=session.wave,
        accepted_at=maybe_rfc3339(session.accepted_at),
        version=session.version,
    )


def request_view(session: Session) -> RequestView:
    return RequestView(session=session_view(session), assignment=assignment_view(session))


def queue_item(session: Session, now: int, mechanic_id: str | None = None) -> QueueItem:
    return QueueItem(
        session=session_view(session),
        assignment=assignment_view(session),
        priority=mechanic_id is not None and session.offered_to == mechanic_id,
        expires_in_ms=remaining(session.expires_at, now),
    )


def routing_view(session: Session, now: int) -> RoutingView:
    """The routing as it was decided at the booking, with the time that is left of a turn still going on."""
    return RoutingView(
        type="priority" if session.waves else "broadcast",
        mechanic_id=session.waves[0].mechanic_id if session.waves else None,
        expires_at=maybe_rfc3339(session.expires_at),
        expires_in_ms=remaining(session.expires_at, now),
        reason=session.routing_reason,
    )


def remaining(due: int | None, now: int) -> int | None:
    return None if due is None else max(0, math.ceil(due - now))


def presence_view(state: PresenceState) -> PresenceView:
    return PresenceView(
        is_online=state.is_online, status=state.status, last_seen=maybe_rfc3339(state.last_seen)
    )
