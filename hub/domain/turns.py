"""Whose turn it is: booking, offering to one mechanic after the other, opening to everyone."""

from typing import Any

from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.decision import Context, Decision, bump, event, named, unchanged
from hub.domain.errors import Refused
from hub.domain.model import (
    AssignmentStatus,
    Candidate,
    Event,
    EventType,
    Fallback,
    Role,
    RoutingType,
    Session,
    SessionStatus,
)
from hub.domain.plan import make_plan, obstacle


def book(command: cmd.Book, ctx: Context) -> Decision:
    wish, now = command.wish, ctx.now
    waves, reason = make_plan(wish)
    window_ms = waves[0].window_ms if waves else wish.window_ms or wish.default_window_ms
    preferred = next((c for c in wish.candidates if c is not None), None)
    session = replace(
        command.draft,
        status=SessionStatus.PENDING,
        assignment_status=AssignmentStatus.OPEN,
        routing_type=wish.routing_type if waves else RoutingType.BROADCAST,
        routing_reason=reason,
        waves=waves,
        wait_if_offline=wish.wait,
        preferred_mechanic_id=preferred.mechanic_id if preferred else None,
        preferred_mechanic_name=preferred.name if preferred else None,
        priority_window_minutes=_minutes(window_ms),
        created_at=now,
        updated_at=now,
        orphan_at=now + command.orphan_ms,
        version=1,
    )
    created = Event(
        session_id=session.id,
        type=EventType.CREATED,
        at=now,
        version=1,
        actor_id=command.actor_id,
        data={"routing_type": wish.routing_type, "reason": reason} | _booker(command),
    )
    session, events = _next_turn(session, 0, ctx, None)
    return Decision(session=session, changed=True, events=(created, *events))


def _booker(command: cmd.Book) -> dict[str, Any]:
    """The role of whoever booked for the customer: nobody can look it up later."""
    return {} if command.actor_role is Role.CUSTOMER else {"actor_role": command.actor_role}


# Whose turn it is


def _next_turn(
    session: Session, wave: int, ctx: Context, reason: Fallback | None
) -> tuple[Session, list[Event]]:
    """Offer to the first mechanic from `wave` on who can answer, or open the request to everyone."""
    for index in range(wave, len(session.waves)):
        candidate = ctx.candidates.get(session.waves[index].mechanic_id)
        if candidate is not None and obstacle(candidate, wait=session.wait_if_offline) is None:
            return _offer(session, index, candidate, ctx)
    return open_to_all(session, ctx, reason)


def _offer(session: Session, index: int, candidate: Candidate, ctx: Context) -> tuple[Session, list[Event]]:
    window_ms = session.waves[index].window_ms
    target = candidate.target()
    waiting = target is None and session.wait_if_offline
    offered = replace(
        session,
        assignment_status=AssignmentStatus.QUEUED if waiting else AssignmentStatus.OFFERED,
        wave=index,
        preferred_mechanic_id=candidate.mechanic_id,
        preferred_mechanic_name=candidate.name,
        priority_window_minutes=_minutes(window_ms),
        target_node=target.node if target else None,
        target_connection=target.id if target else None,
        priority_notified_at=None,
        notify_by=None if waiting else ctx.now + ctx.notify_timeout_ms,
        expires_at=ctx.now + window_ms,
    )
    return offered, [] if waiting else [event(offered, EventType.OFFERED, ctx, _offer_data(offered))]


def open_to_all(session: Session, ctx: Context, reason: Fallback | None) -> tuple[Session, list[Event]]:
    opened = replace(
        session,
        status=SessionStatus.PENDING,
        assignment_status=AssignmentStatus.OPEN,
        mechanic_id=None,
        mechanic_name=None,
        accepted_at=None,
        wave=len(session.waves),
        target_node=None,
        target_connection=None,
        notify_by=None,
        expires_at=None,
        open_at=ctx.now,
        fallback_reason=reason or session.fallback_reason,
        fallback_at=ctx.now if reason else session.fallback_at,
    )
    return opened, [event(opened, EventType.BROADCAST, ctx, {"reason": reason} if reason else {})]


def turn_over(session: Session, ctx: Context, reason: Fallback, *first: Event) -> Decision:
    """The favourite's turn has ended without an accept."""
    session = bump(session, ctx)
    session, events = _next_turn(session, session.wave + 1, ctx, reason)
    return Decision(session=session, changed=True, events=(*first, *events))


