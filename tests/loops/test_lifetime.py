"""A node's loops end, whatever their stores do."""

import asyncio

from hub.loops.lifetime import end


async def test_a_loop_whose_cancellation_was_swallowed_ends_all_the_same() -> None:
    waiting, swallowed = asyncio.Event(), False

    async def loop() -> None:
        nonlocal swallowed
        try:
            waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed = True
        await asyncio.Event().wait()

    task = asyncio.create_task(loop())
    await waiting.wait()
    await end([task], again_s=0.01)
    assert swallowed
    assert task.cancelled()
    await end([])
