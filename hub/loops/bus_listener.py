"""The bus listener: hands on what is said on the bus, and has made up for what was not heard.

After an interruption everything is read from state; and since a message may be lost without one, what has
lately become open is looked through every few seconds.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hub.domain.errors import Unavailable
from hub.loops.periodic import every
from hub.ports import Bus

logger = logging.getLogger("hub.loops.bus")

_AGAIN_S = 0.2
_GLANCE_S = 5.0


class BusListener:
    """`heard` takes each message; `resync` reads the state that missed messages were about, `glance` what has
    changed lately and cannot wait."""

    def __init__(
        self,
        *,
        bus: Bus,
        heard: Callable[[str], None],
        resync: Callable[[], Awaitable[None]],
        glance: Callable[[], Awaitable[None]],
    ) -> None:
        self._bus = bus
        self._heard = heard
        self._resync = resync
        self._glance = glance
        self._making_up: asyncio.Task[None] | None = None
        self._patience: asyncio.Timeout | None = None
        self.listening = asyncio.Event()
        self.subscriptions = 0
        """How many there have been, the one that stands included."""

    async def run(self) -> None:
        glancing = asyncio.create_task(every(_GLANCE_S, self._glance, logger))
        try:
            while True:
                await self.step()
                await asyncio.sleep(_AGAIN_S)
        finally:
            beside = [task for task in (glancing, self._making_up) if task is not None]
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def step(self) -> None:
        """Listen until the connection is lost, or we are told to leave it."""
        try:
            async with asyncio.timeout(None) as self._patience:
                await self._bus.listen(self._heard, on_subscribed=self._subscribed)
        except TimeoutError:
            logger.warning("bus_left")
        except Unavailable as error:
            logger.warning("bus_lost", extra={"detail": error.detail})
        finally:
            self.listening.clear()

    def resubscribe(self) -> None:
        """Leave this connection: whatever it looks like, not everything is heard on it."""
        if self.listening.is_set() and self._patience is not None:
            self.listening.clear()
            self._patience.reschedule(0)

    def _subscribed(self) -> None:
        self.subscriptions += 1
        self.listening.set()
        if self._making_up is not None:
            self._making_up.cancel()
        self._making_up = asyncio.create_task(self._make_up())

    async def _make_up(self) -> None:
        while True:
            try:
                await self._resync()
                return
            except Unavailable:
                await asyncio.sleep(_AGAIN_S)
            except Exception:
                logger.exception("resync_failed")
                return
