"""One look for many who ask at once."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from hub.domain.errors import StoreFailed
from persistence.redis.together import Together


class Store:
    """Answers a look when it is allowed to; what it says of a key is how many looks there were."""

    def __init__(self) -> None:
        self.looks: list[list[str]] = []
        self.may_answer = asyncio.Event()
        self.away = False

    async def look(self, keys: Sequence[str]) -> Mapping[str, int]:
        self.looks.append(sorted(keys))
        number = len(self.looks)
        await self.may_answer.wait()
        if self.away:
            raise StoreFailed("away", maybe_done=True)
        return dict.fromkeys(keys, number)


async def begun(*work: "asyncio.Task[int]") -> None:
    """They have run as far as they can."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert not any(task.done() for task in work)


async def test_who_asks_during_a_look_is_answered_by_the_next_one() -> None:
    store = Store()
    together = Together(store.look)
    first = asyncio.create_task(together.ask("a"))
    await begun(first)
    later = [asyncio.create_task(together.ask(key)) for key in ("a", "b", "a")]
    await begun(first, *later)
    store.may_answer.set()
    assert await asyncio.gather(first, *later) == [1, 2, 2, 2]
    assert store.looks == [["a"], ["a", "b"]]


async def test_a_look_has_its_most() -> None:
    store = Store()
    store.may_answer.set()
    together = Together(store.look, most=2)
    assert await asyncio.gather(*map(together.ask, "abcde")) == [1, 1, 2, 2, 3]


async def test_a_failure_is_everybodys_and_the_next_look_is_another() -> None:
    store = Store()
    store.away = True
    store.may_answer.set()
    together = Together(store.look)
    answers = await asyncio.gather(*map(together.ask, "ab"), return_exceptions=True)
    assert all(isinstance(answer, StoreFailed) for answer in answers)
    store.away = False
    assert await together.ask("a") == 2


async def test_who_gives_up_takes_nobody_with_them() -> None:
    store = Store()
    together = Together(store.look)
    impatient, patient = (asyncio.create_task(together.ask("a")) for _ in range(2))
    await begun(impatient, patient)
    impatient.cancel()
    store.may_answer.set()
    assert await patient == 1
    with pytest.raises(asyncio.CancelledError):
        await impatient
