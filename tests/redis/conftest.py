"""One Valkey a worker; each test meets it empty but for the signs of life."""

import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from persistence.embedded import EmbeddedValkey
from persistence.redis import keys
from tests.redis.bench import EPOCH, SHARDS, Bench, Ear, listening, open_bench


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def bench(valkey: EmbeddedValkey) -> AsyncIterator[Bench]:
    async with open_bench(valkey.url) as bench:
        await bench.raw.flushall()
        for shard in range(SHARDS):
            await bench.raw.set(keys.epoch(shard), EPOCH)
        await bench.raw.set(keys.RUN, "none that is known")
        yield bench


@pytest_asyncio.fixture
async def ear(bench: Bench) -> AsyncIterator[Ear]:
    async with listening(bench.bus) as ear:
        yield ear


class Suspension:
    """The server's process, stopped as a paging host or a debugger stops it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def begin(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def end(self) -> None:
        os.kill(self._pid, signal.SIGCONT)


@pytest.fixture
def suspension(valkey: EmbeddedValkey) -> Iterator[Suspension]:
    suspension = Suspension(valkey.pid)
    yield suspension
    suspension.end()
