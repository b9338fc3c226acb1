"""The load generator's side of the wire: handshakes and frames by hand, nothing kept that is not counted.

A client library a socket would cost more than the servers under test; a protocol that only finds the ends of
frames costs a few microseconds a frame.
"""

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import cast

from msgspec import Struct

_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
_ABORTING = struct.pack("ii", 1, 0)
_AT_ONCE = 128
_PATIENCE_S = 60.0
_ATTEMPTS = 10
_AGAIN_S = 0.1

_PING = 0x9
_PONG = 0xA
_CLOSE = 0x8


class Joining(Struct, frozen=True, kw_only=True):
    """How one socket joins: the path of its handshake, what it says when upgraded, and how the payload starts
    that tells that it is in (empty: the upgrade itself)."""

    path: str
    subprotocol: str = ""
    hello: Sequence[bytes] = ()
    ready: bytes = b""

    def handshake(self, host: str) -> bytes:
        protocol = f"Sec-WebSocket-Protocol: {self.subprotocol}\r\n" if self.subprotocol else ""
        return (
            f"GET {self.path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY.decode()}\r\n{protocol}\r\n"
        ).encode()


def client_frame(payload: bytes, opcode: int = 1) -> bytes:
    """Masked, as clients must, by a mask that changes nothing."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((0x80 | opcode,)) + length + b"\0\0\0\0" + payload


async def open_socket(address: tuple[str, int]) -> socket.socket:
    """Connected; closing it resets the connection, so that no port waits behind it."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORTING)
    await asyncio.get_running_loop().sock_connect(connection, address)
    return connection


class Listener(asyncio.Protocol):
    """One socket of a crowd."""

    __slots__ = ("_last", "_rest", "_upgraded", "crowd", "index", "joining", "ready", "transport")

    def __init__(self, crowd: "Crowd", index: int, joining: Joining) -> None:
        self.crowd = crowd
        self.index = index
        self.joining = joining
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.WriteTransport
        self._rest = b""
        self._last = b""
        self._upgraded = False

    def say(self, payload: bytes) -> None:
        self.transport.write(client_frame(payload))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)  # uvloop's are not of asyncio's class
        self.transport.write(self.joining.handshake(self.crowd.host))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            # Whoever waits for it may have been cancelled: then nobody would ask for the exception.
            self.ready.set_exception(ConnectionError(f"lost before it was in: {self._last[:200]!r}"))
            self.ready.exception()
            return
        self.crowd.gone(self)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if not self._upgraded:
            head, blank, data = data.partition(b"\r\n\r\n")
            if not blank:
                self._rest = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._last = head
                self.transport.abort()
                return
            self._upgraded = True
            for message in self.joining.hello:
                self.say(message)
            if not self.joining.ready:
                self.ready.set_result(None)
            if not data:
                return
        at, end = 0, len(data)
        while end - at >= 2:
            start, length = at + 2, data[at + 1]
            if length == 126:
                start, length = at + 4, int.from_bytes(data[at + 2 : at + 4], "big")
            elif length == 127:
                start, length = at + 10, int.from_bytes(data[at + 2 : at + 10], "big")
            stop = start + length
            if stop > end:
                break
            opcode = data[at] & 0xF
            if opcode >= _CLOSE:
                self._control(opcode, data[start:stop])
            elif length == 1 and data[start] == 0x32:
                self.say(b"3")  # Engine.IO's own ping
            elif self.ready.done():
                self.crowd.heard(self, data, start, stop)
            elif data.startswith(self.joining.ready, start):
                self.ready.set_result(None)
            at = stop
        if at < end:
            self._rest = data[at:]

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self.transport.write(client_frame(payload, _PONG))
            self.crowd.pings += 1
        elif opcode == _CLOSE:
            self._last = payload


