"""The sweeper: applies each deadline once, whoever sweeps, and lets none hold up another."""

import asyncio
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.decision import Decision
from hub.domain.errors import StoreFailed
from hub.domain.model import AssignmentStatus, EventType, Fallback, Session, SessionStatus, Status
from hub.domain.records import Due, Outcome, Snapshot
from hub.loops.ranks import Ranks
from hub.loops.sweeper import CAP_MS, Sweeper
from persistence.redis import keys
from persistence.redis.sessions import RedisSessions
from tests.dispatch.office import Office, history
from tests.dispatch.test_moving_targets import arrive, wish_for
from tests.domain.samples import ANA, CUSTOMERS
from tests.patience import PATIENCE_S
from tests.redis.bench import SHARDS, Bench


class ManualClock:
    def __init__(self, ms: int) -> None:
        self.ms = ms

    def now(self) -> int:
        return self.ms

    def learn(self, store_ms: int) -> None:
        """Stays where the test put it."""


async def sweeper(office: Office, node: str = "n1", nodes: tuple[str, ...] = ("n1",)) -> Sweeper:
    """One whose next look is now."""
    ranks = Ranks(node, SHARDS)
    ranks.update(nodes)
    clock = ManualClock(await office.bench.now() + 10 * CAP_MS)
    return Sweeper(dispatcher=office.dispatcher, ranks=ranks, clock=clock)


async def offered(office: Office, window_ms: int = 1) -> Session:
    office.directory.add(ANA)
    await arrive(office.bench, ANA, "phone")
    asked = replace(await wish_for(office.dispatcher, ANA), window_ms=window_ms)
    session = await office.book(asked=asked)
    await office.bench.next_ms()
    await office.bench.next_ms()
    return session


async def test_a_window_that_is_over_becomes_a_broadcast_once(bench: Bench, office: Office) -> None:
    session = await offered(office)
    sweepers = [await sweeper(office), await sweeper(office)]

    await asyncio.gather(*(each.step() for each in sweepers))

    (now,) = await bench.sessions.get([session.id])
    assert now is not None
    assert now.assignment_status is AssignmentStatus.OPEN
    assert now.fallback_reason is Fallback.PRIORITY_TIMEOUT
    assert (await history(bench, session)).count(EventType.BROADCAST) == 1
    left = await bench.raw.zrange(keys.deadlines(bench.shard(session)), 0, -1)
    assert left == [f"orphan:{session.id}"]


async def test_nothing_is_early(bench: Bench, office: Office) -> None:
    session = await offered(office, window_ms=60_000)
    await (await sweeper(office)).step()
    assert await bench.sessions.get([session.id]) == [session]


async def test_orphans_expire(bench: Bench, office: Office) -> None:
    session = await office.book()
    await bench.raw.zadd(keys.deadlines(bench.shard(session)), {f"orphan:{session.id}": 1})
    await bench.raw.hset(bench.key(session), "orphan_at", "1")

    await (await sweeper(office)).step()

    (now,) = await bench.sessions.get([session.id])
    assert now is not None
    assert now.status is SessionStatus.EXPIRED
    assert await bench.raw.zcard(keys.deadlines(bench.shard(session))) == 0


async def test_a_deadline_that_was_moved_is_not_applied(bench: Bench, office: Office) -> None:
    """The member says that it is due, the session knows better."""
    session = await office.book()
    member = f"orphan:{session.id}"
    await bench.raw.zadd(keys.deadlines(bench.shard(session)), {member: 1})

    await (await sweeper(office)).step()

    assert await bench.sessions.get([session.id]) == [session]
    assert await bench.raw.zscore(keys.deadlines(bench.shard(session)), member) == session.orphan_at


async def test_a_grace_that_is_over_moves_the_offer_on(bench: Bench, office: Office) -> None:
    session = await offered(office, window_ms=60_000)
    await bench.presence.disconnect(ANA, "phone", "node", grace_ms=0)
    await bench.next_ms()

    await (await sweeper(office)).step()

    (now,) = await bench.sessions.get([session.id])
    assert now is not None
    assert now.fallback_reason is Fallback.MECHANIC_OFFLINE
    assert (await bench.presence.states([ANA]))[ANA].status is Status.OFFLINE
    assert await bench.raw.zscore(keys.deadlines(bench.presence.shard(ANA)), f"grace:{ANA}") is None


async def test_members_that_mean_nothing_are_cleared_away(bench: Bench, office: Office) -> None:
    await bench.raw.zadd(keys.deadlines(0), {"dance:now": 1, "offer:" + "0" * 36: 1})
    await (await sweeper(office)).step()
    assert await bench.raw.zcard(keys.deadlines(0)) == 0


