"""Growth: the hub's CPU a unit of work as sockets, open sessions and nodes grow tenfold and a hundredfold."""

import asyncio

from tests.bench.accounts import Account
from tests.bench.backlog import HOUR_MS, Backlog
from tests.bench.figures import HUB, Metric
from tests.bench.lab import Lab
from tests.bench.servers.hub import Hub
from tests.bench.wire import Crowd
from tests.bench.works import broadcast
from tests.bench.works.life import Company

NAME = "growth"
FRAME = Metric("CPU a broadcast frame", "µs", 2)
LIFE = Metric("CPU a life", "µs", 0)

SOCKETS = "sockets"
OPEN = "open sessions"
NODES = "nodes"

_MECHANICS = 100


async def measure(lab: Lab) -> None:
    for sockets in lab.pick(quick=(100, 1_000), full=(100, 1_000, 10_000)):
        await _sockets(lab, lab.fitting(sockets))
    for sessions in lab.pick(quick=(100, 1_000), full=(100, 1_000, 10_000, 100_000)):
        await _open_sessions(lab, sessions)
    for nodes in lab.pick(quick=(), full=(1, 3, 10)):
        await _nodes(lab, nodes)


async def _sockets(lab: Lab, sockets: int) -> None:
    """A broadcast to so many, and lives while so many mechanics are connected."""
    setting = f"{sockets:,} {SOCKETS}"
    async with lab.hub(mechanics=range(sockets)) as hub:
        await _lives(lab, hub, Crowd(hub.address), sockets, setting)
        # Those who have left are offline once their grace is over.
        await asyncio.sleep(lab.pick(quick=0, full=16))
        watchers = Crowd(hub.address)
        await watchers.join([hub.joining(str(number)) for number in range(sockets)])
        await broadcast.to_all(hub, watchers, b"")
        for _ in range(lab.runs):
            frames, spent = await broadcast.deliver(hub, watchers, [b""], lab.pick(quick=0.5, full=2.0))
            lab.figures.add(NAME, setting, HUB, FRAME, spent.server / frames * 1e6)
        await watchers.leave()


async def _open_sessions(lab: Lab, sessions: int) -> None:
    """Lives while so many other bookings wait for somebody, half of them open to everyone."""
    setting = f"{sessions:,} {OPEN}"
    others = range(_MECHANICS, _MECHANICS + 1_000)
    async with lab.hub(mechanics=range(others.stop)) as hub:
        backlog = Backlog(hub.valkey.url, await hub.shards())
        later = await backlog.now() + HOUR_MS
        lab.say(f"{NAME}: {setting}")
        await backlog.offers(sessions // 2, lambda n: later, lambda n: others[n % len(others)])
        await backlog.open_to_all(sessions - sessions // 2)
        await hub.drained(600)
        await _lives(lab, hub, Crowd(hub.address), _MECHANICS, setting)
        await backlog.close()


async def _nodes(lab: Lab, nodes: int) -> None:
    """Booked at the first of so many nodes, accepted at the last; what all of them spend is counted."""
    setting = f"{nodes:,} {NODES}"
    async with lab.hub(nodes=nodes, mechanics=range(_MECHANICS)) as hub:
        await _lives(lab, hub, Crowd(hub.addresses[-1]), _MECHANICS, setting)


async def _lives(lab: Lab, hub: Hub, crowd: Crowd, mechanics: int, setting: str) -> None:
    """What a life costs with so many mechanics connected; the first ones are not counted."""
    lives = lab.pick(quick=100, full=500)
    await crowd.join([hub.mechanic(number) for number in range(mechanics)])
    company = Company(hub, crowd)
    await company.live(32)
    for run in range(lab.runs):
        lab.say(f"{NAME}, {setting}, run {run + 1}")
        account = Account(hub.pids, hub.store_pids)
        await company.live(lives)
        await hub.drained()
        lab.figures.add(NAME, setting, HUB, LIFE, account.spent().server / lives * 1e6)
        await company.check()
    await crowd.leave()
