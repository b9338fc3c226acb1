"""Broadcast: one message to every socket.

The hub's is a mechanic's change of status, which everybody here watches; the references are asked by HTTP to
send the very bytes that the hub sends. Of bookings: every online mechanic hears of a booking, and then of its
end; what that costs besides frames is counted in. One message after the other, the next when the last socket
has the one before.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence

from tests.bench.accounts import Account, Spent
from tests.bench.counter import counter
from tests.bench.figures import Metric, percentile
from tests.bench.lab import FAILURES, Crowds, Lab
from tests.bench.servers.channels import Channels
from tests.bench.servers.floor import Floor
from tests.bench.servers.hub import BookingHub
from tests.bench.servers.nchan import Nchan
from tests.bench.servers.server import Reference, Server
from tests.bench.servers.socketio import PythonSocketIo, SocketIo
from tests.bench.servers.starlette import PlainStarlette
from tests.bench.wire import Crowd

NAME = "broadcast"
BOOKINGS = "broadcast of bookings"
CPU = Metric("CPU a frame", "µs", 2)
STORES = Metric("stores' CPU a frame", "µs", 2)
LAST = Metric("to the last socket, p50", "ms", 1)
SHARE = Metric("load generator", "% of a core", 0)

FAST: Sequence[type[Reference]] = (Floor, Nchan, PlainStarlette)
ALL: Sequence[type[Reference]] = (*FAST, SocketIo, PythonSocketIo, Channels)

_LOST_AFTER_S = 20.0


async def measure(lab: Lab) -> None:
    for sockets, kinds in lab.pick(quick=[(1_000, ALL)], full=[(1_000, ALL), (5_000, FAST), (20_000, FAST)]):
        async with lab.hub() as hub, lab.references(kinds) as references:
            await _in_turn(lab, NAME, [hub, *references], lab.fitting(sockets))
    for sockets in lab.pick(quick=[500], full=[1_000, 5_000]):
        async with lab.hub(mechanics=range(sockets)) as hub, lab.references(FAST) as references:
            await _in_turn(lab, BOOKINGS, [BookingHub(hub), *references], lab.fitting(sockets))


async def _in_turn(lab: Lab, work: str, servers: Sequence[Server], sockets: int) -> None:
    """The first of the servers is the hub; the others send what it sends."""
    setting, seconds = f"{sockets:,} sockets", lab.pick(quick=0.6, full=2.0)
    crowds = Crowds(lab, servers, sockets)
    messages: list[bytes] = []
    try:
        for run in range(lab.runs):
            for server in servers:
                lab.say(f"{work}, {setting}, run {run + 1}: {server.name}")
                try:
                    async with crowds.of(server) as crowd:
                        # The first ones pay for what is made once.
                        samples = [
                            await _sample(server, crowd, message) for message in messages or [b"", b""]
                        ]
                        messages = messages or samples
                        await _one(lab, work, server, crowd, messages, seconds, setting)
                except FAILURES as error:
                    if server is servers[0]:
                        raise
                    lab.figures.note(f"{server.name} could not do the {work} to {setting}: {error}.")
    finally:
        await crowds.leave()
    sizes = " and ".join(str(size) for size in dict.fromkeys(len(message) for message in messages))
    lab.figures.note(f"{work}, {setting}: messages of {sizes} bytes.")


async def _sample(server: Server, crowd: Crowd, message: bytes) -> bytes:
    """What came to the last socket."""
    await to_all(server, crowd, message)
    return crowd.sample


async def _one(
    lab: Lab,
    work: str,
    server: Server,
    crowd: Crowd,
    messages: Sequence[bytes],
    seconds: float,
    setting: str,
) -> None:
    lags: list[float] = []
    frames, spent = await deliver(server, crowd, messages, seconds, lags)
    if len(lags) * len(crowd.listeners) > frames:
        lab.figures.note(f"{server.name} lost frames of a {work} to {setting}.")
    for metric, value in (
        (CPU, spent.server / frames * 1e6),
        (STORES, spent.stores / frames * 1e6),
        (LAST, percentile(lags, 0.5) * 1e3),
        (SHARE, spent.generator_share * 100),
    ):
        lab.figures.add(work, setting, server.name, metric, value)


async def deliver(
    server: Server,
    crowd: Crowd,
    messages: Sequence[bytes],
    seconds: float,
    lags: list[float] | None = None,
) -> tuple[int, Spent]:
    """Sends the messages in turn for that long, an even number of them; how many frames came, and what they
    cost. `lags` gets the time that each took until the last socket had it."""
    frames, complete, everyone = 0, True, len(crowd.listeners)
    account = Account(server.pids, server.store_pids)
    end = time.monotonic() + seconds
    with counter(crowd) as counted:
        while time.monotonic() < end and complete:
            for message in messages:
                begin, before = time.monotonic(), crowd.frames
                if counted is None:
                    await to_all(server, crowd, message)
                    came = crowd.frames - before
                else:
                    coming = counted.expect(everyone, _LOST_AFTER_S)
                    await server.publish(message)
                    came = await coming
                frames += came
                complete = complete and came == everyone
                if lags is not None:
                    lags.append(time.monotonic() - begin)
    return frames, account.spent()


async def to_all(server: Server, crowd: Crowd, message: bytes) -> None:
    """Returns when all have it, or are given up."""
    reached = crowd.expect(len(crowd.listeners))
    await server.publish(message)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOST_AFTER_S):
            await reached
