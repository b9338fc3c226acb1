"""The rules: what a command does to a session.

Theory of operation
===================

A session moves through stages; `TABLE` says which command may move it where. A command that the table does
not list for a stage is refused when a person asked for it (somebody was faster), and changes nothing when the
system did (a deadline of something that is over, a connection that no longer matters).

    (none) ──Book──► queued ──Retarget──► offered ──window over──► open ──Accept──► accepted ──Start──► live
                        └───────────────── Accept by the wave's mechanic ──────────────┘                  │
    every stage before live may be cancelled or expire; accepted may be released back to open;     ended ◄┘

* queued: a favourite's turn who has no connection yet and whose customer chose to wait for them.
* offered: a favourite's turn. Nobody else may accept.
* open: everyone's turn.

`decide` is a pure function of the session, the command, the store's time and what is known of the mechanics
concerned. Which index a session stands in, which deadlines it has and which claims it holds follow from its
fields alone (`footprint.py`), so no rule here can forget one.
"""

from enum import StrEnum

from hub.domain import answers, turns
from hub.domain import commands as cmd
from hub.domain.decision import Candidates, Context, Decision, Rule, unchanged, why_not
from hub.domain.errors import Refused
from hub.domain.model import Session, SessionStatus

__all__ = ["TABLE", "Decision", "Stage", "decide", "stage_of"]


class Stage(StrEnum):
    NONE = "none"
    QUEUED = "queued"
    OFFERED = "offered"
    OPEN = "open"
    ACCEPTED = "accepted"
    LIVE = "live"
    RESERVED = "reserved"
    ENDED = "ended"


def stage_of(session: Session | None) -> Stage:
    if session is None:
        return Stage.NONE
    match session.status:
        case SessionStatus.PENDING:
            return Stage(session.assignment_status)
        case SessionStatus.WAITING:
            return Stage.ACCEPTED
        case SessionStatus.LIVE:
            return Stage.LIVE
        case SessionStatus.SCHEDULED:
            return Stage.RESERVED
    return Stage.ENDED


def decide(
    session: Session | None,
    command: cmd.Command,
    now: int,
    *,
    candidates: Candidates | None = None,
    notify_timeout_ms: int = 2_000,
) -> Decision:
    """The outcome of `command`; raises `Refused` where the rules forbid it.

    `candidates` must hold every mechanic of `session.waves` whose turn could come next.
    """
    context = Context(now, candidates or {}, notify_timeout_ms)
    handler = TABLE[stage_of(session)].get(type(command))
    if isinstance(command, cmd.Book):
        if session is not None:
            return unchanged(session)
        return turns.book(command, context)
    if session is None:
        raise Refused("not_found", "There is nothing with this id.")
    if handler is not None:
        return handler(session, command, context)
    if isinstance(command, TOO_LATE_IS_FINE):
        return unchanged(session)
    raise why_not(session, command)


TOO_LATE_IS_FINE = (
    cmd.Acknowledge,
    cmd.Notified,
    cmd.OfferDue,
    cmd.NotifyDue,
    cmd.OrphanDue,
    cmd.Retarget,
    cmd.Unreachable,
)

_OFFERED: dict[type[cmd.Command], Rule] = {
    cmd.Accept: answers.accept_offered,
    cmd.Decline: answers.decline_offered,
    cmd.Acknowledge: turns.acknowledge,
    cmd.Notified: turns.notified,
    cmd.Retarget: turns.retarget,
    cmd.Unreachable: turns.unreachable,
    cmd.OfferDue: turns.offer_due,
    cmd.NotifyDue: turns.notify_due,
    cmd.OrphanDue: answers.orphan_due,
    cmd.Broadcast: turns.broadcast,
    cmd.End: answers.end_before_start,
    cmd.Cancel: answers.cancel,
}

TABLE: dict[Stage, dict[type[cmd.Command], Rule]] = {
    Stage.NONE: {},
    Stage.QUEUED: _OFFERED,
    Stage.OFFERED: _OFFERED,
    Stage.OPEN: {
        cmd.Accept: answers.accept_open,
        cmd.Decline: answers.decline_open,
        cmd.OrphanDue: answers.orphan_due,
        cmd.Broadcast: turns.broadcast_again,
        cmd.End: answers.end_before_start,
        cmd.Cancel: answers.cancel,
    },
    Stage.ACCEPTED: {
        cmd.Accept: answers.accept_again,
        cmd.Release: answers.release,
        cmd.Start: answers.start,
        cmd.OrphanDue: answers.orphan_due,
        cmd.End: answers.end_before_start,
        cmd.Cancel: answers.cancel,
    },
    Stage.LIVE: {
        cmd.Accept: answers.accept_again,
        cmd.Start: answers.start_again,
        cmd.End: answers.end_live,
        cmd.Cancel: answers.cancel,
    },
    Stage.RESERVED: {cmd.Cancel: answers.cancel, cmd.End: answers.end_before_start},
    Stage.ENDED: {cmd.Accept: answers.accept_again, cmd.End: answers.end_again},
}
