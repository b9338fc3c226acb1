"""Each rule on its own; how they play together is the state machine's."""

from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.decide import TABLE, Decision, Stage, decide, stage_of
from hub.domain.errors import Refused
from hub.domain.model import (
    AssignmentStatus,
    Candidate,
    EventType,
    Fallback,
    RoutingReason,
    RoutingType,
    Session,
    SessionStatus,
    Status,
)
from tests.domain.samples import (
    ANA,
    BEN,
    CAT,
    CUSTOMER,
    DAN,
    MINUTE,
    NOTIFY_MS,
    NOW,
    ORPHAN_MS,
    STRANGER,
    after,
    book,
    booked,
    by_id,
    candidate,
    offline,
    online,
    wish,
)

ACCEPT = cmd.Accept(mechanic_id=ANA)
OPEN = booked()
OFFERED = booked(online(ANA))
QUEUED = booked(offline(ANA), wait=True)
ACCEPTED = after(OFFERED, ACCEPT)
LIVE = after(ACCEPTED, cmd.Start(ANA))
RESERVED = replace(ACCEPTED, status=SessionStatus.SCHEDULED)
COMPLETED = after(LIVE, cmd.End(ANA))
CANCELLED = after(OFFERED, cmd.Cancel())
EXPIRED = after(OPEN, cmd.OrphanDue(), now=NOW + ORPHAN_MS)
STATES: dict[str, Session | None] = {
    "none": None,
    "queued": QUEUED,
    "offered": OFFERED,
    "open": OPEN,
    "accepted": ACCEPTED,
    "live": LIVE,
    "reserved": RESERVED,
    "completed": COMPLETED,
    "cancelled": CANCELLED,
    "expired": EXPIRED,
}

LATE = NOW + ORPHAN_MS
"""Every deadline of every state above is due."""

COMMANDS: dict[str, cmd.Command] = {
    "Book": book(wish(online(ANA))),
    "Accept": ACCEPT,
    "Decline": cmd.Decline(ANA),
    "Acknowledge": cmd.Acknowledge(ANA, EventType.SEEN),
    "Release": cmd.Release(ANA),
    "Start": cmd.Start(ANA),
    "End": cmd.End(CUSTOMER),
    "Cancel": cmd.Cancel("admin"),
    "Broadcast": cmd.Broadcast("admin"),
    "Notified": cmd.Notified(f"phone-of-{ANA}", NOW),
    "Retarget": cmd.Retarget(candidate(ANA, "tablet")),
    "Unreachable": cmd.Unreachable(ANA),
    "OfferDue": cmd.OfferDue(),
    "NotifyDue": cmd.NotifyDue(),
    "OrphanDue": cmd.OrphanDue(),
}

# A stage: that is where it goes. `same`: nothing happens. `history`: only an event. Else: refused with this.
OUTCOMES = """
            none          queued        offered       open          accepted      live          reserved      completed     cancelled     expired
Book        offered       same          same          same          same          same          same          same          same          same
Accept      not_found     accepted      accepted      accepted      same          same          invalid_state same          cancelled     expired
Decline     not_found     open          open          history       invalid_state invalid_state invalid_state invalid_state cancelled     expired
Acknowledge not_found     history       history       same          same          same          same          same          same          same
Release     not_found     invalid_state invalid_state invalid_state open          invalid_state invalid_state invalid_state cancelled     expired
Start       not_found     not_found     not_found     not_found     live          same          invalid_state invalid_state not_found     not_found
End         not_found     ended         ended         ended         ended         ended         ended         same          same          same
Cancel      not_found     ended         ended         ended         ended         ended         ended         invalid_state cancelled     expired
Broadcast   not_found     open          open          same          invalid_state invalid_state invalid_state invalid_state cancelled     expired
Notified    not_found     same          offered       same          same          same          same          same          same          same
Retarget    not_found     offered       offered       same          same          same          same          same          same          same
Unreachable not_found     same          open          same          same          same          same          same          same          same
OfferDue    not_found     open          open          same          same          same          same          same          same          same
NotifyDue   not_found     same          open          same          same          same          same          same          same          same
OrphanDue   not_found     ended         ended         ended         ended         same          same          same          same          same
"""  # noqa: E501  # a table is read across


