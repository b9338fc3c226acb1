"""The hub as operators run it: `hub serve` over a Valkey that syncs every write, and Postgres."""

import asyncio
import itertools
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
from redis.asyncio import Redis

from hub.app import flag_store, migrator
from hub.domain.flags import FAVORITES_PRIORITY
from persistence.embedded import EmbeddedPostgres, EmbeddedValkey
from persistence.embedded.process import free_port
from tests.bench import people
from tests.bench.servers.process import Process
from tests.bench.servers.server import Server
from tests.bench.wire import Crowd, HttpPool, Joining

_READY_S = 30.0
_SETTINGS = {
    "HUB_JWT_SECRET": people.SECRET,
    "HUB_LOG_FORMAT": "json",
    # A few sockets here do the work of many people.
    "HUB_MESSAGES_PER_SECOND": "1000000",
}
_BEACON = 9_000_000
"""The mechanic whose presence everybody watches."""

_NO_MECHANICS: Sequence[int] = ()


class Hub(Server):
    name = "hub"

    def __init__(self, directory: Path, settings: dict[str, str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.valkey = EmbeddedValkey(directory / "valkey")
        self.embedded_postgres = EmbeddedPostgres(directory / "postgres")
        self.nodes: list[Process] = []
        self.pools: list[HttpPool] = []
        self.redis: Redis
        self.postgres: asyncpg.Pool
        self._settings = settings
        self._beacon: Crowd | None = None
        self._statuses = itertools.cycle(("away", "busy"))

    @classmethod
    async def start(
        cls, directory: Path, *, nodes: int = 1, mechanics: Iterable[int] = _NO_MECHANICS, **settings: str
    ) -> "Hub":
        """With so many approved mechanics on record as there are numbers."""
        hub = cls(directory, settings)
        try:
            await hub._start_stores()
            await hub._enter(mechanics)
            for _ in range(nodes):
                await hub.add_node()
        except BaseException:
            await hub.stop()
            raise
        return hub

    async def _start_stores(self) -> None:
        await asyncio.gather(
            asyncio.to_thread(self.valkey.start), asyncio.to_thread(self.embedded_postgres.start)
        )
        await migrator(self.embedded_postgres.url).up()
        async with flag_store(self.embedded_postgres.url) as flags:
            await flags.set_flag(FAVORITES_PRIORITY, is_enabled=True)
        self.postgres = await asyncpg.create_pool(self.embedded_postgres.url, min_size=1, max_size=4)
        self.redis = Redis.from_url(self.valkey.url, decode_responses=True)

    async def _enter(self, mechanics: Iterable[int]) -> None:
        rows = [(people.mechanic_id(n), f"Mechanic {n}") for n in (*mechanics, _BEACON)]
        await self.postgres.execute(
            """
            INSERT INTO mechanics (id, first_name, last_name, status)
            SELECT id, name, 'of the benchmark', 'approved'
            FROM unnest($1::uuid[], $2::text[]) AS r (id, name)
            """,
            [row[0] for row in rows],
            [row[1] for row in rows],
        )

    async def add_node(self, *launcher: str) -> None:
        """`launcher`: what to start Python with instead of `-m hub`."""
        port = free_port()
        environment = {
            **_SETTINGS,
            "HUB_REDIS_URL": self.valkey.url,
            "HUB_POSTGRES_URL": self.embedded_postgres.url,
            **self._settings,
        }
        name = f"hub-{len(self.nodes)}"
        command = [sys.executable, *(launcher or ("-m", "hub")), "serve", "--port", str(port)]
        node = Process(name, command, self.directory / f"{name}.log", environment)
        self.nodes.append(node)
        await node.listening(port)
        pool = HttpPool(("127.0.0.1", port))
        self.pools.append(pool)
        async with asyncio.timeout(_READY_S):
            while (await pool.call("GET", "/readyz")).status != 200:
                node.check()
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        if self._beacon is not None:
            await self._beacon.leave()
        for pool in self.pools:
            pool.close()
        await asyncio.gather(*(node.kill() for node in self.nodes))
        for opened in ("redis", "postgres"):
            if hasattr(self, opened):
                await (self.redis.aclose() if opened == "redis" else self.postgres.close())
        await asyncio.gather(
            asyncio.to_thread(self.valkey.stop), asyncio.to_thread(self.embedded_postgres.stop)
        )

    @property
    def address(self) -> tuple[str, int]:
        return self.addresses[0]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [pool.address for pool in self.pools]

    @property
    def pids(self) -> Sequence[int]:
        return [node.pid for node in self.nodes]

    @property
    def store_pids(self) -> Sequence[int]:
        return [self.valkey.pid, self.embedded_postgres.pid]

    # Sockets

    def addressee(self, user: str) -> Joining:
        return self.mechanic(int(user))

    def mechanic(self, number: int) -> Joining:
        """An online mechanic's socket."""
        return _joining({"type": "hello", "token": people.mechanic_token(number)})

    def joining(self, user: str) -> Joining:
        return watcher(int(user))

    async def publish(self, payload: bytes) -> None:
        """A mechanic changes status, and has the reply: everybody who watches gets one frame, whatever the
        payload."""
        if self._beacon is None:
            self._beacon = Crowd(self.address)
            await self._beacon.join([self.mechanic(_BEACON)])
        status = {"type": "status", "id": 1, "status": next(self._statuses)}
        replied = self._beacon.expect(1)
        self._beacon.listeners[0].say(json.dumps(status).encode())
        await replied

    # Bookings

    def booking(self, customer: int, mechanic: int | None = None, **more: Any) -> tuple[str, bytes, str]:
        """Path, body and token of a booking that prefers a mechanic, or goes to everyone."""
        body: dict[str, Any] = {"plan_code": "free", **more}
        if mechanic is not None:
            preferred = people.mechanic_id(mechanic)
            body |= {"routing_type": "priority_broadcast", "preferred_mechanic_id": preferred}
        return "/api/intake/start", json.dumps(body).encode(), people.customer_token(customer)

    async def book(self, customer: int, mechanic: int | None = None, node: int = 0) -> str:
        """The session's id."""
        path, body, token = self.booking(customer, mechanic)
        answer = await self.pools[node].call("POST", path, body, token=token, expect=201)
        return str(json.loads(answer.body)["session"]["id"])

    async def end(self, customer: int, session_id: str) -> None:
        path, token = f"/api/customer/sessions/{session_id}/end", people.customer_token(customer)
        await self.pools[0].call("POST", path, b"{}", token=token, expect=200)

    async def waiting_rows(self) -> int:
        """Journal entries that Postgres does not have yet."""
        lengths = self.redis.pipeline(transaction=False)
        for shard in range(await self.shards()):
            lengths.xlen(f"hub:{{{shard}}}:journal")
        return sum(await lengths.execute())

    async def drained(self, within_s: float = 120.0) -> None:
        async with asyncio.timeout(within_s):
            while await self.waiting_rows():  # noqa: ASYNC110  # it happens in other processes
                await asyncio.sleep(0.01)

    async def shards(self) -> int:
        return int(await self.redis.get("hub:shards") or 16)

    async def commands_done(self) -> int:
        """Commands that Redis has processed so far."""
        return int((await self.redis.info("stats"))["total_commands_processed"])


class BookingHub(Server):
    """The same hub. What is published is a booking that every online mechanic hears of, and then its end."""

    name = Hub.name

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._customer = 0
        self._session_id = ""

    @property
    def address(self) -> tuple[str, int]:
        return self._hub.address

    @property
    def pids(self) -> Sequence[int]:
        return self._hub.pids

    @property
    def store_pids(self) -> Sequence[int]:
        return self._hub.store_pids

    def joining(self, user: str) -> Joining:
        return self._hub.mechanic(int(user))

    async def publish(self, payload: bytes) -> None:
        if self._session_id:
            await self._hub.end(self._customer, self._session_id)
            self._session_id = ""
        else:
            self._customer += 1
            self._session_id = await self._hub.book(self._customer)

    async def stop(self) -> None:
        await self._hub.stop()


def watcher(customer: int) -> Joining:
    """The socket of a customer who watches one mechanic."""
    watch = {"type": "watch", "id": 1, "mechanic_ids": [people.mechanic_id(_BEACON)]}
    hello = {"type": "hello", "token": people.customer_token(customer)}
    return _joining(hello, watch, ready=b'{"type":"reply"')


def _joining(*hello: dict[str, Any], ready: bytes = b'{"type":"welcome"') -> Joining:
    said = [json.dumps(message).encode() for message in hello]
    return Joining(path="/ws", subprotocol="hub.v1.json", hello=said, ready=ready)
