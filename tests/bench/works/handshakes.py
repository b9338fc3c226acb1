"""Handshakes, and the storm when everybody comes back at once.

A handshake is the whole way in: for the hub token, presence and welcome with all that is open, for socket.io
its own opening, for Channels its groups. In the storm all sockets are reset in one moment and connect again
at once, while others go on: they send heartbeats on their sockets and poll presence.
"""

import time

from tests.bench.accounts import Account
from tests.bench.figures import HUB, Metric, percentile
from tests.bench.lab import Lab
from tests.bench.others import Others
from tests.bench.servers.server import Server
from tests.bench.wire import Crowd
from tests.bench.works.broadcast import ALL

NAME = "handshakes"
CPU = Metric("CPU a handshake", "µs", 0)
STORES = Metric("stores' CPU", "µs", 0)
RATE = Metric("served", "/s", 0, lower_is_better=False)
SHARE = Metric("load generator", "% of a core", 0)

STORM = "storm"
SERVED = Metric("all served after", "s", 2)
CPU_ALL = Metric("CPU in all", "s", 2)
TURNED_AWAY = Metric("turned away first", "", 0)
OTHERS = Metric("others' heartbeats, p99", "ms", 1)
POLLS = Metric("others' polls, p99", "ms", 1)


async def measure(lab: Lab) -> None:
    await _handshakes(lab)
    await _storm(lab)


async def _handshakes(lab: Lab) -> None:
    sockets = lab.pick(quick=500, full=2_000)
    async with lab.hub(mechanics=range(sockets)) as hub, lab.references(ALL) as references:
        servers: list[Server] = [hub, *references]
        for run in range(lab.runs):
            for server in servers:
                lab.say(f"{NAME}, run {run + 1}: {server.name}")
                crowd = Crowd(server.address)
                coming = [server.addressee(str(number)) for number in range(sockets)]
                account = Account(server.pids, server.store_pids)
                await crowd.join(coming)
                spent = account.spent()
                await crowd.leave()
                for metric, value in (
                    (CPU, spent.server / sockets * 1e6),
                    (STORES, spent.stores / sockets * 1e6),
                    (RATE, sockets / spent.wall),
                    (SHARE, spent.generator_share * 100),
                ):
                    lab.figures.add(NAME, f"{sockets:,}, 128 at once", server.name, metric, value)


async def _storm(lab: Lab) -> None:
    sockets = lab.fitting(lab.pick(quick=1_000, full=5_000))
    async with lab.hub(mechanics=range(sockets)) as hub:
        others = await Others.join(hub.address)
        crowd = Crowd(hub.address)
        lab.say(f"{STORM}: connecting {sockets:,}")
        await crowd.join([hub.mechanic(number) for number in range(sockets)])
        for run in range(lab.runs):
            lab.say(f"{STORM}, run {run + 1}")
            coming = [hub.mechanic(number) for number in range(sockets)]
            account = Account(hub.pids, hub.store_pids)
            async with others.busy():
                begin = time.monotonic()
                await crowd.leave()
                crowd = Crowd(hub.address)
                await crowd.join(coming, at_once=sockets)
                served = time.monotonic() - begin
            for metric, value in (
                (SERVED, served),
                (CPU_ALL, account.spent().server),
                (TURNED_AWAY, crowd.turned_away),
                (OTHERS, percentile(others.heartbeats, 0.99) * 1000),
                (POLLS, percentile(others.polls, 0.99) * 1000),
            ):
                lab.figures.add(STORM, f"{sockets:,} sockets", HUB, metric, value)
        await crowd.leave()
        await others.leave()
