"""The door: a few pass in a turn of the event loop, in the order in which they came."""

import asyncio
from functools import partial

from hub.sockets.door import Door


async def test_a_few_pass_in_a_turn_and_others_have_turns_between() -> None:
    door = Door(2)
    happened: list[int | str] = []
    for number in range(5):
        door.pass_through(partial(happened.append, number))
    asyncio.get_running_loop().call_soon(happened.append, "someone else")
    assert happened == [0, 1]

    await asyncio.sleep(0)
    assert happened == [0, 1, 2, 3, "someone else"]
    await asyncio.sleep(0)
    assert happened == [0, 1, 2, 3, "someone else", 4]


async def test_who_comes_later_passes_later() -> None:
    door = Door(1)
    passed: list[int] = []
    for number in range(3):
        door.pass_through(partial(passed.append, number))
    await asyncio.sleep(0)
    assert not door.pass_through(partial(passed.append, 3))
    for _ in range(3):
        await asyncio.sleep(0)
    assert passed == [0, 1, 2, 3]


async def test_one_turn_later_there_is_room_again() -> None:
    door = Door(1)
    for _ in range(3):
        assert door.pass_through(lambda: None)
        await asyncio.sleep(0)


async def test_it_can_be_waited_for() -> None:
    door = Door(1)
    passed: list[int] = []

    async def come(number: int) -> None:
        await door.passed()
        passed.append(number)

    await asyncio.gather(*(come(number) for number in range(4)))
    assert passed == [0, 1, 2, 3]
