"""Timers of others: delayed jobs on Redis, each kind with one worker, which notes how late it runs them."""

import asyncio
import shutil
import time
from collections.abc import Sequence
from typing import ClassVar

from redis.asyncio import Redis

from tests.bench.servers.process import Process
from tests.bench.servers.server import APPS, Place
from tests.bench.servers.tools import ARQ_PYTHON, NODE_MODULES, PYTHON, node_missing, python_missing

_LOAD_S = 900.0
_RUN_S = 60.0


class Timer:
    """Its app takes `work`, which runs jobs until it is ended, and `add COUNT FIRST_MS STEP_MS`, which sets
    as many. A job appends how late it ran, in ms, to the list `late`."""

    name: ClassVar[str]

    def __init__(self, place: Place) -> None:
        self._place = place
        # One server, a database each.
        self._url = (
            place.redis_url.rpartition("/")[0] + f"/{1 + [kind.name for kind in TIMERS].index(self.name)}"
        )
        self._worker: Process | None = None

    @classmethod
    def missing(cls) -> str | None:
        raise NotImplementedError

    def app(self, *arguments: str) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {"BENCH_REDIS_URL": self._url}

    async def start(self, pending: int) -> None:
        """With so many jobs that are due in an hour."""
        await self._add(pending, int(time.time() * 1000) + 3_600_000, 0)
        self._worker = self._process("work", self.app("work"))
        await self.late(20, 500, 10)  # once it has done these, it is there

    async def late(self, count: int, ahead_ms: int, step_ms: int) -> list[float]:
        """How late each was, ms."""
        async with Redis.from_url(self._url) as redis:
            await redis.delete("late")
            await self._add(count, int(time.time() * 1000) + ahead_ms, step_ms)
            async with asyncio.timeout(_RUN_S + (ahead_ms + count * step_ms) / 1000):
                while await redis.llen("late") < count:
                    if self._worker is not None:
                        self._worker.check()
                    await asyncio.sleep(0.1)
            return [float(each) for each in await redis.lrange("late", 0, -1)]

    async def stop(self) -> None:
        if self._worker is not None:
            await self._worker.kill()

    async def _add(self, count: int, first_ms: int, step_ms: int) -> None:
        loader = self._process("add", self.app("add", str(count), str(first_ms), str(step_ms)))
        await loader.ended(_LOAD_S)

    def _process(self, what: str, command: Sequence[str]) -> Process:
        log = self._place.directory / f"{self.name}-{what}.log"
        return Process(f"{self.name} ({what})", command, log, self.environment())


class BullMq(Timer):
    name = "BullMQ"

    @classmethod
    def missing(cls) -> str | None:
        return node_missing("bullmq", "ioredis")

    def app(self, *arguments: str) -> Sequence[str]:
        return [shutil.which("node") or "node", str(APPS / "bullmq_app.js"), *arguments]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "NODE_PATH": str(NODE_MODULES), "NODE_ENV": "production"}


class Arq(Timer):
    name = "ARQ"

    @classmethod
    def missing(cls) -> str | None:
        return python_missing("arq", python=ARQ_PYTHON)

    def app(self, *arguments: str) -> Sequence[str]:
        return [str(ARQ_PYTHON), str(APPS / "arq_app.py"), *arguments]


class Celery(Timer):
    name = "Celery ETA"

    @classmethod
    def missing(cls) -> str | None:
        return python_missing("celery", "redis")

    def app(self, *arguments: str) -> Sequence[str]:
        return [str(PYTHON), str(APPS / "celery_app.py"), *arguments]


TIMERS: Sequence[type[Timer]] = (BullMq, Arq, Celery)
