"""The bus in Redis: one sharded channel per shard, on which commits say what happened."""

import asyncio
from collections.abc import Callable

import redis.exceptions as failures

from hub.domain.errors import StoreFailed
from persistence.redis import keys
from persistence.redis.client import RedisClient

_SILENCE_S = 2.0
"""After this long without a word the connection is asked whether it is still there."""


class RedisBus:
    def __init__(self, client: RedisClient, shards: int) -> None:
        self._client = client
        self.shards = shards

    async def listen(self, heard: Callable[[str], None], *, on_subscribed: Callable[[], None]) -> None:
        """Hand over each message as it comes; raises `StoreFailed` when the connection is lost.

        `on_subscribed` is called once every channel is subscribed: from then on nothing is missed.
        """
        channels = [keys.bus(shard) for shard in range(self.shards)]
        pubsub = self._client.redis.pubsub()
        try:
            await pubsub.ssubscribe(*channels)
            confirmed = 0
            pinged = False
            while True:
                message = await pubsub.get_message(timeout=_SILENCE_S)
                if message is None:
                    if pinged:
                        raise StoreFailed("The bus is silent.", maybe_done=False)
                    pinged = True
                    await pubsub.ping()
                    continue
                pinged = False
                if message["type"] == "smessage":
                    heard(message["data"])
                elif message["type"] == "ssubscribe":
                    confirmed += 1
                    if confirmed == len(channels):
                        on_subscribed()
        except (failures.RedisError, OSError, TimeoutError) as error:
            raise StoreFailed(f"The bus was lost: {type(error).__name__}", maybe_done=False) from error
        finally:
            await asyncio.shield(pubsub.aclose())  # type: ignore[no-untyped-call]  # redis-py leaves it untyped

    async def publish(self, shard: int, message: str) -> None:
        await self._client.call("SPUBLISH", keys.bus(shard), message)
