"""The bell that wakes a loop early."""

import asyncio


class Bell:
    """`ring` wakes whoever waits; rings before the wait are not lost."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Until a ring, at most this long; in any case others have their turn."""
        timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._event.set)
        await self._event.wait()
        timer.cancel()
        self._event.clear()
