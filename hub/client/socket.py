"""The socket side of the client."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from hub.client.problem import HubProblem
from hub.wire.codec import JSON, MSGPACK

Json: TypeAlias = dict[str, Any]

_WAITING_EVENTS = 1_000
_PATIENCE_S = 15.0


class HubSocket:
    """A connection that has said hello. Events wait in a bounded queue: who does not read them stops reading
    replies too, and is in the end closed by the hub."""

    def __init__(self, connection: ClientConnection, *, binary: bool) -> None:
        self.welcome: Json = {}
        self.going_away = False
        self._connection = connection
        self._binary = binary
        self._events: asyncio.Queue[Json | None] = asyncio.Queue(_WAITING_EVENTS)
        self._replies: dict[int, asyncio.Future[Json]] = {}
        self._last_id = 0
        self._welcomed: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def connect(
        cls, url: str, token: str, *, status: str | None = None, binary: bool = False
    ) -> "HubSocket":
        """`url` is the hub's, http or ws. Raises `HubProblem` where the hub does not let us in."""
        connection = await connect(
            url.rstrip("/").replace("http", "ws", 1) + "/ws",
            subprotocols=[Subprotocol(MSGPACK if binary else JSON)],
            compression=None,
            proxy=None,
            ping_interval=None,
        )
        socket = cls(connection, binary=binary)
        try:
            hello = {"type": "hello", "token": token} | ({"status": status} if status else {})
            await socket._send(hello)
            async with asyncio.timeout(_PATIENCE_S):
                socket.welcome = await socket._welcomed
        except BaseException:
            await socket.close()
            raise
        return socket

    async def request(self, kind: str, **fields: Any) -> Json:
        """The reply; raises `HubProblem` for a refusal, `ConnectionClosed` where the socket goes first."""
        self._last_id += 1
        number = self._last_id
        reply: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        try:
            await self._send({"type": kind, "id": number, **fields})
            async with asyncio.timeout(_PATIENCE_S):
                answer = await reply
        finally:
            self._replies.pop(number, None)
        if not answer["ok"]:
            error = answer["error"]
            raise HubProblem(error["code"], error["detail"], retry_after=error.get("retry_after"))
        return answer

    async def events(self) -> AsyncIterator[Json]:
        """Events as they come, until the socket ends."""
        while (event := await self._events.get()) is not None:
            yield event

    def abort(self) -> None:
        """Lose the network: no goodbye."""
        self._connection.transport.abort()

    async def close(self) -> None:
        await self._connection.close()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _send(self, message: Json) -> None:
        data: bytes | str = msgspec.msgpack.encode(message) if self._binary else json.dumps(message)
        await self._connection.send(data)

    async def _read(self) -> None:
        failure: Exception = HubProblem("closed", "The socket was closed.")
        try:
            async for data in self._connection:
                message = msgspec.msgpack.decode(data) if isinstance(data, bytes) else json.loads(data)
                match message["type"]:
                    case "event":
                        await self._events.put(message)
                    case "reply":
                        future = self._replies.get(message["id"])
                        if future is not None and not future.done():
                            future.set_result(message)
                    case "welcome":
                        self._welcomed.set_result(message)
                    case "going_away":
                        self.going_away = True
                    case "error":
                        failure = HubProblem(message["code"], message["detail"])
        except ConnectionClosed:
            failure = HubProblem("closed", "The connection was lost.")
        finally:
            for future in (self._welcomed, *self._replies.values()):
                if not future.done():
                    future.set_exception(failure)
                    future.exception()  # seen, even where nobody waits for it any more
            with contextlib.suppress(asyncio.QueueFull):
                self._events.put_nowait(None)
