"""How many sessions a mechanic may hold, and that what is noted of it is right whoever is interrupted."""

import asyncio
import random

import pytest

from hub.dispatch import DispatchPolicy
from hub.domain import commands as cmd
from hub.domain.errors import HubError, Refused, StoreFailed
from hub.domain.ids import new_id
from hub.domain.model import Session, Status
from persistence.redis import keys
from persistence.redis.presence import RedisPresence
from tests.dispatch.office import Office, work_of
from tests.domain.samples import ANA, BEN
from tests.patience import PATIENCE_S
from tests.redis.bench import Bench

ONE = DispatchPolicy(capacity=1)


class PausingPresence(RedisPresence):
    """Holds the next write of what somebody holds until it is told to go on."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.client, bench.presence.shards)
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def set_work(self, mechanic_id: str, session_id: str, *, held: bool, live: bool) -> None:
        self.reached.set()
        async with asyncio.timeout(PATIENCE_S):
            await self.go_on.wait()
        await super().set_work(mechanic_id, session_id, held=held, live=live)


class FailingPresence(RedisPresence):
    """Cannot write what somebody holds."""

    async def set_work(self, mechanic_id: str, session_id: str, *, held: bool, live: bool) -> None:
        raise StoreFailed("That shard is away.", maybe_done=True)


async def live_of(bench: Bench, mechanic_id: str) -> set[str]:
    found: set[str] = await bench.raw.smembers(keys.live(bench.presence.shard(mechanic_id), mechanic_id))
    return found


async def debts(bench: Bench, session: Session) -> list[str]:
    members = await bench.raw.zrange(keys.deadlines(bench.shard(session)), 0, -1)
    return [member for member in members if member.startswith(f"work:{session.id}:")]


async def test_of_two_accepts_at_once_one_is_too_many(bench: Bench, other_office: Office) -> None:
    offices = (Office(bench, policy=ONE), Office(other_office.bench, policy=ONE))
    for _ in range(10):
        mechanic_id = new_id()
        accept = cmd.Accept(mechanic_id=mechanic_id)
        booked = [await office.book(new_id()) for office in offices]

        outcomes = await asyncio.gather(
            *(o.execute(s.id, accept) for o, s in zip(offices, booked, strict=True)),
            return_exceptions=True,
        )

        (won,) = [outcome for outcome in outcomes if isinstance(outcome, Session)]
        (lost,) = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        assert lost.code == "at_capacity"
        assert await work_of(bench, mechanic_id) == {won.id}
        assert won.held_by == mechanic_id


@pytest.mark.parametrize("ending", [cmd.Release(ANA), cmd.Cancel("admin")], ids=["released", "cancelled"])
async def test_a_place_is_free_again_afterwards(bench: Bench, ending: cmd.Command) -> None:
    office = Office(bench, policy=ONE)
    first, second = await office.book(new_id()), await office.book(new_id())
    await office.execute(first.id, cmd.Accept(mechanic_id=ANA))
    with pytest.raises(Refused, match="at_capacity"):
        await office.execute(second.id, cmd.Accept(mechanic_id=ANA))

    await office.execute(first.id, ending)

    assert (await office.execute(second.id, cmd.Accept(mechanic_id=ANA))).mechanic_id == ANA
    assert await work_of(bench, ANA) == {second.id}


async def test_a_place_taken_in_vain_is_given_back(bench: Bench) -> None:
    office = Office(bench, policy=ONE)
    taken = await office.book(new_id())
    await office.execute(taken.id, cmd.Accept(mechanic_id=BEN))

    with pytest.raises(Refused, match="taken"):
        await office.execute(taken.id, cmd.Accept(mechanic_id=ANA))

    assert await work_of(bench, ANA) == set()
    assert await work_of(bench, BEN) == {taken.id}


async def test_the_winner_may_ask_again_with_no_place_left(bench: Bench) -> None:
    office = Office(bench, policy=ONE)
    session = await office.book()
    accepted = await office.execute(session.id, cmd.Accept(mechanic_id=ANA))

    assert await office.execute(session.id, cmd.Accept(mechanic_id=ANA)) == accepted
    assert await work_of(bench, ANA) == {session.id}


async def test_a_live_session_makes_its_mechanic_busy(office: Office, bench: Bench) -> None:
    await bench.presence.connect(ANA, "c1", "node", status=Status.AWAY, mechanic=True, limit=8)
    session = await office.book()
    await office.execute(session.id, cmd.Accept(mechanic_id=ANA))
    assert (await bench.presence.states([ANA]))[ANA].status is Status.AWAY
    await office.execute(session.id, cmd.Start(ANA))
    assert (await bench.presence.states([ANA]))[ANA].status is Status.BUSY
    await office.execute(session.id, cmd.End(ANA))
    assert (await bench.presence.states([ANA]))[ANA].status is Status.AWAY


async def test_a_debt_stays_where_it_could_not_be_paid(bench: Bench) -> None:
    failing = Office(bench, presence=FailingPresence(bench.client, bench.presence.shards))
    session = await failing.book()

    accepted = await failing.execute(session.id, cmd.Accept(mechanic_id=ANA))

    assert accepted.mechanic_id == ANA
    assert await debts(bench, session) == [f"work:{session.id}:{ANA}"]
    assert await work_of(bench, ANA) == set()
    await Office(bench).dispatcher.align_work(session.id, ANA)
    assert await work_of(bench, ANA) == {session.id}


async def test_what_was_paid_is_no_debt(office: Office, bench: Bench) -> None:
    session = await office.book()
    for command in (cmd.Accept(mechanic_id=ANA), cmd.Release(ANA), cmd.Accept(mechanic_id=BEN)):
        await office.execute(session.id, command)
        assert await debts(bench, session) == []


async def test_a_writer_who_was_overtaken_looks_again(office: Office, bench: Bench) -> None:
    """It read that the session is held, and writes so after it was released."""
    session = await office.book()
    await office.execute(session.id, cmd.Accept(mechanic_id=ANA))
    presence = PausingPresence(bench)
    slow = asyncio.create_task(Office(bench, presence=presence).dispatcher.align_work(session.id, ANA))
    async with asyncio.timeout(PATIENCE_S):
        await presence.reached.wait()
    await office.execute(session.id, cmd.Release(ANA))
    assert await work_of(bench, ANA) == set()

    presence.go_on.set()
    await slow

    assert await work_of(bench, ANA) == set()


async def test_writers_who_race_agree_in_the_end(office: Office, other_office: Office, bench: Bench) -> None:
    chance = random.Random(5)
    session = await office.book()
    turns = (cmd.Accept(mechanic_id=ANA), cmd.Release(ANA), cmd.Accept(mechanic_id=BEN), cmd.Release(BEN))

    async def lives() -> None:
        for _ in range(10):
            for command in turns:
                await office.execute(session.id, command)
        await office.execute(session.id, cmd.Accept(mechanic_id=ANA))
        await office.execute(session.id, cmd.Start(ANA))

    async def meddles() -> None:
        for _ in range(40):
            await other_office.dispatcher.align_work(session.id, chance.choice((ANA, BEN)))

    await asyncio.gather(lives(), *(meddles() for _ in range(6)))

    assert (await work_of(bench, ANA), await live_of(bench, ANA)) == ({session.id}, {session.id})
    assert (await work_of(bench, BEN), await live_of(bench, BEN)) == (set(), set())


async def test_a_session_that_vanished_is_nobodys_work(office: Office, bench: Bench) -> None:
    session = await office.book()
    await office.execute(session.id, cmd.Accept(mechanic_id=ANA))
    await bench.raw.delete(bench.key(session))

    await office.dispatcher.align_work(session.id, ANA)

    assert await work_of(bench, ANA) == set()


async def test_a_store_that_fails_while_giving_back_does_not_hide_the_refusal(bench: Bench) -> None:
    session = await Office(bench).book()
    await Office(bench).execute(session.id, cmd.Accept(mechanic_id=BEN))
    office = Office(bench, policy=ONE, presence=FailingPresence(bench.client, bench.presence.shards))

    with pytest.raises(HubError) as refused:
        await office.execute(session.id, cmd.Accept(mechanic_id=ANA))

    assert refused.value.code == "taken"
    member = f"work:{session.id}:{ANA}"
    assert await bench.raw.zscore(keys.deadlines(bench.presence.shard(ANA)), member) is not None
