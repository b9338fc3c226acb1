"""The way to Redis: what one tick of the event loop asks goes out together, on a line that is kept full.

Gathering is what makes many commands a tick affordable, and callers need not know of each other. One line
takes them all, so that they arrive in the order in which they were asked.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import hiredis
import redis.exceptions as failures
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from hub.domain.errors import StoreFailed
from persistence.redis.line import SILENCE_S, Call, Line, NotReached
from persistence.redis.scripts import Script

_RETRIES = 3
_BACKOFF_S = 0.02
_WAIT_MS = 700
"""Less than the silence that ends a line, so that there is a reply."""
_ALONE = "Not enough servers have it yet."

Argument = str | bytes | int | float


class RedisClient:
    """Gathers calls. Every command that goes through it may be sent again after a lost reply, so it must be
    one that a repetition does not harm. `wait`, a WAIT or WAITAOF without its timeout, follows what is sent
    `once`: its reply counts when so many servers have it."""

    def __init__(self, url: str, wait: str = "") -> None:
        self._wait = wait.split()
        self.trusted: str | None = None
        """The run of the server whose data was examined: `once` goes to no other. None: to any."""
        self.redis = Redis.from_url(
            url,
            decode_responses=True,
            protocol=3,
            socket_timeout=SILENCE_S,
            socket_connect_timeout=SILENCE_S,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=_greet,
        )
        self._line = Line(self.connection)
        self._calls: list[Call] = []
        # Of their own, since a server that waits for others holds up what comes behind on the same line.
        self._safe_line = Line(self.connection)
        self._safe_calls: list[_SafeCall] = []
        self._unsettled = 0
        self._taking_off = False

    def ask(self, *command: Argument, run: str | None = None, safe: bool = False) -> "asyncio.Future[Any]":
        """One attempt; the reply is to come, or `StoreFailed`. `run`: the run of the server that it is meant
        for; no other gets it. `safe`: wait for the other servers."""
        packed = _pack(command)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if not self._taking_off:
            self._taking_off = True
            loop.call_soon(self._take_off)
        if safe and self._wait:
            self._safe_calls.append(_SafeCall(packed, future, run))
        else:
            self._calls.append(Call(packed, future, run))
        return future

    async def call(self, *command: Argument, run: str | None = None) -> Any:
        """The reply; raises `StoreFailed` where there is none after some attempts, or the server refuses."""
        try:
            return await self.ask(*command, run=run)
        except StoreFailed as failure:
            return await self._again(command, run, failure)

    async def calls(self, commands: Sequence[tuple[Argument, ...]], *, run: str | None = None) -> list[Any]:
        """The replies to commands that need not be atomic together."""
        asked = [self.ask(*command, run=run) for command in commands]
        replies: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
        failed = [at for at, reply in enumerate(replies) if isinstance(reply, BaseException)]
        if failed:
            later = await asyncio.gather(*(self._again(commands[at], run, replies[at]) for at in failed))
            for at, reply in zip(failed, later, strict=True):
                replies[at] = reply
        return replies

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        *arguments: Argument,
        once: bool = False,
        run: str | None = None,
    ) -> Any:
        first: tuple[Argument, ...] = ("EVALSHA", script.digest, len(keys), *keys, *arguments)
        again: tuple[Argument, ...] = ("EVAL", script.text, *first[2:])
        if once:
            try:
                return await self.ask(*first, run=self.trusted, safe=True)
            except failures.NoScriptError:
                return await self.ask(*again, run=self.trusted, safe=True)
        try:
            return await self.call(*first, run=run)
        except failures.NoScriptError:
            return await self.call(*again, run=run)

    async def landed(self) -> None:
        """Whatever is on its way has been answered or given up."""
        self._take_off()
        self._send_safe_calls()
        last = [Call(_pack(("PING",)), asyncio.get_running_loop().create_future()) for _ in range(2)]
        for line, call in zip((self._line, self._safe_line), last, strict=True):
            if line.busy:
                line.send([call])  # replies come in order
            else:
                call.future.cancel()
        await asyncio.gather(*(call.future for call in last), return_exceptions=True)

    async def close(self) -> None:
        await self.landed()
        await self._line.close()
        await self._safe_line.close()
        await self.redis.aclose()

    async def _again(self, command: tuple[Argument, ...], run: str | None, failure: Exception) -> Any:
        """After a first attempt that failed."""
        doubt, attempt = False, 0
        while True:
            if not isinstance(failure, StoreFailed):
                raise failure
            doubt = doubt or failure.maybe_done
            if not failure.maybe_done and not isinstance(failure, NotReached):
                raise failure
            if attempt == _RETRIES:
                raise StoreFailed(failure.detail, maybe_done=doubt) from failure
            await asyncio.sleep(_BACKOFF_S * 2**attempt)
            attempt += 1
            try:
                return await self.ask(*command, run=run)
            except StoreFailed as later:
                failure = later

    def connection(self, *, protocol: int = 3) -> Any:
        """One of redis-py's, not connected yet and in no pool, whose user has patience of their own: that of
        the library costs a timer a reply."""
        pool = self.redis.connection_pool
        different = {"socket_timeout": None, "protocol": protocol}
        return pool.connection_class(**{**pool.connection_kwargs, **different})

    def _take_off(self) -> None:
        self._taking_off = False
        calls, self._calls = self._calls, []
        if calls:
            self._line.send(calls)
        if not self._unsettled:
            self._send_safe_calls()

    def _send_safe_calls(self) -> None:
        """One wait for all that came while the last one lasted."""
        calls, self._safe_calls = self._safe_calls, []
        if calls:
            self._unsettled += 1
            future = asyncio.get_running_loop().create_future()
            self._safe_line.send(
                [*calls, _Wait(_pack((*self._wait, _WAIT_MS)), future, partial(self._settle, calls))]
            )

    def _settle(self, calls: Sequence["_SafeCall"], reply: Any) -> None:
        self._unsettled -= 1
        have = reply if isinstance(reply, list) else [reply]
        safe = not isinstance(reply, Exception) and all(map(int.__ge__, have, map(int, self._wait[1:])))
        for call in calls:
            call.settle(safe)
        if not self._unsettled:
            self._send_safe_calls()


class _SafeCall(Call):
    """Whose reply counts only when enough servers have what was done."""

    __slots__ = ("reply",)

    reply: Any

    def answer(self, reply: Any) -> None:
        self.reply = reply

    def settle(self, safe: bool) -> None:
        if not safe and not isinstance(self.reply, Exception):
            self.reply = StoreFailed(_ALONE, maybe_done=True)
        super().answer(self.reply)


class _Wait(Call):
    """Follows safe calls; its reply tells how many servers have them."""

    __slots__ = ("_settle",)

    def __init__(self, packed: bytes, future: "asyncio.Future[Any]", settle: Callable[[Any], None]) -> None:
        super().__init__(packed, future)
        self._settle = settle

    def answer(self, reply: Any) -> None:
        self._settle(reply)


def _pack(command: tuple[Argument, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub wants a tuple of one
    return packed


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
