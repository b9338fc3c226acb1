"""The machine: what the bare parts cost that every answer of the hub is made of, measured beside it.

No hub in Python can be faster than these on the same machine, so they tell how much of a figure is the
hub's: a booking is at least a request, three questions to Redis of which one is synced, and a frame.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import asyncpg
from redis.asyncio import Redis

from tests.bench.accounts import Account
from tests.bench.backlog import Backlog
from tests.bench.figures import Metric, percentile
from tests.bench.lab import Lab

NAME = "machine"
STEP = Metric("CPU a step", "µs", 3)
P50 = Metric("p50", "ms", 2)
P99 = Metric("p99", "ms", 2)

_STEPS = 1_000_000
_RATE = 200
_PIPELINE = 100


async def measure(lab: Lab) -> None:
    async with lab.hub() as hub:
        redis = Redis.from_url(hub.valkey.url)
        postgres = await asyncpg.connect(hub.embedded_postgres.url)
        await postgres.execute("CREATE TEMPORARY TABLE bare (id serial PRIMARY KEY, word text)")
        calls = lab.pick(quick=100, full=400)
        backlog = Backlog(hub.valkey.url, await hub.shards())

        async def pipelined() -> None:
            pipeline = redis.pipeline(transaction=False)
            for _ in range(_PIPELINE):
                pipeline.get("word")
            await pipeline.execute()

        for run in range(lab.runs):
            lab.say(f"{NAME}, run {run + 1}")
            lab.figures.add(NAME, "the interpreter", "one addition in a loop", STEP, _additions())
            for name, work, parts in (
                ("redis-py, one read", lambda: redis.get("word"), 1),
                ("redis-py, one read of a pipeline of 100", pipelined, _PIPELINE),
                ("redis-py, one synced write", lambda: redis.set("word", "x" * 500), 1),
                ("asyncpg, one row", lambda: postgres.execute("INSERT INTO bare (word) VALUES ('x')"), 1),
            ):
                await _steadily(lab, name, work, calls, parts)
            await _commits(lab, backlog, hub.valkey.pid)
        await backlog.close()
        await postgres.close()
        await redis.aclose()


def _additions() -> float:
    begin = time.process_time()
    total = 0
    for number in range(_STEPS):
        total += number
    return (time.process_time() - begin) / _STEPS * 1e6


async def _commits(lab: Lab, backlog: Backlog, valkey: int) -> None:
    """Bookings, decided here and committed by the hub's script: what any change of a session is at least."""
    commits = lab.pick(quick=500, full=5_000)
    account, own = Account([], [valkey]), time.process_time()
    await backlog.open_to_all(commits)
    own = time.process_time() - own
    for name, spent in (("Valkey", account.spent().stores), ("who decides and asks", own)):
        lab.figures.add(NAME, "commits, 256 at once", name, STEP, spent / commits * 1e6)


async def _steadily(
    lab: Lab, name: str, work: Callable[[], Awaitable[object]], calls: int, parts: int
) -> None:
    """One after the other at a fixed rate, with nobody else about."""
    times: list[float] = []
    spent = 0.0
    for _ in range(calls):
        begin, cpu = time.monotonic(), time.process_time()
        await work()
        spent += time.process_time() - cpu
        times.append(time.monotonic() - begin)
        await asyncio.sleep(max(0.0, 1 / _RATE - times[-1]))
    setting = f"clients, {_RATE} calls a second"
    lab.figures.add(NAME, setting, name, STEP, spent / calls / parts * 1e6)
    if parts == 1:
        lab.figures.add(NAME, setting, name, P50, percentile(times, 0.5) * 1e3)
        lab.figures.add(NAME, setting, name, P99, percentile(times, 0.99) * 1e3)
