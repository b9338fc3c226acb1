"""An admin's desk where stores lag, are away, or hold no more than they may."""

from collections.abc import Mapping, Sequence

import pytest
from msgspec.structs import replace

from hub.clock import StoreClock
from hub.control import ControlDesk
from hub.dispatch import DispatchPolicy
from hub.domain import commands as cmd
from hub.domain.errors import Refused, StoreFailed
from hub.domain.model import Event, EventType, Role, Session
from hub.domain.timeline import Actor
from persistence.redis.inspection import RedisInspection
from tests.dispatch.office import Office
from tests.domain.samples import ANA, BEN, CUSTOMERS, STRANGER, wish
from tests.domain.samples import book as book_command
from tests.redis.bench import SHARDS, Bench

ADA = Actor(id=STRANGER, role=Role.ADMIN, name="Ada")


class FakeHistory:
    """A record that has these events, of sessions that it does not know."""

    def __init__(self, events: Sequence[Event] = (), *, away: bool = False) -> None:
        self._events = {
            f"row-{event.id}" if event.data.get("imported") else event.id: event for event in events
        }
        self._away = away

    async def events(self, session_id: str) -> Mapping[str, Event]:
        if self._away:
            raise StoreFailed("Postgres does not answer.", maybe_done=True)
        return self._events

    async def session(self, session_id: str) -> Session | None:
        return None


def desk_of(office: Office, history: FakeHistory | None = None) -> ControlDesk:
    return ControlDesk(
        dispatcher=office.dispatcher,
        history=history or FakeHistory(),
        inspection=RedisInspection(office.bench.client, SHARDS),
        clock=StoreClock(),
    )


async def test_what_the_record_does_not_have_yet_is_in_the_timeline(bench: Bench, office: Office) -> None:
    office.directory.add(ANA)
    session = await office.book()
    await desk_of(office).assign(ADA, session.assignment_id, ANA)
    recorded = office.events[:2]

    timeline = await desk_of(office, FakeHistory(recorded)).timeline(session.assignment_id)

    assert [happening.event for happening in timeline.happenings] == office.events
    assert [happening.event.type for happening in timeline.happenings] == [
        EventType.CREATED, EventType.BROADCAST, EventType.ACCEPTED,
    ]  # fmt: skip
    assert timeline.happenings[-1].actor == ADA
    assert timeline.names == {ANA: ANA}


async def test_while_the_record_is_away_there_is_no_timeline(office: Office) -> None:
    session = await office.book()

    with pytest.raises(StoreFailed):
        await desk_of(office, FakeHistory(away=True)).timeline(session.assignment_id)


async def test_an_event_keeps_the_id_that_the_record_gave_it(office: Office) -> None:
    session = await office.book()
    older = Event(
        session_id=session.id, type=EventType.CREATED, at=1, version=0, data={"imported": True}, actor_id=BEN
    )

    timeline = await desk_of(office, FakeHistory([older])).timeline(session.assignment_id)

    assert timeline.happenings[0].id == f"row-{older.id}"
    assert timeline.happenings[0].actor == Actor(id=BEN, role=Role.SERVICE)


async def test_mechanics_stay_mechanics_once_they_are_deleted(bench: Bench, office: Office) -> None:
    office.directory.add(ANA)
    session = await office.book()
    await office.execute(session.id, cmd.Decline(BEN))
    await office.execute(session.id, cmd.Accept(mechanic_id=BEN))
    await office.execute(session.id, cmd.Release(BEN))
    await desk_of(office).assign(ADA, session.assignment_id, ANA)
    await office.execute(session.id, cmd.Start(ANA))
    await office.execute(session.id, cmd.End(ANA))
    office.directory.mechanics.clear()

    timeline = await desk_of(office).timeline(session.assignment_id)

    actors = {happening.event.type: happening.actor for happening in timeline.happenings}
    for what in (EventType.DECLINED, EventType.RELEASED):
        assert actors[what] == Actor(id=BEN, role=Role.MECHANIC)
    for what in (EventType.STARTED, EventType.COMPLETED):
        assert actors[what] == Actor(id=ANA, role=Role.MECHANIC)
    accepted = [each.actor for each in timeline.happenings if each.event.type is EventType.ACCEPTED]
    assert accepted == [Actor(id=BEN, role=Role.MECHANIC), ADA]


@pytest.mark.parametrize("role", [Role.ADMIN, Role.SERVICE])
async def test_whoever_books_for_a_customer_is_shown_as_who_they_are(office: Office, role: Role) -> None:
    command = replace(book_command(wish()), actor_id=STRANGER, actor_role=role)
    session, _ = await office.dispatcher.book(command)
    assert session is not None

    timeline = await desk_of(office).timeline(session.assignment_id)

    assert timeline.happenings[0].actor == Actor(id=STRANGER, role=role)


async def test_an_admin_gives_nobody_more_than_they_may_hold(bench: Bench) -> None:
    office = Office(bench, policy=DispatchPolicy(capacity=1))
    office.directory.add(ANA)
    first, second = [await office.book(customer) for customer in CUSTOMERS]
    await office.execute(first.id, cmd.Accept(mechanic_id=ANA))

    with pytest.raises(Refused) as refused:
        await desk_of(office).assign(ADA, second.assignment_id, ANA)

    assert refused.value.code == "at_capacity"
