"""Idle sockets: what one holds in memory, and what ten thousand cost that only answer pings."""

import asyncio

from tests.bench.accounts import Account, resident_bytes
from tests.bench.figures import Metric
from tests.bench.lab import Lab
from tests.bench.servers.server import Server
from tests.bench.wire import Crowd
from tests.bench.works.broadcast import ALL

NAME = "idle"
MEMORY = Metric("memory a socket", "KB", 1)

HEARTBEATS = "heartbeats"
CPU = Metric("CPU of one core", "%", 2)
STORES = Metric("stores' CPU", "%", 2)
COMMANDS = Metric("Redis commands", "/s", 1)
PINGS = Metric("pings answered", "/s", 0)

_PING_S = 10
_ROUND_S = 30
"""In this time everything that the hub does now and then was done once."""


async def measure(lab: Lab) -> None:
    await _memory(lab)
    await _heartbeats(lab)


async def _memory(lab: Lab) -> None:
    """Each run adds as many sockets to those that are there: what is made once is not counted again."""
    sockets = lab.pick(quick=300, full=sockets_more(lab.sockets, lab.runs))
    everyone = range(sockets * (lab.runs + 1))
    async with lab.hub(mechanics=everyone) as hub, lab.references(ALL) as references:
        servers: list[Server] = [hub, *references]
        crowds = {server.name: Crowd(server.address) for server in servers}
        for run in range(lab.runs + 1):
            numbers = everyone[run * sockets : (run + 1) * sockets]
            for server in servers:
                lab.say(f"{NAME}, memory, run {run}: {server.name}")
                before = resident_bytes(server.pids)
                await crowds[server.name].join([server.addressee(str(number)) for number in numbers])
                await asyncio.sleep(lab.pick(quick=0.3, full=1.0))
                if run > 0:  # the first sockets pay for what is made once
                    kilobytes = (resident_bytes(server.pids) - before) / sockets / 1024
                    lab.figures.add(NAME, f"{sockets:,} sockets more", server.name, MEMORY, kilobytes)
        for crowd in crowds.values():
            await crowd.leave()


def sockets_more(limit: int, runs: int) -> int:
    """So many that those of all servers may be open at once, with the first ones, which are not counted."""
    return min(2_000, limit // (len(ALL) + 1) // (runs + 1))


async def _heartbeats(lab: Lab) -> None:
    sockets = lab.fitting(lab.pick(quick=1_000, full=10_000))
    seconds = lab.pick(quick=_PING_S, full=_ROUND_S)
    async with lab.hub(mechanics=range(sockets)) as hub:
        crowd = Crowd(hub.address)
        lab.say(f"{HEARTBEATS}: connecting {sockets:,}")
        await crowd.join([hub.mechanic(number) for number in range(sockets)])
        await hub.drained()
        for run in range(lab.pick(quick=1, full=lab.runs)):
            lab.say(f"{HEARTBEATS}, run {run + 1}")
            commands, pings = await hub.commands_done(), crowd.pings
            account = Account(hub.pids, hub.store_pids)
            await asyncio.sleep(seconds)
            spent, asked = account.spent(), await hub.commands_done() - commands - 1
            if crowd.lost:
                lab.figures.note(f"{crowd.lost} idle sockets were lost.")
            for metric, value in (
                (CPU, spent.server / spent.wall * 100),
                (STORES, spent.stores / spent.wall * 100),
                (COMMANDS, asked / spent.wall),
                (PINGS, (crowd.pings - pings) / spent.wall),
            ):
                lab.figures.add(HEARTBEATS, f"{sockets:,} sockets", hub.name, metric, value)
        await crowd.leave()
