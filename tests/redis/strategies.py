"""Sessions of every shape, for Hypothesis: each consistent in itself, none the outcome of any rule."""

from hypothesis import strategies as st
from msgspec.structs import replace

from hub.domain.ids import new_session_id
from hub.domain.model import (
    ACTIVE,
    AssignmentStatus,
    Fallback,
    RoutingReason,
    RoutingType,
    Session,
    SessionStatus,
    Wave,
)
from tests.domain.samples import CUSTOMER, MECHANICS

SESSION_ID = new_session_id(CUSTOMER)

TIMES = st.integers(min_value=1, max_value=2**45)
# A lone surrogate is refused at the door: no UTF-8 can hold it.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["null", "true", "0", "1.5", "", " ", "a=1 b=2", '{"a":1}', "é\u2028\U0001f600", "\x00\r\n"]
)
WAVES = st.lists(
    st.builds(Wave, st.sampled_from(MECHANICS), st.integers(min_value=1, max_value=3_600_000)),
    min_size=1,
    max_size=3,
).map(tuple)

_STATUSES = {
    SessionStatus.PENDING: (AssignmentStatus.QUEUED, AssignmentStatus.OFFERED, AssignmentStatus.OPEN),
    SessionStatus.WAITING: (AssignmentStatus.ACCEPTED,),
    SessionStatus.LIVE: (AssignmentStatus.ACCEPTED,),
    SessionStatus.SCHEDULED: (AssignmentStatus.ACCEPTED,),
    SessionStatus.COMPLETED: (AssignmentStatus.ACCEPTED,),
    SessionStatus.CANCELLED: (AssignmentStatus.CANCELLED, AssignmentStatus.ACCEPTED),
    SessionStatus.EXPIRED: (AssignmentStatus.EXPIRED, AssignmentStatus.ACCEPTED),
}


_AT_RANDOM = st.fixed_dictionaries(
    {
        "customer_name": st.none() | TEXTS,
        "customer_email": st.none() | TEXTS,
        "session_type": st.sampled_from(["chat", "video", "diagnostic"]),
        "plan_code": TEXTS,
        "payment": st.sampled_from(["free", "credit", "paid"]),
        "notes": st.none() | TEXTS,
        "is_urgent": st.booleans(),
        "requested_brand": st.none() | TEXTS,
        "metadata": TEXTS,
        "created_at": TIMES,
        "updated_at": TIMES,
        "started_at": st.none() | TIMES,
        "routing_type": st.sampled_from(RoutingType),
        "routing_reason": st.none() | st.sampled_from(RoutingReason),
        "wait_if_offline": st.booleans(),
        "preferred_mechanic_id": st.none() | st.sampled_from(MECHANICS),
        "priority_window_minutes": st.integers(min_value=1, max_value=60),
        "target_connection": st.none() | TEXTS,
        "orphan_at": TIMES,
        "fallback_reason": st.none() | st.sampled_from(Fallback),
        "fallback_at": st.none() | TIMES,
        "fingerprint": st.none() | TEXTS,
    }
)
"""What depends on nothing else."""


@st.composite
def sessions(draw: st.DrawFn, *, version: int = 1, active: bool | None = None) -> Session:
    status = draw(st.sampled_from([s for s in SessionStatus if active is None or (s in ACTIVE) is active]))
    assignment_status = draw(st.sampled_from(_STATUSES[status]))
    accepted = assignment_status is AssignmentStatus.ACCEPTED
    waves = draw(WAVES)
    session = Session(
        **draw(_AT_RANDOM),
        id=SESSION_ID,
        customer_id=CUSTOMER,
        mechanic_id=draw(st.sampled_from(MECHANICS)) if accepted else None,
        status=status,
        ended_at=None if status in ACTIVE else draw(TIMES),
        version=version,
        assignment_status=assignment_status,
        waves=waves,
        wave=draw(st.integers(min_value=0, max_value=len(waves) - 1)),
        accepted_at=draw(TIMES) if accepted else None,
    )
    if assignment_status is AssignmentStatus.OPEN:
        return replace(session, open_at=draw(TIMES), waves=draw(st.sampled_from([waves, ()])))
    if session.offered_to:
        return replace(session, expires_at=draw(TIMES), notify_by=draw(st.none() | TIMES))
    return session
