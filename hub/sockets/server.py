"""uvicorn with a graceful end: readiness fails first, then sockets are asked to move, then it stops."""

import asyncio
import contextlib
import logging
import random
import signal
from types import FrameType
from typing import Any

import uvicorn

from hub.sockets.frames import Outgoing
from hub.sockets.http import HubHttpProtocol
from hub.sockets.protocol import UpgradeGate
from hub.sockets.registry import Registry
from hub.wire.server import GoingAway

logger = logging.getLogger("hub.sockets.server")

_BATCH_EVERY_S = 0.05
_SOCKETS_A_SECOND = 2_000


def server_config(
    application: Any, protocol: type[asyncio.Protocol], *, ping_interval_s: float, ping_timeout_s: float
) -> uvicorn.Config:
    """How uvicorn serves a node; its own logs stay silent, they would show tokens."""
    return uvicorn.Config(
        application,
        http=HubHttpProtocol,
        ws=protocol,
        loop="uvloop",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws_ping_interval=ping_interval_s,
        ws_ping_timeout=ping_timeout_s,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=2,
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

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Unlike uvicorn's, does not raise the signal again afterwards: a drained node exits with 0."""
        if self._draining is not None or self._loop is None:
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT
        else:
            self._loop.call_soon_threadsafe(self.begin_drain)

    def begin_drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain())

    def stop(self) -> None:
        """At once."""
        self.should_exit = True

    async def _drain(self) -> None:
        self._gate.refusing = True
        members = self._registry.members()
        logger.info("draining", extra={"sockets": len(members), "seconds": self._drain_seconds})
        loop = asyncio.get_running_loop()
        end = loop.time() + self._drain_seconds
        try:
            random.shuffle(members)
            spread = min(self._drain_seconds / 2, len(members) / _SOCKETS_A_SECOND)
            notice = Outgoing(GoingAway(reconnect_ms=round(max(1.0, spread) * 1000)))
            batches = max(1, round(spread / _BATCH_EVERY_S))
            for batch in range(batches):
                for member in members[batch::batches]:
                    member.send(notice)
                if batch + 1 < batches:
                    await asyncio.sleep(_BATCH_EVERY_S * random.uniform(0.5, 1.5))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(end):
                    await self._registry.vacant.wait()
        finally:
            self.should_exit = True
