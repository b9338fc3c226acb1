"""A dead node is buried when its lease has run out, not when somebody happens to look."""

import asyncio
from collections.abc import Awaitable, Callable

from hub.clock import StoreClock
from hub.domain.model import Status
from hub.loops.node_lease import NodeLease
from hub.loops.ranks import Ranks
from hub.ports import Clock
from persistence.redis import keys
from tests.dispatch.office import Office
from tests.dispatch.test_moving_targets import now, wish_for
from tests.domain.samples import ANA
from tests.loops.test_sweeper import ManualClock
from tests.patience import PATIENCE_S, until
from tests.redis.bench import SHARDS, Bench

LEASE_MS = 60_000
STAGGER_MS = 200


async def nothing() -> None:
    """There are no sockets, and nobody else hears."""


def lease_of(
    office: Office,
    now: int,
    node: str = "living",
    *,
    lease_ms: int = LEASE_MS,
    clock: Clock | None = None,
    greet: Callable[[], Awaitable[None]] = nothing,
) -> NodeLease:
    return NodeLease(
        node=node,
        facts={"host": "here"},
        dispatcher=office.dispatcher,
        ranks=Ranks(node, SHARDS),
        clock=clock or ManualClock(now),
        lease_ms=lease_ms,
        grace_ms=1_000,
        announce_all=nothing,
        greet=greet,
    )


async def test_the_next_look_is_when_the_first_lease_of_another_runs_out(
    bench: Bench, office: Office
) -> None:
    start = (await bench.presence.renew_lease("later", 9_000)).now
    due = (await bench.presence.renew_lease("soon", 5_000)).nodes["soon"] + 1

    pauses = [await lease_of(office, start, node).step() for node in ("living", "another")]

    assert all((pause - (due - start)) % STAGGER_MS == 0 for pause in pauses)
    assert all(0 <= pause - (due - start) <= 3 * STAGGER_MS for pause in pauses)
    assert await lease_of(office, due + 1_000).step() <= 1 + 3 * STAGGER_MS


async def test_whoever_is_alone_has_nobody_to_wait_for(bench: Bench, office: Office) -> None:
    assert await lease_of(office, await bench.now()).step() == LEASE_MS


async def test_a_node_whose_lease_ran_out_loses_its_connections_and_their_offers(
    bench: Bench, office: Office
) -> None:
    office.directory.add(ANA)
    for connection, node in (("tablet", "living"), ("phone", "dead")):
        await bench.presence.connect(ANA, connection, node, status=Status.ONLINE, mechanic=True, limit=8)
        await bench.next_ms()
    session = await office.book(asked=await wish_for(office.dispatcher, ANA))
    assert session.target_connection == "phone"
    await bench.presence.renew_lease("dead", 0)
    await bench.next_ms()

    await lease_of(office, await bench.now()).step()
    assert await bench.presence.connections_of("dead") == {"phone": ANA}, "judged before a lease has passed"

    judge = lease_of(office, await bench.now(), lease_ms=200)
    async with asyncio.timeout(PATIENCE_S):
        while await bench.presence.connections_of("dead"):
            await judge.step()
    assert set(await bench.raw.hgetall(keys.conns(bench.presence.shard(ANA), ANA))) == {"tablet"}
    assert (await now(bench, session)).target_connection == "tablet"
    assert await bench.raw.zscore(keys.NODES, "dead") is None


async def test_older_leases_bury_nobody_who_was_seen_to_live_since(bench: Bench, office: Office) -> None:
    """As after a restart of the store on an older file."""
    await bench.presence.connect(ANA, "phone", "other", status=Status.ONLINE, mechanic=True, limit=8)
    await bench.presence.renew_lease("other", LEASE_MS)
    start = await bench.now()
    judge = lease_of(office, start, lease_ms=200)
    await judge.step()
    await bench.raw.zadd(keys.NODES, {"other": start - 1})

    while await bench.now() < start + 600:
        await judge.step()

    assert await bench.presence.connections_of("other") == {"phone": ANA}
    assert "other" in judge.nodes


async def test_whoever_could_not_renew_is_not_taken_for_dead(bench: Bench, office: Office) -> None:
    """The store was away for longer than a lease: recovery has to wait for those who lived before."""
    judge = lease_of(office, await bench.now(), lease_ms=200, clock=StoreClock())
    expiry = (await bench.presence.renew_lease("other", 200)).nodes["other"]
    await judge.step()
    await until(lambda: later_than(bench, expiry + 200))

    await judge.step()
    assert judge.living() == {"living", "other"}
    assert await bench.raw.zscore(keys.NODES, "other") is not None

    async with asyncio.timeout(PATIENCE_S):
        while "other" in judge.living():
            await judge.step()
    assert await bench.now() >= expiry + 400
    assert await bench.raw.zscore(keys.NODES, "other") is None


async def test_an_outage_of_less_than_a_lease_buries_nobody_either(bench: Bench, office: Office) -> None:
    """The other's last beat was one earlier than this node's."""
    start = await bench.now()
    judge = lease_of(office, start, lease_ms=300)
    while await bench.now() < start + 400:
        await judge.step()
    expiry = (await bench.presence.renew_lease("other", 220)).nodes["other"]
    await judge.step()
    await until(lambda: later_than(bench, expiry))

    await judge.step()

    assert await bench.raw.zscore(keys.NODES, "other") is not None


async def test_whoever_was_just_started_has_judged_nobody(bench: Bench, office: Office) -> None:
    await bench.presence.renew_lease("other", 0)
    await bench.next_ms()
    newcomer = lease_of(office, await bench.now())
    await newcomer.step()
    assert newcomer.living() == {"living", "other"}


async def test_whoever_takes_a_lease_says_so(bench: Bench, office: Office) -> None:
    met: list[str] = []

    async def greet() -> None:
        assert await bench.raw.zscore(keys.NODES, "newcomer") is not None
        met.append("newcomer")

    newcomer = lease_of(office, await bench.now(), "newcomer", greet=greet)
    await newcomer.step()
    await newcomer.step()
    assert len(met) == 1

    await bench.raw.flushall()
    await newcomer.step()
    assert len(met) == 2


async def test_whoever_was_met_is_waited_for_until_they_can_be_judged(bench: Bench, office: Office) -> None:
    judge = lease_of(office, await bench.now(), lease_ms=200, clock=StoreClock())
    await judge.step()
    judge.met("newcomer")
    await bench.raw.flushall()
    assert judge.living() == {"living", "newcomer"}

    await judge.step()
    assert judge.living() == {"living", "newcomer"}
    async with asyncio.timeout(PATIENCE_S):
        while "newcomer" in judge.living():
            await judge.step()


async def later_than(bench: Bench, moment: int) -> bool:
    return await bench.now() > moment
