"""What people do with a request: accept, decline, release, start, end, cancel; and what time does to it."""

from typing import Any

from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.decision import Context, Decision, bump, event, named, single, unchanged, why_not
from hub.domain.errors import Refused
from hub.domain.model import AssignmentStatus, EventType, Fallback, Session, SessionStatus
from hub.domain.turns import open_to_all, turn_over

KEPT = frozenset({SessionStatus.WAITING, SessionStatus.LIVE, SessionStatus.COMPLETED})


def accept_offered(session: Session, command: cmd.Accept, ctx: Context) -> Decision:
    if session.offered_to != command.mechanic_id and command.actor_id is None:
        raise Refused("priority_window", "Another mechanic has priority on this request.")
    return accept_open(session, command, ctx)


def accept_open(session: Session, command: cmd.Accept, ctx: Context) -> Decision:
    if not command.approved:
        raise Refused("mechanic_not_approved", "Only approved mechanics may accept requests.")
    accepted = replace(
        bump(session, ctx),
        status=SessionStatus.WAITING,
        assignment_status=AssignmentStatus.ACCEPTED,
        mechanic_id=command.mechanic_id,
        mechanic_name=command.name,
        accepted_at=ctx.now,
        target_node=None,
        target_connection=None,
        notify_by=None,
        expires_at=None,
        open_at=None,
    )
    data = {"mechanic_id": command.mechanic_id, "priority": session.offered_to == command.mechanic_id}
    data |= named(command)
    happened = event(accepted, EventType.ACCEPTED, ctx, data, command.actor_id or command.mechanic_id)
    return Decision(session=accepted, changed=True, events=(happened,))


def accept_again(session: Session, command: cmd.Accept, _: Context) -> Decision:
    if session.mechanic_id != command.mechanic_id or session.status not in KEPT:
        raise why_not(session, command)
    return unchanged(session)


def decline_offered(session: Session, command: cmd.Decline, ctx: Context) -> Decision:
    if session.offered_to != command.mechanic_id:
        raise Refused("priority_window", "Another mechanic has priority on this request.")
    bumped = bump(session, ctx)
    declined = event(bumped, EventType.DECLINED, ctx, _declined_data(command, True), command.mechanic_id)
    decision = turn_over(session, ctx, Fallback.PRIORITY_DECLINED, declined)
    return replace(decision, declined_by=command.mechanic_id)


def decline_open(session: Session, command: cmd.Decline, ctx: Context) -> Decision:
    happened = event(session, EventType.DECLINED, ctx, _declined_data(command, False), command.mechanic_id)
    return Decision(session=session, events=(happened,), declined_by=command.mechanic_id)


def release(session: Session, command: cmd.Release, ctx: Context) -> Decision:
    if session.mechanic_id != command.mechanic_id:
        raise Refused("taken", "Another mechanic has this request.")
    bumped = bump(session, ctx)
    data = {"mechanic_id": command.mechanic_id} | ({"reason": command.reason} if command.reason else {})
    released = event(bumped, EventType.RELEASED, ctx, data, command.mechanic_id)
    opened, events = open_to_all(bumped, ctx, Fallback.RELEASED)
    return Decision(session=opened, changed=True, events=(released, *events), declined_by=command.mechanic_id)


# The session's own life


def start(session: Session, command: cmd.Start, ctx: Context) -> Decision:
    _must_hold(session, command.mechanic_id)
    live = replace(bump(session, ctx), status=SessionStatus.LIVE, started_at=ctx.now)
    return single(live, EventType.STARTED, ctx, command.mechanic_id)


def start_again(session: Session, command: cmd.Start, _: Context) -> Decision:
    _must_hold(session, command.mechanic_id)
    return unchanged(session)


def cancel(session: Session, command: cmd.Cancel, ctx: Context) -> Decision:
    return _finish(session, SessionStatus.CANCELLED, ctx, command.actor_id, command.reason, named(command))


def end_before_start(session: Session, command: cmd.End, ctx: Context) -> Decision:
    if command.actor_id != session.customer_id:
        _must_hold(session, command.actor_id)
        raise Refused("invalid_state", "The session has not been started; release it instead.")
    return _finish(session, SessionStatus.CANCELLED, ctx, command.actor_id)


def end_live(session: Session, command: cmd.End, ctx: Context) -> Decision:
    if command.actor_id != session.customer_id:
        _must_hold(session, command.actor_id)
    return _finish(session, SessionStatus.COMPLETED, ctx, command.actor_id)


def end_again(session: Session, command: cmd.End, _: Context) -> Decision:
    if command.actor_id != session.customer_id:
        _must_hold(session, command.actor_id)
        if session.status is not SessionStatus.COMPLETED:
            raise why_not(session, command)
    return unchanged(session)


def orphan_due(session: Session, command: cmd.OrphanDue, ctx: Context) -> Decision:
    if session.orphan_at > ctx.now and not command.forced:
        return unchanged(session)
    return _finish(session, SessionStatus.EXPIRED, ctx, None, "orphaned")


_FINISH = {
    SessionStatus.CANCELLED: (AssignmentStatus.CANCELLED, EventType.CANCELLED),
    SessionStatus.EXPIRED: (AssignmentStatus.EXPIRED, EventType.EXPIRED),
    SessionStatus.COMPLETED: (AssignmentStatus.ACCEPTED, EventType.COMPLETED),
}


def _finish(
    session: Session,
    status: SessionStatus,
    ctx: Context,
    actor_id: str | None,
    reason: str | None = None,
    told: dict[str, Any] | None = None,
) -> Decision:
    """End the session; an assignment that nobody had accepted shares its fate."""
    assignment_status, event_type = _FINISH[status]
    if session.assignment_status is AssignmentStatus.ACCEPTED:
        assignment_status = AssignmentStatus.ACCEPTED
    ended = replace(
        bump(session, ctx),
        status=status,
        assignment_status=assignment_status,
        ended_at=ctx.now,
        target_node=None,
        target_connection=None,
        notify_by=None,
        expires_at=None,
        open_at=None,
    )
    data = {"was": session.status, **(told or {})} | ({"reason": reason} if reason else {})
    if session.offered_to:
        data["mechanic_id"] = session.offered_to
    return single(ended, event_type, ctx, actor_id, data)


def _declined_data(command: cmd.Decline, priority: bool) -> dict[str, Any]:
    data = {"mechanic_id": command.mechanic_id, "priority": priority}
    return data | ({"reason": command.reason} if command.reason else {})


def _must_hold(session: Session, mechanic_id: str) -> None:
    if session.mechanic_id != mechanic_id:
        raise Refused("not_found", "There is no such session.")
