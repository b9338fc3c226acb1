"""People whom a storm is no concern of: they send heartbeats on their sockets and poll presence meanwhile.

In a process of their own, since the load generator is busy with the storm, and what they wait must be the
hub's doing alone.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator

from tests.bench import people
from tests.bench.servers.hub import watcher
from tests.bench.wire import Crowd, HttpPool, Listener, http_request

_PEOPLE = 50
_PAUSE_S = 0.02


class Others:
    """How long each of their questions took, s, as their process tells when they have been `busy`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.heartbeats: list[float] = []
        self.polls: list[float] = []

    @classmethod
    async def join(cls, address: tuple[str, int]) -> "Others":
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.others", address[0], str(address[1])),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )
        others = cls(process)
        await others._told()
        return others

    @contextlib.asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        self._say()
        await self._told()
        yield
        self._say()
        self.heartbeats, self.polls = json.loads(await self._told())

    async def leave(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    def _say(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    async def _told(self) -> bytes:
        assert self._process.stdout is not None
        if line := await self._process.stdout.readline():
            return line
        raise ConnectionError("the others have gone")


class _Asking:
    """The others themselves."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._crowd = Crowd(address)
        self._pool = HttpPool(address)
        self._sent: dict[int, float] = {}
        self._heartbeats: list[float] = []
        self._polls: list[float] = []

    async def run(self) -> None:
        await self._crowd.join([watcher(number) for number in range(_PEOPLE)])
        await self._pool.warm(2)
        self._crowd.on_frame = self._on_frame
        _tell("in")
        while await _asked():
            at_work = [asyncio.ensure_future(self._beat()), asyncio.ensure_future(self._poll())]
            _tell("asking")
            await _asked()
            for task in at_work:
                task.cancel()
            await asyncio.gather(*at_work, return_exceptions=True)
            # Who still waits has waited so long at least.
            waiting = [time.monotonic() - sent for sent in self._sent.values()]
            _tell([self._heartbeats + waiting, self._polls])
            self._sent, self._heartbeats, self._polls = {}, [], []
        await self._crowd.leave()
        self._pool.close()

    async def _beat(self) -> None:
        message = json.dumps({"type": "heartbeat", "id": 2}).encode()
        while True:
            for listener in self._crowd.listeners:
                if listener.index not in self._sent:
                    self._sent[listener.index] = time.monotonic()
                    listener.say(message)
                await asyncio.sleep(_PAUSE_S / 5)

    async def _poll(self) -> None:
        path, token = f"/api/mechanics/{people.mechanic_id(1)}/status", people.customer_token(1)
        request = http_request("GET", path, self._pool.host, token=token)
        while True:
            begin = time.monotonic()
            await self._pool.ask(request)
            self._polls.append(time.monotonic() - begin)
            await asyncio.sleep(_PAUSE_S)

    def _on_frame(self, listener: Listener, payload: bytes) -> None:
        if (sent := self._sent.pop(listener.index, None)) is not None:
            self._heartbeats.append(time.monotonic() - sent)


def _tell(what: object) -> None:
    print(json.dumps(what), flush=True)


async def _asked() -> bool:
    """False when there is nobody any more who could ask."""
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return bool(line)


if __name__ == "__main__":
    asyncio.run(_Asking((sys.argv[1], int(sys.argv[2]))).run())
