"""The plainest of loops: one step after the other, at a regular distance, whatever becomes of each."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hub.domain.errors import Unavailable


async def every(seconds: float, step: Callable[[], Awaitable[object]], logger: logging.Logger) -> None:
    """Until cancelled. A store that is away is waited for; anything else is an error, and no end."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await step()
        except Unavailable as error:
            logger.info("loop_waits", extra={"detail": error.detail})
        except Exception:
            logger.exception("loop_failed")
