"""The canary: a node that does not hear itself subscribes anew, and one that still does not is unfit."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from redis.asyncio import Redis

from hub.loops.bus_listener import BusListener
from hub.loops.canary import Canary
from persistence.redis.bus import RedisBus
from persistence.redis.client import RedisClient
from tests.patience import PATIENCE_S, until
from tests.proxy import Proxy
from tests.redis.bench import SHARDS, Bench


class Ears:
    """A canary on a line of its own to Redis; its steps are the test's."""

    def __init__(self, bus: RedisBus) -> None:
        self._heard: asyncio.Queue[int] = asyncio.Queue()
        self.resyncs = 0
        self.alarms: list[str] = []
        self.missing: set[int] = set()
        """Shards whose words do not come through."""
        self.listener = BusListener(bus=bus, heard=self._hear, resync=self._resync, glance=self._resync)
        self.canary = Canary(
            speak=self._speak, shards=SHARDS, listener=self.listener, alarm=self.alarms.append
        )
        self._bus = bus

    async def subscribed(self, times: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.listener.listening.wait()
        assert self.listener.subscriptions == times

    async def sang(self) -> None:
        """A step after which every word has come back."""
        await self.canary.step()
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(SHARDS - len(self.missing)):
                await self._heard.get()

    async def left(self) -> None:
        """Two steps, of which the second finds that words are missing."""
        await self.canary.step()
        await self.canary.step()
        assert not self.listener.listening.is_set()

    async def _speak(self, shard: int, turn: int) -> None:
        await self._bus.publish(shard, f"{shard} {turn}")

    def _hear(self, message: str) -> None:
        shard, turn = map(int, message.split())
        if shard not in self.missing:
            self.canary.heard(shard, turn)
            self._heard.put_nowait(shard)

    async def _resync(self) -> None:
        self.resyncs += 1


@pytest_asyncio.fixture
async def proxy(bench: Bench) -> AsyncIterator[Proxy]:
    proxy = await Proxy.start(Redis.from_url(bench.url).connection_pool.connection_kwargs["port"])
    yield proxy
    await proxy.close()


@pytest_asyncio.fixture
async def ears(proxy: Proxy) -> AsyncIterator[Ears]:
    client = RedisClient(f"redis://127.0.0.1:{proxy.port}")
    ears = Ears(RedisBus(client, SHARDS))
    listening = asyncio.create_task(ears.listener.run())
    await ears.subscribed(1)
    yield ears
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await client.close()


async def test_a_bus_that_is_heard_is_left_alone(ears: Ears) -> None:
    for _ in range(3):
        await ears.sang()
    assert (ears.listener.subscriptions, ears.canary.deaf, ears.alarms) == (1, False, [])


async def test_a_deaf_connection_is_left_for_another_and_made_up_for(proxy: Proxy, ears: Ears) -> None:
    await ears.sang()
    proxy.deafen(new_lines=False)
    await ears.left()
    await ears.subscribed(2)
    await ears.sang()
    await ears.sang()
    assert (ears.listener.subscriptions, ears.resyncs) == (2, 2)
    assert (ears.canary.deaf, ears.alarms) == (False, [])


async def test_one_silent_channel_is_enough(ears: Ears) -> None:
    await ears.sang()
    ears.missing = {2}
    await ears.sang()
    await ears.canary.step()
    assert not ears.listener.listening.is_set()


async def test_whoever_stays_deaf_is_unfit_until_they_hear_themselves(proxy: Proxy, ears: Ears) -> None:
    proxy.deafen()
    for nth in range(1, 4):
        await ears.left()
        await ears.subscribed(nth + 1)
        assert ears.canary.deaf is (nth > 1)
    assert ears.alarms == ["deaf"]

    await proxy.heal()
    await ears.sang()
    assert ears.canary.deaf
    await ears.sang()
    assert (ears.canary.deaf, ears.alarms) == (False, ["deaf"])
    assert ears.listener.subscriptions == 4


async def test_what_was_said_before_the_connection_was_lost_proves_nothing(proxy: Proxy, ears: Ears) -> None:
    ears.missing = set(range(SHARDS))
    await ears.canary.step()
    proxy.cut()
    async with asyncio.timeout(PATIENCE_S):
        while ears.listener.subscriptions < 2:  # noqa: ASYNC110  # there is no event for it
            await asyncio.sleep(0.002)
    ears.missing = set()
    await ears.sang()
    await ears.sang()
    assert (ears.listener.subscriptions, ears.canary.deaf) == (2, False)


async def test_a_subscription_that_is_not_confirmed_is_tried_again(proxy: Proxy, ears: Ears) -> None:
    """Though its connection answers every ping."""
    proxy.deafen(b"ssubscribe")
    proxy.cut()

    async def lost() -> bool:
        return proxy.lost > 0

    await until(lost)
    await proxy.heal()
    await ears.subscribed(2)
