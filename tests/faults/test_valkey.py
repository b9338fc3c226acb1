"""Valkey that dies, forgets, remembers too little, stalls or refuses: nobody is stuck and nothing that was
answered is lost."""

import asyncio
import os
import signal

from msgspec.structs import replace

from hub.client import HubSocket
from persistence.redis import scripts
from tests.faults.cluster import LEASE_S, Cluster
from tests.faults.crowd import GONE, Size
from tests.faults.scene import scene
from tests.faults.trial import trial
from tests.patience import until

COMMIT = scripts.COMMIT.digest.encode()
CROWD = Size(mechanics=12, customers=12, bookings=3)


async def test_it_is_killed_in_traffic_and_restarted_on_its_file(cluster: Cluster) -> None:
    async with trial(cluster, 21, CROWD) as held:
        for bookings in (6, 16):
            await held.under_way(bookings)
            await cluster.kill_valkey()
            await cluster.revive_valkey()


async def test_it_is_flushed_in_traffic(cluster: Cluster) -> None:
    async with trial(cluster, 22, CROWD) as held:
        for bookings in (6, 16, 26):
            await held.under_way(bookings)
            await cluster.redis.flushall()


async def test_it_is_flushed_right_after_an_acknowledgement(cluster: Cluster) -> None:
    async with scene(cluster) as people:
        ana, ben = await people.mechanics(2)
        mia, zoe = people.customer(), people.customer()
        offered = await mia.prefer(ana.actor, priority_window_minutes=10)
        await ana.event("priority_session_request")
        session = await zoe.book()
        await ben.offer(session)
        assert await ben.actor.answer("accept", session["id"])
        await cluster.redis.flushall()
        mine = await zoe.persist(lambda hub: hub.active_session())
        assert mine["session"]["id"] == session["id"]
        assert await ana.actor.answer("accept", offered["id"])


async def test_it_comes_back_with_an_older_file(cluster: Cluster) -> None:
    """What was decided since stands: it is on record, or remembered by the nodes."""
    async with trial(cluster, 23, CROWD) as held:
        await held.under_way(4)
        older = cluster.keep_valkey_file()
        await held.under_way(16)
        await cluster.kill_valkey()
        cluster.bring_back(older)
        await cluster.revive_valkey()


async def test_an_older_file_gives_nobody_what_another_has(cluster: Cluster) -> None:
    async with scene(cluster) as people:
        ana, ben = await people.mechanics(2)
        mia, zoe = people.customer(), people.customer()
        contested, ended = await mia.book(), await zoe.book()
        await ana.offer(contested)
        older = cluster.keep_valkey_file()
        assert await ana.actor.answer("accept", contested["id"])
        assert await zoe.end(ended["id"])
        await cluster.kill_valkey()
        cluster.bring_back(older)
        await cluster.revive_valkey()

        assert await ben.actor.answer("accept", contested["id"]) is None
        assert await ben.actor.answer("accept", ended["id"]) is None
        refusals = [o.code for o in people.history.operations if o.outcome == "refused"]
        assert refusals == ["taken", "cancelled"]
        again = await zoe.book("again")
        await ben.offer(again)


async def test_after_an_outage_longer_than_a_lease_all_are_asked_what_they_remember(
    cluster: Cluster,
) -> None:
    """Nobody could renew a lease; the one who knows of the accept is the last to come."""
    here, *others = cluster.nodes
    async with scene(cluster) as people:
        ana, ben = [ear.actor for ear in await people.mechanics(2, here)]
        ana.network = replace(ana.network, urls=[here.url])
        ben.network = replace(ben.network, urls=[node.url for node in others])
        session = await people.customer().book()
        await cluster.recorded()
        older = cluster.keep_valkey_file()
        await cluster.set_read_only(True)
        assert await ana.answer("accept", session["id"])
        here.postgres.blackhole()
        await cluster.kill_valkey()
        cluster.bring_back(older)
        await cluster.set_read_only(False)
        await asyncio.sleep(2 * LEASE_S)
        await cluster.revive_valkey()
        bens = asyncio.create_task(ben.answer("accept", session["id"]))
        await asyncio.sleep(LEASE_S)
        await here.postgres.heal()
        assert await bens is None


async def test_what_was_decided_before_a_flush_is_not_committed_after_it(cluster: Cluster) -> None:
    """A booking's commit is held up while the same customer books elsewhere; the flush forgets her claim, and
    nobody else is there to restore it before the commit comes."""
    async with scene(cluster) as people:
        mia = people.customer()
        here, there = cluster.nodes[0], cluster.nodes[1]
        committing = here.redis.trap(COMMIT, pass_on=False)
        held_up = asyncio.create_task(mia.hub_at(here).book(key="held up", plan_code="free"))
        await committing.wait()
        mia.network = replace(mia.network, urls=[there.url])
        await mia.book()
        for node in cluster.nodes[1:]:
            node.signal(signal.SIGSTOP)
        await cluster.redis.flushall()
        await here.redis.heal()
        (failure,) = await asyncio.gather(held_up, return_exceptions=True)
        await cluster.heal()

        async def is_remembered() -> bool:
            return (await mia.persist(lambda hub: hub.active_session()))["session"] is not None

        await until(is_remembered)
    assert isinstance(failure, GONE)


