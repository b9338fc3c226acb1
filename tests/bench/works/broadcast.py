"""Broadcast: one message to every socket.

The hub's is a mechanic's change of status, which everybody here watches; the references are asked by HTTP to
send the very bytes that the hub sends. One message after the other, the next when the last socket has the one
before.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence

from tests.bench.accounts import Account, Spent
from tests.bench.figures import Metric, percentile
from tests.bench.lab import Crowds, Lab
from tests.bench.servers.channels import Channels
from tests.bench.servers.floor import Floor
from tests.bench.servers.nchan import Nchan
from tests.bench.servers.server import Reference, Server
from tests.bench.servers.socketio import PythonSocketIo, SocketIo
from tests.bench.servers.starlette import PlainStarlette
from tests.bench.wire import Crowd

NAME = "broadcast"
CPU = Metric("CPU a frame", "µs", 2)
STORES = Metric("stores' CPU a frame", "µs", 2)
LAST = Metric("to the last socket, p50", "ms", 1)
SHARE = Metric("load generator", "% of a core", 0)

FAST: Sequence[type[Reference]] = (Floor, Nchan, PlainStarlette)
ALL: Sequence[type[Reference]] = (*FAST, SocketIo, PythonSocketIo, Channels)

_LOST_AFTER_S = 20.0


async def measure(lab: Lab) -> None:
    for sockets, kinds in lab.pick(
        quick=[(1_000, ALL)], full=[(1_000, ALL), (2_000, ALL), (5_000, FAST), (20_000, FAST)]
    ):
        await _at(lab, lab.fitting(sockets), kinds)


async def _at(lab: Lab, sockets: int, kinds: Sequence[type[Reference]]) -> None:
    seconds = lab.pick(quick=0.6, full=2.0)
    async with lab.hub() as hub, lab.references(kinds) as references:
        servers: list[Server] = [hub, *references]
        crowds = Crowds(lab, servers, sockets)
        payload = b""
        for run in range(lab.runs):
            for server in servers:
                lab.say(f"{NAME}, {sockets:,} sockets, run {run + 1}: {server.name}")
                async with crowds.of(server) as crowd:
                    await _one(lab, server, crowd, payload, seconds, f"{sockets:,} sockets")
                payload = payload or crowd.sample
        await crowds.leave()
    lab.figures.note(f"Broadcast: the message has {len(payload)} bytes.")


async def _one(lab: Lab, server: Server, crowd: Crowd, payload: bytes, seconds: float, setting: str) -> None:
    lags: list[float] = []
    await to_all(server, crowd, payload)  # the first one pays for what is made once
    frames, spent = await deliver(server, crowd, payload, seconds, lags)
    if len(lags) * len(crowd.listeners) > frames:
        lab.figures.note(f"{server.name} lost frames of a broadcast to {setting}.")
    for metric, value in (
        (CPU, spent.server / frames * 1e6),
        (STORES, spent.stores / frames * 1e6),
        (LAST, percentile(lags, 0.5) * 1e3),
        (SHARE, spent.generator_share * 100),
    ):
        lab.figures.add(NAME, setting, server.name, metric, value)


async def deliver(
    server: Server, crowd: Crowd, payload: bytes, seconds: float, lags: list[float] | None = None
) -> tuple[int, Spent]:
    """Broadcasts one after the other for that long; how many frames came, and what they cost. `lags` gets the
    time that each took until the last socket had it."""
    before, complete = crowd.frames, True
    account = Account(server.pids, server.store_pids)
    end = time.monotonic() + seconds
    while time.monotonic() < end and complete:
        begin = time.monotonic()
        complete = await to_all(server, crowd, payload)
        if lags is not None:
            lags.append(time.monotonic() - begin)
    return crowd.frames - before, account.spent()


async def to_all(server: Server, crowd: Crowd, payload: bytes) -> bool:
    """Whether all had it before they are given up."""
    reached = crowd.expect(len(crowd.listeners))
    await server.publish(payload)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOST_AFTER_S):
            await reached
            return True
    return False
