"""Measures the bounds of presence and deadlines with default settings, and holds them against the promise:

python -m tests.faults.measure_bounds
"""

import asyncio
import signal
import sys
import tempfile
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median

from hub.domain.ids import shard_of_user
from hub.loops.ranks import Ranks
from hub.settings import Settings
from persistence.redis import keys
from tests.e2e.world import Person, Socket, World
from tests.faults.cluster import SETTINGS, Cluster, Node, open_cluster
from tests.faults.test_drain import world_of
from tests.patience import until
from tests.proxy import Proxy

DEFAULTS = Settings()
WINDOW_S = 6
AS_USUAL = {
    name: str(getattr(DEFAULTS, name.removeprefix("HUB_").lower()))
    for name in SETTINGS
    if name not in ("HUB_JWT_SECRET", "HUB_LOG_FORMAT", "HUB_MESSAGES_PER_SECOND")
} | {"HUB_PRIORITY_WINDOW_SECONDS": str(WINDOW_S)}
NODES = 3
GHOSTS = 200
HALF_OPEN = 20
OFFERS = 20


async def main() -> int:
    rows: list[tuple[str, list[float], float]] = []
    with tempfile.TemporaryDirectory() as directory:
        async with open_cluster(Path(directory), nodes=0) as cluster:
            for _ in range(NODES):
                await cluster.add_node(**AS_USUAL)
            await cluster.ready()
            world = world_of(cluster)
            bound = DEFAULTS.node_lease_seconds + 1
            rows.append(
                (f"{GHOSTS} ghosts of a killed node are gone, s", await ghosts(world, cluster), bound)
            )
            rows.append(("a half-open socket is closed, s", await half_open(world, cluster), 16.0))
            late = await deadlines(world, cluster, dead=1)
            rows.append(("a deadline fires after its first node's death, ms late", late, 100.0))
            late = await deadlines(world, cluster, dead=2)
            rows.append(("a deadline fires after its first two nodes' death, ms late", late, 150.0))
    print(f"{'':58}{'median':>8}{'worst':>8}{'promised':>10}")
    for what, found, promised in rows:
        print(f"{what:58}{median(found):>8.1f}{max(found):>8.1f}{promised:>10.1f}")
    return 0 if all(median(found) <= promised for _, found, promised in rows) else 1


async def ghosts(world: World, cluster: Cluster) -> list[float]:
    """Killed right after a heartbeat, when others have the longest to wait."""
    found = []
    for node in cluster.nodes:
        index = cluster.nodes.index(node)
        mechanics = [await world.mechanic() for _ in range(GHOSTS)]
        sockets = [await mechanic.online(node=index) for mechanic in mechanics]
        name = await name_of(cluster, node)
        await steady(cluster)
        before = await cluster.redis.zscore("hub:nodes", name)
        await until(partial(renewed, cluster, name, before))
        node.signal(signal.SIGKILL)
        start = time.perf_counter()
        await until(partial(unseen, cluster, mechanics))
        found.append(time.perf_counter() - start)
        await hang_up(sockets)
        await restart(cluster, node)
    return found


async def half_open(world: World, cluster: Cluster) -> list[float]:
    """Sockets at every point of their ping interval lose what the hub says to them."""
    proxy = await Proxy.start(cluster.nodes[0].port)
    straight, cluster.nodes[0].url = cluster.nodes[0].url, f"http://127.0.0.1:{proxy.port}"
    people = [world.customer() for _ in range(HALF_OPEN)]
    sockets = []
    for person in people:
        sockets.append(await person.online())
        await asyncio.sleep(DEFAULTS.ping_interval_seconds / HALF_OPEN)
    proxy.half_open()
    start = time.perf_counter()
    found = await asyncio.gather(*(gone(cluster, person, start) for person in people))
    cluster.nodes[0].url = straight
    await hang_up(sockets)
    await proxy.close()
    return list(found)


async def deadlines(world: World, cluster: Cluster, dead: int) -> list[float]:
    """Offers in shards whose first nodes are killed while the offers stand."""
    await steady(cluster)
    victims, last = cluster.nodes[:dead], len(cluster.nodes) - 1
    shards = await first_of(cluster, victims)
    favorite, other = await world.mechanic(), await world.mechanic()
    sockets = [await favorite.online(node=last), await other.online(node=last)]
    due: dict[str, float] = {}
    while len(due) < OFFERS:
        customer = world.customer()
        if shard_of_user(customer.id, DEFAULTS.shards) in shards:
            assignment = (await customer.book(favorite, node=last))["assignment"]
            due[assignment["id"]] = datetime.fromisoformat(assignment["expires_at"]).timestamp()
    # So late that nobody has noticed when the first deadline comes.
    await asyncio.sleep(min(due.values()) - 1 - time.time())
    for victim in victims:
        victim.signal(signal.SIGKILL)
    found = []
    for nth in range(1, OFFERS + 1):
        told = await sockets[1].event("new_assignment", nth)
        found.append(1_000 * (time.time() - due[told["request"]["assignment"]["id"]]))
    await hang_up(sockets)
    for victim in victims:
        await restart(cluster, victim)
    return found


async def first_of(cluster: Cluster, victims: list[Node]) -> list[int]:
    """Shards at which these nodes come before all others."""
    names = [await name_of(cluster, node) for node in cluster.nodes]
    orders = [Ranks(name, DEFAULTS.shards) for name in names]
    for order in orders:
        order.update(names)
    survivors = orders[len(victims) :]
    return [s for s in range(DEFAULTS.shards) if min(order.of(s) for order in survivors) == len(victims)]


async def name_of(cluster: Cluster, node: Node) -> str:
    names = [str(name) for name in await cluster.redis.zrange("hub:nodes", 0, -1)]
    return next(name for name in names if f"-{node.pid}-" in name)


async def steady(cluster: Cluster) -> None:
    """Every node has renewed for a whole lease, and knows the others."""
    await asyncio.sleep(1.5 * DEFAULTS.node_lease_seconds)
    assert await cluster.redis.zcard("hub:nodes") == len(cluster.nodes)


async def renewed(cluster: Cluster, name: str, before: float | None) -> bool:
    return await cluster.redis.zscore("hub:nodes", name) != before


async def unseen(cluster: Cluster, people: list[Person]) -> bool:
    """None of them has a connection."""
    places = [keys.conns(shard_of_user(person.id, DEFAULTS.shards), person.id) for person in people]
    return await cluster.redis.exists(*places) == 0


async def gone(cluster: Cluster, person: Person, start: float) -> float:
    """Seconds until the person has no connection."""
    await until(partial(unseen, cluster, [person]))
    return time.perf_counter() - start


async def restart(cluster: Cluster, node: Node) -> None:
    await node.ended()
    node.start(**AS_USUAL)
    await cluster.ready(node)


async def hang_up(sockets: list[Socket]) -> None:
    for socket in sockets:
        socket.abort()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
