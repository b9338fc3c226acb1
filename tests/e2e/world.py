"""A running hub as its users meet it: processes, HTTP, sockets, both stores."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect

from hub.identity import issue
from tests.patience import until

SECRET = "a secret that only the tests know, long enough for HS256"
PATIENCE_S = 15.0

Body = dict[str, Any]


class Hub:
    """`hub dev` in a process of its own."""

    def __init__(self, data_dir: Path, *, nodes: int = 1, **settings: str) -> None:
        environment = {**os.environ, "HUB_JWT_SECRET": SECRET, **settings}
        command = [sys.executable, "-m", "hub", "dev", "--json", "--port", "0", "--nodes", str(nodes)]
        self.data_dir = data_dir
        self.log = data_dir.parent / f"{data_dir.name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--data-dir", str(data_dir)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        ready = json.loads(line)
        self.urls: list[str] = ready["urls"]
        self.redis_url: str = ready["redis_url"]
        self.postgres_url: str = ready["postgres_url"]
        self.pids: list[int] = ready["pids"]

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


class Socket:
    """A native socket. Events are kept in the order in which they came."""

    def __init__(self, connection: ClientConnection, *, binary: bool) -> None:
        self.connection = connection
        self.events: list[Body] = []
        self.welcome: Body = {}
        self._binary = binary
        self._replies: dict[Any, Body] = {}
        self._others: list[Body] = []
        self._news = asyncio.Condition()
        self._ids = 0
        self._reader = asyncio.create_task(self._read())

    async def send(self, message: Body) -> None:
        if self._binary:
            await self.connection.send(msgspec.msgpack.encode(message))
        else:
            await self.connection.send(json.dumps(message))

    async def request(self, kind: str, **fields: Any) -> Body:
        self._ids += 1
        number = self._ids
        await self.send({"type": kind, "id": number, **fields})
        return await self.reply(number)

    async def reply(self, request_id: int | str) -> Body:
        await self._until(lambda: request_id in self._replies)
        return self._replies.pop(request_id)

    async def event(self, name: str, nth: int = 1) -> Body:
        """The nth event of this name; its payload."""
        await self._until(lambda: len(self.named(name)) >= nth)
        return self.named(name)[nth - 1]

    def named(self, name: str) -> list[Body]:
        return [event["payload"] for event in self.events if event["event"] == name]

    async def other(self, kind: str) -> Body:
        """A message that is neither an event nor a reply."""
        await self._until(lambda: any(m["type"] == kind for m in self._others))
        return next(m for m in self._others if m["type"] == kind)

    async def closed(self) -> int | None:
        """The close code, once the hub has closed the socket."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.shield(self._reader)
            await self.connection.wait_closed()
        return self.connection.close_code

    async def quiet(self) -> None:
        """Returns after everything that was on its way here has come: replies do not overtake events."""
        await self.request("heartbeat")

    async def close(self) -> None:
        await self.connection.close()
        await self._reader

    def abort(self) -> None:
        """The network is gone, without a word."""
        self.connection.transport.abort()

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S), self._news:
            while not holds():
                if self._reader.done():
                    raise AssertionError(f"closed with {self.connection.close_code}, waiting in vain")
                await self._news.wait()

    async def _read(self) -> None:
        try:
            async for data in self.connection:
                message = msgspec.msgpack.decode(data) if isinstance(data, bytes) else json.loads(data)
                async with self._news:
                    match message["type"]:
                        case "event":
                            self.events.append(message)
                        case "reply":
                            self._replies[message["id"]] = message
                        case other:
                            if other == "welcome":
                                self.welcome = message
                            self._others.append(message)
                    self._news.notify_all()
        except Exception:
            self.connection.transport.abort()
        async with self._news:
            self._news.notify_all()


