"""What is true of every session and of every decision, whichever way it came about.

Written from the fields alone, without the properties and helpers of the code under test.
"""

from collections.abc import Mapping

import pytest

from hub.domain import commands as cmd
from hub.domain.decide import Decision, decide
from hub.domain.errors import Refused
from hub.domain.footprint import footprint
from hub.domain.model import (
    UNVERSIONED,
    AssignmentStatus,
    Candidate,
    EventType,
    Session,
    SessionStatus,
    Status,
)
from tests.domain.samples import name_of

NOBODY = "ffffffff-0000-4000-8000-000000000000"
"""Does nothing of their own accord anywhere, so holds nothing."""

TURN = {AssignmentStatus.QUEUED, AssignmentStatus.OFFERED}
HELD = {SessionStatus.WAITING, SessionStatus.LIVE}
ENDED = {SessionStatus.COMPLETED, SessionStatus.CANCELLED, SessionStatus.EXPIRED}
ENDS_A_TURN = (cmd.Decline, cmd.OfferDue, cmd.NotifyDue, cmd.Unreachable)
CONSTANT = ("id", "customer_id", "created_at", "orphan_at", "waves", "wait_if_offline", "routing_type")

_WITH = {
    SessionStatus.PENDING: {*TURN, AssignmentStatus.OPEN},
    SessionStatus.WAITING: {AssignmentStatus.ACCEPTED},
    SessionStatus.LIVE: {AssignmentStatus.ACCEPTED},
    SessionStatus.COMPLETED: {AssignmentStatus.ACCEPTED},
    SessionStatus.CANCELLED: {AssignmentStatus.ACCEPTED, AssignmentStatus.CANCELLED},
    SessionStatus.EXPIRED: {AssignmentStatus.ACCEPTED, AssignmentStatus.EXPIRED},
}


def check_state(s: Session) -> None:
    turn = s.assignment_status in TURN
    is_open = s.assignment_status is AssignmentStatus.OPEN
    accepted = s.assignment_status is AssignmentStatus.ACCEPTED

    assert s.assignment_status in _WITH[s.status]
    assert (s.mechanic_id is not None) == accepted == (s.accepted_at is not None)
    assert (s.ended_at is not None) == (s.status in ENDED)
    assert (s.fallback_reason is None) == (s.fallback_at is None)
    assert (s.target_node is None) == (s.target_connection is None)
    assert s.version >= 1
    assert s.mechanic_name in (None, s.mechanic_id and name_of(s.mechanic_id)), "nobody else's name"
    if s.preferred_mechanic_id is not None:
        assert s.preferred_mechanic_name == name_of(s.preferred_mechanic_id)

    assert (s.expires_at is not None) == turn, "a turn has an end, and nothing else has one"
    assert (s.open_at is not None) == is_open
    if turn:
        assert s.preferred_mechanic_id == s.waves[s.wave].mechanic_id
        assert s.priority_window_minutes * 60_000 - s.waves[s.wave].window_ms in range(60_000)
        assert s.fallback_reason is None
    else:
        assert s.target_connection is None
        assert s.notify_by is None
    if is_open:
        assert s.wave == len(s.waves)
    if s.assignment_status is AssignmentStatus.OFFERED:
        assert (s.notify_by is None) == (s.priority_notified_at is not None)
    if s.assignment_status is AssignmentStatus.QUEUED:
        assert s.wait_if_offline
        assert (s.target_connection, s.notify_by, s.priority_notified_at) == (None, None, None)

    assert footprint(s).deadlines == deadlines_of(s)


def deadlines_of(s: Session) -> dict[str, int]:
    assignment = f"{int(s.id[0], 16) ^ 8:x}{s.id[1:]}"
    due = {
        f"orphan:{s.id}": s.orphan_at if s.status in {SessionStatus.PENDING, SessionStatus.WAITING} else None,
        f"offer:{assignment}": s.expires_at if s.assignment_status in TURN else None,
        f"notify:{assignment}": s.notify_by if s.assignment_status in TURN else None,
    }
    return {member: at for member, at in due.items() if at is not None}


