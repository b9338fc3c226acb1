"""The store's clock as this process knows it. A node's own clock decides nothing."""

import time
from collections.abc import Callable

_REFRESH_S = 60.0


class StoreClock:
    """Follows the store by the least delayed answer of the last minute or two."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._offset: float | None = None
        self._candidate: float | None = None
        self._turn = monotonic() + _REFRESH_S

    def now(self) -> int:
        """The store's time, ms. Before anything was learned: this machine's."""
        if self._offset is None:
            return time.time_ns() // 1_000_000
        return int(self._monotonic() * 1000 + self._offset)

    def learn(self, store_ms: int) -> None:
        """An answer that arrived just now was given at `store_ms`."""
        local = self._monotonic()
        sample = store_ms - local * 1000
        self._candidate = sample if self._candidate is None else max(self._candidate, sample)
        if self._offset is None or sample > self._offset:
            self._offset = sample
        if local >= self._turn:
            self._offset, self._candidate = self._candidate, None
            self._turn = local + _REFRESH_S
