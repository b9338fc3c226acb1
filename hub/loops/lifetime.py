"""How loops begin and end: one that dies says so, and one that shall end does."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any

logger = logging.getLogger("hub.loops")


async def end(tasks: Iterable[asyncio.Task[None]], *, again_s: float = 2.0) -> None:
    """Cancel until they are over: a store that does not answer may swallow a cancellation, for its own
    clean-up fails in its place."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        over, left = await asyncio.wait(left, timeout=again_s)
        await asyncio.gather(*over, return_exceptions=True)


async def supervised(loop: Coroutine[Any, Any, None]) -> None:
    try:
        await loop
    except Exception:
        logger.critical("loop_died", exc_info=True)
        raise
