"""Waiting for what another process or task does, without taking the processor from it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

Found = TypeVar("Found")

PATIENCE_S = 20.0


def _pauses() -> Iterator[float]:
    """Seconds between two looks, ever more of them."""
    pause = 0.002
    while True:
        yield pause
        pause = min(pause * 1.5, 0.05)


async def until(condition: Callable[[], Awaitable[Found]], patience_s: float = PATIENCE_S) -> Found:
    """What the condition gives, soon after that is true; fails when it is not for long."""
    pauses = _pauses()
    async with asyncio.timeout(patience_s):
        while not (found := await condition()):  # noqa: ASYNC110  # there is no event for it
            await asyncio.sleep(next(pauses))
    return found
