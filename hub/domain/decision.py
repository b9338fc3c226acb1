"""What a decision is made of: the outcome, the circumstances, and the small steps that all rules share."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.errors import Refused
from hub.domain.model import AssignmentStatus, Candidate, Event, EventType, Session, SessionStatus

Candidates = Mapping[str, Candidate]


class Decision(Struct, frozen=True, kw_only=True):
    """The session as it will be, and what to tell the world.

    `changed` is False where nothing was to do or where only history is added (an ack, a declined broadcast):
    such a decision takes no version.
    """

    session: Session
    changed: bool = False
    events: tuple[Event, ...] = ()
    declined_by: str | None = None


class Context(NamedTuple):
    now: int
    candidates: Candidates
    notify_timeout_ms: int


Rule = Callable[[Session, Any, Context], Decision]


def unchanged(session: Session) -> Decision:
    return Decision(session=session)


def bump(session: Session, ctx: Context) -> Session:
    return replace(session, version=session.version + 1, updated_at=ctx.now)


def event(
    session: Session, kind: EventType, ctx: Context, data: dict[str, Any], actor_id: str | None = None
) -> Event:
    return Event(
        session_id=session.id, type=kind, at=ctx.now, version=session.version, actor_id=actor_id, data=data
    )


def named(command: cmd.Accept | cmd.Broadcast | cmd.Cancel) -> dict[str, Any]:
    """What the history says of an actor whom nobody can look up later."""
    return {"actor_name": command.actor_name} if command.actor_name else {}


def single(
    session: Session, kind: EventType, ctx: Context, actor_id: str | None, data: dict[str, Any] | None = None
) -> Decision:
    """A new state with one event."""
    return Decision(session=session, changed=True, events=(event(session, kind, ctx, data or {}, actor_id),))


def why_not(session: Session, command: cmd.Command) -> Refused:
    """What to tell somebody who asked for what the session's state forbids."""
    if isinstance(command, cmd.Start) and command.mechanic_id != session.mechanic_id:
        return Refused("not_found", "There is no such session.")
    if session.status is SessionStatus.CANCELLED:
        return Refused("cancelled", "This request was cancelled.")
    if session.status is SessionStatus.EXPIRED:
        return Refused("expired", "This request has expired.")
    wants_it = isinstance(command, cmd.Accept | cmd.Decline) and command.mechanic_id != session.mechanic_id
    if wants_it and session.assignment_status is AssignmentStatus.ACCEPTED:
        return Refused("taken", "Another mechanic has this request.")
    return Refused("invalid_state", f"This cannot be done while the session is {session.status}.")
