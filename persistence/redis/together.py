"""One look for many who ask at once."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Together(Generic[K, V]):
    """Whoever asks while a look is under way is answered by the next one, which all of them share: nobody
    gets an answer from before they asked. `look` finds the answers to some keys, at most `most` of them."""

    def __init__(self, look: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], most: int = 500) -> None:
        self._look = look
        self._most = most
        self._asked: dict[K, asyncio.Future[V]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def ask(self, key: K) -> V:
        answer = self._asked.get(key)
        if answer is None:
            answer = self._asked[key] = asyncio.get_running_loop().create_future()
        if self._looking is None:
            self._looking = asyncio.create_task(self._answer())
        return await asyncio.shield(answer)

    async def _answer(self) -> None:
        try:
            while self._asked:
                keys = list(self._asked)[: self._most]
                asked = {key: self._asked.pop(key) for key in keys}
                try:
                    found = await self._look(keys)
                except Exception as error:
                    for answer in asked.values():
                        answer.set_exception(error)
                        answer.exception()  # marked as seen: whoever asked may have gone
                else:
                    for key, answer in asked.items():
                        answer.set_result(found[key])
        finally:
            self._looking = None
            for answer in self._asked.values():
                answer.cancel()
            self._asked.clear()
