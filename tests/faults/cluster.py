"""A cluster whose every part can be hurt: stores, nodes in processes of their own, the lines between them."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError

from hub.app import flag_store, migrator
from hub.domain.flags import FAVORITES_PRIORITY
from hub.domain.model import ACTIVE
from persistence.embedded import EmbeddedPostgres, EmbeddedValkey
from persistence.embedded.process import free_port
from tests.faults.lines import Lines
from tests.patience import PATIENCE_S, until
from tests.proxy import Proxy

SECRET = "a secret that only the tests know, long enough for HS256"
STRIPE_SECRET = "whsec_of_the_tests"
LEASE_S = 1.5

SETTINGS = {
    "HUB_JWT_SECRET": SECRET,
    "HUB_STRIPE_WEBHOOK_SECRETS": STRIPE_SECRET,
    "HUB_SHARDS": "4",
    "HUB_NODE_LEASE_SECONDS": str(LEASE_S),
    "HUB_OFFLINE_GRACE_SECONDS": "1",
    "HUB_NOTIFY_TIMEOUT_SECONDS": "1",
    "HUB_PRIORITY_WINDOW_SECONDS": "2",
    "HUB_ORPHAN_SECONDS": "120",
    "HUB_PING_INTERVAL_SECONDS": "2",
    "HUB_PING_TIMEOUT_SECONDS": "10",
    "HUB_MESSAGES_PER_SECOND": "10000",
    "HUB_DRAIN_SECONDS": "3",
    "HUB_LOG_FORMAT": "json",
}
"""Times short enough to wait for."""

_NEVER_LOGGED = ("Traceback", "loop_died", "task_failed")


class Node:
    """One `hub serve`, with lines of its own to the stores."""

    def __init__(self, name: str, directory: Path, redis: Proxy, postgres: Proxy, urls: "Urls") -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.redis = redis
        self.postgres = postgres
        self.log = directory / f"{name}.log"
        self._urls = urls
        self._read = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, launcher: Sequence[str] = ("-m", "hub"), **settings: str) -> None:
        environment = {
            **os.environ,
            **SETTINGS,
            "HUB_REDIS_URL": self._urls.redis(self.redis.port),
            "HUB_POSTGRES_URL": self._urls.postgres(self.postgres.port),
            **settings,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *launcher, "serve", "--port", str(self.port)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def news(self) -> list[str]:
        """Lines of the log since the last time."""
        lines = self.log.read_text().splitlines()
        start, self._read = self._read, len(lines)
        return lines[start:]

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.ended()

    async def ended(self) -> int:
        """The exit code."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait)

    async def heal(self) -> None:
        """Whole lines, and it runs."""
        await self.redis.heal()
        await self.postgres.heal()
        if self.alive():
            self.signal(signal.SIGCONT)
        else:
            self.start()

    async def stop(self) -> None:
        if self.alive():
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            await self.ended()


class Urls:
    """The stores' addresses with another port."""

    def __init__(self, redis_url: str, postgres_url: str) -> None:
        self._redis = httpx.URL(redis_url)
        self._postgres = httpx.URL(postgres_url)

    def redis(self, port: int) -> str:
        return str(self._redis.copy_with(port=port))

    def postgres(self, port: int) -> str:
        return str(self._postgres.copy_with(port=port))


