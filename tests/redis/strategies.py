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


@st.composite
def sessions(draw: st.DrawFn, *, version: int = 1, active: bool | None = None) -> Session:
    statuses = [s for s in SessionStatus if active is None or (s in ACTIVE) is active]
    status = draw(st.sampled_from(statuses))
    assignment_status = draw(st.sampled_from(_STATUSES[status]))
    accepted = assignment_status is AssignmentStatus.ACCEPTED
    waves = draw(WAVES)
    session = draw(
        st.builds(
            Session,
            id=st.just(SESSION_ID),
            customer_id=st.just(CUSTOMER),
            customer_name=st.none() | TEXTS,
            customer_email=st.none() | TEXTS,
            mechanic_id=st.sampled_from(MECHANICS) if accepted else st.none(),
            session_type=st.sampled_from(["chat", "video", "diagnostic"]),
            plan_code=TEXTS,
            payment=st.sampled_from(["free", "credit", "paid"]),
            status=st.just(status),
            notes=st.none() | TEXTS,
            is_urgent=st.booleans(),
            requested_brand=st.none() | TEXTS,
            metadata=TEXTS,
            created_at=TIMES,
            updated_at=TIMES,
            started_at=st.none() | TIMES,
            ended_at=st.none() if status in ACTIVE else TIMES,
            version=st.just(version),
            assignment_status=st.just(assignment_status),
            routing_type=st.sampled_from(RoutingType),
            routing_reason=st.none() | st.sampled_from(RoutingReason),
            waves=st.just(waves),
            wave=st.integers(min_value=0, max_value=len(waves) - 1),
            wait_if_offline=st.booleans(),
            preferred_mechanic_id=st.none() | st.sampled_from(MECHANICS),
            priority_window_minutes=st.integers(min_value=1, max_value=60),
            target_connection=st.none() | TEXTS,
            orphan_at=TIMES,
            fallback_reason=st.none() | st.sampled_from(Fallback),
            fallback_at=st.none() | TIMES,
            accepted_at=TIMES if accepted else st.none(),
            fingerprint=st.none() | TEXTS,
        )
    )
    if assignment_status is AssignmentStatus.OPEN:
        return replace(session, open_at=draw(TIMES), waves=draw(st.just(waves) | st.just(())))
    if session.offered_to:
        return replace(session, expires_at=draw(TIMES), notify_by=draw(st.none() | TIMES))
    return session
