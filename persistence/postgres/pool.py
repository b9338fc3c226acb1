"""The way to Postgres: a pool that needs no server to start, and one kind of error for whatever goes wrong.

Nothing is connected before the first query, and every acquisition connects anew where the server has dropped
the connections: a node may start, and go on, while Postgres is away.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from hub.domain.errors import StoreFailed

logger = logging.getLogger("hub.postgres")

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Own: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_CONNECT_S = 3.0
_COMMAND_S = 5.0
_CLOSE_S = 5.0
_ASK_AGAIN_S = 0.1
_DETAIL_LIMIT = 300

PATIENCE_S = 10.0
"""For statements over many rows, on which nobody waits for an answer."""

_KEY = re.compile(r"Key \([\w, ]+\)=\([0-9a-f-]{36}(, [0-9a-f-]{36})*\)")

_NUMBER = """
select pg_current_xact_id_if_assigned()::text, set_config('idle_in_transaction_session_timeout', '5s', true)
"""
"""A transaction's number. Without the limit, one whose commit never arrives would stay in progress."""

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
                reset=_leave,
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
                try:
                    yield connection
                except (OSError, asyncpg.InterfaceError):
                    # A server that is silent on one line is so on the others, too, and hears no goodbye.
                    connection.terminate()
                    await self.pool.expire_connections()
                    raise
                except asyncio.CancelledError:
                    # Giving it back would wait until a server that may be silent has let go of the statement.
                    connection.terminate()
                    raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction whose end is known: where the reply to its commit is lost, Postgres is asked until it
        says what became of it. So it has happened, or it raises and has not."""
        number: str | None = None
        try:
            async with self.connection() as connection, connection.transaction():
                yield connection
                number = await connection.fetchval(_NUMBER)
        except StoreFailed as failure:
            if number is None or not failure.maybe_done or not await self._committed(number):
                raise

    async def _committed(self, number: str) -> bool:
        while True:
            try:
                ((status,),) = await self.fetch("select pg_xact_status($1::text::xid8)", number)
                if status != "in progress":
                    return bool(status == "committed")
            except StoreFailed as failure:
                if not failure.maybe_done:
                    raise
            await asyncio.sleep(_ASK_AGAIN_S)

    @asynccontextmanager
    async def own_connection(self, *, patience_s: float | None = PATIENCE_S) -> AsyncIterator[Own]:
        """A connection outside the pool, for what lives as long as a session: LISTEN, advisory locks.

        A statement that takes longer than `patience_s` has failed; None: it may take what it takes."""
        with translated():
            connection = await asyncpg.connect(
                self._url,
                timeout=_CONNECT_S,
                command_timeout=patience_s,
                server_settings={"application_name": "hub"},
            )
            try:
                yield connection
            finally:
                # Not closed politely: that would wait for a server that may be gone. Locks and channels go
                # with the socket.
                connection.terminate()

    async def fetch(
        self, query: str, *arguments: Any, patience_s: float = _COMMAND_S
    ) -> list[asyncpg.Record]:
        async with self.connection() as connection:
            return await connection.fetch(query, *arguments, timeout=patience_s)


async def _leave(connection: Connection) -> None:
    """Nobody sets anything on one of the pool's connections that outlives a transaction, and asyncpg's way to
    make sure would cost everyone a round trip."""


@contextmanager
def translated() -> Iterator[None]:
    """Whatever Postgres or the way to it does wrong becomes `StoreFailed`. Whoever is cancelled while it is
    silent stays so, though asyncpg's clean-up fails instead: they would go on, and nobody cancels them twice.
    """
    try:
        yield
    except LOST as error:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError from error
        raise StoreFailed(f"Postgres does not answer: {type(error).__name__}", maybe_done=True) from error
    except asyncpg.PostgresError as error:
        # For whoever runs the hub; who asked something of it need not know the schema.
        reason = describe(error)
        logger.warning("postgres_refused", extra={"error": reason})
        raise StoreFailed("Postgres refused.", maybe_done=False, reason=reason) from error


def describe(error: asyncpg.PostgresError) -> str:
    """SQLSTATE and message; of the DETAIL, which shows rows with people's data, only a key that is an id."""
    message = str(error.args[0]) if error.args else type(error).__name__
    if len(message) > _DETAIL_LIMIT:
        # asyncpg quotes the whole argument and gives the reason at the end.
        message = f"{message[:80]} … {message[80 - _DETAIL_LIMIT :]}"
    key = _KEY.match(getattr(error, "detail", None) or "")
    return f"{error.sqlstate}: {message}" + (f", {key[0]}" if key else "")
