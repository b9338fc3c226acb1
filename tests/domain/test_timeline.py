"""The history as offers: folded from events that the rules themselves made."""

from collections.abc import Iterable
from typing import Any

from hub.domain import commands as cmd
from hub.domain.decide import decide
from hub.domain.model import Candidate, Event, EventType, Session
from hub.domain.timeline import Offer, OfferOutcome, offers, place
from tests.domain.samples import (
    ANA,
    BEN,
    CAT,
    MINUTE,
    NOTIFY_MS,
    NOW,
    STRANGER,
    book,
    by_id,
    candidate,
    offline,
    online,
    wish,
)

ADMIN = STRANGER


class Story:
    """A session to which one thing happens after the other, and all events of it."""

    def __init__(self, *favourites: Candidate, sequence: bool = False, wait: bool = False) -> None:
        self.people = by_id(favourites)
        self.session: Session | None = None
        self.events: list[Event] = []
        self.then(book(wish(*favourites, sequence=sequence, wait=wait)), 0)

    def then(self, command: cmd.Command, after_ms: int) -> "Story":
        made = decide(
            self.session, command, NOW + after_ms, candidates=self.people, notify_timeout_ms=NOTIFY_MS
        )
        self.session = made.session
        self.events += made.events
        return self

    def notified(self, after_ms: int) -> "Story":
        assert self.session is not None
        assert self.session.target_connection is not None
        return self.then(cmd.Notified(self.session.target_connection, NOW + after_ms), after_ms)

    @property
    def offers(self) -> list[Offer]:
        return offers(self.events)

    @property
    def outcomes(self) -> list[tuple[str, str, str | None]]:
        return [(offer.mechanic_id, offer.outcome, offer.reason) for offer in self.offers]


def test_a_broadcast_has_no_offers() -> None:
    assert Story().then(cmd.Accept(mechanic_id=ANA), 5).offers == []


def test_everything_an_offer_can_tell() -> None:
    story = Story(online(ANA)).notified(12)
    story.then(cmd.Acknowledge(ANA, EventType.DELIVERED), 20)
    story.then(cmd.Acknowledge(ANA, EventType.SEEN), 400)
    story.then(cmd.Acknowledge(ANA, EventType.SEEN), 900)
    (pending,) = story.offers
    story.then(cmd.Accept(mechanic_id=ANA), 5_012)

    (offer,) = story.offers

    assert (pending.outcome, pending.ended_at, pending.response_ms) == (OfferOutcome.PENDING, None, None)
    assert offer == Offer(
        mechanic_id=ANA,
        wave=0,
        offered_at=NOW,
        notified_at=NOW + 12,
        delivered_at=NOW + 20,
        seen_at=NOW + 400,
        ended_at=NOW + 5_012,
        outcome=OfferOutcome.ACCEPTED,
        response_ms=5_000,
    )


def test_a_sequence_is_one_offer_after_the_other() -> None:
    story = Story(online(ANA), online(BEN), online(CAT), sequence=True).notified(10)
    story.then(cmd.Decline(ANA, "lunch"), 1_010).then(cmd.OfferDue(), 10 * MINUTE)
    story.notified(10 * MINUTE + 5).then(cmd.Accept(mechanic_id=CAT), 10 * MINUTE + 105)

    assert story.outcomes == [
        (ANA, "declined", "lunch"),
        (BEN, "expired", "priority_timeout"),
        (CAT, "accepted", None),
    ]
    assert [offer.wave for offer in story.offers] == [0, 1, 2]
    assert [offer.response_ms for offer in story.offers] == [1_000, None, 100]
    assert story.offers[1].notified_at is None
    assert [offer.offered_at for offer in story.offers[1:]] == [o.ended_at for o in story.offers[:2]]


def test_an_offer_that_moves_to_another_connection_stays_one() -> None:
    story = Story(online(ANA)).notified(10)
    for at, connection in enumerate(("tablet", "laptop"), 100):
        assert story.session is not None
        lost = story.session.target_connection
        story.then(cmd.Retarget(candidate(ANA, connection), lost), at)

    assert [event.type for event in story.events].count(EventType.OFFERED) == 3
    (offer,) = story.offers
    assert (offer.offered_at, offer.notified_at) == (NOW, NOW + 10)