class Crowd:
    """Many sockets of one server. Frames are counted, or given to `on_frame` where it is set."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.host = f"{address[0]}:{address[1]}"
        self.listeners: list[Listener] = []
        self.frames = 0
        self.pings = 0
        self.lost = 0
        self.turned_away = 0
        self.on_frame: Callable[[Listener, bytes], None] | None = None
        self.sample = b""
        self._awaited = -1
        self._reached: asyncio.Future[None] | None = None
        self._leaving = False

    async def join(self, joinings: Sequence[Joining], *, at_once: int = _AT_ONCE) -> None:
        """Returns when all are in. Who is turned away comes again, as clients do, but not for ever:
        then nobody stays."""
        gate = asyncio.Semaphore(at_once)

        async def one(index: int, joining: Joining) -> Listener:
            async with gate:
                for attempt in range(_ATTEMPTS):
                    try:
                        return await self._enter(index, joining)
                    except ConnectionError:
                        self.turned_away += 1
                        await asyncio.sleep(_AGAIN_S * (attempt + 1))
                return await self._enter(index, joining)

        first = len(self.listeners)
        tasks = [asyncio.create_task(one(first + n, j)) for n, j in enumerate(joinings)]
        try:
            async with asyncio.timeout(_PATIENCE_S + len(joinings) / 100):
                self.listeners += await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            self.listeners += [each for each in ended if isinstance(each, Listener)]
            await self.leave()
            raise

    async def _enter(self, index: int, joining: Joining) -> Listener:
        listener = Listener(self, index, joining)
        connection = await open_socket(self.address)
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: listener, sock=connection)
        try:
            await listener.ready
        except BaseException:
            transport.abort()
            raise
        return listener

    def expect(self, frames: int) -> "asyncio.Future[None]":
        """Done when so many more frames have come."""
        self._awaited = self.frames + frames
        self._reached = asyncio.get_running_loop().create_future()
        return self._reached

    def heard(self, listener: Listener, data: bytes, start: int, stop: int) -> None:
        self.frames += 1
        if self.on_frame is not None:
            self.on_frame(listener, data[start:stop])
        if self.frames == self._awaited and self._reached is not None and not self._reached.done():
            self.sample = data[start:stop]
            self._reached.set_result(None)

    def gone(self, listener: Listener) -> None:
        if not self._leaving:
            self.lost += 1

    async def leave(self) -> None:
        self._leaving = True
        for listener in self.listeners:
            listener.transport.abort()
        self.listeners.clear()
        await asyncio.sleep(0)


class Answer(Struct, frozen=True):
    status: int
    body: bytes


def http_request(
    method: str,
    path: str,
    host: str,
    body: bytes | None = None,
    *,
    token: str = "",
    kind: str = "application/json",
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


class HttpLine(asyncio.Protocol):
    """A kept-alive connection that carries one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport
        self._answer: asyncio.Future[Answer] | None = None
        self._received = b""
        self.closed = False

    @classmethod
    async def open(cls, address: tuple[str, int]) -> "HttpLine":
        connection = await open_socket(address)
        _, line = await asyncio.get_running_loop().create_connection(cls, sock=connection)
        return line

    def ask(self, request: bytes) -> "asyncio.Future[Answer]":
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("closed without an answer"))

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        end = received.find(b"\r\n\r\n")
        if end < 0 or self._answer is None:
            return
        body = _body(received, end)
        if body is not None:
            self._received = b""
            answer, self._answer = self._answer, None
            if not answer.done():
                answer.set_result(Answer(int(received[9:12]), body))


def _body(received: bytes, end: int) -> bytes | None:
    """The body when it is whole."""
    head = received[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        length = int(head[at + 17 :].partition(b"\r\n")[0])
        return received[end + 4 :] if len(received) - end - 4 >= length else None
    if b"\r\ntransfer-encoding:" in head:
        return received[end + 4 :] if received.endswith(b"0\r\n\r\n") else None
    return received[end + 4 :]


class HttpPool:
    """Lines that are taken for a request and given back."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.host = f"{address[0]}:{address[1]}"
        self._idle: list[HttpLine] = []
        self._all: list[HttpLine] = []

    async def warm(self, lines: int) -> None:
        """Have so many lines open, so that no measured request waits for one."""
        opened = [await HttpLine.open(self.address) for _ in range(lines - len(self._all))]
        self._all += opened
        self._idle += opened

    async def ask(self, request: bytes) -> Answer:
        line = self._idle.pop() if self._idle else await self._open()
        while line.closed:
            line = self._idle.pop() if self._idle else await self._open()
        try:
            return await line.ask(request)
        finally:
            self._idle.append(line)

    async def call(
        self, method: str, path: str, body: bytes | None = None, *, token: str = "", expect: int = 0
    ) -> Answer:
        """The answer; raises `RuntimeError` where it has another status than expected."""
        answer = await self.ask(http_request(method, path, self.host, body, token=token))
        if expect and answer.status != expect:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.body[:300]!r}")
        return answer

    def close(self) -> None:
        for line in self._all:
            if not line.closed:
                line.close()

    async def _open(self) -> HttpLine:
        line = await HttpLine.open(self.address)
        self._all.append(line)
        return line


def steadily(rate: float, count: int) -> "list[float]":
    """The moments, by the monotonic clock, at which to start so many things at that rate."""
    begin = time.monotonic()
    return [begin + number / rate for number in range(count)]
