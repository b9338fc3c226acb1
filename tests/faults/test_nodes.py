"""Nodes that die, freeze or live in another time: others go on, and nothing that was said is taken back."""

import asyncio
import signal
import uuid

from hub.client import HubHttp
from hub.identity import issue
from persistence.redis import scripts
from tests.faults.cluster import SECRET, Cluster, Node
from tests.faults.crowd import Size
from tests.faults.scene import first, scene
from tests.faults.trial import trial
from tests.patience import until

COMMIT = scripts.COMMIT.digest.encode()
RECORDED = b"COMMIT;"
CROWD = Size(mechanics=12, customers=12, bookings=3)


async def test_an_idle_node_is_killed(cluster: Cluster) -> None:
    last = cluster.nodes[2]
    await last.kill()
    async with trial(cluster, 11, Size(mechanics=6, customers=6, bookings=2)) as held:
        await held.under_way(3)
        await cluster.heal()


async def test_nodes_are_killed_in_traffic(cluster: Cluster) -> None:
    async with trial(cluster, 12, CROWD) as held:
        for nth, node in enumerate((cluster.nodes[0], cluster.nodes[1])):
            await held.under_way(8 + 10 * nth)
            await node.kill()
            await held.under_way(12 + 10 * nth)
            await cluster.heal()


async def test_a_node_freezes_for_longer_than_its_lease_and_thaws(cluster: Cluster) -> None:
    frozen = cluster.nodes[1]
    async with trial(cluster, 13, CROWD) as held:
        await held.under_way(8)
        frozen.signal(signal.SIGSTOP)
        await until(lambda: forgotten(cluster, frozen))
        frozen.signal(signal.SIGCONT)


async def forgotten(cluster: Cluster, node: Node) -> bool:
    """Its connections have been taken away by others."""
    names = [name async for name in cluster.redis.scan_iter("hub:node:*:conns")]
    return not any(f"-{node.pid}-" in name for name in names)


async def test_the_node_of_an_offer_is_killed(cluster: Cluster) -> None:
    doomed, other = cluster.nodes[0], cluster.nodes[1]
    async with scene(cluster) as people:
        ana, ben, mia = await people.mechanic(doomed), await people.mechanic(other), people.customer()
        session = await mia.prefer(ana.actor, priority_window_minutes=10)
        await ana.offer(session, "priority_session_request")
        await notified(cluster, session["id"])
        await doomed.kill()

        assert (await ben.offer(session))["fallback_reason"] == "mechanic_offline"
        assert await ben.actor.answer("accept", session["id"]) is not None
        await cluster.heal()


async def test_a_node_is_killed_between_commit_and_frame(cluster: Cluster) -> None:
    doomed, other = cluster.nodes[0], cluster.nodes[1]
    async with scene(cluster) as people:
        ana, ben, mia = await people.mechanic(doomed), await people.mechanic(other), people.customer()
        committed = doomed.redis.trap(COMMIT)
        booking = asyncio.create_task(mia.prefer(ana.actor, by=doomed))
        await committed.wait()
        await doomed.kill()

        session = await booking
        await ben.offer(session)
        assert not [event for event in ana.heard if event["event"] == "priority_session_request"]
        await cluster.heal()


async def test_a_node_is_killed_between_an_accept_and_its_acknowledgement(cluster: Cluster) -> None:
    doomed = cluster.nodes[2]
    async with scene(cluster) as people:
        ana, mia = await people.mechanic(doomed), people.customer()
        session = await mia.book()
        offered = await ana.offer(session)
        accepted = doomed.redis.trap(COMMIT)
        asking = asyncio.create_task(
            ana.socket.request("accept", assignment_id=offered["request"]["assignment"]["id"])
        )
        await accepted.wait()
        await doomed.kill()
        (lost,) = await asyncio.gather(asking, return_exceptions=True)
        assert isinstance(lost, Exception)

        again = await ana.actor.answer("accept", session["id"])
        assert again is not None
        assert again["session"]["mechanic_id"] == ana.actor.id
        await cluster.heal()


async def test_a_node_is_killed_while_it_sweeps(cluster: Cluster) -> None:
    """Whichever applies the deadline dies over it, before the commit; another applies it."""
    async with scene(cluster) as people:
        ana, ben, mia = (
            await people.mechanic(cluster.nodes[0]),
            await people.mechanic(cluster.nodes[1]),
            people.customer(),
        )
        session = await mia.prefer(ana.actor)
        await ana.offer(session, "priority_session_request")
        await notified(cluster, session["id"])
        traps = [node.redis.trap(COMMIT, pass_on=False) for node in cluster.nodes]
        doomed = cluster.nodes[await first(*(trap.wait() for trap in traps))]
        await doomed.kill()
        for node in cluster.nodes:
            await node.redis.heal()

        if doomed is cluster.nodes[1]:
            ben = await ben.actor.connect(cluster.nodes[2])
            await until(lambda: recorded(cluster, session["id"], "broadcast"))
        else:
            assert (await ben.offer(session))["fallback_reason"] == "priority_timeout"
        await cluster.heal()


async def test_a_node_is_killed_while_it_writes_the_journal(cluster: Cluster) -> None:
    """Before its transaction commits, and after: in both cases every row comes once."""
    for pass_on in (False, True):
        async with scene(cluster) as people:
            ana, mia = await people.mechanic(cluster.nodes[0]), people.customer()
            traps = [node.postgres.trap(RECORDED, pass_on=pass_on) for node in cluster.nodes]
            booking = asyncio.create_task(mia.book())
            doomed = cluster.nodes[await first(*(trap.wait() for trap in traps))]
            await doomed.kill()
            for node in cluster.nodes:
                await node.postgres.heal()

            session = await booking
            await until(lambda session=session: recorded(cluster, session["id"], "broadcast"))  # type: ignore[misc]  # bound now
            await cluster.heal()
            assert ana.actor.id


async def test_clocks_of_nodes_are_minutes_off(cluster: Cluster) -> None:
    for node, seconds in zip(cluster.nodes, ("300", "-300"), strict=False):
        await node.stop()
        node.start(launcher=("-m", "tests.faults.skewed", seconds))
    await cluster.ready()
    async with trial(cluster, 14, CROWD) as held:
        await held.under_way(20)
        for node in cluster.nodes:
            fresh = issue(SECRET, role="customer", user_id=str(uuid.uuid4()), ttl=60)
            assert await HubHttp(cluster.http, node.url, fresh).active_session()
    for node in cluster.nodes[:2]:
        await node.stop()


async def notified(cluster: Cluster, session_id: str) -> None:
    await until(lambda: recorded(cluster, session_id, "notified"))


async def recorded(cluster: Cluster, session_id: str, event: str) -> bool:
    query = "SELECT 1 FROM session_events WHERE session_id = $1 AND type = $2"
    return await cluster.postgres.fetchval(query, session_id, event) is not None