def outcomes() -> dict[tuple[str, str], str]:
    head, *rows = [line.split() for line in OUTCOMES.strip().splitlines()]
    return {(name, row[0]): word for row in rows for name, word in zip(head, row[1:], strict=True)}


def outcome(before: Session | None, command: cmd.Command, now: int) -> str:
    try:
        made = decide(before, command, now, candidates=by_id([online(ANA)]), notify_timeout_ms=NOTIFY_MS)
    except Refused as refused:
        return refused.code
    if made.changed:
        assert made.session.version == (before.version + 1 if before else 1)
        assert made.session.updated_at == now
        return stage_of(made.session)
    assert made.session == before
    return "history" if made.events else "same"


@pytest.mark.parametrize(
    ("state", "command", "expected"),
    [pytest.param(*key, word, id="-".join(key)) for key, word in outcomes().items()],
)
def test_every_command_in_every_state(state: str, command: str, expected: str) -> None:
    assert outcome(STATES[state], COMMANDS[command], LATE) == expected


def test_the_outcomes_cover_all_commands_all_stages_and_the_whole_table() -> None:
    assert {kind.__name__ for kind in cmd.Command.__subclasses__()} == COMMANDS.keys()
    assert outcomes().keys() == {(state, name) for state in STATES for name in COMMANDS}
    assert {stage_of(state) for state in STATES.values()} == set(Stage) == TABLE.keys()
    assert all(
        command.__name__ in COMMANDS and (stage is not Stage.NONE)
        for stage, row in TABLE.items()
        for command in row
    )


# Booking


def test_a_priority_booking_is_offered_to_the_freshest_connection_of_the_favourite() -> None:
    ana = candidate(ANA, "phone", "tablet")
    made = decide(None, book(wish(ana)), NOW, candidates=by_id([ana]), notify_timeout_ms=NOTIFY_MS)
    session = made.session
    assert session.assignment_status is AssignmentStatus.OFFERED
    assert (session.target_connection, session.target_node) == ("tablet", "node-of-tablet")
    assert (session.expires_at, session.notify_by) == (NOW + 10 * MINUTE, NOW + NOTIFY_MS)
    assert (session.orphan_at, session.version, session.routing_type) == (
        NOW + ORPHAN_MS,
        1,
        RoutingType.PRIORITY,
    )
    assert [e.type for e in made.events] == [EventType.CREATED, EventType.OFFERED]


def test_a_broadcast_booking_is_everyones_at_once_and_says_why() -> None:
    made = decide(None, book(wish(offline(ANA))), NOW, candidates=by_id([offline(ANA)]))
    session = made.session
    assert (session.routing_type, session.routing_reason) == (
        RoutingType.BROADCAST,
        RoutingReason.MECHANIC_OFFLINE,
    )
    assert (session.open_at, session.fallback_reason, session.waves) == (NOW, None, ())
    assert session.preferred_mechanic_id == ANA
    assert [e.type for e in made.events] == [EventType.CREATED, EventType.BROADCAST]


def test_who_is_online_without_a_connection_is_offered_it_until_the_notify_timeout() -> None:
    session = booked(candidate(ANA))
    assert (session.assignment_status, session.target_connection) == (AssignmentStatus.OFFERED, None)
    assert session.notify_by == NOW + NOTIFY_MS


def test_whose_customer_waits_is_queued_without_a_notify_timeout_but_with_a_window() -> None:
    assert (QUEUED.assignment_status, QUEUED.notify_by) == (AssignmentStatus.QUEUED, None)
    assert QUEUED.expires_at == NOW + 10 * MINUTE
    connected = booked(candidate(ANA, "phone", status=Status.BUSY), wait=True)
    assert connected.assignment_status is AssignmentStatus.OFFERED


# A turn ends


