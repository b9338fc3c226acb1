"""The bus in Redis: one sharded channel per shard, on which commits say what happened."""

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import Any

import redis.exceptions as failures

from hub.domain.errors import StoreFailed
from persistence.redis import keys
from persistence.redis.client import RedisClient

_PING_S = 2.0
_SILENCE_S = 2 * _PING_S
"""After this long without a word, even to a ping, the connection is given up; and after this long without
every subscription, whatever else is heard on it."""


class RedisBus:
    def __init__(self, client: RedisClient, shards: int) -> None:
        self._client = client
        self.shards = shards

    async def listen(self, heard: Callable[[str], None], *, on_subscribed: Callable[[], None]) -> None:
        """Hand over each message as it comes; raises `StoreFailed` when the connection is lost.

        `on_subscribed` is called once every channel is subscribed: from then on nothing is missed.
        """
        # In RESP2 a message is a reply like any other; of RESP3's pushes redis-py formats each for its log.
        connection = self._client.connection(protocol=2)
        pinging: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(_SILENCE_S) as patience:
                await connection.connect()
                for shard in range(self.shards):
                    await connection.send_command("SSUBSCRIBE", keys.bus(shard), check_health=False)
                pinging = asyncio.create_task(_ping(connection))
                loop, missing = asyncio.get_running_loop(), self.shards
                while True:
                    kind, _, *words = await connection.read_response(timeout=math.inf)
                    if kind == "smessage":
                        heard(words[0])
                    elif kind == "ssubscribe":
                        missing -= 1
                        if not missing:
                            on_subscribed()
                    if not missing:
                        patience.reschedule(loop.time() + _SILENCE_S)
        except (failures.RedisError, OSError, TimeoutError) as error:
            raise StoreFailed(f"The bus was lost: {type(error).__name__}", maybe_done=False) from error
        finally:
            if pinging is not None:
                pinging.cancel()
            await connection.disconnect(nowait=True)

    async def publish(self, shard: int, message: str) -> None:
        await self._client.call("SPUBLISH", keys.bus(shard), message)


async def _ping(connection: Any) -> None:
    """So that there is something to hear; who listens notices where the connection is lost."""
    with contextlib.suppress(failures.RedisError, OSError):
        while True:
            await asyncio.sleep(_PING_S)
            await connection.send_command("PING", check_health=False)
