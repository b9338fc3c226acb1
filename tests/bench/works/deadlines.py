"""Deadlines: how late they are, and what happens when very many are due at once.

The hub's are windows of priority requests. One is late by the time from its due moment until the mechanic's
socket has the frame that says that the turn is over; the references' jobs only note when they run.
"""

import asyncio
import json
import time
from collections.abc import Sequence

from tests.bench.accounts import Account
from tests.bench.backlog import HOUR_MS, Backlog
from tests.bench.figures import HUB, Metric, percentile
from tests.bench.lab import Lab
from tests.bench.servers.hub import Hub
from tests.bench.wire import Crowd, HttpPool, Listener, http_request

NAME = "deadlines"
P50 = Metric("late, p50", "ms", 1)
P99 = Metric("late, p99", "ms", 1)
EARLIEST = Metric("earliest", "ms", 1)

AT_ONCE = "deadlines at once"
APPLIED = Metric("all applied after", "s", 2)
BLOCKED = Metric("event loop blocked at most", "ms", 1)
TWICE = Metric("not applied exactly once", "", 0)
CPU = Metric("CPU a deadline", "µs", 0)

_STEP_MS = 10
_AHEAD_MS = 2_500
_OTHERS = range(1, 2_000)
"""Mechanics who are offered what nobody listens for."""

_PROBE_S = 0.002


async def measure(lab: Lab) -> None:
    await _lateness(lab)
    await _at_once(lab)


async def _lateness(lab: Lab) -> None:
    pending = lab.pick(quick=1_000, full=100_000)
    burst = lab.pick(quick=100, full=500)
    async with lab.hub(mechanics=range(_OTHERS.stop)) as hub, lab.timers(pending) as timers:
        crowd = Crowd(hub.address)
        await crowd.join([hub.mechanic(0)])
        backlog = Backlog(hub.valkey.url, await hub.shards())
        lab.say(f"{HUB}: setting {pending:,}")
        later = await backlog.now() + HOUR_MS
        while (missing := pending - await backlog.deadlines()) > 0:
            await backlog.offers(max(missing // 3, 1), lambda n: later, lambda n: _OTHERS[n % len(_OTHERS)])
        await hub.drained()
        for run in range(lab.runs):
            lab.say(f"{NAME}, run {run + 1}: hub")
            _add(lab, HUB, pending, await _hub_late(backlog, crowd, burst))
            for timer in timers:
                lab.say(f"{NAME}, run {run + 1}: {timer.name}")
                _add(lab, timer.name, pending, await timer.late(burst, _AHEAD_MS, _STEP_MS))
        await crowd.leave()
        await backlog.close()


def _add(lab: Lab, contender: str, pending: int, late: Sequence[float]) -> None:
    for metric, value in (
        (P50, percentile(late, 0.5)),
        (P99, percentile(late, 0.99)),
        (EARLIEST, min(late)),
    ):
        lab.figures.add(NAME, f"{pending:,} pending", contender, metric, value)


async def _hub_late(backlog: Backlog, crowd: Crowd, burst: int) -> list[float]:
    """How late each was, ms."""
    late: list[float] = []
    done = asyncio.get_running_loop().create_future()
    first = await backlog.now() + _AHEAD_MS
    due: dict[str, int] = {}

    def on_frame(listener: Listener, payload: bytes) -> None:
        now = time.time() * 1000
        if b'"offer_ended"' in payload[:40]:
            late.append(now - due[json.loads(payload)["payload"]["assignment_id"]])
            if len(late) == burst:
                done.set_result(None)

    crowd.on_frame = on_frame
    due.update(await backlog.offers(burst, lambda n: first + n * _STEP_MS, lambda n: 0))
    async with asyncio.timeout((_AHEAD_MS + burst * _STEP_MS) / 1000 + 30):
        await done
    crowd.on_frame = None
    return late


async def _at_once(lab: Lab) -> None:
    count = lab.pick(quick=2_000, full=50_000)
    async with lab.hub(mechanics=range(_OTHERS.stop)) as hub:
        crowd = Crowd(hub.address)
        await crowd.join([hub.mechanic(0)])
        backlog = Backlog(hub.valkey.url, await hub.shards())
        for run in range(lab.runs):
            lab.say(f"{AT_ONCE}, run {run + 1}: setting {count:,}")
            await _all_due(lab, hub, crowd, backlog, count)
        await crowd.leave()
        await backlog.close()


async def _all_due(lab: Lab, hub: Hub, crowd: Crowd, backlog: Backlog, count: int) -> None:
    due = await backlog.now() + 3_000 + count * 2
    heard: set[str] = set()
    frames = 0
    done = asyncio.get_running_loop().create_future()

    def on_frame(listener: Listener, payload: bytes) -> None:
        nonlocal frames
        if b'"new_assignment"' in payload[:40]:
            frames += 1
            heard.add(json.loads(payload)["payload"]["request"]["assignment"]["id"])
            if len(heard) == count and not done.done():
                done.set_result(time.time() * 1000)

    crowd.on_frame = on_frame
    made = await backlog.offers(count, lambda n: due, lambda n: _OTHERS[n % len(_OTHERS)])
    await hub.drained()
    if await backlog.now() > due:
        raise RuntimeError("setting the deadlines took longer than they had")
    await asyncio.sleep((due - await backlog.now()) / 1000)
    account = Account(hub.pids, hub.store_pids)
    probe = asyncio.ensure_future(_longest_wait(hub.address))
    async with asyncio.timeout(300):
        at = await done
        while await backlog.deadlines(until=due):  # noqa: ASYNC110  # it happens in another process
            await asyncio.sleep(0.01)
    probe.cancel()
    (longest,) = await asyncio.gather(probe, return_exceptions=False)
    spent = account.spent()
    await hub.drained()
    crowd.on_frame = None
    applied = await hub.postgres.fetchval(
        "SELECT count(*) FROM session_events WHERE type = 'broadcast' AND assignment_id = ANY($1::uuid[])",
        list(made),
    )
    for metric, value in (
        (APPLIED, (at - due) / 1000),
        (BLOCKED, longest * 1000),
        (TWICE, abs(applied - count) + abs(frames - count)),
        (CPU, spent.server / count * 1e6),
    ):
        lab.figures.add(AT_ONCE, f"{count:,} due in one millisecond", HUB, metric, value)


async def _longest_wait(address: tuple[str, int]) -> float:
    """Until cancelled: the longest that the event loop kept a request waiting that asks no store."""
    pool = HttpPool(address)
    await pool.warm(1)
    request = http_request("GET", "/healthz", pool.host)
    longest = 0.0
    try:
        while True:
            begin = time.monotonic()
            await pool.ask(request)
            longest = max(longest, time.monotonic() - begin)
            await asyncio.sleep(_PROBE_S)
    except asyncio.CancelledError:
        return longest
    finally:
        pool.close()
