"""What operators are told by numbers."""

import pytest
from msgspec.structs import replace

from hub.domain.model import Event, EventType, SessionStatus
from hub.metrics import Metrics
from tests.domain.samples import NOW, draft


@pytest.mark.parametrize(
    ("payment", "started_at", "alarms"), [("paid", None, 1), ("paid", NOW, None), ("credit", None, None)]
)
def test_money_taken_for_nothing_is_an_alarm(
    payment: str, started_at: int | None, alarms: int | None
) -> None:
    metrics = Metrics()
    ended = replace(
        draft(), payment=payment, status=SessionStatus.CANCELLED, started_at=started_at, ended_at=NOW
    )
    metrics.event(Event(session_id=ended.id, type=EventType.CANCELLED, at=NOW, version=2), ended)
    assert metrics.registry.get_sample_value("hub_alarms_total", {"what": "paid_not_served"}) == alarms
