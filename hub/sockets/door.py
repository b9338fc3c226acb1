"""The door: where many come at once, a few pass in each turn of the event loop, and everyone else has turns
between them. Nobody who is inside waits for a storm of those who come back.

What counts is how many pass in a turn, not how many are still on their way in: a slow store holds up nobody.
"""

import asyncio
from collections import deque
from collections.abc import Callable


class Door:
    def __init__(self, in_a_turn: int) -> None:
        self._in_a_turn = in_a_turn
        self._left = in_a_turn
        self._waiting: deque[Callable[[], None]] = deque()
        self._turning = False

    def pass_through(self, come_in: Callable[[], None]) -> bool:
        """At once (True) where there is room in this turn, else when those who came before have passed."""
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)
        if self._left:
            self._left -= 1
            come_in()
            return True
        self._waiting.append(come_in)
        return False

    async def passed(self) -> None:
        turn = asyncio.Event()
        self.pass_through(turn.set)
        await turn.wait()

    def _turn(self) -> None:
        self._left = self._in_a_turn
        if not self._waiting:
            self._turning = False
            return
        asyncio.get_running_loop().call_soon(self._turn)
        while self._left and self._waiting:
            self._left -= 1
            self._waiting.popleft()()