@dataclass(frozen=True, slots=True)
class TurnEnd:
    command: cmd.Command
    reason: Fallback
    first: EventType
    at: int = NOW + 1


TURN_ENDS = {
    "declined": TurnEnd(cmd.Decline(ANA), Fallback.PRIORITY_DECLINED, EventType.DECLINED),
    "window over": TurnEnd(
        cmd.OfferDue(), Fallback.PRIORITY_TIMEOUT, EventType.OFFER_EXPIRED, at=NOW + 10 * MINUTE
    ),
    "not notified": TurnEnd(
        cmd.NotifyDue(), Fallback.NOTIFY_FAILED, EventType.OFFER_EXPIRED, at=NOW + NOTIFY_MS
    ),
    "unreachable": TurnEnd(cmd.Unreachable(ANA), Fallback.MECHANIC_OFFLINE, EventType.OFFER_EXPIRED),
    "by an admin": TurnEnd(cmd.Broadcast("admin"), Fallback.ADMIN, EventType.OFFER_EXPIRED),
}


@pytest.mark.parametrize("end", TURN_ENDS.values(), ids=TURN_ENDS)
def test_after_the_last_turn_it_is_everyones(end: TurnEnd) -> None:
    made = decide(OFFERED, end.command, end.at)
    opened = made.session
    assert (opened.assignment_status, opened.open_at, opened.wave) == (AssignmentStatus.OPEN, end.at, 1)
    assert (opened.fallback_reason, opened.fallback_at) == (end.reason, end.at)
    assert (opened.expires_at, opened.notify_by, opened.target_connection) == (None, None, None)
    assert opened.version == OFFERED.version + 1
    assert [e.type for e in made.events] == [end.first, EventType.BROADCAST]
    assert made.events[1].data == {"reason": end.reason}
    assert made.declined_by == (ANA if end.first is EventType.DECLINED else None)
    assert after(opened, cmd.Accept(mechanic_id=BEN)).mechanic_id == BEN


@pytest.mark.parametrize("name", [name for name in TURN_ENDS if name != "by an admin"])
def test_in_a_sequence_the_next_has_their_turn(name: str) -> None:
    end, people = TURN_ENDS[name], [online(m) for m in (ANA, BEN, CAT)]
    first = booked(*people, sequence=True)
    if name != "not notified":
        first = after(first, cmd.Notified(f"phone-of-{ANA}", NOW))
    made = decide(first, end.command, end.at, candidates=by_id(people), notify_timeout_ms=NOTIFY_MS)
    second = made.session
    assert (second.offered_to, second.wave, second.preferred_mechanic_id) == (BEN, 1, BEN)
    assert (second.expires_at, second.notify_by) == (end.at + 3 * MINUTE, end.at + NOTIFY_MS)
    assert (second.priority_window_minutes, second.fallback_reason) == (3, None)
    assert (second.target_connection, second.priority_notified_at) == (f"phone-of-{BEN}", None)
    assert [e.type for e in made.events] == [end.first, EventType.OFFERED]
    with pytest.raises(Refused, match="priority_window"):
        decide(second, ACCEPT, end.at)


def test_an_admin_opens_a_sequence_to_everyone_whoever_is_next() -> None:
    people = [online(m) for m in (ANA, BEN, CAT)]
    opened = after(booked(*people, sequence=True), cmd.Broadcast("admin"), known=people)
    assert (opened.assignment_status, opened.wave) == (AssignmentStatus.OPEN, 3)
    assert opened.fallback_reason is Fallback.ADMIN


@pytest.mark.parametrize(
    ("ben", "expected"),
    [
        (online(BEN), BEN),
        (candidate(BEN, "phone", status=Status.AWAY), BEN),
        (offline(BEN), CAT),
        (candidate(BEN, "phone", status=Status.BUSY), CAT),
        (candidate(BEN, "phone", approved=False), CAT),
        (None, CAT),
    ],
    ids=["online", "away", "offline", "busy", "not approved", "unknown"],
)
def test_who_cannot_answer_when_their_turn_comes_is_skipped(ben: Candidate | None, expected: str) -> None:
    session = booked(*[online(m) for m in (ANA, BEN, CAT)], sequence=True)
    known = [c for c in (ben, online(CAT)) if c is not None]
    assert after(session, cmd.Decline(ANA), known=known).offered_to == expected


