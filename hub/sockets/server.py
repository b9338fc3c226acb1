"""uvicorn with a graceful end: readiness fails first, then sockets are asked to move, then it stops."""

import asyncio
import contextlib
import logging
import math
import random
import signal
from collections import deque
from collections.abc import Generator
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from hub.sockets.frames import Outgoing
from hub.sockets.http import HubHttpProtocol
from hub.sockets.protocol import UpgradeGate
from hub.sockets.registry import Member, Registry
from hub.wire.closing import Close
from hub.wire.server import GoingAway

logger = logging.getLogger("hub.sockets.server")

_BATCH_EVERY_S = 0.05
_SOCKETS_A_SECOND = 50
"""No drain is slower than this; one with more sockets than its time allows is faster."""
_STAY_S = 3.0
"""The longest that a socket may stay after it was asked to go."""
_RECONNECT_MS = 1_000
_LAST_S = 3
"""For what is under way when the sockets have gone; longer than a socket may linger over its goodbye."""
_AT_ONCE_S = 1
_KEEP_ALIVE_S = 75
"""Between requests on one connection. Longer than a balancer's patience, which is usually 60 s: whoever asks
should be the one who closes, or a request may meet the end of its connection."""


def server_config(application: Any, protocol: type[asyncio.Protocol]) -> uvicorn.Config:
    """How uvicorn serves a node; its own logs stay silent, they would show tokens."""
    return uvicorn.Config(
        application,
        http=HubHttpProtocol,
        ws=protocol,
        loop="uvloop",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ws_per_message_deflate=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_LAST_S,
        backlog=4096,
    )


class HubServer(uvicorn.Server):
    """The first SIGTERM or SIGINT drains, a second one stops at once."""

    def __init__(
        self, config: uvicorn.Config, *, registry: Registry, gate: UpgradeGate, drain_seconds: float
    ) -> None:
        super().__init__(config)
        self._registry = registry
        self._gate = gate
        self._drain_seconds = drain_seconds
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]  # passed on
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets=sockets)  # type: ignore[arg-type]  # as it came

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Until the process ends: one that has drained has only its goodbyes to say, and exits with 0."""
        for sig in HANDLED_SIGNALS:
            signal.signal(sig, self.handle_exit)
        try:
            yield
        finally:
            for sig in HANDLED_SIGNALS:
                signal.signal(sig, signal.SIG_IGN)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Unlike uvicorn's, does not raise the signal again afterwards: a drained node exits with 0."""
        if self._loop is None:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self.begin_drain if self._draining is None else self.stop)

    def begin_drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain())

    def stop(self) -> None:
        """At once."""
        if self._draining is not None and self._draining.cancel():
            logger.warning("drain_cut_short", extra={"sockets": len(self._registry)})
        self.config.timeout_graceful_shutdown = _AT_ONCE_S
        self.force_exit = self.should_exit  # it waits already, for requests under way
        self.should_exit = True

    async def _drain(self) -> None:
        self._gate.refusing = True
        loop = asyncio.get_running_loop()
        end = loop.time() + self._drain_seconds
        logger.info("draining", extra={"sockets": len(self._registry), "seconds": self._drain_seconds})
        try:
            await self._move(end)
            # Requests under way have what is left of the time.
            self.config.timeout_graceful_shutdown = max(_LAST_S, math.ceil(end - loop.time()))
        finally:
            self.should_exit = True

    async def _move(self, end: float) -> None:
        """Ask every socket to go, in jittered batches, and close it where it stays, until all have gone or
        the time is over. Whoever waits for a reply may stay until it has come."""
        loop = asyncio.get_running_loop()
        spread = min(self._drain_seconds / 2, len(self._registry) / _SOCKETS_A_SECOND)
        asked_by = loop.time() + spread
        stay = min(self._drain_seconds - spread, _STAY_S)
        notice = Outgoing(GoingAway(reconnect_ms=max(_RECONNECT_MS, round(stay * 500))))
        asked: set[str] = set()
        leaving: deque[tuple[float, Member]] = deque()
        while len(self._registry):
            now = loop.time()
            # Those who were on their way in come later.
            still_to_ask = [member for member in self._registry.members() if member.id not in asked]
            for member in random.sample(still_to_ask, _batch(len(still_to_ask), asked_by - now)):
                member.send(notice)
                asked.add(member.id)
                leaving.append((now + stay, member))
            while leaving and leaving[0][0] <= now:
                _, member = leaving.popleft()
                if member.waits:
                    leaving.append((now + _BATCH_EVERY_S, member))
                else:
                    member.close(Close.RESTARTING, "The node restarts.")
            if now >= end:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BATCH_EVERY_S * random.uniform(0.5, 1.5)):
                    await self._registry.vacant.wait()


def _batch(left: int, seconds_left: float) -> int:
    """How many of those who are left are next."""
    batches = max(1.0, seconds_left / _BATCH_EVERY_S)
    return math.ceil(left / batches)
