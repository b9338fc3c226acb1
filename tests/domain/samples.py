"""People and sessions to make tests of."""

from collections.abc import Iterable

from hub.domain import commands as cmd
from hub.domain.decide import decide
from hub.domain.ids import derived_session_id
from hub.domain.model import (
    AssignmentStatus,
    Candidate,
    Connection,
    Payment,
    RoutingType,
    Session,
    SessionStatus,
    SessionType,
    Status,
)
from hub.domain.plan import Wish

NOW = 1_800_000_000_000
MINUTE = 60_000
ORPHAN_MS = 120 * MINUTE
NOTIFY_MS = 2_000

CUSTOMERS = tuple(f"c0000000-0000-4000-8000-00000000000{n}" for n in range(2))
MECHANICS = tuple(f"a0000000-0000-4000-8000-00000000000{n}" for n in range(4))
ANA, BEN, CAT, DAN = MECHANICS
STRANGER = "e0000000-0000-4000-8000-000000000000"
CUSTOMER = CUSTOMERS[0]


def draft(customer_id: str = CUSTOMER, key: str = "first") -> Session:
    return Session(
        id=derived_session_id(customer_id, key),
        customer_id=customer_id,
        session_type=SessionType.CHAT,
        plan_code="quick",
        payment=Payment.FREE,
        status=SessionStatus.PENDING,
        assignment_status=AssignmentStatus.OPEN,
        created_at=0,
        updated_at=0,
        orphan_at=0,
        version=0,
    )


def name_of(mechanic_id: str) -> str:
    return f"Name of {mechanic_id}"


def candidate(
    mechanic_id: str,
    *connections: str,
    status: Status = Status.ONLINE,
    approved: bool = True,
    window_ms: int | None = None,
) -> Candidate:
    """The later a connection is named, the more recently it was active."""
    return Candidate(
        mechanic_id=mechanic_id,
        name=name_of(mechanic_id),
        approved=approved,
        status=status,
        connections=tuple(Connection(name, f"node-of-{name}", at) for at, name in enumerate(connections)),
        window_ms=window_ms,
    )


def online(mechanic_id: str) -> Candidate:
    return candidate(mechanic_id, f"phone-of-{mechanic_id}")


def offline(mechanic_id: str) -> Candidate:
    return candidate(mechanic_id, status=Status.OFFLINE)


def wish(*candidates: Candidate | None, sequence: bool = False, wait: bool = False) -> Wish:
    """Priority for the candidate, or a sequence of them; a broadcast where there is none."""
    routing_type = RoutingType.SEQUENCE if sequence else RoutingType.PRIORITY
    return Wish(
        routing_type=routing_type if candidates else RoutingType.BROADCAST,
        preferred=bool(candidates) and not sequence,
        wait=wait,
        candidates=candidates,
        default_window_ms=10 * MINUTE,
    )


def book(
    asked: Wish, customer_id: str = CUSTOMER, key: str = "first", orphan_ms: int = ORPHAN_MS
) -> cmd.Book:
    return cmd.Book(draft=draft(customer_id, key), wish=asked, actor_id=customer_id, orphan_ms=orphan_ms)


def by_id(candidates: Iterable[Candidate | None]) -> dict[str, Candidate]:
    return {c.mechanic_id: c for c in candidates if c is not None}


def booked(*candidates: Candidate | None, sequence: bool = False, wait: bool = False) -> Session:
    """A session that was booked at NOW."""
    asked = wish(*candidates, sequence=sequence, wait=wait)
    return decide(None, book(asked), NOW, candidates=by_id(candidates), notify_timeout_ms=NOTIFY_MS).session


def after(
    session: Session, *commands: cmd.Command, now: int = NOW + 1, known: Iterable[Candidate] = ()
) -> Session:
    """The session when all commands have been applied at `now`."""
    for command in commands:
        session = decide(session, command, now, candidates=by_id(known), notify_timeout_ms=NOTIFY_MS).session
    return session
