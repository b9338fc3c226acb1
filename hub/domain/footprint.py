"""Where a session must stand in the store besides its own hash: derived from its fields, never kept by hand.

A commit writes the difference between the footprints before and after; recovery writes the whole of one. So a
finished session cannot leave a deadline behind, nor an open one miss its index.
"""

from msgspec import Struct

from hub.domain.model import UNSTARTED, AssignmentStatus, Session, SessionStatus


class Footprint(Struct, frozen=True, kw_only=True):
    """`claim`: the customer's one active session. `deadlines`: member → due, in ms of the store's clock."""

    claim: bool = False
    open_at: int | None = None
    offered_to: str | None = None
    held_by: str | None = None
    live: bool = False
    ended: bool = False
    deadlines: dict[str, int] = {}


NOWHERE = Footprint()


def footprint(session: Session | None) -> Footprint:
    if session is None:
        return NOWHERE
    if not session.active:
        return Footprint(ended=True)
    deadlines: dict[str, int] = {}
    if session.status in UNSTARTED:
        deadlines[f"orphan:{session.id}"] = session.orphan_at
    if session.expires_at is not None:
        deadlines[f"offer:{session.assignment_id}"] = session.expires_at
    if session.notify_by is not None:
        deadlines[f"notify:{session.assignment_id}"] = session.notify_by
    return Footprint(
        claim=True,
        open_at=session.open_at if session.assignment_status is AssignmentStatus.OPEN else None,
        offered_to=session.offered_to,
        held_by=session.held_by,
        live=session.status is SessionStatus.LIVE,
        deadlines=deadlines,
    )