def test_who_is_waited_for_is_not_skipped() -> None:
    people = [online(ANA), offline(BEN)]
    session = after(booked(*people, sequence=True, wait=True), cmd.Decline(ANA), known=people)
    assert (session.offered_to, session.assignment_status) == (BEN, AssignmentStatus.QUEUED)


def test_a_sequence_in_which_nobody_is_left_goes_to_everyone() -> None:
    session = booked(*[online(m) for m in (ANA, BEN, CAT)], sequence=True)
    opened = after(session, cmd.Decline(ANA), known=[offline(BEN)])
    assert (opened.assignment_status, opened.wave) == (AssignmentStatus.OPEN, 3)
    assert opened.fallback_reason is Fallback.PRIORITY_DECLINED


def test_the_whole_sequence() -> None:
    people = [online(m) for m in (ANA, BEN, CAT, DAN)]
    session, now = booked(*people, sequence=True), NOW
    turns: list[tuple[str | None, int]] = []
    while session.expires_at is not None and len(turns) < len(people):
        turns.append((session.offered_to, session.expires_at - now))
        now = session.expires_at
        session = after(session, cmd.OfferDue(), now=now, known=people)
    assert turns == [(ANA, 5 * MINUTE), (BEN, 3 * MINUTE), (CAT, 2 * MINUTE)]
    assert (session.open_at, session.fallback_reason) == (NOW + 10 * MINUTE, Fallback.PRIORITY_TIMEOUT)


@pytest.mark.parametrize(
    ("command", "due"),
    [
        (cmd.OfferDue(), OFFERED.expires_at),
        (cmd.NotifyDue(), OFFERED.notify_by),
        (cmd.OrphanDue(), OFFERED.orphan_at),
    ],
)
def test_a_deadline_takes_effect_at_its_millisecond(command: cmd.Command, due: int) -> None:
    assert decide(OFFERED, command, due - 1) == Decision(session=OFFERED)
    assert decide(OFFERED, command, due).changed


@pytest.mark.parametrize("state", [QUEUED, OFFERED, OPEN, ACCEPTED], ids=lambda s: stage_of(s).value)
def test_a_person_may_expire_what_has_not_started_before_its_time(state: Session) -> None:
    assert after(state, cmd.OrphanDue(forced=True)).status is SessionStatus.EXPIRED
    assert after(LIVE, cmd.OrphanDue(forced=True)) == LIVE


def test_unreachable_ends_neither_another_ones_turn_nor_one_that_is_waited_for() -> None:
    assert after(OFFERED, cmd.Unreachable(BEN)) == OFFERED
    waited_for = booked(online(ANA), wait=True)
    assert after(waited_for, cmd.Unreachable(ANA)) == waited_for


# Where the offer goes


PHONE_AND_TABLET = booked(candidate(ANA, "phone", "tablet"))


@pytest.mark.parametrize(
    ("there", "lost", "expected"),
    [
        (("phone", "tablet"), None, "tablet"),
        (("phone", "tablet", "laptop"), None, "tablet"),
        (("phone",), "tablet", "phone"),
        (("phone",), None, "phone"),
        (("phone", "tablet"), "tablet", "phone"),
        (("tablet",), "phone", "tablet"),
        (("tablet",), "tablet", None),
        ((), "tablet", None),
    ],
)
def test_an_offer_stays_with_its_connection_and_moves_when_that_is_lost(
    there: tuple[str, ...], lost: str | None, expected: str | None
) -> None:
    made = decide(PHONE_AND_TABLET, cmd.Retarget(candidate(ANA, *there), lost), NOW + 1)
    moved = made.session
    assert moved.target_connection == expected
    assert moved.target_node == (f"node-of-{expected}" if expected else None)
    assert moved.assignment_status is AssignmentStatus.OFFERED
    assert (moved.expires_at, moved.notify_by) == (PHONE_AND_TABLET.expires_at, PHONE_AND_TABLET.notify_by)
    assert made.changed == (expected != "tablet")
    assert [e.data["connection"] for e in made.events] == ([expected] if made.changed and expected else [])