def test_an_offer_that_waited_begins_when_its_mechanic_comes() -> None:
    story = Story(offline(ANA), wait=True)
    assert story.offers == []

    story.then(cmd.Retarget(online(ANA)), 5_000)

    assert [offer.offered_at for offer in story.offers] == [NOW + 5_000]


def test_a_turn_that_is_over_before_it_was_offered_is_no_offer() -> None:
    assert Story(offline(ANA), wait=True).then(cmd.OfferDue(), 10 * MINUTE).offers == []


def test_what_ends_an_offer_from_outside_rescinds_it() -> None:
    cases: list[tuple[cmd.Command, int, str]] = [
        (cmd.Cancel(ADMIN), 5, "cancelled"),
        (cmd.Cancel(ADMIN, "fraud"), 5, "fraud"),
        (cmd.End(book(wish()).draft.customer_id), 5, "cancelled"),
        (cmd.OrphanDue(forced=True), 5, "orphaned"),
        (cmd.Broadcast(ADMIN), 5, "admin"),
        (cmd.Accept(mechanic_id=BEN, actor_id=ADMIN), 5, "admin"),
        (cmd.NotifyDue(), NOTIFY_MS, "notify_failed"),
        (cmd.Unreachable(ANA), 5, "mechanic_offline"),
    ]
    for command, at, reason in cases:
        story = Story(online(ANA)).then(command, at)
        assert story.outcomes == [(ANA, "rescinded", reason)], command
        assert (story.offers[0].ended_at, story.offers[0].response_ms) == (NOW + at, None)


def test_an_accept_by_an_admin_for_the_favourite_is_theirs_but_no_response() -> None:
    story = Story(online(ANA)).notified(5)
    story.then(cmd.Accept(mechanic_id=ANA, actor_id=ADMIN, actor_name="Ada"), 50)

    assert story.outcomes == [(ANA, "accepted", None)]
    assert story.offers[0].response_ms is None


def test_a_release_leaves_the_offer_accepted() -> None:
    story = Story(online(ANA)).notified(5).then(cmd.Accept(mechanic_id=ANA), 50)
    story.then(cmd.Release(ANA, "flat tyre"), 90).then(cmd.Decline(BEN), 95)
    story.then(cmd.Accept(mechanic_id=CAT), 99)

    assert story.outcomes == [(ANA, "accepted", None)]
    assert story.offers[0].ended_at == NOW + 50


def test_events_go_in_order_however_they_came() -> None:
    story = Story(online(ANA), online(BEN), sequence=True).notified(10)
    story.then(cmd.Decline(ANA), 20).notified(30).then(cmd.Broadcast(ADMIN), 40)
    story.then(cmd.Accept(mechanic_id=CAT), 50).then(cmd.Release(CAT), 60)

    scrambled = story.events[::-1]
    assert sorted(scrambled, key=place) == story.events


def test_the_history_names_the_admin() -> None:
    story = Story(online(ANA)).then(cmd.Broadcast(ADMIN, "too slow", "Ada"), 5)
    story.then(cmd.Accept(mechanic_id=BEN, actor_id=ADMIN, actor_name="Ada"), 6)
    story.then(cmd.Cancel(ADMIN, "enough", "Ada"), 7)

    mine = story.events[2:]

    assert {event.actor_id for event in mine} == {ADMIN}
    assert {event.data["actor_name"] for event in mine} == {"Ada"}
    assert [event.data.get("note") for event in mine] == ["too slow", "too slow", None, None]


def test_history_that_was_imported_tells_what_it_can() -> None:
    def imported(kind: EventType, version: int, **data: Any) -> Event:
        return Event(
            session_id="s", type=kind, at=NOW + version, version=version, data=data | {"imported": True}
        )

    events: Iterable[Event] = [imported(EventType.CREATED, 1), imported(EventType.EXPIRED, 2)]
    assert offers(events) == []
    events = [imported(EventType.OFFERED, 1, mechanic_id=ANA), imported(EventType.EXPIRED, 2)]
    assert [offer.outcome for offer in offers(events)] == [OfferOutcome.RESCINDED]
