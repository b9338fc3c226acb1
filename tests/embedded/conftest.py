"""Real servers below a long path with spaces in it; whatever a test starts is stopped after it."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import pytest
import redis

from persistence.embedded import EmbeddedPostgres, EmbeddedValkey
from persistence.embedded.process import wait_until
from persistence.embedded.store import EmbeddedStore


class Bench(Protocol):
    """One kind of store: how to make one on the test's directory, keep a word in it and read it back."""

    directory: Path

    def store(self, *, port: int | None = None) -> EmbeddedStore: ...
    def write(self, store: EmbeddedStore, word: str) -> None: ...
    def read(self, store: EmbeddedStore) -> str | None: ...


def _make_directory(tmp_path: Path) -> Path:
    return (
        tmp_path / "a directory with spaces" / ("longer than the path of a unix socket may be " * 3).strip()
    )


class ValkeyBench:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def store(self, *, port: int | None = None) -> EmbeddedValkey:
        return EmbeddedValkey(self.directory, port=port)

    def write(self, store: EmbeddedStore, word: str) -> None:
        with redis.Redis.from_url(store.url) as client:
            client.set("word", word)

    def read(self, store: EmbeddedStore) -> str | None:
        with redis.Redis.from_url(store.url, decode_responses=True) as client:
            word = client.get("word")
            assert word is None or isinstance(word, str)
            return word


def query(url: str, *statements: str) -> Any:
    """Runs the statements and returns the last one's value."""

    async def run() -> Any:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(run())


class PostgresBench:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def store(self, *, port: int | None = None) -> EmbeddedPostgres:
        return EmbeddedPostgres(self.directory, port=port)

    def write(self, store: EmbeddedStore, word: str) -> None:
        query(
            store.url,
            "DROP TABLE IF EXISTS kept",
            "CREATE TABLE kept (word text)",
            f"INSERT INTO kept VALUES ('{word}')",
        )

    def read(self, store: EmbeddedStore) -> str | None:
        word = query(store.url, "SELECT word FROM kept")
        assert word is None or isinstance(word, str)
        return word


@pytest.fixture
def valkey_bench(tmp_path: Path) -> Iterator[ValkeyBench]:
    bench = ValkeyBench(_make_directory(tmp_path))
    yield bench
    bench.store().stop()


@pytest.fixture(scope="session")
def postgres_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests that need no new cluster take turns: making one takes most of a second."""
    return _make_directory(tmp_path_factory.mktemp("postgres"))


@pytest.fixture
def postgres_bench(postgres_directory: Path) -> Iterator[PostgresBench]:
    bench = PostgresBench(postgres_directory)
    yield bench
    bench.store().stop()


@pytest.fixture
def new_postgres_bench(tmp_path: Path) -> Iterator[PostgresBench]:
    bench = PostgresBench(_make_directory(tmp_path))
    yield bench
    bench.store().stop()


@pytest.fixture(params=["valkey_bench", "postgres_bench"], ids=["valkey", "postgres"])
def bench(request: pytest.FixtureRequest) -> Bench:
    found: Bench = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["valkey_bench", "new_postgres_bench"], ids=["valkey", "postgres"])
def new_bench(request: pytest.FixtureRequest) -> Bench:
    found: Bench = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def kill() -> Callable[[EmbeddedStore], None]:
    """kill -9 of the server's main process alone, as the kernel's memory killer does it."""

    def killed(store: EmbeddedStore) -> None:
        os.kill(store.pid, signal.SIGKILL)
        assert wait_until(lambda: not store.alive(), 5)

    return killed


@pytest.fixture
def run_sql() -> Callable[..., Any]:
    return query
