"""Redis loses what somebody remembers: a node, the record, or neither yet."""

import signal
from pathlib import Path

from tests.faults.cluster import Cluster, open_cluster
from tests.faults.crowd import Size
from tests.faults.evidence import assignment_of
from tests.faults.scene import scene
from tests.faults.trial import trial
from tests.patience import until

CROWD = Size(mechanics=12, customers=12, bookings=3)

SLOW_BEATS = {"HUB_NODE_LEASE_SECONDS": "30"}

_TURN = "select exists (select from pg_locks where locktype = 'advisory' and granted)"


async def test_only_the_nodes_remember_what_the_record_does_not_have_yet(cluster: Cluster) -> None:
    """First of all, since after a loss bookings ask the record whether they are repeated."""
    async with scene(cluster) as people:
        (ana,), mia = await people.mechanics(1), people.customer()
        await people.customer().book()
        for node in cluster.nodes:
            node.postgres.blackhole()
        session = await mia.book()
        await ana.offer(session)
        assert await ana.actor.answer("accept", session["id"])
        await cluster.redis.flushall()
        for node in cluster.nodes:
            await node.postgres.heal()

        mine = await mia.persist(lambda hub: hub.active_session())
        assert mine["session"]["id"] == session["id"]
        assert mine["session"]["mechanic_id"] == ana.actor.id


async def test_who_came_since_the_last_beat_of_the_others_is_waited_for(tmp_path: Path) -> None:
    async with open_cluster(tmp_path, nodes=0) as cluster:
        old = await cluster.add_node(**SLOW_BEATS)
        await cluster.ready()
        new = await cluster.add_node(**SLOW_BEATS)
        await cluster.ready()
        async with scene(cluster) as people:
            ana, mia = await people.mechanic(new), people.customer()
            await people.customer().book()
            for node in cluster.nodes:
                node.postgres.blackhole()
            session = await mia.book(by=new)
            await ana.offer(session)
            assert await ana.actor.act(
                "accept",
                session["id"],
                lambda _: ana.actor.hub_at(new).answer("accept", assignment_of(session["id"])),
            )
            await cluster.redis.flushall()
            await old.postgres.heal()
            await until(lambda: cluster.postgres.fetchval(_TURN))
            await new.postgres.heal()

            mine = await mia.persist(lambda hub: hub.active_session())
            assert mine["session"]["id"] == session["id"]
            assert mine["session"]["mechanic_id"] == ana.actor.id


async def test_a_node_sleeps_through_the_loss_and_wakes(cluster: Cluster) -> None:
    async with trial(cluster, 32, CROWD) as held:
        await held.under_way(6)
        sleeper, *others = cluster.nodes
        sleeper.signal(signal.SIGSTOP)
        try:
            await cluster.recorded()  # what only a sleeper knows, others may go on without
            await cluster.redis.flushall()
            await cluster.recovered()
            await cluster.ready(*others)
        finally:
            sleeper.signal(signal.SIGCONT)


async def test_a_node_dies_just_before_everything_is_forgotten(cluster: Cluster) -> None:
    """What it answered is on record, or in the journal of those who live; only both at once are too much."""
    async with trial(cluster, 33, CROWD) as held:
        await held.under_way(6)
        await cluster.nodes[1].kill()
        await cluster.recorded()
        await cluster.redis.flushall()
        await cluster.recovered()
        cluster.nodes[1].start()