def test_a_new_connection_gets_the_offer_that_had_none() -> None:
    nowhere = after(PHONE_AND_TABLET, cmd.Retarget(candidate(ANA), "tablet"))
    assert after(nowhere, cmd.Retarget(candidate(ANA), "phone")) == nowhere
    back = after(nowhere, cmd.Retarget(candidate(ANA, "watch")))
    assert (back.target_connection, back.notify_by) == ("watch", PHONE_AND_TABLET.notify_by)


def test_who_appears_offline_gets_no_offer() -> None:
    hidden = candidate(ANA, "phone", status=Status.OFFLINE)
    assert after(QUEUED, cmd.Retarget(hidden)) == QUEUED


def test_the_notify_timeout_of_one_who_is_waited_for_starts_with_the_connection() -> None:
    offered = after(QUEUED, cmd.Retarget(candidate(ANA, "phone")), now=NOW + MINUTE)
    assert (offered.assignment_status, offered.target_connection) == (AssignmentStatus.OFFERED, "phone")
    assert (offered.notify_by, offered.expires_at) == (NOW + MINUTE + NOTIFY_MS, QUEUED.expires_at)

    queued = after(offered, cmd.Retarget(candidate(ANA), "phone"))
    assert (queued.assignment_status, queued.notify_by) == (AssignmentStatus.QUEUED, None)


def test_who_was_notified_once_has_the_rest_of_the_window_wherever_they_connect() -> None:
    told = after(booked(candidate(ANA, "phone"), wait=True), cmd.Notified("phone", NOW))
    gone = after(told, cmd.Retarget(candidate(ANA), "phone"))
    assert (gone.assignment_status, gone.target_connection) == (AssignmentStatus.OFFERED, None)
    back = after(gone, cmd.Retarget(candidate(ANA, "tablet")))
    assert (back.target_connection, back.notify_by, back.priority_notified_at) == ("tablet", None, NOW)


def test_moves_of_others_do_not_concern_the_offer() -> None:
    assert after(OFFERED, cmd.Retarget(online(BEN), OFFERED.target_connection)) == OFFERED


def test_notified_is_when_the_frame_was_written_to_the_connection_that_the_offer_went_to() -> None:
    assert after(PHONE_AND_TABLET, cmd.Notified("phone", NOW)) == PHONE_AND_TABLET
    made = decide(PHONE_AND_TABLET, cmd.Notified("tablet", NOW + 7), NOW + 9)
    assert (made.session.priority_notified_at, made.session.notify_by) == (NOW + 7, None)
    assert [(e.type, e.at, e.actor_id) for e in made.events] == [(EventType.NOTIFIED, NOW + 7, ANA)]
    assert after(made.session, cmd.Notified("tablet", NOW + 8)) == made.session


def test_an_acknowledgement_is_history_of_the_one_it_was_offered_to() -> None:
    made = decide(OFFERED, cmd.Acknowledge(ANA, EventType.SEEN), NOW)
    assert (made.changed, made.session) == (False, OFFERED)
    assert [(e.type, e.actor_id, e.version) for e in made.events] == [(EventType.SEEN, ANA, 1)]
    with pytest.raises(Refused, match="priority_window"):
        decide(OFFERED, cmd.Acknowledge(BEN, EventType.SEEN), NOW)


# Accept, decline, release


def test_the_winner_holds_it_and_everything_about_the_turn_is_gone() -> None:
    made = decide(OFFERED, ACCEPT, NOW + 5)
    won = made.session
    assert (won.status, won.assignment_status) == (SessionStatus.WAITING, AssignmentStatus.ACCEPTED)
    assert (won.mechanic_id, won.held_by, won.accepted_at) == (ANA, ANA, NOW + 5)
    assert (won.expires_at, won.notify_by, won.open_at, won.target_connection) == (None, None, None, None)
    assert [(e.type, e.data["priority"]) for e in made.events] == [(EventType.ACCEPTED, True)]
    assert decide(OPEN, ACCEPT, NOW).events[0].data["priority"] is False


