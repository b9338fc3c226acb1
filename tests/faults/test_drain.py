"""A node that is told to stop: sends its sockets away, finishes what it began, says goodbye, exits with 0."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import cast

import httpx
import psutil
import pytest
import pytest_asyncio
from websockets.exceptions import InvalidStatus

from tests.e2e.world import PATIENCE_S, Hub, Socket, World
from tests.faults.cluster import Cluster, Node, open_cluster
from tests.faults.test_nodes import COMMIT
from tests.patience import until
from tests.security.bare import TEXT, Wire, frame

LONG = {"HUB_DRAIN_SECONDS": "60"}


def world_of(cluster: Cluster) -> World:
    hub = cast(Hub, cluster)  # a world asks it for nothing but its addresses
    return World(hub, cluster.http, cluster.postgres, cluster.redis)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def one_node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with open_cluster(tmp_path_factory.mktemp("drain"), nodes=1) as cluster:
        yield cluster
        assert not cluster.complaints()


@pytest_asyncio.fixture
async def world(one_node: Cluster) -> AsyncIterator[World]:
    """A node as usual, whatever the last test made of it."""
    (node,) = one_node.nodes
    await one_node.ready()
    world = world_of(one_node)
    yield world
    await node.redis.heal()
    await node.postgres.heal()
    await restart(one_node, node)
    await world.clear()


async def restart(cluster: Cluster, node: Node, **settings: str) -> None:
    await node.stop()
    node.start(**settings)
    await cluster.ready(node)


async def ended_well(cluster: Cluster, node: Node) -> None:
    """Exited with 0, and left nothing that others must clear away."""
    async with asyncio.timeout(PATIENCE_S):
        assert await node.ended() == 0
    assert await cluster.redis.zcard("hub:nodes") == 0
    assert [name async for name in cluster.redis.scan_iter("hub:node:*")] == []


async def obstacles(cluster: Cluster, node: Node) -> list[str]:
    answer = await cluster.http.get(f"{node.url}/readyz")
    assert answer.status_code == 503
    found: list[str] = answer.json()["because"]
    return found


async def test_readiness_fails_upgrades_are_refused_and_sockets_go_in_batches(
    one_node: Cluster, world: World
) -> None:
    (node,) = one_node.nodes
    mechanics = [await world.mechanic() for _ in range(75)]
    sockets = [await mechanic.online() for mechanic in mechanics]
    loop = asyncio.get_running_loop()

    async def asked(socket: Socket) -> float:
        assert (await socket.other("going_away"))["reconnect_ms"] >= 1_000
        return loop.time()

    listening = [asyncio.create_task(asked(socket)) for socket in sockets]
    node.signal(signal.SIGTERM)
    await asyncio.wait(listening, return_when=asyncio.FIRST_COMPLETED)

    assert await obstacles(one_node, node) == ["draining"]
    with pytest.raises(InvalidStatus) as refused:
        await world.socket()
    assert refused.value.response.status_code == 503
    assert json.loads(refused.value.response.body)["code"] == "draining"
    assert (await mechanics[0].get("/api/mechanic/queue"))["assignments"] == []

    moments = await asyncio.gather(*listening)
    assert max(moments) - min(moments) > 0.2
    assert {await socket.closed() for socket in sockets} == {1012}
    await ended_well(one_node, node)


async def test_whoever_waits_for_a_reply_gets_it_before_the_end(one_node: Cluster, world: World) -> None:
    (node,) = one_node.nodes
    await restart(one_node, node, **LONG)
    ana, mia, zoe = await world.mechanic(), world.customer(), world.customer("Zoe Zander")
    at_ana, idle = await ana.online(), await world.customer().online()
    booked = await mia.book()
    await at_ana.event("new_assignment")

    held_up = node.redis.trap(zoe.id.encode(), pass_on=False)
    booking = asyncio.create_task(zoe.book())
    await held_up.wait()
    accepting = asyncio.create_task(at_ana.request("accept", assignment_id=booked["assignment"]["id"]))
    node.signal(signal.SIGTERM)

    assert await idle.closed() == 1012
    assert not accepting.done()
    await node.redis.heal()
    assert (await accepting)["session"]["mechanic_id"] == ana.id
    ids = [booked["session"]["id"], (await booking)["session"]["id"]]
    assert await at_ana.closed() == 1012
    await ended_well(one_node, node)
    recorded = "SELECT count(*) FROM sessions WHERE id = ANY($1)"
    assert await one_node.postgres.fetchval(recorded, ids) == 2


async def test_a_request_under_way_is_answered_by_a_node_without_sockets(
    one_node: Cluster, world: World
) -> None:
    (node,) = one_node.nodes
    await restart(one_node, node, **LONG)
    mia = world.customer()
    held_up = node.redis.trap(mia.id.encode(), pass_on=False)
    booking = asyncio.create_task(mia.book())
    await held_up.wait()

    node.signal(signal.SIGTERM)
    await until(lambda: _refuses(one_node, node))
    await node.redis.heal()

    assert (await booking)["session"]["customer_id"] == mia.id
    await ended_well(one_node, node)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(one_node: Cluster, world: World, sig: signal.Signals) -> None:
    (node,) = one_node.nodes
    await restart(one_node, node, HUB_DRAIN_SECONDS="600")
    sockets = [await world.customer().online() for _ in range(3)]
    node.signal(sig)
    for socket in sockets:
        await socket.other("going_away")

    node.signal(sig)

    assert {await socket.closed() for socket in sockets} == {1012}
    await ended_well(one_node, node)
    assert "drain_cut_short" in node.log.read_text()


async def test_signals_are_heard_to_the_very_end(one_node: Cluster, world: World) -> None:
    """Also while the node says its goodbyes, here to a record that is slow."""
    (node,) = one_node.nodes
    node.postgres.delay(0.1)

    async def has_ended() -> bool:
        node.signal(signal.SIGTERM)
        return not node.alive()

    await until(has_ended)
    await ended_well(one_node, node)


async def test_a_client_that_never_says_goodbye_holds_nobody_up(one_node: Cluster, world: World) -> None:
    (node,) = one_node.nodes
    await restart(one_node, node, HUB_DRAIN_SECONDS="0.5")
    silent, shy = await Wire.to(node.url), await Wire.to(node.url)
    await silent.upgraded()
    await shy.upgraded()
    await silent.send(frame(TEXT, json.dumps({"type": "hello", "token": world.customer().token}).encode()))
    await silent.frame()

    node.signal(signal.SIGTERM)

    await ended_well(one_node, node)
    assert await silent.close_code() == 1012
    assert await shy.close_code() == 1012
    await silent.hang_up()
    await shy.hang_up()


async def test_without_the_record_the_lease_is_given_back_and_the_journal_waits(
    one_node: Cluster, world: World
) -> None:
    (node,) = one_node.nodes
    await world.customer().book()  # from here on the node knows the plans
    await node.postgres.refuse()
    booked = await world.customer().book()

    node.signal(signal.SIGTERM)

    await ended_well(one_node, node)
    names = [name async for name in one_node.redis.scan_iter("hub:{*}:journal")]
    assert sum([await one_node.redis.xlen(name) for name in names]) > 0
    await node.postgres.heal()
    node.start()
    await one_node.drained()
    await world.row("SELECT 1 FROM sessions WHERE id = $1", booked["session"]["id"])


async def test_it_stops_well_while_postgres_is_silent(one_node: Cluster, world: World) -> None:
    (node,) = one_node.nodes
    await world.customer().book()
    await one_node.drained()
    node.postgres.blackhole()
    booked = await world.customer().book()

    node.signal(signal.SIGTERM)

    await ended_well(one_node, node)
    await node.postgres.heal()
    node.start()
    await one_node.drained()
    await world.row("SELECT 1 FROM sessions WHERE id = $1", booked["session"]["id"])


async def test_a_request_of_which_nobody_knows_what_became_ends_without_an_answer(
    one_node: Cluster, world: World
) -> None:
    """No other answer would be true, and it is no failure of the node's."""
    (node,) = one_node.nodes
    mia = world.customer()
    await world.customer().book()  # from here on Valkey knows the script
    committed = node.redis.trap(COMMIT)
    booking = asyncio.create_task(mia.book())
    await committed.wait()

    node.signal(signal.SIGTERM)

    with pytest.raises(httpx.ReadError):
        await booking
    assert await node.ended() == 0
    assert one_node.complaints() == []
    await node.redis.heal()
    node.start()
    await one_node.drained()
    await world.row("SELECT 1 FROM sessions WHERE customer_user_id = $1", mia.id)

    async def buried() -> bool:
        return bool(await one_node.redis.zcard("hub:nodes") == 1)

    await until(buried)


async def test_workers_are_replaced_when_they_die_and_drain_when_told(
    one_node: Cluster, world: World
) -> None:
    (node,) = one_node.nodes
    await node.stop()
    node.start(HUB_WORKERS="2")

    async def workers() -> set[str]:
        return {str(name) for name in await one_node.redis.zrange("hub:nodes", 0, -1)}

    async def both() -> bool:
        described = [await one_node.redis.exists(f"hub:node:{name}") for name in await workers()]
        return described == [1, 1]

    await until(both)
    before = await workers()
    victim = min(before)
    facts = await one_node.redis.hgetall(f"hub:node:{victim}")
    psutil.Process(int(facts["pid"])).kill()

    async def replaced() -> bool:
        return len(await workers()) == 2 and victim not in await workers()

    await until(replaced)
    await one_node.ready()
    sockets = [await world.customer().online() for _ in range(6)]
    node.signal(signal.SIGTERM)
    for socket in sockets:
        await socket.other("going_away")
    assert {await socket.closed() for socket in sockets} == {1012}
    await ended_well(one_node, node)


async def _refuses(cluster: Cluster, node: Node) -> bool:
    try:
        await cluster.http.get(f"{node.url}/readyz")
    except httpx.TransportError:
        return True
    return False
