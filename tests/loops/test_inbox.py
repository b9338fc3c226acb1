"""Events that were left are taken up, and one that cannot be handled keeps no other from it."""

import pytest

from hub.domain.checkout import EventOutcome, StripeEvent
from hub.domain.errors import Unavailable
from hub.loops.inbox import LEFT_S, LeftEvents
from persistence.postgres.pool import Postgres
from tests.checkout.till import Till, stripe_event
from tests.dispatch.office import Office
from tests.postgres.databases import Connection

AGE = "update stripe_events set received_at = received_at - $1 * interval '1 second'"


@pytest.fixture
def till(office: Office, postgres: Postgres) -> Till:
    return Till(office, postgres)


class Round:
    """The loop, and a hand that may be unable to do its work."""

    def __init__(self, till: Till) -> None:
        self.till = till
        self.failing: dict[str, Exception] = {}
        self.handled: list[str] = []
        self.alarms: list[str] = []
        self.loop = LeftEvents(inbox=till.inbox, handle=self._handle, alarm=self.alarms.append)

    async def _handle(self, event: StripeEvent) -> StripeEvent:
        if event.event_id in self.failing:
            raise self.failing[event.event_id]
        self.handled.append(event.event_id)
        return await self.till.desk.handle(event)

    async def store(self, *event_ids: str) -> None:
        for event_id in event_ids:
            await self.till.inbox.store(event_id, "invoice.paid", stripe_event(event_id).decode())


async def test_what_was_left_is_booked_and_what_is_new_is_not_touched(
    till: Till, committed: Connection
) -> None:
    till.office.gate.shut()
    await till.desk.receive(stripe_event())
    till.office.gate.open()
    events = Round(till)
    assert await events.loop.step() is False
    assert events.handled == []

    await committed.execute(AGE, LEFT_S + 1)
    assert await events.loop.step() is False
    (event,) = await till.inbox.page(10)
    assert (event.outcome, event.session_id) == (EventOutcome.DISPATCHED, till.booked()[0])
    await events.loop.step()
    assert events.handled == ["evt_1"]


async def test_a_bad_event_stops_no_other_and_is_told_of(till: Till, committed: Connection) -> None:
    events = Round(till)
    await events.store("evt_1", "evt_2", "evt_3")
    await committed.execute(AGE, LEFT_S + 1)
    events.failing = {"evt_1": ZeroDivisionError("nobody thought of this")}
    await events.loop.step()
    assert sorted(events.handled) == ["evt_2", "evt_3"]
    assert events.alarms == ["stripe_event_failed"]
    events.failing = {}
    await events.loop.step()
    assert sorted(events.handled) == ["evt_1", "evt_2", "evt_3"]


async def test_a_batch_that_cannot_be_handled_is_not_in_the_way_of_the_next(
    till: Till, committed: Connection
) -> None:
    events = Round(till)
    bad = [f"evt_{n:02}" for n in range(20)]
    await events.store(*bad, "evt_99")
    await committed.execute(AGE, LEFT_S + 1)
    events.failing = {event_id: Unavailable("journal_full", "Not now.") for event_id in bad}
    with pytest.raises(Unavailable):
        await events.loop.step()
    assert await events.loop.step() is False
    assert events.handled == ["evt_99"]
    events.failing = {}
    assert await events.loop.step() is True
    assert sorted(events.handled) == [*bad, "evt_99"]