def offer_due(session: Session, _: cmd.OfferDue, ctx: Context) -> Decision:
    if session.expires_at is None or session.expires_at > ctx.now:
        return unchanged(session)
    return _expire_turn(session, ctx, Fallback.PRIORITY_TIMEOUT)


def notify_due(session: Session, _: cmd.NotifyDue, ctx: Context) -> Decision:
    if session.notify_by is None or session.notify_by > ctx.now:
        return unchanged(session)
    return _expire_turn(session, ctx, Fallback.NOTIFY_FAILED)


def unreachable(session: Session, command: cmd.Unreachable, ctx: Context) -> Decision:
    if session.offered_to != command.mechanic_id or (session.wait_if_offline and not command.barred):
        return unchanged(session)
    return _expire_turn(session, ctx, Fallback.MECHANIC_OFFLINE)


def _expire_turn(session: Session, ctx: Context, reason: Fallback) -> Decision:
    data = {"mechanic_id": session.offered_to, "reason": reason}
    return turn_over(session, ctx, reason, event(bump(session, ctx), EventType.OFFER_EXPIRED, ctx, data))


def broadcast(session: Session, command: cmd.Broadcast, ctx: Context) -> Decision:
    bumped = bump(session, ctx)
    told = named(command) | ({"note": command.note} if command.note else {})
    data = {"mechanic_id": session.offered_to, "reason": Fallback.ADMIN, **told}
    ended = event(bumped, EventType.OFFER_EXPIRED, ctx, data, command.actor_id)
    opened, (told_all,) = open_to_all(bumped, ctx, Fallback.ADMIN)
    mine = replace(told_all, actor_id=command.actor_id, data=told_all.data | told)
    return Decision(session=opened, changed=True, events=(ended, mine))


def broadcast_again(session: Session, _: cmd.Broadcast, __: Context) -> Decision:
    return unchanged(session)


# Where the offer goes


def retarget(session: Session, command: cmd.Retarget, ctx: Context) -> Decision:
    candidate = command.candidate
    gone = session.target_connection is None or session.target_connection == command.lost
    present = any(c.id == session.target_connection for c in candidate.connections)
    if session.offered_to != candidate.mechanic_id or (present and not gone):
        return unchanged(session)
    target = candidate.target(lost=command.lost)
    if target is None and session.target_connection is None:
        return unchanged(session)
    waiting = target is None and session.wait_if_offline and session.priority_notified_at is None
    notify_by = session.notify_by
    if waiting:
        notify_by = None
    elif target is not None and session.priority_notified_at is None and notify_by is None:
        notify_by = ctx.now + ctx.notify_timeout_ms
    moved = replace(
        bump(session, ctx),
        assignment_status=AssignmentStatus.QUEUED if waiting else AssignmentStatus.OFFERED,
        target_node=target.node if target else None,
        target_connection=target.id if target else None,
        notify_by=notify_by,
    )
    events = (event(moved, EventType.OFFERED, ctx, _offer_data(moved)),) if target else ()
    return Decision(session=moved, changed=True, events=events)


def notified(session: Session, command: cmd.Notified, ctx: Context) -> Decision:
    if session.target_connection != command.connection or session.priority_notified_at is not None:
        return unchanged(session)
    told = replace(bump(session, ctx), priority_notified_at=command.at, notify_by=None)
    data = {"mechanic_id": session.offered_to, "connection": command.connection}
    told_event = Event(
        session_id=told.id,
        type=EventType.NOTIFIED,
        at=command.at,
        version=told.version,
        actor_id=session.offered_to,
        data=data,
    )
    return Decision(session=told, changed=True, events=(told_event,))


def acknowledge(session: Session, command: cmd.Acknowledge, ctx: Context) -> Decision:
    if session.offered_to != command.mechanic_id:
        raise Refused("priority_window", "This request is not offered to you.")
    return Decision(session=session, events=(event(session, command.stage, ctx, {}, command.mechanic_id),))


def _offer_data(session: Session) -> dict[str, Any]:
    return {
        "mechanic_id": session.offered_to,
        "wave": session.wave,
        "expires_at": session.expires_at,
        "connection": session.target_connection,
    }


def _minutes(window_ms: int) -> int:
    return -(-window_ms // 60_000)
