"""Every node is restarted, one after the other: mechanics move with their offers, and nobody sees them go."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.world import Person, Socket, World
from tests.faults.cluster import Cluster, open_cluster
from tests.faults.test_drain import world_of

RESTARTED = 3
STEADY = RESTARTED
"""The node that stays, where somebody watches the mechanics."""

SETTINGS = {"HUB_OFFLINE_GRACE_SECONDS": "10", "HUB_PRIORITY_WINDOW_SECONDS": "600"}

MANNERS = ("comes before going", "goes before coming", "waits to be closed")


@pytest_asyncio.fixture(loop_scope="session")
async def rolling(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with open_cluster(tmp_path_factory.mktemp("rolling"), nodes=0) as cluster:
        for _ in range(RESTARTED + 1):
            await cluster.add_node(**SETTINGS)
        await cluster.ready()
        yield cluster
        assert not cluster.complaints()


@pytest_asyncio.fixture
async def world(rolling: Cluster) -> AsyncIterator[World]:
    world = world_of(rolling)
    yield world
    await world.clear()


class App:
    """A mechanic's app that moves to another node when it is asked to, in one of the manners."""

    def __init__(self, mechanic: Person, manner: str, node: int) -> None:
        self.mechanic = mechanic
        self.manner = manner
        self.node = node
        self.socket: Socket

    async def come(self) -> None:
        self.socket = await self.mechanic.online(node=self.node)

    async def move(self, to: int) -> None:
        old, self.node = self.socket, to
        notice = await old.other("going_away")
        match self.manner:
            case "comes before going":
                await asyncio.sleep(random.uniform(0, notice["reconnect_ms"] / 1000))
                await self.come()
                await old.close()
            case "goes before coming":
                await old.close()
                await asyncio.sleep(random.uniform(0, notice["reconnect_ms"] / 1000))
                await self.come()
            case _:
                assert await old.closed() == 1012
                await self.come()


async def test_a_rolling_restart_goes_unnoticed(rolling: Cluster, world: World) -> None:
    apps = [App(await world.mechanic(), manner, node) for manner in MANNERS for node in range(RESTARTED)]
    await asyncio.gather(*(app.come() for app in apps))
    watcher = await world.customer().online(node=STEADY)
    watched = await watcher.request("watch", mechanic_ids=[app.mechanic.id for app in apps])
    assert {state["status"] for state in watched["presence"].values()} == {"online"}
    offers = await _offers(world, apps)

    for index in range(RESTARTED):
        node = rolling.nodes[index]
        here = [app for app in apps if app.node == index]
        others = [n for n in range(RESTARTED + 1) if n != index]
        node.signal(signal.SIGTERM)
        await asyncio.gather(*(app.move(random.choice(others)) for app in here))
        assert await node.ended() == 0
        node.start(**SETTINGS)
        await rolling.ready(node)

    for app in apps:
        mine = app.socket.welcome["assignments"]
        assert [(item["assignment"]["id"], item["priority"]) for item in mine] == [(offers[app], True)]
        assert (await app.socket.request("accept", assignment_id=offers[app]))["ok"]
    await watcher.quiet()
    seen = {update["status"] for update in watcher.named("presence_update")}
    assert seen <= {"online"}
    await rolling.drained()
    happened = await rolling.postgres.fetch(
        "SELECT type, count(*) AS times FROM session_events GROUP BY type"
    )
    once_each = {row["type"] for row in happened if row["times"] == len(apps)}
    assert {row["type"] for row in happened} <= {"created", "offered", "notified", "accepted"}
    assert {"created", "accepted"} <= once_each
    assert await rolling.postgres.fetchval("SELECT count(*) FROM mechanics WHERE NOT is_online") == 0
    assert await rolling.redis.zcard("hub:nodes") == RESTARTED + 1


async def _offers(world: World, apps: list[App]) -> dict[App, str]:
    """Each mechanic has a priority request; the assignments."""
    offers = {}
    for app in apps:
        booked = await world.customer().book(app.mechanic, node=STEADY)
        await app.socket.event("priority_session_request")
        offers[app] = booked["assignment"]["id"]
    return offers
