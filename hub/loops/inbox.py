"""The inbox loop: takes up Stripe's events that were left by a node that died, or while a store was away."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hub.domain.checkout import StripeEvent
from hub.domain.errors import Unavailable
from hub.ports import Inbox

logger = logging.getLogger("hub.loops.inbox")

LEFT_S = 10.0
"""Nobody is still at an event of this age, as a rule; and if somebody is, nothing is lost."""

_EVERY_S = 5.0
_AT_LEAST_EVERY_S = 20.0
_BATCH = 20


class LeftEvents:
    """`handle` brings an event to its end or raises `Unavailable`; `alarm` is told of those it fails at."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        handle: Callable[[StripeEvent], Awaitable[StripeEvent]],
        alarm: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._inbox = inbox
        self._handle = handle
        self._alarm = alarm
        self._after: tuple[int, str] | None = None

    async def run(self) -> None:
        pause = _EVERY_S
        while True:
            await asyncio.sleep(pause)
            try:
                pause = 0.0 if await self.step() else _EVERY_S
            except Unavailable as error:
                pause = min(2 * max(pause, _EVERY_S), _AT_LEAST_EVERY_S)
                logger.info("inbox_waits", extra={"detail": error.detail})
            except Exception:
                pause = _EVERY_S
                logger.exception("inbox_failed")

    async def step(self) -> bool:
        """Take up one batch; whether there are more behind it.

        Raises `Unavailable` after the batch where that stopped one of its events. The next step goes on
        behind the batch, so that what cannot be handled keeps nothing else from it.
        """
        batch = await self._inbox.left(older_than_s=LEFT_S, limit=_BATCH, after=self._after)
        more = len(batch) == _BATCH
        self._after = (batch[-1].received_at, batch[-1].event_id) if more else None
        obstacles = await asyncio.gather(*(self._take_up(event) for event in batch))
        for obstacle in obstacles:
            if obstacle is not None:
                raise obstacle
        return more

    async def _take_up(self, event: StripeEvent) -> Unavailable | None:
        try:
            done = await self._handle(event)
            logger.info("stripe_event_resumed", extra={"event": event.event_id, "outcome": done.outcome})
        except Unavailable as error:
            return error
        except Exception:
            logger.exception("stripe_event_failed", extra={"event": event.event_id})
            self._alarm("stripe_event_failed")
        return None
