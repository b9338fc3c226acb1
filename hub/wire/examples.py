"""One message of every kind, for the protocol's documentation: made by the code that makes the real ones."""

from collections import defaultdict

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from hub.domain.ids import assignment_of, derived_session_id
from hub.domain.model import (
    AssignmentStatus,
    Event,
    EventType,
    Fallback,
    Payment,
    PresenceState,
    Role,
    RoutingType,
    Session,
    SessionStatus,
    SessionType,
    Status,
    Wave,
)
from hub.wire import client
from hub.wire.announce import Announcer
from hub.wire.hints import NOTHING, PresenceChange
from hub.wire.server import ErrorBody, ErrorMessage, GoingAway, Reply, ServerMessage, Welcome
from hub.wire.views import assignment_view, presence_view, queue_item, rfc3339, session_view

NOW = 1_777_888_800_000
MECHANIC = "5b1f6f0e-0c38-4d8e-9a57-1f1f6a2f0a01"
CUSTOMER = "8d3c2a5e-7f64-4b0f-b6a1-2c9d4e5f6a02"
CONNECTION = "0f9e8d7c-6b5a-4493-8271-605f4e3d2c03"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI1YjFmIn0.c2lnbmF0dXJl"
SESSION = derived_session_id(CUSTOMER, "example")
ASSIGNMENT = assignment_of(SESSION)

_WINDOW_MS = 600_000

OFFERED = Session(
    id=SESSION,
    customer_id=CUSTOMER,
    customer_name="Mia Berg",
    session_type=SessionType.VIDEO,
    plan_code="free",
    payment=Payment.FREE,
    status=SessionStatus.PENDING,
    notes="A rattle when it turns left.",
    created_at=NOW,
    updated_at=NOW,
    version=1,
    assignment_status=AssignmentStatus.OFFERED,
    routing_type=RoutingType.PRIORITY,
    waves=(Wave(MECHANIC, _WINDOW_MS),),
    preferred_mechanic_id=MECHANIC,
    preferred_mechanic_name="Ana Silva",
    target_node="node",
    target_connection=CONNECTION,
    expires_at=NOW + _WINDOW_MS,
    orphan_at=NOW + 7_200_000,
)
_NOTIFIED = replace(OFFERED, version=2, updated_at=NOW + 12, priority_notified_at=NOW + 12)
_OPEN = replace(
    _NOTIFIED,
    version=3,
    updated_at=NOW + _WINDOW_MS,
    assignment_status=AssignmentStatus.OPEN,
    wave=1,
    expires_at=None,
    open_at=NOW + _WINDOW_MS,
    fallback_reason=Fallback.PRIORITY_TIMEOUT,
)
_ACCEPTED = replace(
    _NOTIFIED,
    version=3,
    updated_at=NOW + 4_000,
    status=SessionStatus.WAITING,
    assignment_status=AssignmentStatus.ACCEPTED,
    mechanic_id=MECHANIC,
    mechanic_name="Ana Silva",
    accepted_at=NOW + 4_000,
    expires_at=None,
)
_LIVE = replace(
    _ACCEPTED,
    version=4,
    updated_at=NOW + 9_000,
    status=SessionStatus.LIVE,
    started_at=NOW + 9_000,
)


def client_examples() -> dict[type[client.ClientMessage], list[client.ClientMessage]]:
    everything: list[client.ClientMessage] = [
        client.Hello(token=TOKEN, status=Status.ONLINE, device="Pixel 9"),
        client.Hello(),
        client.SetStatus(id=1, status=Status.ONLINE),
        client.SetStatus(id=2, status=Status.AWAY),
        client.Heartbeat(id=3),
        client.Accept(id=4, assignment_id=ASSIGNMENT),
        client.Decline(id=5, assignment_id=ASSIGNMENT, reason="On the road."),
        client.Release(id=6, assignment_id=ASSIGNMENT, reason="The car broke down."),
        client.Ack(assignment_id=ASSIGNMENT, stage="delivered"),
        client.Ack(id=7, assignment_id=ASSIGNMENT, stage="seen"),
        client.Watch(id="favourites", mechanic_ids=[MECHANIC]),
        client.Unwatch(id=9, mechanic_ids=[MECHANIC]),
        client.Refresh(id=10, token=TOKEN),
    ]
    by_kind: defaultdict[type[client.ClientMessage], list[client.ClientMessage]] = defaultdict(list)
    for message in everything:
        by_kind[type(message)].append(message)
    return dict(by_kind)


