"""What the hub knows: a session with its assignment, mechanics who could take it, and the events of its life.

Ids are canonical UUID text, times are milliseconds of the store's clock, `None` means absent.
"""

from enum import StrEnum
from typing import Any

from msgspec import Struct

from hub.domain.ids import assignment_of, event_id

FINISHED_KEYS_LIVE_MS = 3_600_000
"""How long a finished session's keys stay, for late clients and retries."""

KEY_LIVES_MS = 86_400_000
"""How long an Idempotency-Key names the same booking."""


class SessionType(StrEnum):
    """How customer and mechanic meet."""

    CHAT = "chat"
    VIDEO = "video"
    DIAGNOSTIC = "diagnostic"


class RequestType(StrEnum):
    """Whom it takes: anyone, or somebody who knows the brand."""

    GENERAL = "general"
    BRAND_SPECIALIST = "brand_specialist"


class SessionStatus(StrEnum):
    """Pending until somebody accepts, waiting until they begin, live until the end; scheduled is reserved."""

    PENDING = "pending"
    WAITING = "waiting"
    LIVE = "live"
    SCHEDULED = "scheduled"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


ACTIVE = frozenset(
    {SessionStatus.PENDING, SessionStatus.WAITING, SessionStatus.LIVE, SessionStatus.SCHEDULED}
)
UNSTARTED = frozenset({SessionStatus.PENDING, SessionStatus.WAITING})
HELD = frozenset({SessionStatus.WAITING, SessionStatus.LIVE})


class AssignmentStatus(StrEnum):
    """Queued for a favourite to come online, offered in a favourite's turn, open to everyone, or over."""

    QUEUED = "queued"
    OFFERED = "offered"
    OPEN = "open"
    ACCEPTED = "accepted"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


IN_TURN = frozenset({AssignmentStatus.QUEUED, AssignmentStatus.OFFERED})
"""One mechanic is asked, and nobody else."""


class Payment(StrEnum):
    """How a session is paid for: not at all, with credits, or with money that came by Stripe."""

    FREE = "free"
    CREDIT = "credit"
    PAID = "paid"


class RoutingType(StrEnum):
    """Who is asked first: everyone, one favourite, or the favourites in turn."""

    BROADCAST = "broadcast"
    PRIORITY = "priority_broadcast"
    SEQUENCE = "favorites_sequence"


class RoutingReason(StrEnum):
    """Why a booking became a broadcast at once."""

    NOT_REQUESTED = "not_requested"
    FLAG_DISABLED = "flag_disabled"
    WORKSHOP = "workshop"
    UNKNOWN_MECHANIC = "unknown_mechanic"
    MECHANIC_NOT_APPROVED = "mechanic_not_approved"
    MECHANIC_OFFLINE = "mechanic_offline"
    MECHANIC_BUSY = "mechanic_busy"
    NO_FAVORITES = "no_favorites"


class Fallback(StrEnum):
    """Why a request that was a favourite's became everyone's afterwards."""

    PRIORITY_TIMEOUT = "priority_timeout"
    PRIORITY_DECLINED = "priority_declined"
    MECHANIC_OFFLINE = "mechanic_offline"
    NOTIFY_FAILED = "notify_failed"
    RELEASED = "released"
    ADMIN = "admin"


class Status(StrEnum):
    """A mechanic's presence."""

    ONLINE = "online"
    BUSY = "busy"
    AWAY = "away"
    OFFLINE = "offline"


class Role(StrEnum):
    """Who somebody is; a service is another program, which books for customers."""

    MECHANIC = "mechanic"
    CUSTOMER = "customer"
    ADMIN = "admin"
    SERVICE = "service"


class EventType(StrEnum):
    """What may happen to a session and its offers."""

    CREATED = "created"
    OFFERED = "offered"
    NOTIFIED = "notified"
    DELIVERED = "delivered"
    SEEN = "seen"
    DECLINED = "declined"
    OFFER_EXPIRED = "offer_expired"
    BROADCAST = "broadcast"
    ACCEPTED = "accepted"
    RELEASED = "released"
    STARTED = "started"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


UNVERSIONED = frozenset({EventType.DELIVERED, EventType.SEEN, EventType.DECLINED})
"""Events that many people may cause in one version of the session: their actor is part of their identity."""


