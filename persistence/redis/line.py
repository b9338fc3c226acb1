"""A line to Redis: one connection that is kept full.

Commands are written while earlier ones are being answered, and one task reads all replies. So a command costs
its bytes and a future: no task, no timer and no place in a pool of its own, about a third of the CPU.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import redis.exceptions as failures

from hub.domain.errors import StoreFailed

SILENCE_S = 1.0
"""A server that owes a reply and says nothing for so long is given up; so is one that is not reached."""

_ANEW = "Redis was started anew, and its data has to be examined first."


class NotReached(StoreFailed):
    """There was no server to send anything to, or it is not ready."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"Redis is away: {type(error).__name__}", maybe_done=False)


class Call:
    """A command as it goes out, and who waits for its reply. `run`: the run of the server that it is meant
    for; no other gets it."""

    __slots__ = ("future", "packed", "run")

    def __init__(self, packed: bytes, future: asyncio.Future[Any], run: str | None = None) -> None:
        self.packed = packed
        self.future = future
        self.run = run

    def answer(self, reply: Any) -> None:
        """With what came, or with why nothing did."""
        if self.future.done():
            return  # who asked has given up
        if isinstance(reply, Exception):
            self.future.set_exception(_translate(reply))
        else:
            self.future.set_result(reply)


class Line:
    """`connect` makes a connection of redis-py's, which knows its server's `run` once it is connected."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._connection: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._waiting: list[Call] = []
        self._sent: deque[Call] = deque()
        self._heard = 0.0
        self._watch: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether somebody waits for a reply."""
        return bool(self._waiting or self._sent)

    def send(self, calls: Sequence[Call]) -> None:
        self._waiting += calls
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def close(self) -> None:
        """Only when nobody waits for a reply."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _write(self) -> None:
        try:
            while self._waiting:
                if self._connection is None and not await self._open():
                    continue
                connection, calls = self._connection, self._of_this_run()
                if not self._sent:
                    self._expect()
                self._sent += calls
                try:
                    await connection.send_packed_command(b"".join([call.packed for call in calls]), False)
                except Exception as error:
                    self._fail(connection, error)
        finally:
            self._writing = None

    async def _open(self) -> bool:
        connection = self._connect()
        try:
            async with asyncio.timeout(SILENCE_S):
                await connection.connect()
        except Exception as error:
            refused, self._waiting = self._waiting, []
            for call in refused:
                call.answer(NotReached(error))
            await connection.disconnect(nowait=True)
            return False
        self._connection = connection
        self._reading = asyncio.create_task(self._read(connection))
        return True

    def _of_this_run(self) -> list[Call]:
        """What waits, without what is meant for another run of the server than this one."""
        waiting, self._waiting = self._waiting, []
        run = self._connection.run
        calls = [call for call in waiting if call.run is None or call.run == run]
        if len(calls) < len(waiting):
            for stray in waiting:
                if stray.run not in (None, run):
                    stray.answer(StoreFailed(_ANEW, maybe_done=False))
        return calls

    async def _read(self, connection: Any) -> None:
        loop = asyncio.get_running_loop()
        sent = self._sent
        try:
            while True:
                try:
                    reply = await connection.read_response(timeout=math.inf, disconnect_on_error=False)
                except failures.ResponseError as refusal:
                    reply = refusal
                self._heard = loop.time()
                sent.popleft().answer(reply)
        except Exception as error:
            self._fail(connection, error)
        finally:
            await connection.disconnect(nowait=True)

    def _expect(self) -> None:
        """From now on the server owes a reply."""
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        if self._watch is None:
            self._watch = loop.call_later(SILENCE_S, self._look)

    def _look(self) -> None:
        self._watch = None
        if not self._sent:
            return
        loop = asyncio.get_running_loop()
        patience = self._heard + SILENCE_S - loop.time()
        if patience > 0:
            self._watch = loop.call_later(patience, self._look)
        else:
            self._fail(self._connection, TimeoutError())

    def _fail(self, connection: Any, error: Exception) -> None:
        """Whether what was sent was done, nobody knows. The reader hangs up as it ends."""
        if connection is not self._connection:
            return
        self._connection = None
        if self._reading is not None and self._reading is not asyncio.current_task():
            self._reading.cancel()
        owed = list(self._sent)
        self._sent.clear()
        for call in owed:
            call.answer(error)


def _translate(error: Exception) -> Exception:
    if isinstance(error, failures.NoScriptError | StoreFailed):
        return error
    if isinstance(error, failures.ResponseError):
        return StoreFailed(f"Redis refused: {error}", maybe_done=False)
    return StoreFailed(f"Redis does not answer: {type(error).__name__}", maybe_done=True)
