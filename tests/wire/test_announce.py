"""What the announcer says, and to whom."""

import msgspec
import pytest
from msgspec.structs import replace

from hub.domain.model import AssignmentStatus, Event, EventType, SessionStatus, Wave
from hub.wire.announce import Announcer
from hub.wire.hints import Audience
from tests.domain.samples import ANA, CUSTOMER, MINUTE, NOW, STRANGER, draft

OFFERED = replace(
    draft(),
    status=SessionStatus.PENDING,
    assignment_status=AssignmentStatus.OFFERED,
    waves=(Wave(ANA, 10 * MINUTE),),
    target_node="n1",
    target_connection="phone",
    expires_at=NOW + 10 * MINUTE,
    version=1,
)


@pytest.mark.parametrize(
    ("window_ms", "words"),
    [
        (10 * MINUTE, "10 minutes"),
        (MINUTE, "1 minute"),
        (150_000, "2 minutes 30 seconds"),
        (61_000, "1 minute 1 second"),
        (2_500, "3 seconds"),
    ],
)
def test_a_priority_request_promises_the_time_there_is(window_ms: int, words: str) -> None:
    delivery = Announcer().priority_request(replace(OFFERED, waves=(Wave(ANA, window_ms),)), NOW)
    message = msgspec.json.decode(delivery.frame)["payload"]["message"]
    assert message == f"A customer specifically requested you! You have {words} priority access."


@pytest.mark.parametrize("kind", [EventType.CANCELLED, EventType.EXPIRED])
def test_whoever_has_a_session_counts_as_told_of_its_end(kind: EventType) -> None:
    ended = replace(
        OFFERED,
        status=SessionStatus(kind),
        assignment_status=AssignmentStatus.ACCEPTED,
        mechanic_id=ANA,
        ended_at=NOW,
    )
    event = Event(session_id=ended.id, type=kind, at=NOW, version=2)
    told, customer = Announcer().deliveries(event, ended, None, frozenset())
    assert (told.audience, told.to, told.over) == (Audience.TOLD, ANA, True)
    assert (customer.audience, customer.to) == (Audience.USER, CUSTOMER)


@pytest.mark.parametrize(
    ("kind", "actor", "data", "reason"),
    [
        (EventType.ACCEPTED, ANA, {}, "accepted"),
        (EventType.ACCEPTED, STRANGER, {}, "assigned"),
        (EventType.CANCELLED, CUSTOMER, {}, "customer"),
        (EventType.CANCELLED, STRANGER, {}, "admin"),
        (EventType.CANCELLED, STRANGER, {"reason": "double booking"}, "double booking"),
        (EventType.EXPIRED, None, {"reason": "orphaned"}, "orphaned"),
    ],
)
def test_why_a_request_is_no_longer_to_be_had(
    kind: EventType, actor: str | None, data: dict[str, str], reason: str
) -> None:
    accepted = replace(OFFERED, mechanic_id=ANA, accepted_at=NOW)
    event = Event(session_id=accepted.id, type=kind, at=NOW, version=2, actor_id=actor, data=data)
    for delivery in Announcer().deliveries(event, accepted, None, frozenset())[:2]:
        assert msgspec.json.decode(delivery.frame)["payload"]["reason"] == reason
