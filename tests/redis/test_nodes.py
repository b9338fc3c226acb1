"""Nodes: their leases, and the connections for which each answers."""

from persistence.redis import keys
from persistence.redis.presence import RedisPresence
from tests.domain.samples import ANA, BEN
from tests.redis.bench import SHARDS, Bench

LEASE_MS = 6_000


async def test_a_lease_runs_from_the_stores_now(bench: Bench) -> None:
    earliest = await bench.now()
    lease = await bench.presence.renew_lease("node-1", LEASE_MS)

    assert earliest <= lease.now <= await bench.now()
    assert not lease.held
    assert lease.nodes == {"node-1": lease.now + LEASE_MS}


async def test_a_renewal_finds_its_lease_and_those_of_others(bench: Bench) -> None:
    first = await bench.presence.renew_lease("node-1", LEASE_MS)
    second = await bench.presence.renew_lease("node-2", LEASE_MS)
    await bench.next_ms()

    again = await bench.presence.renew_lease("node-1", LEASE_MS)

    assert not second.held
    assert again.held
    assert again.now > first.now
    assert again.nodes == {"node-1": again.now + LEASE_MS, "node-2": second.now + LEASE_MS}


async def test_a_lease_that_ran_out_is_still_listed_until_the_node_is_forgotten(bench: Bench) -> None:
    dead = await bench.presence.renew_lease("dead", 0)
    await bench.next_ms()

    lease = await bench.presence.renew_lease("node-1", LEASE_MS)

    assert lease.nodes["dead"] == dead.now < lease.now


async def test_a_forgotten_node_leaves_nothing_behind(bench: Bench) -> None:
    at_start = set(await bench.raw.keys("*"))
    await bench.presence.renew_lease("node-1", LEASE_MS)
    await bench.presence.describe_node("node-1", {"host": "here", "pid": "7"})
    assert await bench.raw.hgetall(keys.node("node-1")) == {"host": "here", "pid": "7"}
    await bench.presence.connect(ANA, "c1", "node-1", status=None, mechanic=False, limit=8)
    await bench.presence.disconnect(ANA, "c1", "node-1", grace_ms=1)
    await bench.presence.connect(ANA, "c2", "node-1", status=None, mechanic=False, limit=8)

    await bench.presence.forget_node("node-1")

    assert await bench.presence.connections_of("node-1") == {}
    assert set(await bench.raw.keys("*")) - at_start == {keys.conns(bench.presence.shard(ANA), ANA)}
    assert not (await bench.presence.renew_lease("node-1", LEASE_MS)).held


async def test_a_node_answers_for_its_own_connections_only(bench: Bench) -> None:
    await bench.presence.connect(ANA, "c1", "node-1", status=None, mechanic=False, limit=8)
    await bench.presence.connect(BEN, "c2", "node-1", status=None, mechanic=False, limit=8)
    await bench.presence.connect(ANA, "c3", "node-2", status=None, mechanic=False, limit=8)

    assert await bench.presence.connections_of("node-1") == {"c1": ANA, "c2": BEN}
    assert await bench.presence.connections_of("node-2") == {"c3": ANA}
    assert await bench.presence.connections_of("node-3") == {}


async def test_the_number_of_shards_is_whose_who_came_first(bench: Bench) -> None:
    assert await bench.presence.agree_on_shards() == SHARDS
    assert await RedisPresence(bench.client, 16).agree_on_shards() == SHARDS
