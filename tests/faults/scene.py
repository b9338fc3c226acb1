"""A scene: a few people whom a test leads by hand, on a cluster, judged as a crowd is."""

import asyncio
import contextlib
import itertools
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from hub.client import HubHttp, HubSocket
from tests.faults.checker import judge
from tests.faults.cluster import SECRET, Cluster, Node
from tests.faults.crowd import GONE, Network, Person
from tests.faults.evidence import assignment_of, gather_evidence
from tests.faults.history import Body, History

PATIENCE_S = 30.0


class Actor(Person):
    """Somebody who does what the test says, by whichever node it names."""

    def __init__(self, scene: "Scene", role: str) -> None:
        network = Network(urls=scene.cluster.urls, http=scene.cluster.http, secret=SECRET)
        super().__init__(network, scene.history, role, random.Random(uuid.uuid4().int))
        self._scene = scene

    async def connect(self, node: Node) -> "Ear":
        """Tried until the node lets us in."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(*GONE):
                    ear = Ear(self, await HubSocket.connect(node.url, self.token))
                    self._scene.ears.append(ear)
                    return ear
                await self.pause(0.1, 0.5)

    def hub_at(self, node: Node) -> HubHttp:
        return HubHttp(self.http, node.url, self.token)

    async def book(self, key: str = "first", *, by: Node | None = None, **wish: Any) -> Body:
        """Asked for until it is granted, of this node first; the session."""
        name = f"{self.id}-{key}"
        wish = {"plan_code": "free", "metadata": {"key": name}, **wish}
        if by is not None:
            with contextlib.suppress(*GONE):
                await self.hub_at(by).book(key=name, **wish)
        booked = await self.persist(lambda hub: hub.book(key=name, **wish))
        session: Body = booked["session"]
        self.history.note(self.id, "book", session["id"], "done")
        self.history.saw(booked)
        return session

    async def prefer(self, mechanic: "Actor", **more: Any) -> Body:
        return await self.book(routing_type="priority_broadcast", preferred_mechanic_id=mechanic.id, **more)

    async def answer(self, verb: str, session_id: str) -> Body | None:
        """Accept, decline or release; None where that is refused."""
        assignment_id = assignment_of(session_id)
        return await self.act(verb, session_id, lambda hub: hub.answer(verb, assignment_id))

    async def end(self, session_id: str) -> Body | None:
        return await self.act("end", session_id, lambda hub: hub.end(session_id))


class Ear:
    """What one socket of somebody's heard, from its welcome on."""

    def __init__(self, actor: Actor, socket: HubSocket) -> None:
        self.actor = actor
        self.socket = socket
        self.heard: list[Body] = []
        self._news = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for event in self.socket.events():
            self.actor.history.heard(self.actor.id, self.actor.role, event)
            async with self._news:
                self.heard.append(event)
                self._news.notify_all()

    async def event(self, name: str, about: Callable[[Body], bool] = lambda payload: True) -> Body:
        """The first event of this name with such a payload; its payload."""

        def found() -> Body | None:
            payloads = (event["payload"] for event in self.heard if event["event"] == name)
            return next(filter(about, payloads), None)

        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(found)
        payload = found()
        assert payload is not None
        return payload

    async def offer(self, session: Body, name: str = "new_assignment") -> Body:
        return await self.event(name, lambda p: bool(p["request"]["session"]["id"] == session["id"]))

    async def quiet(self) -> None:
        """Everything that was on its way here has come."""
        await self.socket.request("heartbeat")

    async def close(self) -> None:
        await self.socket.close()
        await self._reader


class Scene:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.history = History()
        self.ears: list[Ear] = []
        self.customers: list[Actor] = []

    async def mechanic(self, node: Node) -> Ear:
        """Registered, approved and online by this node."""
        (ear,) = await self.mechanics(1, node)
        return ear

    async def mechanics(self, count: int, *nodes: Node) -> list[Ear]:
        """So many, spread over these nodes or all."""
        actors = [Actor(self, "mechanic") for _ in range(count)]
        await self.cluster.postgres.executemany(
            "INSERT INTO mechanics (id, first_name, last_name, status) VALUES ($1, 'A', 'M', 'approved')",
            [(actor.id,) for actor in actors],
        )
        places = zip(actors, itertools.cycle(nodes or self.cluster.nodes), strict=False)
        return await asyncio.gather(*(actor.connect(node) for actor, node in places))

    def customer(self) -> Actor:
        actor = Actor(self, "customer")
        self.customers.append(actor)
        return actor

    async def end(self) -> None:
        """End what is active, and close the sockets."""
        for customer in self.customers:
            mine = await customer.persist(lambda hub: hub.active_session())
            if mine["session"] is not None:
                await customer.end(mine["session"]["id"])
        for ear in self.ears:
            await ear.close()


@contextlib.asynccontextmanager
async def scene(cluster: Cluster) -> AsyncIterator[Scene]:
    """Whatever is broken within must be whole again at the end of the block."""
    held = Scene(cluster)
    yield held
    await held.end()
    await cluster.drained()
    customers = [customer.id for customer in held.customers]
    wrong = judge(held.history, await gather_evidence(cluster.postgres, cluster.redis, customers))
    assert not wrong, "\n".join(wrong)
    assert cluster.complaints() == []


async def first(*events: Awaitable[object]) -> int:
    """Which of them comes first."""
    tasks = [asyncio.ensure_future(event) for event in events]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    index = next(i for i, task in enumerate(tasks) if task.done())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return index
