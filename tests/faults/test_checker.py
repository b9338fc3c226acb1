"""The checker finds what is wrong: every kind of wrong in a history that would be sound without it."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from tests.faults.checker import judge
from tests.faults.evidence import Evidence, Live, Recorded, Row, assignment_of
from tests.faults.history import Frame, History, Sight

SESSION = "00000000-0000-8000-8000-000000000001"
OTHER = "00000000-0000-8000-8000-000000000002"
CUSTOMER, ANA, BEN = "customer", "ana", "ben"

ROW = Row(
    id=SESSION,
    customer_id=CUSTOMER,
    key="first",
    mechanic_id=ANA,
    status="waiting",
    version=2,
    assignment_status="accepted",
    assignment_version=2,
)
LIVE = Live(
    id=SESSION,
    customer_id=CUSTOMER,
    mechanic_id=ANA,
    status="waiting",
    assignment_status="accepted",
    version=2,
)


def event(kind: str, version: int, actor: str | None = None, **data: object) -> Recorded:
    return Recorded(
        event_id=f"{kind} {version} {actor}",
        session_id=SESSION,
        type=kind,
        actor_id=actor,
        version=version,
        data=data,
    )


CREATED, OFFERED = event("created", 1, CUSTOMER), event("offered", 1, mechanic_id=ANA)
ACCEPTED = event("accepted", 2, ANA)

SOUND = Evidence(
    rows={SESSION: ROW},
    events=[CREATED, OFFERED, ACCEPTED],
    live={SESSION: LIVE},
    claims={CUSTOMER: SESSION},
    deadlines={f"orphan:{SESSION}": 1},
)


def history() -> History:
    told = History()
    told.note(CUSTOMER, "book", SESSION, "done")
    told.note(BEN, "accept", SESSION, "refused", "priority_window")
    told.note(ANA, "accept", SESSION, "done")
    told.sights.add(Sight(SESSION, 2, "waiting", "accepted", ANA))
    told.frames.append(
        Frame(to=ANA, role="mechanic", name="offer", event_id="1", customer_id=CUSTOMER, target_id=ANA)
    )
    return told


def test_a_sound_history_is_sound() -> None:
    assert judge(history(), SOUND) == []


def test_what_is_not_known_to_have_happened_may_have_happened_or_not() -> None:
    told = history()
    told.note(BEN, "accept", OTHER, "unknown")
    told.note(CUSTOMER, "book", "first", "unknown")
    assert judge(told, SOUND) == []


def test_a_session_restored_after_a_loss_is_ahead_of_its_row() -> None:
    restored = replace(SOUND, live={SESSION: replace(LIVE, version=1_002)})
    assert judge(history(), restored) == []


WRONG_IN_THE_STORES = {
    "lost: book": replace(SOUND, rows={}, events=[], live={}, claims={}, deadlines={}),
    "lost: accept": replace(SOUND, events=[CREATED, event("accepted", 2, BEN)]),
    "lost event": replace(SOUND, events=[OFFERED, ACCEPTED]),
    "repeated event": replace(SOUND, events=[CREATED, OFFERED, ACCEPTED, CREATED]),
    "torn": replace(SOUND, rows={SESSION: replace(ROW, assignment_version=1)}),
    "double accept": replace(SOUND, events=[CREATED, ACCEPTED, event("accepted", 3, BEN)]),
    "wrong winner": replace(
        SOUND, rows={SESSION: replace(ROW, mechanic_id=BEN)}, live={SESSION: replace(LIVE, mechanic_id=BEN)}
    ),
    "stolen": replace(SOUND, events=[CREATED, event("offered", 1, mechanic_id=BEN), ACCEPTED]),
    "endless offer": replace(SOUND, events=[CREATED, ACCEPTED, event("offered", 3, mechanic_id=BEN)]),
    "fork": replace(SOUND, live={SESSION: replace(LIVE, status="live")}),
    "regression": replace(SOUND, live={SESSION: replace(LIVE, version=5)}),
    "gone": replace(SOUND, live={}),
    "disagree": replace(SOUND, live={SESSION: replace(LIVE, version=1_002, status="live")}),
    "unrecorded": replace(SOUND, live={SESSION: LIVE, OTHER: replace(LIVE, id=OTHER)}),
    "undrained": replace(SOUND, unwritten=1),
    "buried": replace(SOUND, buried=["fork"]),
    "double booking": replace(SOUND, rows={SESSION: ROW, OTHER: replace(ROW, id=OTHER)}),
    "claims": replace(SOUND, claims={}),
    "open index": replace(SOUND, open=frozenset({assignment_of(SESSION)})),
    "deadlines": replace(SOUND, deadlines={}),
}


@pytest.mark.parametrize("kind", WRONG_IN_THE_STORES)
def test_what_is_wrong_in_the_stores_is_found(kind: str) -> None:
    assert any(wrong.startswith(kind) for wrong in judge(history(), WRONG_IN_THE_STORES[kind]))


def ghost(told: History) -> None:
    told.note(CUSTOMER, "book", "first", "refused", "unavailable")


def two_promises(told: History) -> None:
    told.note(BEN, "accept", SESSION, "done")


def two_stories(told: History) -> None:
    told.sights.add(Sight(SESSION, 2, "pending", "open", None))


def from_the_future(told: History) -> None:
    told.sights.add(Sight(SESSION, 3, "live", "accepted", ANA))


def anothers_offer(told: History) -> None:
    told.frames.append(replace(told.frames[0], to=BEN))


def anothers_news(told: History) -> None:
    told.frames.append(replace(told.frames[0], to="stranger", role="customer", target_id=None))


@pytest.mark.parametrize(
    ("kind", "tell"),
    [
        ("ghost", ghost),
        ("double accept", two_promises),
        ("fork", two_stories),
        ("regression", from_the_future),
        ("another's frame", anothers_offer),
        ("another's frame", anothers_news),
    ],
)
def test_what_people_were_told_wrongly_is_found(kind: str, tell: Callable[[History], None]) -> None:
    told = history()
    tell(told)
    assert any(wrong.startswith(kind) for wrong in judge(told, SOUND))
