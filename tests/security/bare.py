"""Bytes on a connection, for clients that no library would be."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn import Server

PATIENCE_S = 15.0

Application = Callable[[Any, Any, Any], Awaitable[None]]

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA


def frame(
    opcode: int, data: bytes = b"", *, fin: bool = True, masked: bool = True, reserved: int = 0
) -> bytes:
    """A client's frame (RFC 6455, 5.2), right or wrong."""
    first = (0x80 if fin else 0) | reserved | opcode
    flag = 0x80 if masked else 0
    size = len(data)
    head = bytes((first, flag | min(size, 126))) + (size.to_bytes(2, "big") if size > 125 else b"")
    if not masked:
        return head + data
    mask = b"\x12\x34\x56\x78"
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


class Wire:
    """A TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, url: str) -> "Wire":
        host, _, port = url.removeprefix("http://").rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.readuntil(b"\r\n\r\n")

    async def status(self) -> int:
        return int((await self.head()).split()[1])

    async def upgraded(self, *headers: bytes) -> bytes:
        """The answer's head, after an upgrade that went well."""
        await self.send(UPGRADE + b"".join(header + b"\r\n" for header in headers) + b"\r\n")
        head = await self.head()
        assert b" 101 " in head.split(b"\r\n")[0], head
        return head

    async def frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(PATIENCE_S):
            first, size = await self._reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await self._reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await self._reader.readexactly(8), "big")
            return first & 0x0F, await self._reader.readexactly(size)

    async def close_code(self) -> int:
        """The code of the close frame, after whatever else comes before it."""
        while True:
            opcode, data = await self.frame()
            if opcode == CLOSE:
                return int.from_bytes(data[:2], "big") if data else 1005

    async def ended(self) -> bytes:
        """All that comes until the other side ends it, in whatever way."""
        found = b""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while data := await self._reader.read(65_536):
                    found += data
            except ConnectionError:
                pass
        return found

    async def hang_up(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class Bare:
    """A server, and ways to look into it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    @property
    def connections(self) -> int:
        return len(self._server.server_state.connections)

    async def deserted(self) -> None:
        """Returns when nobody is connected any more."""
        async with asyncio.timeout(PATIENCE_S):
            while self.connections:  # noqa: ASYNC110  # there is no event for it
                await asyncio.sleep(0.002)
