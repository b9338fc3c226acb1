"""Ids as people write them."""

from hub.domain.errors import Refused
from hub.domain.ids import canonical, session_of


def asked_session(session_id: str) -> str:
    """The session's id; raises `Refused` (not_found) where it cannot be one."""
    known = canonical(session_id)
    if known is None:
        raise Refused("not_found", "There is no such session.")
    return known


def asked_assignment(assignment_id: str) -> str:
    """The id of the assignment's session; raises `Refused` (not_found) where it cannot be one."""
    known = canonical(assignment_id)
    if known is None:
        raise Refused("not_found", "There is no such request.")
    return session_of(known)
