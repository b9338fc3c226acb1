"""The canary: a node says a word to itself on every channel of the bus, and hears whether it comes back.

A subscription can be deaf while its connection looks well: then hints are lost, and nobody would notice.
Each step judges what became of the last words and says the next, so a word has one period to come back.
A channel that stayed silent is subscribed anew, on another connection, which also makes up for what was
missed; one that is silent after that makes the node unfit for work until it hears itself again. It goes on
subscribing anew meanwhile, so that its sockets learn late rather than never.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hub.loops.bus_listener import BusListener
from hub.loops.periodic import every

logger = logging.getLogger("hub.loops.canary")

_EVERY_S = 3.0


class Canary:
    """`speak` (shard, turn) says a word to ourselves on the shard's channel."""

    def __init__(
        self,
        *,
        speak: Callable[[int, int], Awaitable[None]],
        shards: int,
        listener: BusListener,
        alarm: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._speak = speak
        self._shards = shards
        self._listener = listener
        self._alarm = alarm
        self._turn = 0
        self._said_on = 0
        self._unheard: set[int] = set()
        self._missed = False
        self.deaf = False

    def heard(self, shard: int, turn: int) -> None:
        """A word of ours came back; one of an earlier turn is too late to tell anything."""
        if turn == self._turn:
            self._unheard.discard(shard)

    async def run(self) -> None:
        await every(_EVERY_S, self.step, logger)

    async def step(self) -> None:
        """Judge the last words, say the next. While nothing is subscribed the listener says so itself, and
        what was said on an earlier subscription proves nothing."""
        if not self._listener.listening.is_set():
            return
        if self._said_on == self._listener.subscriptions:
            if self._unheard:
                self._miss()
                return
            self._missed = self.deaf = False
        await self._sing()

    async def _sing(self) -> None:
        self._said_on = 0
        self._turn += 1
        self._unheard = set(range(self._shards))
        subscription = self._listener.subscriptions
        await asyncio.gather(*(self._speak(shard, self._turn) for shard in range(self._shards)))
        self._said_on = subscription

    def _miss(self) -> None:
        logger.warning("bus_deaf", extra={"shards": sorted(self._unheard), "again": self._missed})
        if self._missed and not self.deaf:
            self.deaf = True
            self._alarm("deaf")
        self._missed = True
        self._listener.resubscribe()
