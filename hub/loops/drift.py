"""What it means when Redis and Postgres disagree about a session. Pure: two states in, a verdict out.

The hub's live state wins over a row unless the row has the higher version. One change by hand is taken as a
wish: a row set to expired whose session nobody has started yet is what `expire_orphaned_sessions` leaves
where no node heard it, so the session expires.
"""

from collections.abc import Sequence
from enum import StrEnum

from hub.domain.epoch import VERSION_GAP
from hub.domain.model import FINISHED_KEYS_LIVE_MS, UNSTARTED, Session, SessionStatus

SETTLED_MS = 10_000
"""What changed later than this ago may still be on its way through the journal."""

LAG_MS = 5_000
"""What was entered in a journal longer than this ago is on record, or the shard is behind."""

_SAME_ON_RECORD = (
    *("customer_id", "customer_name", "customer_email", "session_type", "plan_code", "payment", "status"),
    *("notes", "is_urgent", "request_type", "requested_brand", "workshop_id", "created_at", "started_at"),
    *("ended_at", "routing_type", "priority_window_minutes", "priority_notified_at", "fallback_reason"),
    *("fallback_at", "accepted_at"),
)
_SAME_WHILE_PREFERRED = ("preferred_mechanic_id", "assignment_status", "expires_at")


class Verdict(StrEnum):
    """What is wrong, in the words of logs and metrics."""

    SESSION_MISSING = "session_missing"
    SESSION_BEHIND = "session_behind"
    SESSION_BROKEN = "session_broken"
    SESSION_LOST = "session_lost"
    ROW_MISSING = "row_missing"
    ROW_BEHIND = "row_behind"
    ROW_DIFFERS = "row_differs"
    ORPHAN_UNHEARD = "orphan_unheard"


def behind(oldest: Sequence[int | None], now: int, lag_ms: int = LAG_MS) -> frozenset[int]:
    """Shards to be left alone, by the time of the first entry that waits in each: their rows will change."""
    return frozenset(shard for shard, at in enumerate(oldest) if at is not None and at <= now - lag_ms)


def of_session(session: Session, row: Session | None, settled: int) -> Verdict | None:
    """What is wrong with the row of a session that Redis has; None while a change may be on its way."""
    if session.updated_at >= settled:
        return None
    if row is None:
        # What has ended may be deleted from the record by whoever has a reason to.
        return Verdict.ROW_MISSING if session.active else None
    if row.version > session.version:
        return Verdict.SESSION_BEHIND
    if row.version < session.version and session.version - row.version != VERSION_GAP:
        return Verdict.ROW_BEHIND
    if row.status is SessionStatus.EXPIRED and session.status in UNSTARTED:
        return Verdict.ORPHAN_UNHEARD
    differs = _differs(session, row) if session.active else row.active
    return Verdict.ROW_DIFFERS if differs else None


def of_row(row: Session, claimed_by: str | None, other: bool, settled: int) -> Verdict | None:
    """What is wrong with an active row whose session Redis does not have.

    `claimed_by` is what its customer's claim names; `other` says that this is another session, which exists.
    An ended session lets go of its claim and leaves Redis after a while: a row that still shows such a one as
    active has lost its end on the way.
    """
    if row.updated_at >= settled:
        return None
    over = claimed_by != row.id and row.updated_at < settled - FINISHED_KEYS_LIVE_MS
    return Verdict.SESSION_LOST if over or other else Verdict.SESSION_MISSING


def _differs(session: Session, row: Session) -> bool:
    same = list(_SAME_ON_RECORD)
    # Mechanics who were deleted are null on record, and with the favourite goes the offer.
    if row.mechanic_id is not None:
        same.append("mechanic_id")
    if row.preferred_mechanic_id is not None or session.preferred_mechanic_id is None:
        same += _SAME_WHILE_PREFERRED
    return any(getattr(session, name) != getattr(row, name) for name in same)
