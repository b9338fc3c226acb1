"""Heartbeats: pings for all sockets of a server, from one timer.

Two timers and a random payload a socket cost as much as the pings themselves. Here sockets share the slots of
a wheel that turns once in an interval: those of a slot are pinged together, with a frame that is made once.
"""

import asyncio
import random
from collections import deque
from typing import Protocol

_TICK_S = 0.25
_PING = b"\x89\x04"
"""The head of a ping with four bytes."""


class Beating(Protocol):
    """A socket on the wheel, which minds its `slot`. `pinged`: the number in a ping without an answer yet."""

    pinged: int | None
    slot: int

    def ping(self, frame: bytes) -> None: ...
    def keepalive_timeout(self) -> None: ...


class Heartbeat:
    """Pings each socket every `interval_s`, and gives those up that have not answered `timeout_s` later; both
    to a quarter of a second."""

    def __init__(self, interval_s: float, timeout_s: float) -> None:
        self._tick_s = min(_TICK_S, interval_s / 4, timeout_s / 4)
        self._timeout_s = timeout_s
        self._slots: list[set[Beating]] = [set() for _ in range(round(interval_s / self._tick_s))]
        self._at = 0
        self._members = 0
        self._unanswered: deque[tuple[float, int, list[Beating]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def join(self, socket: Beating) -> None:
        """Its first ping comes after a whole interval."""
        socket.slot = self._at - 1
        self._slots[socket.slot].add(socket)
        self._members += 1
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._tick_s, self._turn, loop.time() + self._tick_s)

    def leave(self, socket: Beating) -> None:
        slot = self._slots[socket.slot]
        if socket in slot:
            slot.remove(socket)
            self._members -= 1

    def _turn(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        while self._unanswered and self._unanswered[0][0] <= loop.time():
            _, number, asked = self._unanswered.popleft()
            for socket in asked:
                if socket.pinged == number:
                    socket.keepalive_timeout()
        self._ping(list(self._slots[self._at]), loop.time())
        self._at = (self._at + 1) % len(self._slots)
        self._timer = None
        if self._members or self._unanswered:
            # Behind after a pause, it catches up, so that no turn takes longer than its time.
            following = due + self._tick_s
            self._timer = loop.call_at(following, self._turn, following)

    def _ping(self, sockets: list[Beating], now: float) -> None:
        number = random.getrandbits(32)
        frame = _PING + number.to_bytes(4)
        asked = [socket for socket in sockets if socket.pinged is None]
        for socket in asked:
            socket.pinged = number
            socket.ping(frame)
        if asked:
            self._unanswered.append((now + self._timeout_s, number, asked))
