"""Who is asked, in which order and for how long; or why everyone is at once."""

import pytest
from msgspec.structs import replace

from hub.domain.decide import decide
from hub.domain.model import Candidate, RoutingReason, RoutingType, Status, Wave
from hub.domain.plan import Wish, make_plan
from tests.domain.samples import (
    ANA,
    BEN,
    CAT,
    DAN,
    MINUTE,
    NOW,
    book,
    by_id,
    candidate,
    offline,
    online,
    wish,
)

BUSY = candidate(ANA, "phone", status=Status.BUSY)
AWAY = candidate(ANA, "phone", status=Status.AWAY)
UNAPPROVED = candidate(ANA, "phone", approved=False)
PRIORITY = wish(online(ANA))
SEQUENCE = wish(*[online(m) for m in (ANA, BEN, CAT, DAN)], sequence=True)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (wish(), RoutingReason.NOT_REQUESTED),
        (replace(PRIORITY, routing_type=RoutingType.BROADCAST), RoutingReason.NOT_REQUESTED),
        (replace(PRIORITY, preferred=False), RoutingReason.NOT_REQUESTED),
        (replace(PRIORITY, enabled=False), RoutingReason.FLAG_DISABLED),
        (replace(SEQUENCE, enabled=False), RoutingReason.FLAG_DISABLED),
        (replace(PRIORITY, workshop=True), RoutingReason.WORKSHOP),
        (replace(PRIORITY, workshop=True, enabled=False), RoutingReason.FLAG_DISABLED),
        (replace(SEQUENCE, candidates=()), RoutingReason.NO_FAVORITES),
        (wish(None), RoutingReason.UNKNOWN_MECHANIC),
        (wish(UNAPPROVED), RoutingReason.MECHANIC_NOT_APPROVED),
        (wish(offline(ANA)), RoutingReason.MECHANIC_OFFLINE),
        (wish(BUSY), RoutingReason.MECHANIC_BUSY),
        (wish(None, wait=True), RoutingReason.UNKNOWN_MECHANIC),
        (wish(UNAPPROVED, wait=True), RoutingReason.MECHANIC_NOT_APPROVED),
        (wish(offline(ANA), None, sequence=True), RoutingReason.MECHANIC_OFFLINE),
    ],
)
def test_why_a_booking_is_a_broadcast(asked: Wish, reason: RoutingReason) -> None:
    assert make_plan(asked) == ((), reason)


@pytest.mark.parametrize(
    "asked",
    [PRIORITY, wish(AWAY), wish(offline(ANA), wait=True), wish(BUSY, wait=True), wish(candidate(ANA))],
    ids=["online", "away", "offline but waited for", "busy but waited for", "online without a connection"],
)
def test_priority_is_one_wave(asked: Wish) -> None:
    assert make_plan(asked) == ((Wave(ANA, 10 * MINUTE),), None)


@pytest.mark.parametrize(
    ("booking", "mechanic", "minutes"), [(None, None, 10), (None, 20, 20), (30, None, 30), (30, 20, 30)]
)
def test_the_window_is_the_bookings_else_the_mechanics_else_the_default(
    booking: int | None, mechanic: int | None, minutes: int
) -> None:
    ana = replace(online(ANA), window_ms=mechanic * MINUTE if mechanic else None)
    asked = replace(wish(ana), window_ms=booking * MINUTE if booking else None)
    assert make_plan(asked) == ((Wave(ANA, minutes * MINUTE),), None)
    assert decide(None, book(asked), NOW, candidates=by_id([ana])).session.priority_window_minutes == minutes


@pytest.mark.parametrize(
    ("window_ms", "minutes"), [(1, 1), (59_999, 1), (60_000, 1), (60_001, 2), (90_000, 2), (600_000, 10)]
)
def test_window_minutes_are_rounded_up(window_ms: int, minutes: int) -> None:
    asked = replace(PRIORITY, window_ms=window_ms)
    session = decide(None, book(asked), NOW, candidates=by_id([online(ANA)])).session
    assert (session.priority_window_minutes, session.expires_at) == (minutes, NOW + window_ms)


def test_a_sequence_splits_the_window_over_the_first_three() -> None:
    waves, reason = make_plan(SEQUENCE)
    assert waves == (Wave(ANA, 5 * MINUTE), Wave(BEN, 3 * MINUTE), Wave(CAT, 2 * MINUTE))
    assert reason is None


@pytest.mark.parametrize(
    ("favourites", "waves"),
    [
        ((online(ANA),), [(ANA, 300)]),
        ((online(ANA), online(BEN)), [(ANA, 300), (BEN, 180)]),
        ((offline(ANA), online(BEN), online(CAT), online(DAN)), [(BEN, 300), (CAT, 180), (DAN, 120)]),
        ((online(ANA), None, UNAPPROVED, online(DAN)), [(ANA, 300), (DAN, 180)]),
    ],
)
def test_only_who_can_answer_has_a_part_of_the_sequence(
    favourites: tuple[Candidate | None, ...], waves: list[tuple[str, int]]
) -> None:
    made, _ = make_plan(wish(*favourites, sequence=True))
    assert [(w.mechanic_id, w.window_ms // 1000) for w in made] == waves


def test_each_mechanics_own_window_is_split() -> None:
    people = (replace(online(ANA), window_ms=20 * MINUTE), online(BEN))
    waves, _ = make_plan(wish(*people, sequence=True))
    assert [w.window_ms for w in waves] == [10 * MINUTE, 3 * MINUTE]


def test_another_split_asks_as_many_as_it_has_parts() -> None:
    waves, _ = make_plan(replace(SEQUENCE, split=(0.7, 0.3)))
    assert waves == (Wave(ANA, 7 * MINUTE), Wave(BEN, 3 * MINUTE))