@pytest.mark.parametrize(
    ("before", "command", "code"),
    [
        (OFFERED, cmd.Accept(mechanic_id=BEN), "priority_window"),
        (QUEUED, cmd.Accept(mechanic_id=BEN), "priority_window"),
        (OFFERED, cmd.Accept(mechanic_id=BEN, approved=False), "priority_window"),
        (OFFERED, cmd.Accept(mechanic_id=ANA, approved=False), "mechanic_not_approved"),
        (OPEN, cmd.Accept(mechanic_id=ANA, approved=False), "mechanic_not_approved"),
        (OPEN, cmd.Accept(mechanic_id=ANA, approved=False, actor_id="admin"), "mechanic_not_approved"),
        (ACCEPTED, cmd.Accept(mechanic_id=BEN), "taken"),
        (ACCEPTED, cmd.Accept(mechanic_id=BEN, actor_id="admin"), "taken"),
        (LIVE, cmd.Accept(mechanic_id=BEN), "taken"),
        (COMPLETED, cmd.Accept(mechanic_id=BEN), "taken"),
        (CANCELLED, cmd.Accept(mechanic_id=BEN), "cancelled"),
        (EXPIRED, cmd.Accept(mechanic_id=BEN), "expired"),
        (after(ACCEPTED, cmd.Cancel()), ACCEPT, "cancelled"),
        (OFFERED, cmd.Decline(BEN), "priority_window"),
        (ACCEPTED, cmd.Release(BEN), "taken"),
        (ACCEPTED, cmd.Start(BEN), "not_found"),
        (LIVE, cmd.Start(BEN), "not_found"),
    ],
)
def test_what_is_refused(before: Session, command: cmd.Command, code: str) -> None:
    with pytest.raises(Refused) as refused:
        decide(before, command, NOW + 1)
    assert (refused.value.code, refused.value.http_status) == (code, Refused.STATUS[code])


def test_an_admin_may_assign_during_a_window() -> None:
    made = decide(OFFERED, cmd.Accept(mechanic_id=BEN, actor_id="admin"), NOW + 1)
    assert made.session.mechanic_id == BEN
    assert [(e.actor_id, e.data) for e in made.events] == [("admin", {"mechanic_id": BEN, "priority": False})]


@pytest.mark.parametrize("state", [ACCEPTED, LIVE, COMPLETED], ids=["accepted", "live", "completed"])
def test_a_repeated_accept_of_the_winner_is_fine(state: Session) -> None:
    assert decide(state, ACCEPT, NOW + 9) == Decision(session=state)
    assert decide(state, cmd.Accept(mechanic_id=ANA, approved=False), NOW + 9) == Decision(session=state)


def test_a_declined_broadcast_takes_no_version() -> None:
    made = decide(OPEN, cmd.Decline(BEN, "too far"), NOW + 1)
    assert (made.changed, made.session, made.declined_by) == (False, OPEN, BEN)
    assert [(e.type, e.actor_id, e.data) for e in made.events] == [
        (EventType.DECLINED, BEN, {"mechanic_id": BEN, "priority": False, "reason": "too far"})
    ]


def test_a_released_request_is_everyones_again_but_not_the_releasers() -> None:
    made = decide(ACCEPTED, cmd.Release(ANA, "flat tyre"), NOW + 9)
    opened = made.session
    assert (opened.status, opened.assignment_status) == (SessionStatus.PENDING, AssignmentStatus.OPEN)
    assert (opened.mechanic_id, opened.accepted_at, opened.open_at) == (None, None, NOW + 9)
    assert (opened.fallback_reason, opened.fallback_at) == (Fallback.RELEASED, NOW + 9)
    assert made.declined_by == ANA
    assert [(e.type, e.data.get("reason")) for e in made.events] == [
        (EventType.RELEASED, "flat tyre"),
        (EventType.BROADCAST, Fallback.RELEASED),
    ]
    assert after(opened, cmd.Accept(mechanic_id=BEN)).mechanic_id == BEN