def server_examples() -> dict[type[ServerMessage], list[ServerMessage]]:
    """What is no event, and no answer to one kind of request."""
    refused = ErrorBody(code="taken", detail="Another mechanic has this request.")
    return {
        Welcome: [
            Welcome(
                connection_id=CONNECTION,
                user_id=MECHANIC,
                role=Role.MECHANIC,
                server_time=rfc3339(NOW + 100),
                heartbeat_seconds=10,
                assignments=[queue_item(OFFERED, NOW + 100, MECHANIC)],
            )
        ],
        Reply: [Reply(id=4, ok=False, error=refused)],
        ErrorMessage: [ErrorMessage(code="token_expired", detail="The token has expired.")],
        GoingAway: [GoingAway(reconnect_ms=2_000)],
    }


def reply_examples() -> dict[type[client.ClientMessage], list[Reply]]:
    """How the hub answers the examples of requests that it fulfils. A field that all of a list have always
    comes."""
    online = PresenceState(status=Status.ONLINE, last_seen=NOW)
    queue = [queue_item(OFFERED, NOW + 100, MECHANIC)]
    at = rfc3339(NOW + 100)
    return {
        client.SetStatus: [
            Reply(id=1, ok=True, status=Status.ONLINE, server_time=at, assignments=queue),
            Reply(id=2, ok=True, status=Status.AWAY),
        ],
        client.Heartbeat: [Reply(id=3, ok=True, server_time=at)],
        client.Accept: [_with_session(4, _ACCEPTED)],
        client.Decline: [_with_session(5, _OPEN)],
        client.Release: [_with_session(6, _OPEN)],
        client.Ack: [Reply(id=7, ok=True)],
        client.Watch: [Reply(id="favourites", ok=True, presence={MECHANIC: presence_view(online)})],
        client.Unwatch: [Reply(id=9, ok=True)],
        client.Refresh: [Reply(id=10, ok=True, expires_at=rfc3339(NOW + 3_600_000))],
    }


def _with_session(request_id: int, session: Session) -> Reply:
    return Reply(id=request_id, ok=True, session=session_view(session), assignment=assignment_view(session))


def event_examples() -> dict[str, list[Raw | Struct]]:
    """Frames by event name, told by the announcer as it tells of real sessions."""
    announcer = Announcer()
    frames: list[Raw | Struct] = [announcer.priority_request(OFFERED, NOW).frame]
    for kind, session, before, data in (
        (EventType.NOTIFIED, _NOTIFIED, OFFERED, {"mechanic_id": MECHANIC}),
        (EventType.DECLINED, _OPEN, _NOTIFIED, {"mechanic_id": MECHANIC, "priority": True}),
        (EventType.BROADCAST, _OPEN, _NOTIFIED, {"reason": Fallback.PRIORITY_TIMEOUT}),
        (EventType.ACCEPTED, _ACCEPTED, _NOTIFIED, {"mechanic_id": MECHANIC, "priority": True}),
        (EventType.STARTED, _LIVE, _ACCEPTED, {}),
        (EventType.CANCELLED, _ended(SessionStatus.CANCELLED, AssignmentStatus.CANCELLED), _OPEN, {}),
        (EventType.EXPIRED, _ended(SessionStatus.EXPIRED, AssignmentStatus.EXPIRED), _OPEN, {}),
    ):
        event = Event(
            session_id=SESSION, type=kind, at=session.updated_at, version=session.version, data=data
        )
        told = announcer.deliveries(event, session, before, frozenset())
        frames += [delivery.frame for delivery in told if delivery.frame != NOTHING]
    frames.append(
        announcer.presence(PresenceChange(mechanic_id=MECHANIC, status=Status.BUSY, last_seen=NOW), NOW)
    )
    by_name: defaultdict[str, list[Raw | Struct]] = defaultdict(list)
    for frame in frames:
        name = msgspec.json.decode(msgspec.json.encode(frame))["event"]
        if frame not in by_name[name]:
            by_name[name].append(frame)
    return dict(by_name)


def _ended(status: SessionStatus, assignment: AssignmentStatus) -> Session:
    return replace(
        _OPEN,
        version=4,
        updated_at=NOW + 700_000,
        status=status,
        assignment_status=assignment,
        ended_at=NOW + 700_000,
        open_at=None,
    )
