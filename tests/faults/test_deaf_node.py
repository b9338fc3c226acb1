"""A node whose bus connections look well and say nothing: it says that it is deaf, and its sockets learn late
rather than never."""

import re

from tests.faults.cluster import Cluster, Node
from tests.faults.test_drain import world_of
from tests.patience import until

_ALARMS = re.compile(r'hub_alarms_total\{what="deaf"\} (\d+)')


async def test_a_deaf_node_is_not_ready_and_its_sockets_miss_nothing(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    world = world_of(cluster)
    ana = await world.mechanic()
    at_ana = await ana.online(node=0)

    node.redis.deafen()
    booked = await world.customer().book(node=1)

    heard = await at_ana.event("new_assignment")
    assert heard["request"]["assignment"]["id"] == booked["assignment"]["id"]
    assert node.redis.lost > 0
    await until(lambda: _is_deaf(cluster, node))
    assert await _alarms(cluster, node) == 1
    await until(lambda: _subscribed(cluster))
    readings = [await _readiness(cluster, node) for _ in range(20)]
    assert readings == [(503, ["deaf"])] * len(readings)

    await node.redis.heal()
    await cluster.ready(node)
    await world.customer().book(node=1)
    await at_ana.event("new_assignment", 2)
    await world.clear()


async def _is_deaf(cluster: Cluster, node: Node) -> bool:
    """For longer than it takes to subscribe: an alarm was raised."""
    return await _readiness(cluster, node) == (503, ["deaf"]) and await _alarms(cluster, node) > 0


async def _subscribed(cluster: Cluster) -> bool:
    """Every node is, as far as Redis knows."""
    subscribers = (await cluster.redis.pubsub_shardnumsub("hub:{0}:bus"))[0][1]
    return bool(subscribers == len(cluster.nodes))


async def _readiness(cluster: Cluster, node: Node) -> tuple[int, list[str]]:
    answer = await cluster.http.get(f"{node.url}/readyz")
    return answer.status_code, answer.json()["because"]


async def _alarms(cluster: Cluster, node: Node) -> int:
    found = _ALARMS.search((await cluster.http.get(f"{node.url}/metrics")).text)
    return int(float(found[1])) if found else 0
