"""How much one user may ask: token buckets without a timer, one for all connections of a user to this node.

The allowance holds in the whole cluster without a round trip a message: a node grants the part of it that
answers to its part of the user's connections, which it learns whenever it enters one of them.
"""

from collections import OrderedDict
from collections.abc import Callable

_REMEMBERED = 50_000


class Bucket:
    """Allows `rate` a second sustained, three seconds' worth at once; `share` is the part granted here."""

    __slots__ = ("_level", "_now", "_rate", "_seen", "share")

    BURST = 3

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        self._rate = rate
        self._now = now
        self._level = rate * self.BURST
        self._seen = now()
        self.share = 1.0

    def take(self) -> bool:
        now, rate = self._now(), self._rate * self.share
        self._level = min(max(1.0, rate * self.BURST), self._level + (now - self._seen) * rate)
        self._seen = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Allowances:
    """A bucket for each user. It outlives their connections: to come again does not fill it."""

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        self._rate = rate
        self._now = now
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def of(self, user_id: str) -> Bucket:
        bucket = self._buckets.get(user_id)
        if bucket is None:
            bucket = self._buckets[user_id] = Bucket(self._rate, self._now)
            if len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(user_id)
        return bucket
