"""The way to Redis: what one tick of the event loop asks goes out as one pipeline.

A call alone costs some 90 µs of CPU in the client library, in a pipeline 9 µs; gathering is what makes many
commands a tick affordable, and callers need not know of each other.
"""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import redis.exceptions as failures
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from hub.domain.errors import StoreFailed
from persistence.redis.scripts import Script

_BATCH = 256
_CONNECTIONS = 64
_SOCKET_TIMEOUT = 1.0
_RETRIES = 3
_BACKOFF_S = 0.02
_WAIT_MS = 700
"""Less than the socket's timeout, so that there is a reply."""
_ALONE = "Not enough servers have it yet."
_ANEW = "Redis was started anew, and its data has to be examined first."

Argument = str | bytes | int | float


class RedisClient:
    """Gathers calls. Every command that goes through it may be sent again after a lost reply, so it must be
    one that a repetition does not harm. `wait`, a WAIT or WAITAOF without its timeout, follows what is sent
    `once`: its reply counts when so many servers have it."""

    def __init__(self, url: str, wait: str = "") -> None:
        self._wait = (*wait.split(), _WAIT_MS) if wait else ()
        self._wanted = tuple(map(int, wait.split()[1:]))
        self.trusted: str | None = None
        """The run of the server whose data was examined: `once` goes to no other. None: to any."""
        self.redis = Redis.from_url(
            url,
            decode_responses=True,
            protocol=3,
            socket_timeout=_SOCKET_TIMEOUT,
            socket_connect_timeout=_SOCKET_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            max_connections=_CONNECTIONS,
            redis_connect_func=_greet,
        )
        self._waiting: list[_Call] = []
        self._flights: set[asyncio.Task[None]] = set()
        self._runway = asyncio.Semaphore(_CONNECTIONS // 2)

    async def call(self, *command: Argument, run: str | None = None) -> Any:
        """The reply; raises `StoreFailed` where there is none after some attempts, or the server refuses."""
        doubt, attempt = False, 0
        while True:
            try:
                return await self.call_once(*command, run=run)
            except StoreFailed as failure:
                doubt = doubt or failure.maybe_done
                if not failure.maybe_done and not isinstance(failure, NotReached):
                    raise
                if attempt == _RETRIES:
                    raise StoreFailed(failure.detail, maybe_done=doubt) from failure
                await asyncio.sleep(_BACKOFF_S * 2**attempt)
                attempt += 1

    async def call_once(self, *command: Argument, run: str | None = None, safe: bool = False) -> Any:
        """For a caller who must know of every attempt whose outcome is in doubt. `run`: the run of the server
        that it is meant for; no other gets it. `safe`: wait for the other servers."""
        # Here, so that what cannot be encoded fails its own caller and not the whole pipeline. And a name
        # in bytes keeps the library from rewriting the reply.
        encoded = tuple(part.encode() if isinstance(part, str) else part for part in command)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._send(_Call(encoded, future, run, safe and bool(self._wait)))
        return await future

    async def calls(self, commands: Sequence[tuple[Argument, ...]], *, run: str | None = None) -> list[Any]:
        """The replies to commands that need not be atomic together."""
        return await asyncio.gather(*(self.call(*command, run=run) for command in commands))

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        *arguments: Argument,
        once: bool = False,
        run: str | None = None,
    ) -> Any:
        call = partial(self.call_once, run=self.trusted, safe=True) if once else partial(self.call, run=run)
        try:
            return await call("EVALSHA", script.digest, len(keys), *keys, *arguments)
        except failures.NoScriptError:
            return await call("EVAL", script.text, len(keys), *keys, *arguments)

    async def landed(self) -> None:
        """Whatever is on its way has been answered or given up."""
        if self._flights:
            await asyncio.wait(set(self._flights))

    async def close(self) -> None:
        if self._flights:
            await asyncio.gather(*self._flights, return_exceptions=True)
        await self.redis.aclose()

    def _send(self, call: "_Call") -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._take_off)
        self._waiting.append(call)

    def _take_off(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), _BATCH):
            task = asyncio.create_task(self._fly(waiting[start : start + _BATCH]))
            self._flights.add(task)
            task.add_done_callback(self._flights.discard)

    async def _fly(self, batch: list["_Call"]) -> None:
        async with self._runway:  # more would find no connection
            await self._fly_now(batch)

    async def _fly_now(self, batch: list["_Call"]) -> None:
        pool = self.redis.connection_pool
        try:
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        except (failures.RedisError, OSError, TimeoutError) as error:
            _answer(batch, [NotReached(error)] * len(batch))
            return
        strays = [call for call in batch if call.run not in (None, connection.run)]
        if strays:
            _answer(strays, repeat(StoreFailed(_ANEW, maybe_done=False)))
            batch = [call for call in batch if call.run in (None, connection.run)]
        pipeline = self.redis.pipeline(transaction=False)
        # The very connection that was looked at, and its place in the pool is given back by the pipeline.
        pipeline.connection = connection
        for call in batch:
            pipeline.execute_command(*call.command)
        waits = any(call.safe for call in batch)
        if waits:
            pipeline.execute_command(*self._wait)
        replies: list[Any]
        try:
            replies = await pipeline.execute(raise_on_error=False)
        except (failures.RedisError, OSError, TimeoutError) as error:
            replies = [error] * len(batch)
            waits = False
        finally:
            await pipeline.reset()  # type: ignore[no-untyped-call]  # as above
        if waits and not self._is_safe(replies.pop()):
            replies = [
                StoreFailed(_ALONE, maybe_done=True)
                if call.safe and not isinstance(reply, Exception)
                else reply
                for call, reply in zip(batch, replies, strict=True)
            ]
        _answer(batch, replies)

    def _is_safe(self, reply: Any) -> bool:
        if isinstance(reply, Exception):
            return False
        have = reply if isinstance(reply, list) else [reply]
        return all(count >= wanted for count, wanted in zip(have, self._wanted, strict=True))


class _Call(NamedTuple):
    command: tuple[Argument, ...]
    future: asyncio.Future[Any]
    run: str | None
    safe: bool


class NotReached(StoreFailed):
    """There was no server to send anything to, or it is not ready."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"Redis is away: {type(error).__name__}", maybe_done=False)


async def _greet(connection: Any) -> None:
    """Learn which run of the server a new connection leads to, before anything is sent on it."""
    await connection.on_connect()
    await connection.send_command("INFO", "server", "persistence")
    facts = dict(
        line.split(":", 1) for line in (await connection.read_response()).splitlines() if ":" in line
    )
    if facts["loading"] != "0":
        raise failures.BusyLoadingError("The server is loading its data.")
    connection.run = facts["run_id"]


def _answer(batch: Iterable[_Call], replies: Iterable[Any]) -> None:
    for call, reply in zip(batch, replies, strict=False):
        if call.future.done():
            continue
        if isinstance(reply, Exception):
            call.future.set_exception(_translate(reply))
        else:
            call.future.set_result(reply)


def _translate(error: Exception) -> Exception:
    if isinstance(error, failures.NoScriptError | StoreFailed):
        return error
    if isinstance(error, failures.ResponseError):
        return StoreFailed(f"Redis refused: {error}", maybe_done=False)
    return StoreFailed(f"Redis does not answer: {type(error).__name__}", maybe_done=True)