async def test_it_is_away_for_longer_than_a_lease_and_nobody_goes_offline_for_it(cluster: Cluster) -> None:
    async with scene(cluster) as people:
        ears, mia = await people.mechanics(6), people.customer()
        watcher = await mia.connect(cluster.nodes[0])
        await watcher.socket.request("watch", mechanic_ids=[ear.actor.id for ear in ears])
        for node in cluster.nodes:
            await node.redis.refuse()
        await asyncio.sleep(LEASE_S * 2)
        await cluster.heal()

        session = await mia.book()
        await asyncio.gather(*(ear.offer(session) for ear in ears))
        await watcher.quiet()
        updates = [event["payload"] for event in watcher.heard if event["event"] == "presence_update"]
        assert [update for update in updates if not update["is_online"]] == []


async def test_its_scripts_are_forgotten(cluster: Cluster) -> None:
    async with trial(cluster, 24, CROWD) as held:
        for bookings in (4, 12, 20, 28):
            await held.under_way(bookings)
            await cluster.redis.script_flush()


async def test_it_has_no_memory_left(cluster: Cluster) -> None:
    async with trial(cluster, 25, CROWD) as held:
        await held.under_way(6)
        await cluster.redis.config_set("maxmemory", 1)
        await asyncio.sleep(LEASE_S)
        await cluster.redis.config_set("maxmemory", 0)


async def test_what_it_refuses_is_refused_whole(cluster: Cluster) -> None:
    async with scene(cluster) as people:
        ana, mia = (await people.mechanics(1))[0], people.customer()
        await cluster.redis.config_set("maxmemory", 1)
        try:
            refusal = await cluster.http.post(
                f"{cluster.nodes[0].url}/api/intake/start",
                json={"plan_code": "free"},
                headers={"Authorization": f"Bearer {mia.token}"},
            )
        finally:
            await cluster.redis.config_set("maxmemory", 0)
        assert (refusal.status_code, refusal.json()["code"]) == (503, "unavailable")
        assert int(refusal.headers["retry-after"]) >= 1
        assert (await mia.persist(lambda hub: hub.active_session()))["session"] is None
        await ana.offer(await mia.book())


async def test_lines_to_it_are_cut(cluster: Cluster) -> None:
    async with trial(cluster, 26, CROWD) as held:
        for bookings in range(2, 32, 2):
            await held.under_way(bookings)
            cluster.nodes[bookings // 2 % 3].redis.cut()


async def test_its_answers_are_lost(cluster: Cluster) -> None:
    """Half-open lines: what is asked arrives and happens, and nobody hears of it for longer than a lease."""
    async with trial(cluster, 27, CROWD) as held:
        await held.under_way(6)
        cluster.nodes[0].redis.half_open()
        await held.under_way(12)
        await cluster.nodes[0].redis.heal()


async def test_it_is_far_away(cluster: Cluster) -> None:
    async with trial(cluster, 28, Size(mechanics=6, customers=6, bookings=2)) as held:
        await held.under_way(2)
        for node in cluster.nodes:
            node.redis.delay(0.1)
        await held.under_way(9)
        await cluster.heal()


async def test_it_is_slow_and_sockets_live_on(cluster: Cluster) -> None:
    """Nobody's pongs wait behind a command that waits for the store, for longer than a ping may take."""
    async with scene(cluster) as people:
        ears = await people.mechanics(3)
        for node in cluster.nodes:
            node.redis.delay(0.4)
        asking = [asyncio.create_task(ear.socket.request("heartbeat")) for ear in ears for _ in range(6)]
        await asyncio.sleep(5)
        await asyncio.gather(*asking)
        await cluster.heal()
        for ear in ears:
            await ear.quiet()


async def test_it_is_suspended_and_what_was_refused_meanwhile_does_not_happen_after_all(
    cluster: Cluster,
) -> None:
    async with trial(cluster, 29, CROWD) as held:
        await held.under_way(6)
        os.kill(cluster.valkey.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(4.5)
        finally:
            os.kill(cluster.valkey.pid, signal.SIGCONT)


async def test_hints_are_lost(cluster: Cluster) -> None:
    """For a while nobody hears anything on the bus; then what is open is told to whom it concerns."""
    async with scene(cluster) as people:
        ears, mia = await people.mechanics(3), people.customer()
        for node in cluster.nodes:
            node.redis.deafen()
        session = await mia.book()
        assert not [event for ear in ears for event in ear.heard if event["event"] == "new_assignment"]
        again = await HubSocket.connect(cluster.nodes[0].url, ears[0].actor.token)
        assert [item["session"]["id"] for item in again.welcome["assignments"]] == [session["id"]]
        await again.close()
        await cluster.heal()
        await asyncio.gather(*(ear.offer(session) for ear in ears))
