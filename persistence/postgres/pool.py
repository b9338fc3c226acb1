"""The way to Postgres: a pool that needs no server to start, and one kind of error for whatever goes wrong.

Nothing is connected before the first query, and every acquisition connects anew where the server has dropped
the connections: a node may start, and go on, while Postgres is away.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from hub.domain.errors import StoreFailed

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Own: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_CONNECT_S = 3.0
_COMMAND_S = 10.0
_CLOSE_S = 5.0
_DETAIL_LIMIT = 300

LOST = (
    OSError,  # TimeoutError among them
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutdown, crash, starting up
    asyncpg.InsufficientResourcesError,  # connections, memory, disk
    asyncpg.IdleInTransactionSessionTimeoutError,
)

DATA_ERRORS = (asyncpg.DataError, asyncpg.NotNullViolationError, asyncpg.CheckViolationError)
"""The row itself is at fault: no retry will help (class 22, 23502, 23514)."""


class Postgres:
    """`url` names server, database and role. The pool holds at most `size` connections."""

    def __init__(self, url: str, *, size: int = 8) -> None:
        self._url = url
        self._size = size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def connect(self) -> None:
        """Make the pool; succeeds whether or not the server is there."""
        if self._pool is None:
            self._pool = await asyncpg.create_pool(
                self._url,
                min_size=0,
                max_size=self._size,
                timeout=_CONNECT_S,
                command_timeout=_COMMAND_S,
                server_settings={"application_name": "hub"},
            )

    async def close(self) -> None:
        """Let running queries end, for a while."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_S):
                await pool.close()
        except LOST:
            pool.terminate()

    @property
    def pool(self) -> "asyncpg.Pool[asyncpg.Record]":
        if self._pool is None:
            raise StoreFailed("Postgres is not connected.", maybe_done=False)
        return self._pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One of the pool's connections; raises `StoreFailed`, also for what fails while it is held."""
        with translated():
            async with self.pool.acquire(timeout=_CONNECT_S) as connection:
                yield connection

    @asynccontextmanager
    async def own_connection(self) -> AsyncIterator[Own]:
        """A connection outside the pool, for what lives as long as a session: LISTEN, advisory locks."""
        with translated():
            connection = await asyncpg.connect(
                self._url,
                timeout=_CONNECT_S,
                command_timeout=_COMMAND_S,
                server_settings={"application_name": "hub"},
            )
            try:
                yield connection
            finally:
                # Not closed politely: that would wait for a server that may be gone. Locks and channels go
                # with the socket.
                connection.terminate()

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self.connection() as connection:
            return await connection.fetch(query, *arguments)


@contextmanager
def translated() -> Iterator[None]:
    """Whatever Postgres or the way to it does wrong becomes `StoreFailed`."""
    try:
        yield
    except LOST as error:
        raise StoreFailed(f"Postgres does not answer: {type(error).__name__}", maybe_done=True) from error
    except asyncpg.PostgresError as error:
        raise StoreFailed(f"Postgres refused: {describe(error)}", maybe_done=False) from error


def describe(error: asyncpg.PostgresError) -> str:
    """SQLSTATE and message, without the DETAIL, which shows rows with people's data."""
    message = str(error.args[0]) if error.args else type(error).__name__
    if len(message) > _DETAIL_LIMIT:
        # asyncpg quotes the whole argument and gives the reason at the end.
        message = f"{message[:80]} … {message[80 - _DETAIL_LIMIT :]}"
    return f"{error.sqlstate}: {message}"