class Person:
    """Somebody with a token, calling one of the nodes."""

    def __init__(self, world: "World", role: str, name: str, user_id: str | None = None) -> None:
        self.world = world
        self.id = user_id or str(uuid.uuid4())
        self.role = role
        self.name = name
        self.token = issue(SECRET, role=role, user_id=self.id, ttl=3600, name=name)

    async def call(
        self, method: str, path: str, body: Any = None, *, node: int = 0, **headers: str
    ) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.world.http.request(
            method,
            self.world.hub.urls[node] + path,
            json=body,
            headers={"Authorization": f"Bearer {self.token}", **named},
        )

    async def get(self, path: str, **more: Any) -> Body:
        answer = await self.call("GET", path, **more)
        assert answer.status_code == 200, answer.text
        found: Body = answer.json()
        return found

    async def post(self, path: str, body: Any = None, **more: Any) -> Body:
        answer = await self.call("POST", path, body, **more)
        assert answer.status_code in (200, 201), answer.text
        found: Body = answer.json()
        return found

    async def book(self, favorite: "Person | None" = None, *, node: int = 0, **fields: Any) -> Body:
        body: Body = {"plan_code": "free", **fields}
        if favorite is not None:
            body |= {"routing_type": "priority_broadcast", "preferred_mechanic_id": favorite.id}
        return await self.post("/api/intake/start", body, node=node)

    async def online(self, *, node: int = 0, binary: bool = False, **hello: Any) -> Socket:
        """Connected and welcome; closed when the test is over."""
        socket = await self.world.socket(node=node, binary=binary)
        await socket.send({"type": "hello", "token": self.token, **hello})
        await socket.other("welcome")
        return socket


class World:
    """A hub and direct access to its stores."""

    def __init__(self, hub: Hub, http: httpx.AsyncClient, postgres: asyncpg.Pool, redis: Redis) -> None:
        self.hub = hub
        self.http = http
        self.postgres = postgres
        self.redis = redis
        self._sockets: list[Socket] = []
        self._customers: list[Person] = []

    async def mechanic(self, name: str = "Ana Silva", status: str = "approved") -> Person:
        person = Person(self, "mechanic", name)
        first, _, last = name.partition(" ")
        await self.postgres.execute(
            "INSERT INTO mechanics (id, first_name, last_name, status) VALUES ($1, $2, $3, $4)",
            person.id, first, last, status,
        )  # fmt: skip
        return person

    def customer(self, name: str = "Mia Berg") -> Person:
        person = Person(self, "customer", name)
        self._customers.append(person)
        return person

    def somebody(self, role: str) -> Person:
        return Person(self, role, role.title())

    async def prefer(self, customer: Person, *mechanics: Person) -> None:
        """The customer's favourites, in rank order."""
        await self.postgres.execute(
            "INSERT INTO customers (id) VALUES ($1) ON CONFLICT DO NOTHING", customer.id
        )
        for rank, mechanic in enumerate(mechanics, 1):
            await self.postgres.execute(
                "INSERT INTO customer_favorites (customer_id, mechanic_id, rank) VALUES ($1, $2, $3)",
                customer.id, mechanic.id, rank,
            )  # fmt: skip

    async def socket(
        self, *, node: int = 0, binary: bool = False, protocol: str | None = None, **options: Any
    ) -> Socket:
        subprotocol: Any = protocol or ("hub.v1.msgpack" if binary else "hub.v1.json")
        connection = await connect(
            self.hub.urls[node].replace("http", "ws", 1) + "/ws",
            subprotocols=[subprotocol],
            proxy=None,
            compression=None,
            **options,
        )
        socket = Socket(connection, binary=binary)
        self._sockets.append(socket)
        return socket

    async def row(self, query: str, *arguments: Any) -> Body:
        """The row, as soon as there is one."""
        found = await self.eventually(lambda: self.postgres.fetch(query, *arguments))
        return dict(found[0])

    async def eventually(self, check: Callable[[], Any]) -> Any:
        """What an async check gives, once that is true."""
        return await until(check, PATIENCE_S)

    async def clear(self) -> None:
        """End what this test began, so that the next one meets nobody of it."""
        for customer in self._customers:
            session = (await customer.get("/api/customer/active-session"))["session"]
            if session is not None:
                await customer.post(f"/api/customer/sessions/{session['id']}/end")
        for socket in self._sockets:
            with contextlib.suppress(Exception):
                await socket.close()
        self._sockets.clear()


@contextlib.asynccontextmanager
async def world_of(hub: Hub) -> AsyncIterator[World]:
    async with (
        # No hub here has a certificate, and loading those of others takes longer than most tests.
        httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False, verify=False) as http,
        asyncpg.create_pool(hub.postgres_url, min_size=1, max_size=4) as postgres,
        Redis.from_url(hub.redis_url, decode_responses=True) as redis,
    ):
        world = World(hub, http, postgres, redis)
        yield world
        await world.clear()
