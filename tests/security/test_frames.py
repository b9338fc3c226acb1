"""Frames that no honest client sends: the socket is closed with a documented code, memory stays bounded."""

import asyncio
import json
from typing import Any

import pytest

from hub.sockets.protocol import EXTENSION, HubProtocol
from tests.e2e.world import Person, World
from tests.security.bare import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Wire, frame
from tests.security.conftest import Dial, Serve


async def welcome(dial: Dial, world: World, person: Person) -> Wire:
    wire = await dial(world.hub.urls[0])
    await wire.upgraded()
    await wire.send(frame(TEXT, json.dumps({"type": "hello", "token": person.token}).encode()))
    opcode, data = await wire.frame()
    assert (opcode, json.loads(data)["type"]) == (TEXT, "welcome")
    return wire


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"{}", masked=False), 1002),
        (frame(TEXT, b"{}", reserved=0x40), 1002),
        (frame(0x3, b"{}"), 1002),
        (frame(0xB, b"{}"), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(PING, fin=False), 1002),
        (frame(CONTINUATION, b"{}"), 1002),
        (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, (999).to_bytes(2, "big")), 1002),
        (frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
        (frame(CLOSE, (1000).to_bytes(2, "big") + b"\xff"), 1007),
        (frame(TEXT, b"\xff\xfe"), 1007),
        (frame(TEXT, b'{"type": "', fin=False) + frame(CONTINUATION, b"\xc3"), 1007),
        (frame(BINARY, b"{}"), 4400),
        (frame(TEXT, b"x" * 16_385), 1009),
        (frame(TEXT, b"x" * 9_000, fin=False) + frame(CONTINUATION, b"x" * 9_000), 4413),
        (frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 64, 4413),
        (frame(TEXT, fin=False) + frame(CONTINUATION, b"x", fin=False) * 10_000, 4413),
        (frame(PING) * 100, 4429),
        (frame(PONG) * 100, 4429),
        (frame(TEXT, b"[]") * 100, 4400),
        (frame(CLOSE, (1000).to_bytes(2, "big")), 1000),
        (frame(CLOSE), 1005),
    ],
)
async def test_floods_and_oddities(world: World, sent: bytes, code: int, dial: Dial) -> None:
    wire = await welcome(dial, world, world.customer())
    await wire.send(sent)
    assert await wire.close_code() == code


async def test_a_message_in_some_pieces_and_some_pings_are_fine(world: World, dial: Dial) -> None:
    wire = await welcome(dial, world, world.customer())
    text = b'{"type": "heartbeat", "id": 1}'
    await wire.send(frame(TEXT, text[:1], fin=False))
    for piece in (text[1:2], b"", text[2:9]):
        await wire.send(frame(PING, b"p") + frame(CONTINUATION, piece, fin=False))
    await wire.send(frame(CONTINUATION, text[9:]))
    frames = [await wire.frame() for _ in range(4)]
    assert [data for opcode, data in frames if opcode == PONG] == [b"p"] * 3
    assert json.loads(frames[-1][1])["ok"]


async def test_compression_is_not_to_be_had(world: World, dial: Dial) -> None:
    """A small frame could unfold to any size, and secrets beside chosen text would show by length."""
    wire = await dial(world.hub.urls[0])
    head = await wire.upgraded(b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
    assert b"extensions" not in head.lower()


class Held:
    """A socket of a server in this process, whose client reads nothing at all."""

    def __init__(self) -> None:
        self.found: asyncio.Future[HubProtocol] = asyncio.get_running_loop().create_future()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        extension: HubProtocol = scope["extensions"][EXTENSION]
        await send({"type": "websocket.accept"})
        self.found.set_result(extension)
        while (await receive())["type"] == "websocket.receive":
            pass

    async def full(self) -> HubProtocol:
        """The protocol, once its outbox is nearly full."""
        protocol = await self.found
        part = frame(TEXT, b"x" * 1_000, masked=False)
        while protocol.transport.get_write_buffer_size() < protocol.MAX_OUTBOX - 2 * len(part):
            assert protocol.outlet.write(part)
        return protocol


async def test_a_client_that_never_reads_costs_no_more_than_its_outbox(bare: Serve, dial: Dial) -> None:
    held = Held()
    async with bare(held) as server:
        wire = await dial(server.url)
        await wire.upgraded()
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it reads, too
        protocol = await held.full()
        part = frame(TEXT, b"x" * 1_000, masked=False)
        written = [protocol.outlet.write(part) for _ in range(5_000)]
        assert written.count(True) <= 3
        assert not written[-1]
        assert protocol.transport.get_write_buffer_size() < protocol.MAX_OUTBOX + 1_000
        await server.deserted()


@pytest.mark.parametrize(
    "said", [frame(PING, b"x" * 125) * 60, frame(CLOSE), frame(0x3), frame(TEXT, b"\xff")]
)
async def test_nor_does_one_that_says_something_on_the_way(bare: Serve, said: bytes, dial: Dial) -> None:
    """Answers to pings are bounded like everything else; whoever closes without reading is gone soon."""
    held = Held()
    async with bare(held, max_outbox=16_384) as server:
        wire = await dial(server.url)
        await wire.upgraded()
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it reads, too
        protocol = await held.full()
        for _ in range(200):
            wire.writer.write(said)
        most = 0
        while server.connections:
            most = max(most, protocol.transport.get_write_buffer_size())
            await asyncio.sleep(0.002)
        assert most <= protocol.MAX_OUTBOX + 100
