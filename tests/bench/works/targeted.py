"""Targeted: a request by HTTP, one frame on one socket.

The hub's request is a booking that prefers a mechanic: decided, committed, offered on that mechanic's socket.
The references only pass a message of 230 bytes on. Requests come at a fixed rate whatever becomes of them;
the time runs from the moment a request is written until its frame is read.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence

from tests.bench.accounts import Account
from tests.bench.figures import Metric, percentile
from tests.bench.lab import Lab
from tests.bench.servers.channels import Channels
from tests.bench.servers.floor import Floor
from tests.bench.servers.hub import Hub
from tests.bench.servers.nchan import Nchan
from tests.bench.servers.server import Reference, Server
from tests.bench.servers.socketio import PythonSocketIo, SocketIo
from tests.bench.servers.starlette import PlainStarlette
from tests.bench.wire import Crowd, Listener, steadily

NAME = "targeted"
P50 = Metric("p50", "ms", 2)
P99 = Metric("p99", "ms", 2)
CPU = Metric("CPU a message", "µs", 0)
STORES = Metric("stores' CPU a message", "µs", 0)
SHARE = Metric("load generator", "% of a core", 0)

KINDS: Sequence[type[Reference]] = (Floor, Nchan, PlainStarlette, SocketIo, PythonSocketIo, Channels)

_EVENT = b"priority_session_request"
_PAYLOAD = b'{"type":"event","event":"' + _EVENT + b'","payload":"' + b"x" * 166 + b'"}'
_LINES = 64
_STRAGGLERS_S = 5.0

Fire = Callable[[int], Awaitable[object]]
"""Starts the request for the socket of this number."""


async def measure(lab: Lab) -> None:
    sockets = lab.pick(quick=500, full=2_000)
    seconds = lab.pick(quick=1.0, full=4.0)
    async with lab.hub(mechanics=range(sockets)) as hub, lab.references(KINDS) as references:
        servers: list[Server] = [hub, *references]
        crowds = {}
        for server in servers:
            crowds[server.name] = crowd = Crowd(server.address)
            await crowd.join([server.addressee(str(number)) for number in range(sockets)])
        customers = Customers(hub)
        await customers.open_lines()
        for rate in lab.pick(quick=(200,), full=(50, 200, 500)):
            for run in range(lab.runs):
                for server in servers:
                    lab.say(f"{NAME}, {rate}/s, run {run + 1}: {server.name}")
                    fire = customers.book if server is hub else _passing(server)
                    await _one(lab, server, crowds[server.name], fire, rate, seconds)
                    await customers.leave()
        for crowd in crowds.values():
            await crowd.leave()


class Customers:
    """Each books once; afterwards, when nothing is measured, they end what they began."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._next = 0
        self._sessions: list[tuple[int, str]] = []

    async def open_lines(self) -> None:
        await self._hub.pools[0].warm(_LINES)

    async def book(self, mechanic: int) -> None:
        self._next += 1
        customer = self._next
        self._sessions.append((customer, await self._hub.book(customer, mechanic)))

    async def leave(self) -> None:
        gate = asyncio.Semaphore(16)

        async def end(customer: int, session_id: str) -> None:
            async with gate:
                await self._hub.end(customer, session_id)

        await asyncio.gather(*(end(*session) for session in self._sessions))
        self._sessions.clear()


def _passing(server: Server) -> Fire:
    assert isinstance(server, Reference)

    async def fire(number: int) -> None:
        await server.target(str(number), _PAYLOAD)

    return fire


async def _one(lab: Lab, server: Server, crowd: Crowd, fire: Fire, rate: int, seconds: float) -> None:
    sent: dict[int, deque[float]] = defaultdict(deque)
    lags: list[float] = []
    count = int(rate * seconds)
    done = asyncio.get_running_loop().create_future()

    def on_frame(listener: Listener, payload: bytes) -> None:
        # The hub also tells how earlier ones ended.
        if _EVENT in payload[:80] and sent[listener.index]:
            lags.append(time.monotonic() - sent[listener.index].popleft())
            if len(lags) == count and not done.done():
                done.set_result(None)

    crowd.on_frame = on_frame
    account = Account(server.pids, server.store_pids)
    requests = []
    for number, moment in enumerate(steadily(rate, count)):
        if (pause := moment - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        mechanic = number * 7 % len(crowd.listeners)
        sent[mechanic].append(time.monotonic())
        requests.append(asyncio.ensure_future(fire(mechanic)))
    await asyncio.gather(*requests)
    await asyncio.wait([done], timeout=_STRAGGLERS_S)
    spent = account.spent()
    crowd.on_frame = None
    if len(lags) < count:
        lab.figures.note(f"{server.name} lost {count - len(lags)} of {count} targeted messages at {rate}/s.")
    for metric, value in (
        (P50, percentile(lags, 0.5) * 1e3),
        (P99, percentile(lags, 0.99) * 1e3),
        (CPU, spent.server / count * 1e6),
        (STORES, spent.stores / count * 1e6),
        (SHARE, spent.generator_share * 100),
    ):
        lab.figures.add(NAME, f"{rate}/s, {len(crowd.listeners):,} sockets", server.name, metric, value)
