"""The commands: everything that can happen to a session is one of these, whoever or whatever causes it."""

from msgspec import Struct

from hub.domain.model import Candidate, EventType, Role, Session
from hub.domain.plan import Wish


class Command(Struct, frozen=True):
    """Decided against the current state of one session."""


class Book(Command, frozen=True, kw_only=True):
    """Make the session. `draft` holds what the customer asked for; the decision adds times and routing.

    `not_after`: nothing is decided past this time (ms of the store's clock). `epoch`: nor in another life of
    the data than this one, in which the record was searched for what was booked before (None: in any).
    """

    draft: Session
    wish: Wish
    actor_id: str
    actor_role: Role = Role.CUSTOMER
    orphan_ms: int
    not_after: int | None = None
    epoch: str | None = None


class Accept(Command, frozen=True, kw_only=True):
    mechanic_id: str
    name: str | None = None
    approved: bool = True
    actor_id: str | None = None
    """Set where an admin accepts for the mechanic: the window binds them no more."""
    actor_name: str | None = None


class Decline(Command, frozen=True):
    mechanic_id: str
    reason: str | None = None


class Release(Command, frozen=True):
    mechanic_id: str
    reason: str | None = None


class Start(Command, frozen=True):
    mechanic_id: str


class End(Command, frozen=True):
    """By the customer: cancels what has not begun, completes what is live. By the mechanic: completes."""

    actor_id: str


class Cancel(Command, frozen=True):
    actor_id: str | None = None
    reason: str | None = None
    actor_name: str | None = None


class Broadcast(Command, frozen=True):
    """Open the request to everyone now. `note`: why, for the history."""

    actor_id: str | None = None
    note: str | None = None
    actor_name: str | None = None


class Notified(Command, frozen=True):
    """The offer's frame was written to `connection` at `at`."""

    connection: str
    at: int


class Acknowledge(Command, frozen=True):
    """The targeted mechanic's app received (`delivered`) or showed (`seen`) the priority request."""

    mechanic_id: str
    stage: EventType


class OfferDue(Command, frozen=True):
    pass


class NotifyDue(Command, frozen=True):
    pass


class OrphanDue(Command, frozen=True):
    """`forced` where a person expired it before its time."""

    forced: bool = False


class Retarget(Command, frozen=True):
    """The mechanic's connections changed: `lost` one has gone, or a new one came."""

    candidate: Candidate
    lost: str | None = None


class Unreachable(Command, frozen=True):
    """The mechanic has been offline for longer than the grace period. `barred`: they may not accept any more,
    which ends even a turn that the customer chose to wait for."""

    mechanic_id: str
    barred: bool = False