class Cluster:
    """Stores on `directory`, nodes over them, and direct lines of our own to the stores."""

    def __init__(
        self,
        directory: Path,
        valkey: EmbeddedValkey,
        embedded_postgres: EmbeddedPostgres,
        http: httpx.AsyncClient,
        postgres: asyncpg.Pool,
    ) -> None:
        self.directory = directory
        self.valkey = valkey
        self.embedded_postgres = embedded_postgres
        self.http = http
        self.postgres = postgres
        self.redis: Redis = Redis.from_url(valkey.url, decode_responses=True)
        self.nodes: list[Node] = []

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    async def add_node(self, **settings: Any) -> Node:
        redis = await Proxy.start(self.valkey.port)
        postgres = await Proxy.start(self.embedded_postgres.port)
        name = f"node-{len(self.nodes)}"
        urls = Urls(self.valkey.url, self.embedded_postgres.url)
        node = Node(name, self.directory, redis, postgres, urls)
        node.start(**settings)
        self.nodes.append(node)
        return node

    async def ready(self, *nodes: Node) -> None:
        """Every node, or those named, say that they are."""
        for node in nodes or self.nodes:
            await until(lambda node=node: self._is_ready(node))  # type: ignore[misc]  # bound now

    async def _is_ready(self, node: Node) -> bool:
        try:
            return (await self.http.get(f"{node.url}/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def recorded(self) -> None:
        """Whatever was in the journal a moment ago is on record."""
        ends = [
            (name, (await self.redis.xinfo_stream(name))["last-generated-id"])
            for name in [name async for name in self.redis.scan_iter("hub:{*}:journal")]
        ]

        async def passed() -> bool:
            first = [await self.redis.xrange(name, count=1) for name, _ in ends]
            return all(
                not entries or _place(str(entries[0][0])) > _place(end)
                for entries, (_, end) in zip(first, ends, strict=True)
            )

        await until(passed)

    async def recovered(self, patience_s: float = PATIENCE_S) -> None:
        """Redis' data is in a life that began since it was lost."""
        await until(self._has_epochs, patience_s)

    async def _has_epochs(self) -> bool:
        try:
            return all(
                await self.redis.mget([f"hub:{{{s}}}:epoch" for s in range(int(SETTINGS["HUB_SHARDS"]))])
            )
        except RedisError:
            return False

    # What a store can suffer

    async def kill_valkey(self) -> None:
        pid = self.valkey.pid
        os.kill(pid, signal.SIGKILL)
        await until(self._valkey_is_dead)

    async def _valkey_is_dead(self) -> bool:
        return not self.valkey.alive()

    async def revive_valkey(self) -> None:
        await asyncio.to_thread(self.valkey.restart_if_dead)

    def valkey_file(self) -> Path:
        return self.valkey.data / "appendonlydir"

    def keep_valkey_file(self) -> Path:
        """A copy of what is on disk now."""
        copy = self.directory / "older-file"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.valkey_file(), copy)
        return copy

    def bring_back(self, copy: Path) -> None:
        """Only while Valkey is dead."""
        shutil.rmtree(self.valkey_file())
        shutil.copytree(copy, self.valkey_file())

    async def kill_postgres(self, by: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self.embedded_postgres.pid, by)
        await until(self._postgres_is_dead)

    async def _postgres_is_dead(self) -> bool:
        return not self.embedded_postgres.alive()

    async def revive_postgres(self) -> None:
        await asyncio.to_thread(self.embedded_postgres.restart_if_dead)

    async def set_read_only(self, refuse: bool) -> None:
        """Whether Postgres refuses every write, in transactions that begin from now on."""
        await self.postgres.execute("SET default_transaction_read_only = off")
        await self.postgres.execute(f"ALTER SYSTEM SET default_transaction_read_only = {refuse}")
        await self.postgres.execute("SELECT pg_reload_conf()")

    async def alarms(self, what: str) -> int:
        """How often the nodes that answer have given this alarm."""
        count = 0
        for node in self.nodes:
            with contextlib.suppress(httpx.TransportError):
                text = (await self.http.get(f"{node.url}/metrics")).text
                found = re.search(rf'^hub_alarms_total{{what="{what}"}} (\S+)$', text, re.MULTILINE)
                count += int(float(found[1])) if found else 0
        return count

    # When it is over

    async def heal(self) -> None:
        """Everything runs, every line is whole."""
        if not self.valkey.alive():
            await self.revive_valkey()
        os.kill(self.valkey.pid, signal.SIGCONT)
        if not self.embedded_postgres.alive():
            await self.revive_postgres()
        for node in self.nodes:
            await node.heal()
        await self.ready()

    async def drained(self) -> None:
        """Every journal entry is on record."""
        await self.ready()
        await until(self._is_drained)

    async def forget(self, session_ids: Collection[str]) -> None:
        """As if the time had passed for which Redis keeps those of these sessions that are over."""
        redis: Any = self.redis  # which leaves open whether an answer is text
        over = set()
        async for name in redis.scan_iter("hub:{*}:session:*", count=1000):
            session_id = name.rpartition(":")[2]
            if session_id in session_ids and await redis.hget(name, "status") not in ACTIVE:
                over.add(session_id)
        async for name in redis.scan_iter("hub:{*}:*:*", count=1000):
            if name.rpartition(":")[2] in over:
                await redis.unlink(name)

    async def _is_drained(self) -> bool:
        try:
            names = [name async for name in self.redis.scan_iter("hub:{*}:journal")]
            return not any([await self.redis.xlen(name) for name in names])
        except RedisError:
            return False

    def complaints(self) -> list[str]:
        """What no node may ever have in its log, with what stands around it; each is told once."""
        found = []
        for node in self.nodes:
            lines = node.news()
            for at, line in enumerate(lines):
                if any(word in line for word in _NEVER_LOGGED):
                    found.append("\n".join([f"{node.name}:", *lines[max(0, at - 3) : at + 100]]))
        return found


def _place(entry_id: str) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split("-")))


@contextlib.asynccontextmanager
async def open_cluster(directory: Path, *, nodes: int = 3) -> AsyncIterator[Cluster]:
    valkey, embedded_postgres = EmbeddedValkey(directory / "valkey"), EmbeddedPostgres(directory / "postgres")
    cluster: Cluster | None = None
    try:
        await asyncio.gather(asyncio.to_thread(valkey.start), asyncio.to_thread(embedded_postgres.start))
        await migrator(embedded_postgres.url).up()
        async with flag_store(embedded_postgres.url) as flags:
            await flags.set_flag(FAVORITES_PRIORITY, is_enabled=True)
        async with contextlib.AsyncExitStack() as open_things:
            http = await open_things.enter_async_context(
                httpx.AsyncClient(timeout=5, trust_env=False, transport=Lines())
            )
            postgres = await open_things.enter_async_context(
                asyncpg.create_pool(embedded_postgres.url, min_size=0, max_size=4)
            )
            cluster = Cluster(directory, valkey, embedded_postgres, http, postgres)
            for _ in range(nodes):
                await cluster.add_node()
            await cluster.ready()
            yield cluster
    finally:
        if cluster is not None:
            await asyncio.gather(*(node.stop() for node in cluster.nodes))
            for node in cluster.nodes:
                await node.redis.close()
                await node.postgres.close()
            await cluster.redis.aclose()
        await asyncio.gather(asyncio.to_thread(valkey.stop), asyncio.to_thread(embedded_postgres.stop))
