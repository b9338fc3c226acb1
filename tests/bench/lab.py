"""Where a work is done: the options, the servers that it asks for, and the figures that it leaves."""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from persistence.embedded import EmbeddedValkey
from tests.bench import environment
from tests.bench.figures import Figures
from tests.bench.servers.hub import Hub
from tests.bench.servers.process import ServerError
from tests.bench.servers.server import Place, Reference, Server
from tests.bench.servers.timers import TIMERS, Timer
from tests.bench.wire import Crowd

_OTHER_DESCRIPTORS = 600

FAILURES = (ServerError, OSError, TimeoutError, subprocess.SubprocessError)
"""What keeps a reference from taking part, and nobody else."""

Choice = TypeVar("Choice")


class Options(Struct, frozen=True, kw_only=True):
    runs: int = 5
    quick: bool = False
    only_hub: bool = False


class Lab:
    def __init__(self, options: Options, figures: Figures, directory: Path) -> None:
        self.options = options
        self.figures = figures
        self.directory = directory
        self._begin = time.monotonic()
        self.sockets = environment.descriptors() - _OTHER_DESCRIPTORS
        """How many sockets this process may hold; a server has as many descriptors."""

    @property
    def runs(self) -> int:
        return self.options.runs

    def pick(self, *, quick: Choice, full: Choice) -> Choice:
        return quick if self.options.quick else full

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._begin:5.0f} s  {text}", file=sys.stderr, flush=True)

    def fitting(self, sockets: int) -> int:
        """So many sockets, or as many as there are descriptors for."""
        if sockets > self.sockets:
            self.figures.note(
                f"{sockets:,} sockets were asked for; the limit of open files allows {self.sockets:,}."
            )
        return min(sockets, self.sockets)

    @contextlib.asynccontextmanager
    async def hub(
        self, *, nodes: int = 1, mechanics: Iterable[int] = (), **settings: str
    ) -> AsyncIterator[Hub]:
        with _new_directory(self.directory) as directory:
            hub = await Hub.start(directory, nodes=nodes, mechanics=mechanics, **settings)
            try:
                yield hub
            finally:
                await hub.stop()

    @contextlib.asynccontextmanager
    async def redis(self) -> AsyncIterator[Place]:
        """A directory and a Valkey for references: the same program and settings as the hub's."""
        with _new_directory(self.directory) as directory:
            valkey = EmbeddedValkey(directory / "valkey")
            valkey.start()
            try:
                yield Place(directory, valkey.url, valkey.pid)
            finally:
                valkey.stop()

    def available(self, kinds: Sequence[type[Any]]) -> list[type[Any]]:
        """Those of the references that can take part; the others are noted as missing."""
        if self.options.only_hub:
            return []
        found = []
        for kind in kinds:
            if (reason := kind.missing()) is None:
                found.append(kind)
            else:
                self.figures.missing(kind.name, reason)
        return found

    @contextlib.asynccontextmanager
    async def references(self, kinds: Sequence[type[Reference]]) -> AsyncIterator[list[Reference]]:
        kinds = self.available(kinds)
        if not kinds:
            yield []
            return
        async with self.redis() as place, contextlib.AsyncExitStack() as stack:
            found = await asyncio.gather(*(kind.start(place) for kind in kinds), return_exceptions=True)
            started = []
            for kind, server in zip(kinds, found, strict=True):
                if isinstance(server, Reference):
                    stack.push_async_callback(server.stop)
                    started.append(server)
                elif isinstance(server, FAILURES):
                    self.figures.missing(kind.name, f"did not start: {server!r}")
                else:
                    raise server
            yield started

    @contextlib.asynccontextmanager
    async def timers(self, pending: int) -> AsyncIterator[list[Timer]]:
        """Other people's timers, each with so many jobs that are due much later."""
        async with self.redis() as place, contextlib.AsyncExitStack() as stack:
            started = []
            for kind in self.available(TIMERS):
                timer = kind(place)
                stack.push_async_callback(timer.stop)
                self.say(f"{timer.name}: setting {pending:,}")
                try:
                    await timer.start(pending)
                except FAILURES as error:
                    self.figures.missing(kind.name, f"did not start: {error!r}")
                    continue
                started.append(timer)
            yield started


class Crowds:
    """A crowd a server: all are held while there are descriptors enough, else each comes and goes."""

    def __init__(self, lab: Lab, servers: Sequence[Server], sockets: int) -> None:
        self._sockets = sockets
        self._held: dict[str, Crowd] | None = {} if sockets * len(servers) <= lab.sockets else None

    @contextlib.asynccontextmanager
    async def of(self, server: Server) -> AsyncIterator[Crowd]:
        if self._held is not None and server.name in self._held:
            yield self._held[server.name]
            return
        crowd = Crowd(server.address)
        await crowd.join([server.joining(str(number)) for number in range(self._sockets)])
        if self._held is not None:
            self._held[server.name] = crowd
            yield crowd
            return
        try:
            yield crowd
        finally:
            await crowd.leave()

    async def leave(self) -> None:
        for crowd in (self._held or {}).values():
            await crowd.leave()


@contextlib.contextmanager
def _new_directory(parent: Path) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
