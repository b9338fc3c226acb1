"""A bounded cache over a slow source that is read in batches, one at a time.

Because reads never overlap, a later one is newer: a refresh asked for while a read is under way runs after
it, and no old answer overwrites a new one.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

V = TypeVar("V")

_CHUNK = 5_000


class _Batch(Generic[V]):
    __slots__ = ("changed", "done", "keys", "values")

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.values: Mapping[str, V] = {}
        self.changed: set[str] = set()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class BatchedCache(Generic[V]):
    """`fetch` gives the values of the keys that exist; `absent` stands for the others and is kept too."""

    def __init__(
        self, fetch: Callable[[list[str]], Awaitable[Mapping[str, V]]], absent: V, capacity: int
    ) -> None:
        self._fetch = fetch
        self._absent = absent
        self._capacity = capacity
        self._values: OrderedDict[str, V] = OrderedDict()
        self._next: _Batch[V] | None = None
        self._reading: Collection[str] = ()
        self._reader: asyncio.Task[None] | None = None

    def put(self, key: str, value: V) -> None:
        self._values[key] = value
        while len(self._values) > self._capacity:
            self._values.popitem(last=False)

    def keys(self) -> list[str]:
        """All that are known."""
        return list(self._values)

    def __contains__(self, key: str) -> bool:
        """Whether `get` has the value at once."""
        return key in self._values

    async def get(self, key: str) -> V:
        """The known value, else what the source says now; raises what `fetch` raises."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        batch = self._join((key,))
        await asyncio.shield(batch.done)
        return batch.values.get(key, self._absent)

    async def refresh(self, keys: Iterable[str] | None = None) -> set[str]:
        """Read again those of the keys (None: all) that are known; which have changed."""
        if keys is None:
            return await self.load(self.keys())
        return await self.load([key for key in set(keys) if self._concerns(key)])

    async def load(self, keys: Sequence[str]) -> set[str]:
        """Read the keys whether known or not; which have changed."""
        changed: set[str] = set()
        # In portions, so that a miss does not wait for, nor the event loop hang on, all that is known.
        for start in range(0, len(keys), _CHUNK):
            batch = self._join(keys[start : start + _CHUNK])
            await asyncio.shield(batch.done)
            changed |= batch.changed
        return changed

    def _concerns(self, key: str) -> bool:
        return key in self._values or key in self._reading

    def _join(self, keys: Iterable[str]) -> _Batch[V]:
        if self._next is None:
            self._next = _Batch()
        self._next.keys.update(keys)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        return self._next

    async def _read(self) -> None:
        try:
            while (batch := self._next) is not None:
                self._next, self._reading = None, batch.keys
                try:
                    self._keep(batch, await self._fetch(list(batch.keys)))
                    batch.done.set_result(None)
                except asyncio.CancelledError:
                    batch.done.cancel()
                    raise
                except Exception as error:
                    batch.done.set_exception(error)
                    # Marked as seen: whoever waited may have gone.
                    batch.done.exception()
        finally:
            if self._next is not None:
                self._next.done.cancel()
                self._next = None
            self._reading, self._reader = (), None

    def _keep(self, batch: _Batch[V], found: Mapping[str, V]) -> None:
        batch.values = found
        for key in batch.keys:
            value = found.get(key, self._absent)
            if key not in self._values or self._values[key] != value:
                batch.changed.add(key)
            self.put(key, value)