def check_decision(
    before: Session | None,
    command: cmd.Command,
    now: int,
    candidates: Mapping[str, Candidate],
    made: Decision,
) -> None:
    after = made.session
    check_state(after)
    _check_history(made, command)
    if before is None:
        assert isinstance(command, cmd.Book)
        assert (after.version, after.created_at, after.updated_at) == (1, now, now)
        assert after.orphan_at == now + command.orphan_ms
        assert bool(after.waves) == (after.routing_reason is None)
        _check_next_turn(after, 0, now, candidates)
    elif made.changed:
        assert after.version == before.version + 1
        assert after.updated_at == now
        assert all(getattr(after, name) == getattr(before, name) for name in CONSTANT)
        _check_holder(before, command, after)
        _check_turn(before, command, now, candidates, after)
        _check_target(before, command, after)
    else:
        assert after == before
    if before is not None:
        _check_time(before, command, now, made)
    if before is not None and isinstance(command, cmd.Retarget):
        _check_retarget(before, command, after)


def check_answers(s: Session, now: int) -> None:
    """Who may do what in this state, tried out."""
    assert_refused(s, cmd.Accept(mechanic_id=NOBODY, approved=False), now)
    if s.status is SessionStatus.PENDING and s.expires_at is not None:
        assert_refused(s, cmd.Accept(mechanic_id=NOBODY), now, "priority_window")
        assert_refused(s, cmd.Decline(NOBODY), now, "priority_window")
        for mechanic_id in {wave.mechanic_id for wave in s.waves} - {s.waves[s.wave].mechanic_id}:
            assert_refused(s, cmd.Accept(mechanic_id=mechanic_id), now, "priority_window")
        assert _accepted_by(s, s.waves[s.wave].mechanic_id, now)
    elif s.status is SessionStatus.PENDING:
        assert _accepted_by(s, NOBODY, now)
    else:
        assert_refused(s, cmd.Accept(mechanic_id=NOBODY), now)
        assert_refused(s, cmd.Accept(mechanic_id=NOBODY, actor_id=NOBODY), now)
        assert_refused(s, cmd.Release(NOBODY), now)
    if s.status in HELD and s.mechanic_id is not None:
        assert decide(s, cmd.Accept(mechanic_id=s.mechanic_id), now) == Decision(session=s)
    if s.status in ENDED:
        assert decide(s, cmd.End(s.customer_id), now) == Decision(session=s)
    else:
        assert decide(s, cmd.End(s.customer_id), now).session.status in ENDED
        assert decide(s, cmd.Cancel(), now).session.status is SessionStatus.CANCELLED
    assert_refused(s, cmd.End(NOBODY), now, "not_found")


def assert_refused(s: Session | None, command: cmd.Command, now: int, code: str | None = None) -> None:
    with pytest.raises(Refused) as refused:
        decide(s, command, now)
    assert refused.value.code in Refused.STATUS
    assert code in (None, refused.value.code)


def can_answer(candidate: Candidate | None, *, wait: bool) -> bool:
    return (
        candidate is not None
        and candidate.approved
        and (wait or candidate.status in {Status.ONLINE, Status.AWAY})
    )


def _accepted_by(s: Session, mechanic_id: str, now: int) -> bool:
    after = decide(s, cmd.Accept(mechanic_id=mechanic_id), now).session
    return (after.status, after.mechanic_id) == (SessionStatus.WAITING, mechanic_id)


def _check_history(made: Decision, command: cmd.Command) -> None:
    after = made.session
    if made.changed and not made.events:
        assert isinstance(command, cmd.Retarget)
        assert after.target_connection is None, "an offer that went somewhere has a history"
    assert all((e.session_id, e.version) == (after.id, after.version) for e in made.events)
    assert len({e.id for e in made.events}) == len(made.events)
    if not made.changed:
        assert all(e.type in UNVERSIONED and e.actor_id is not None for e in made.events)
    declines = isinstance(command, cmd.Decline | cmd.Release) and bool(made.events)
    assert made.declined_by == (getattr(command, "mechanic_id", None) if declines else None)
    assert (EventType.BROADCAST in {e.type for e in made.events}) <= (after.open_at is not None)


