"""A session's history told as offers: whose turn it was, what they saw of it, and how it ended. Pure."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from hub.domain.model import Event, EventType, Fallback, Role, Session


class OfferOutcome(StrEnum):
    """How a mechanic's turn ended; pending: it has not."""

    ACCEPTED = "accepted"
    DECLINED = "declined"
    EXPIRED = "expired"
    RESCINDED = "rescinded"
    PENDING = "pending"


class Offer(Struct, frozen=True, kw_only=True):
    """One mechanic's turn. `response_ms`: from the notification to the mechanic's own answer."""

    mechanic_id: str
    wave: int
    offered_at: int
    notified_at: int | None = None
    delivered_at: int | None = None
    seen_at: int | None = None
    ended_at: int | None = None
    outcome: OfferOutcome = OfferOutcome.PENDING
    reason: str | None = None
    response_ms: int | None = None


class Actor(Struct, frozen=True, kw_only=True):
    """Who caused an event; the name is None where nobody knows it."""

    id: str
    role: Role
    name: str | None = None


class Happening(Struct, frozen=True, kw_only=True):
    """An event with who caused it; `actor` None: the hub itself."""

    id: str
    event: Event
    actor: Actor | None = None


class Timeline(Struct, frozen=True, kw_only=True):
    """`names`: of the mechanics in it that are known."""

    session: Session
    happenings: tuple[Happening, ...]
    offers: tuple[Offer, ...]
    names: Mapping[str, str]


_ENDS_WHAT_WAS = (
    EventType.CREATED,
    EventType.DECLINED,
    EventType.OFFER_EXPIRED,
    EventType.RELEASED,
)
"""Of the events of one version and moment, these come before what begins next."""


def place(event: Event) -> tuple[int, int, bool]:
    """Sorts events into the order in which they happened."""
    return event.version, event.at, event.type not in _ENDS_WHAT_WAS


def offers(events: Iterable[Event]) -> list[Offer]:
    """The offers that these events, in order, tell of. An offer that moves to another connection is one."""
    found: list[Offer] = []
    for event in events:
        running = found[-1] if found and found[-1].outcome is OfferOutcome.PENDING else None
        mechanic_id = str(event.data.get("mechanic_id"))
        if event.type is EventType.OFFERED:
            if running is not None and running.mechanic_id == mechanic_id:
                continue
            if running is not None:
                found[-1] = _ended(running, event, OfferOutcome.RESCINDED)
            found.append(Offer(mechanic_id=mechanic_id, wave=event.data.get("wave", 0), offered_at=event.at))
        elif running is not None:
            found[-1] = _after(running, event)
    return found


def _after(offer: Offer, event: Event) -> Offer:
    """What an event makes of the offer that is running."""
    mine = event.actor_id == offer.mechanic_id
    reason = event.data.get("reason")
    match event.type:
        case EventType.NOTIFIED if offer.notified_at is None:
            return replace(offer, notified_at=event.at)
        case EventType.DELIVERED if mine and offer.delivered_at is None:
            return replace(offer, delivered_at=event.at)
        case EventType.SEEN if mine and offer.seen_at is None:
            return replace(offer, seen_at=event.at)
        case EventType.DECLINED if event.data.get("priority"):
            return _answered(_ended(offer, event, OfferOutcome.DECLINED, reason))
        case EventType.OFFER_EXPIRED:
            timeout = reason == Fallback.PRIORITY_TIMEOUT
            outcome = OfferOutcome.EXPIRED if timeout else OfferOutcome.RESCINDED
            return _ended(offer, event, outcome, reason)
        case EventType.ACCEPTED if event.data.get("mechanic_id") == offer.mechanic_id:
            taken = _ended(offer, event, OfferOutcome.ACCEPTED)
            return _answered(taken) if mine else taken
        case EventType.ACCEPTED:
            return _ended(offer, event, OfferOutcome.RESCINDED, Fallback.ADMIN)
        case EventType.CANCELLED | EventType.EXPIRED | EventType.BROADCAST:
            return _ended(offer, event, OfferOutcome.RESCINDED, reason or event.type)
    return offer


def _ended(offer: Offer, event: Event, outcome: OfferOutcome, reason: str | None = None) -> Offer:
    return replace(offer, ended_at=event.at, outcome=outcome, reason=reason)


def _answered(offer: Offer) -> Offer:
    if offer.notified_at is None or offer.ended_at is None:
        return offer
    return replace(offer, response_ms=max(0, offer.ended_at - offer.notified_at))