class Wave(Struct, frozen=True):
    """One mechanic's turn: nobody else may accept for `window_ms` from its start."""

    mechanic_id: str
    window_ms: int


class Connection(Struct, frozen=True):
    """A live socket of a user, wherever in the cluster it is."""

    id: str
    node: str
    active_at: int


class Candidate(Struct, frozen=True, kw_only=True):
    """What is known of a mechanic at the moment of a decision."""

    mechanic_id: str
    name: str | None = None
    approved: bool = True
    status: Status = Status.OFFLINE
    connections: tuple[Connection, ...] = ()
    window_ms: int | None = None

    @property
    def reachable(self) -> bool:
        return self.status is not Status.OFFLINE and bool(self.connections)

    def target(self, lost: str | None = None) -> Connection | None:
        """The most recently active connection other than the `lost` one."""
        if self.status is Status.OFFLINE:
            return None
        left = [c for c in self.connections if c.id != lost]
        return max(left, key=lambda c: (c.active_at, c.id), default=None)


class Session(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A customer's request with its one assignment. `version` grows with every change of any field.

    Mechanics' names go along, so that whichever node tells of a change need not look them up.
    """

    id: str
    customer_id: str
    customer_name: str | None = None
    customer_email: str | None = None
    mechanic_id: str | None = None
    mechanic_name: str | None = None
    session_type: SessionType
    plan_code: str
    payment: Payment
    status: SessionStatus
    notes: str | None = None
    is_urgent: bool = False
    request_type: RequestType = RequestType.GENERAL
    requested_brand: str | None = None
    workshop_id: str | None = None
    metadata: str = "{}"
    created_at: int
    updated_at: int
    started_at: int | None = None
    ended_at: int | None = None
    version: int

    assignment_status: AssignmentStatus
    routing_type: RoutingType = RoutingType.BROADCAST
    routing_reason: RoutingReason | None = None
    waves: tuple[Wave, ...] = ()
    wave: int = 0
    wait_if_offline: bool = False
    preferred_mechanic_id: str | None = None
    preferred_mechanic_name: str | None = None
    priority_window_minutes: int = 10
    target_node: str | None = None
    target_connection: str | None = None
    priority_notified_at: int | None = None
    expires_at: int | None = None
    notify_by: int | None = None
    orphan_at: int
    open_at: int | None = None
    fallback_reason: Fallback | None = None
    fallback_at: int | None = None
    accepted_at: int | None = None
    fingerprint: str | None = None

    @property
    def assignment_id(self) -> str:
        return assignment_of(self.id)

    @property
    def active(self) -> bool:
        return self.status in ACTIVE

    @property
    def refundable(self) -> bool:
        """It is over, and nobody was served: credits that were taken for it go back."""
        over = self.status in (SessionStatus.CANCELLED, SessionStatus.EXPIRED)
        return self.payment == Payment.CREDIT and over and self.started_at is None

    @property
    def offered_to(self) -> str | None:
        """The mechanic whose turn it is; nobody else may accept meanwhile."""
        if self.assignment_status in IN_TURN:
            return self.waves[self.wave].mechanic_id
        return None

    @property
    def held_by(self) -> str | None:
        return self.mechanic_id if self.status in HELD else None


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened to a session: a row of its history, a frame on sockets and a metric."""

    session_id: str
    type: EventType
    at: int
    version: int
    actor_id: str | None = None
    data: dict[str, Any] = {}

    @property
    def id(self) -> str:
        actor = self.actor_id if self.type in UNVERSIONED else None
        return event_id(self.session_id, self.version, self.type, actor)


class Mechanic(Struct, frozen=True, kw_only=True):
    """A mechanic as the marketplace registered them."""

    id: str
    name: str
    approved: bool
    suspended: bool = False
    window_minutes: int | None = None


class Plan(Struct, frozen=True, kw_only=True):
    code: str
    name: str
    session_type: SessionType
    price_cents: int
    credits: int
    window_minutes: int | None = None
    active: bool = True


class PresenceState(Struct, frozen=True, kw_only=True):
    """Presence as others see it: a live session makes its mechanic busy whatever they chose."""

    status: Status = Status.OFFLINE
    last_seen: int | None = None

    @property
    def is_online(self) -> bool:
        return self.status is not Status.OFFLINE
