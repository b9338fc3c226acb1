"""A line to a port of this machine that can be broken: cut, held up, delayed, stopped at a certain word."""

import asyncio
import contextlib

_CHUNK = 65_536


class Proxy:
    """Listens on a free loopback port and passes everything on to `target`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._up, self._down = asyncio.Event(), asyncio.Event()
        self._trap: tuple[bytes, bool, asyncio.Event] | None = None
        self._delay = 0.0
        self._unheard = b""
        self._deaf = False
        self._deaf_lines: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.lost = 0
        """Pieces that `deafen` let vanish."""

    @classmethod
    async def start(cls, target: int) -> "Proxy":
        proxy = cls(target)
        await proxy.heal()
        return proxy

    async def close(self) -> None:
        await self.refuse()
        self._up.set()
        self._down.set()
        await asyncio.gather(*self._lines)

    # Breaking it

    def cut(self) -> None:
        """End every connection there is, without a goodbye; new ones are taken."""
        for writer in self._writers:
            writer.transport.abort()

    async def refuse(self) -> None:
        """Nobody listens any more, and every connection ends."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def blackhole(self) -> None:
        """Nothing passes, in either direction; connections stay, and new ones are taken."""
        self._up.clear()
        self._down.clear()

    def half_open(self) -> None:
        """What clients say arrives, the answers do not."""
        self._down.clear()

    def delay(self, seconds: float) -> None:
        """Every piece takes this much longer, each way."""
        self._delay = seconds

    def deafen(self, word: bytes = b"smessage", *, new_lines: bool = True) -> None:
        """What is published to subscribers of Redis is lost, or what else has this word; everything else
        passes. Lines that are opened later lose nothing where they shall not."""
        self._unheard = word
        self._deaf = new_lines
        self._deaf_lines = set(self._writers)

    def trap(self, word: bytes, *, pass_on: bool = True) -> asyncio.Event:
        """As soon as a client says this word, nothing passes any more: the word itself does where it shall be
        passed on. The event tells of it."""
        sprung = asyncio.Event()
        self._trap = word, pass_on, sprung
        return sprung

    async def heal(self) -> None:
        """Everything passes again, what was held up first."""
        self._trap = None
        self._delay = 0.0
        self._deaf = False
        self._deaf_lines.clear()
        self._up.set()
        self._down.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    # Passing on

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = asyncio.current_task()
        assert line is not None
        self._lines.add(line)
        line.add_done_callback(self._lines.discard)
        there: asyncio.StreamWriter | None = None
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError):
                from_there, there = await asyncio.open_connection("127.0.0.1", self._target)
                self._writers.add(there)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._upwards(reader, there))
                    both.create_task(self._downwards(from_there, writer))
        except* OSError:
            pass  # one end has gone, so the other goes too
        finally:
            for end in (writer, there):
                if end is not None:
                    self._writers.discard(end)
                    end.transport.abort()

    async def _upwards(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = b""
        while data := await reader.read(_CHUNK):
            await self._up.wait()
            said += data
            if self._trap is not None and self._trap[0] in said:
                _, pass_on, sprung = self._trap
                self._trap = None
                self.blackhole()
                if pass_on:
                    writer.write(data)
                sprung.set()
                if pass_on:
                    continue
                await self._up.wait()
            said = said[-64:]
            await self._pass(data, writer)
        writer.write_eof()

    async def _downwards(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            await self._down.wait()
            if (self._deaf or writer in self._deaf_lines) and self._unheard in data:
                self.lost += 1
            else:
                await self._pass(data, writer)
        writer.write_eof()

    async def _pass(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self._delay:
            await asyncio.sleep(self._delay)
        writer.write(data)
        await writer.drain()
