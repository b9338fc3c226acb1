"""The socket side of the client."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from hub.client.problem import HubProblem, problem_of
from hub.wire.codec import JSON, MSGPACK

Json: TypeAlias = dict[str, Any]

_WAITING_EVENTS = 1_000
_PATIENCE_S = 15.0
_KEEPALIVE_S = 20.0
_GOODBYE_S = 2.0


class HubSocket:
    """A connection that has said hello.

    Events wait in a bounded queue. Whoever leaves it full loses the connection, because replies must not wait
    behind events; the next welcome brings everything that is still open. `going_away` is None, or the seconds
    within which the hub asks us to connect again.
    """

    def __init__(self, connection: ClientConnection, *, binary: bool) -> None:
        self.welcome: Json = {}
        self.going_away: float | None = None
        self._connection = connection
        self._binary = binary
        # One place more, so that the end always finds room.
        self._events: asyncio.Queue[Json | None] = asyncio.Queue(_WAITING_EVENTS + 1)
        self._replies: dict[int, asyncio.Future[Json]] = {}
        self._last_id = 0
        self._welcomed: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def connect(
        cls, url: str, token: str, *, status: str | None = None, binary: bool = False
    ) -> "HubSocket":
        """`url` is the hub's, http or ws. Raises `HubProblem` where the hub does not let us in."""
        try:
            connection = await connect(
                url.rstrip("/").replace("http", "ws", 1) + "/ws",
                subprotocols=[Subprotocol(MSGPACK if binary else JSON)],
                compression=None,
                proxy=None,
                ping_interval=_KEEPALIVE_S,
                ping_timeout=_KEEPALIVE_S,
                close_timeout=_GOODBYE_S,
            )
        except InvalidStatus as refusal:
            answer = refusal.response
            raise problem_of(answer.status_code, answer.headers, answer.body, answer.reason_phrase) from None
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
        """The reply; raises `HubProblem` for a refusal (`closed` where the socket goes while we wait),
        `ConnectionClosed` where it has gone, `TimeoutError` where no reply comes."""
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
        self._events.put_nowait(None)

    def abort(self) -> None:
        """Lose the network: no goodbye."""
        self._connection.transport.abort()

    async def close(self) -> None:
        try:
            await self._connection.close()
        finally:
            self.abort()
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _send(self, message: Json) -> None:
        data: bytes | str = msgspec.msgpack.encode(message) if self._binary else json.dumps(message)
        await self._connection.send(data)

    async def _read(self) -> None:
        failure = HubProblem("closed", "The socket was closed.")
        try:
            async for data in self._connection:
                message = msgspec.msgpack.decode(data) if isinstance(data, bytes) else json.loads(data)
                if message["type"] == "error":
                    failure = HubProblem(message["code"], message["detail"])
                elif not self._take(message):
                    failure = HubProblem("slow_consumer", "Nobody read the events.")
                    self.abort()
                    return
        except ConnectionClosed as closed:
            if failure.code == "closed":
                failure = HubProblem("closed", f"The connection was lost: {closed}")
        finally:
            for future in (self._welcomed, *self._replies.values()):
                if not future.done():
                    future.set_exception(failure)
                    future.exception()  # seen, even where nobody waits for it any more
            self._events.put_nowait(None)

    def _take(self, message: Json) -> bool:
        """False where there is no room for it."""
        match message["type"]:
            case "event":
                if self._events.qsize() >= _WAITING_EVENTS:
                    return False
                self._events.put_nowait(message)
            case "reply":
                reply = self._replies.get(message["id"])
                if reply is not None and not reply.done():
                    reply.set_result(message)
            case "welcome":
                self._welcomed.set_result(message)
            case "going_away":
                self.going_away = message["reconnect_ms"] / 1000
        return True
