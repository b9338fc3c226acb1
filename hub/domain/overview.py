"""The live state in numbers, for whoever watches over the hub."""

from msgspec import Struct

from hub.domain.model import Session


class NodeState(Struct, frozen=True, kw_only=True):
    """A node that has a lease. What it has not described yet is absent."""

    id: str
    host: str | None
    pid: int | None
    version: str | None
    started_at: int | None
    lease_expires_at: int
    connections: int


class PresenceCounts(Struct, frozen=True, kw_only=True):
    """Mechanics by presence."""

    online: int
    busy: int
    away: int


class SessionCounts(Struct, frozen=True, kw_only=True):
    """`pending`: offered to somebody or open to everyone; `waiting`: accepted and not begun."""

    pending: int
    waiting: int
    live: int


class StripeInbox(Struct, frozen=True, kw_only=True):
    """Stripe's events that are still to do, and those that need a person."""

    unhandled: int
    needs_attention: int


class LiveState(Struct, frozen=True, kw_only=True):
    """`offers`: the running ones that end soonest, of `offers_total`. Times are ms."""

    now: int
    nodes: tuple[NodeState, ...]
    presence: PresenceCounts
    sessions: SessionCounts
    offers: tuple[Session, ...]
    offers_total: int
    open: int
    oldest_open_at: int | None
    deadlines: int
    next_due: int | None
    unrecorded: int
    dead: int
