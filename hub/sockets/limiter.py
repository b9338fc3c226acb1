"""A token bucket without a timer."""

from collections.abc import Callable


class Bucket:
    """Allows `rate` a second sustained, three seconds' worth at once."""

    __slots__ = ("_level", "_now", "_rate", "_seen")

    BURST = 3

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        self._rate = rate
        self._now = now
        self._level = rate * self.BURST
        self._seen = now()

    def take(self) -> bool:
        now = self._now()
        self._level = min(self._rate * self.BURST, self._level + (now - self._seen) * self._rate)
        self._seen = now
        if self._level < 1:
            return False
        self._level -= 1
        return True