def _check_holder(before: Session, command: cmd.Command, after: Session) -> None:
    if before.mechanic_id == after.mechanic_id:
        return
    if before.mechanic_id is None:
        assert isinstance(command, cmd.Accept)
        assert after.mechanic_id == command.mechanic_id
        assert command.approved
        if before.expires_at is not None:
            assert (
                command.mechanic_id == before.waves[before.wave].mechanic_id or command.actor_id is not None
            )
    else:
        assert isinstance(command, cmd.Release)
        assert (after.mechanic_id, before.mechanic_id) == (None, command.mechanic_id)


def _check_turn(
    before: Session, command: cmd.Command, now: int, candidates: Mapping[str, Candidate], after: Session
) -> None:
    assert after.wave >= before.wave
    if isinstance(command, ENDS_A_TURN):
        assert after.wave > before.wave, "the turn that is over comes again"
        _check_next_turn(after, before.wave + 1, now, candidates)
    elif after.expires_at is not None:
        assert (after.wave, after.expires_at) == (before.wave, before.expires_at)
    if after.open_at is not None:
        assert (after.open_at, after.fallback_at) == (now, now)


def _check_next_turn(after: Session, wave: int, now: int, candidates: Mapping[str, Candidate]) -> None:
    """From `wave` on, whoever could not answer was skipped and the first who can has the turn."""
    mechanics = [w.mechanic_id for w in after.waves]
    able = [can_answer(candidates.get(m), wait=after.wait_if_offline) for m in mechanics]
    assert not any(able[wave : after.wave])
    if after.expires_at is None:
        assert not any(able[wave:])
        return
    assert able[after.wave]
    assert after.expires_at == now + after.waves[after.wave].window_ms
    assert after.priority_notified_at is None
    candidate = candidates[mechanics[after.wave]]
    there = candidate.connections if candidate.status is not Status.OFFLINE else ()
    assert (after.target_connection is None) == (not there)
    if there:
        assert _freshest(candidate, after.target_connection)


def _check_target(before: Session, command: cmd.Command, after: Session) -> None:
    if not isinstance(command, cmd.Retarget) and after.wave == before.wave and after.expires_at is not None:
        assert after.target_connection == before.target_connection
    if after.priority_notified_at != before.priority_notified_at:
        if isinstance(command, cmd.Notified):
            assert before.priority_notified_at is None
            assert command.connection == before.target_connection
            assert command.at == after.priority_notified_at
        else:
            assert isinstance(command, ENDS_A_TURN)
            assert after.priority_notified_at is None


def _check_retarget(before: Session, command: cmd.Retarget, after: Session) -> None:
    """An offer stays where it is while that is there, and is nowhere only while there is nothing."""
    candidate = command.candidate
    if before.expires_at is None or before.waves[before.wave].mechanic_id != candidate.mechanic_id:
        assert after == before
        return
    left = {c.id for c in candidate.connections} - {command.lost}
    if before.target_connection in left:
        assert after == before
    elif left and candidate.status is not Status.OFFLINE:
        assert _freshest(candidate, after.target_connection, command.lost)
    else:
        assert after.target_connection is None


def _freshest(candidate: Candidate, connection: str | None, lost: str | None = None) -> bool:
    active = {c.id: c.active_at for c in candidate.connections if c.id != lost}
    return connection in active and active[connection] == max(active.values())


def _check_time(before: Session, command: cmd.Command, now: int, made: Decision) -> None:
    """A deadline takes effect when it is due, not earlier, and every time."""
    match command:
        case cmd.OfferDue():
            due = before.expires_at
        case cmd.NotifyDue():
            due = before.notify_by
        case cmd.OrphanDue():
            unstarted = before.status in {SessionStatus.PENDING, SessionStatus.WAITING}
            due = (now if command.forced else before.orphan_at) if unstarted else None
        case _:
            return
    assert made.changed == (due is not None and due <= now)