# The end


@pytest.mark.parametrize(
    ("before", "command", "status", "assignment", "happened"),
    [
        (QUEUED, cmd.End(CUSTOMER), "cancelled", "cancelled", "cancelled"),
        (OFFERED, cmd.End(CUSTOMER), "cancelled", "cancelled", "cancelled"),
        (OPEN, cmd.End(CUSTOMER), "cancelled", "cancelled", "cancelled"),
        (ACCEPTED, cmd.End(CUSTOMER), "cancelled", "accepted", "cancelled"),
        (RESERVED, cmd.End(CUSTOMER), "cancelled", "accepted", "cancelled"),
        (LIVE, cmd.End(CUSTOMER), "completed", "accepted", "completed"),
        (LIVE, cmd.End(ANA), "completed", "accepted", "completed"),
        (LIVE, cmd.Cancel("admin"), "cancelled", "accepted", "cancelled"),
        (OFFERED, cmd.Cancel("admin"), "cancelled", "cancelled", "cancelled"),
        (OFFERED, cmd.OrphanDue(), "expired", "expired", "expired"),
        (ACCEPTED, cmd.OrphanDue(), "expired", "accepted", "expired"),
    ],
)
def test_an_end_is_final_and_leaves_nothing_behind(
    before: Session, command: cmd.Command, status: str, assignment: str, happened: str
) -> None:
    made = decide(before, command, LATE)
    over = made.session
    assert (over.status, over.assignment_status, over.ended_at) == (status, assignment, LATE)
    assert (over.expires_at, over.notify_by, over.open_at, over.target_connection) == (None, None, None, None)
    assert over.mechanic_id == before.mechanic_id
    assert over.held_by is None
    assert [(e.type, e.data["was"]) for e in made.events] == [(happened, before.status)]
    assert made.events[0].data.get("mechanic_id") == before.offered_to


def test_a_cancellation_and_an_orphan_say_why() -> None:
    assert decide(OPEN, cmd.Cancel("admin", "duplicate"), NOW).events[0].data["reason"] == "duplicate"
    assert decide(OPEN, cmd.OrphanDue(), LATE).events[0].data["reason"] == "orphaned"


@pytest.mark.parametrize("state", [COMPLETED, CANCELLED, EXPIRED], ids=["completed", "cancelled", "expired"])
def test_a_customer_may_end_twice(state: Session) -> None:
    assert decide(state, cmd.End(CUSTOMER), LATE) == Decision(session=state)


def test_a_mechanic_ends_only_what_they_started() -> None:
    with pytest.raises(Refused, match="invalid_state"):
        decide(ACCEPTED, cmd.End(ANA), NOW)
    assert decide(COMPLETED, cmd.End(ANA), NOW) == Decision(session=COMPLETED)
    with pytest.raises(Refused, match="cancelled"):
        decide(after(LIVE, cmd.Cancel()), cmd.End(ANA), NOW)


@pytest.mark.parametrize("state", [name for name in STATES if name != "none"])
def test_a_stranger_does_not_learn_that_there_is_a_session(state: str) -> None:
    with pytest.raises(Refused, match="not_found"):
        decide(STATES[state], cmd.End(STRANGER), NOW)


def test_who_lost_an_offer_may_not_end_the_session() -> None:
    with pytest.raises(Refused, match="not_found"):
        decide(OFFERED, cmd.End(ANA), NOW)


def test_only_who_had_it_is_told_why_it_cannot_start() -> None:
    over = after(
        after(booked(online(ANA)), cmd.Accept(mechanic_id=ANA, name="Ana", approved=True)),
        cmd.Cancel("admin"),
    )
    for mechanic_id, code in ((ANA, "cancelled"), (BEN, "not_found")):
        with pytest.raises(Refused) as refusal:
            after(over, cmd.Start(mechanic_id))
        assert refusal.value.code == code