class Poisoned(RedisSessions):
    """Nothing about one session can be committed, for a reason of the test's choice."""

    victim = ""
    reason: Exception = RuntimeError("cannot be committed")

    async def commit(self, snapshot: Snapshot, decision: Decision, **how: Any) -> tuple[Outcome, str]:
        if decision.session.id == self.victim:
            raise self.reason
        return await super().commit(snapshot, decision, **how)


async def two_orphans(bench: Bench, office: Office) -> tuple[Session, Session]:
    sessions = [await office.book(customer_id) for customer_id in CUSTOMERS]
    for session in sessions:
        await bench.raw.zadd(keys.deadlines(bench.shard(session)), {f"orphan:{session.id}": 1})
        await bench.raw.hset(bench.key(session), "orphan_at", "1")
    first, second = sorted(sessions, key=bench.shard)
    return first, second


async def test_what_has_changed_since_it_was_listed_is_looked_at_again(bench: Bench) -> None:
    class Meanwhile(RedisSessions):
        async def due(self, shard: int, limit: int) -> Due:
            due = await super().due(shard, limit)
            for snapshot in due.known.values():
                assert snapshot.session is not None
                await Office(bench).execute(snapshot.session.id, cmd.Cancel(snapshot.session.customer_id))
            return due

    office = Office(bench, sessions=Meanwhile(bench.client, SHARDS))
    sessions = await two_orphans(bench, office)

    await (await sweeper(office)).step()

    for session in await bench.sessions.get([each.id for each in sessions]):
        assert session is not None
        assert session.status is SessionStatus.CANCELLED
        assert await bench.raw.zcard(keys.deadlines(bench.shard(session))) == 0


async def test_one_that_fails_is_put_off_with_an_alarm_and_holds_up_nobody(bench: Bench) -> None:
    sessions = Poisoned(bench.client, SHARDS)
    office = Office(bench, sessions=sessions)
    first, second = await two_orphans(bench, office)
    sessions.victim = first.id
    alarms: list[str] = []
    ranks = Ranks("n1", SHARDS)
    clock = ManualClock(await bench.now() + 10 * CAP_MS)
    sweeping = Sweeper(dispatcher=office.dispatcher, ranks=ranks, clock=clock, alarm=alarms.append)

    await sweeping.step()

    (left,) = await bench.sessions.get([second.id])
    assert left is not None
    assert left.status is SessionStatus.EXPIRED
    assert alarms == ["deadline_failed"]
    put_off = await bench.raw.zscore(keys.deadlines(bench.shard(first)), f"orphan:{first.id}")
    assert put_off > await bench.now()


async def test_a_store_that_is_away_for_one_is_not_away_for_all(bench: Bench) -> None:
    sessions = Poisoned(bench.client, SHARDS)
    office = Office(bench, sessions=sessions)
    first, second = await two_orphans(bench, office)
    sessions.victim, sessions.reason = first.id, StoreFailed("away", maybe_done=False)
    sweeping = await sweeper(office)

    try:
        await sweeping.step()
    except StoreFailed:
        (left,) = await bench.sessions.get([second.id])
        assert left is not None
        assert left.status is SessionStatus.EXPIRED
    else:
        raise AssertionError("the failure must be known")
    sessions.victim = ""
    await sweeping.step()
    (mended,) = await bench.sessions.get([first.id])
    assert mended is not None
    assert mended.status is SessionStatus.EXPIRED


def test_every_shard_has_one_first_node_and_all_agree() -> None:
    nodes = ("n1", "n2", "n3")
    everyone = {node: Ranks(node, 64) for node in nodes}
    for ranks in everyone.values():
        ranks.update(nodes)
    for shard in range(64):
        assert sorted(ranks.of(shard) for ranks in everyone.values()) == [0, 1, 2]
    assert all(len(ranks.first()) > 5 for ranks in everyone.values())


def test_when_the_first_node_dies_the_next_moves_up() -> None:
    left = Ranks("n2", 64)
    left.update(["n1", "n2"])
    before = set(left.first())
    left.update(["n2"])
    assert before < set(left.first()) == set(range(64))


async def test_nothing_is_applied_while_lost_data_is_being_restored(bench: Bench) -> None:
    """It would only be in the way."""
    looked = asyncio.Event()

    class Watched(RedisSessions):
        async def heads(self, shards: Iterable[int]) -> list[int | None]:
            looked.set()
            return await super().heads(shards)

    office = Office(bench, sessions=Watched(bench.client, SHARDS))
    office.gate.shut()
    sweeping = asyncio.create_task((await sweeper(office)).run())
    await bench.next_ms()
    assert not looked.is_set()
    office.gate.open()
    async with asyncio.timeout(PATIENCE_S):
        await looked.wait()
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)
