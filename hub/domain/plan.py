"""Offer plans: routing is a list of waves, each one mechanic's turn, and after the last wave everyone.

Priority is a plan with one wave, a favourites sequence one with up to three, a broadcast one with none.
"""

from msgspec import Struct

from hub.domain.model import Candidate, RoutingReason, RoutingType, Status, Wave

SEQUENCE_SPLIT = (0.5, 0.3, 0.2)
"""Shares of the window that the first three favourites get."""


class Wish(Struct, frozen=True, kw_only=True):
    """What the customer asked of the routing, with the facts that decide whether they can have it.

    `candidates` are the preferred mechanic or the favourites in rank order; None stands for one that nobody
    knows. `window_ms` is the booking's own window, `default_window_ms` the plan's or else the setting's.
    """

    routing_type: RoutingType = RoutingType.BROADCAST
    preferred: bool = False
    enabled: bool = True
    workshop: bool = False
    wait: bool = False
    candidates: tuple[Candidate | None, ...] = ()
    window_ms: int | None = None
    default_window_ms: int
    split: tuple[float, ...] = SEQUENCE_SPLIT


def make_plan(wish: Wish) -> tuple[tuple[Wave, ...], RoutingReason | None]:
    """The waves, or none of them and the reason why the request goes to everyone at once."""
    sequence = wish.routing_type is RoutingType.SEQUENCE
    if wish.routing_type is RoutingType.BROADCAST or not (sequence or wish.preferred):
        return (), RoutingReason.NOT_REQUESTED
    if not wish.enabled:
        return (), RoutingReason.FLAG_DISABLED
    if wish.workshop:
        return (), RoutingReason.WORKSHOP
    if not wish.candidates:
        return (), RoutingReason.NO_FAVORITES
    obstacles = [obstacle(candidate, wait=wish.wait) for candidate in wish.candidates]
    able = [c for c, why in zip(wish.candidates, obstacles, strict=True) if c is not None and why is None]
    if not able:
        return (), obstacles[0]
    if not sequence:
        return (Wave(able[0].mechanic_id, _window(wish, able[0])),), None
    turns = zip(able, wish.split, strict=False)
    return tuple(Wave(c.mechanic_id, round(_window(wish, c) * share)) for c, share in turns), None


def obstacle(candidate: Candidate | None, *, wait: bool) -> RoutingReason | None:
    """Why this mechanic cannot be offered the request now, None where they can."""
    if candidate is None:
        return RoutingReason.UNKNOWN_MECHANIC
    if not candidate.approved:
        return RoutingReason.MECHANIC_NOT_APPROVED
    if wait:
        return None
    if candidate.status is Status.OFFLINE:
        return RoutingReason.MECHANIC_OFFLINE
    if candidate.status is Status.BUSY:
        return RoutingReason.MECHANIC_BUSY
    return None


def _window(wish: Wish, candidate: Candidate) -> int:
    return wish.window_ms or candidate.window_ms or wish.default_window_ms
