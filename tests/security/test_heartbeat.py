"""Pings: whoever answers stays, whoever does not is gone; and nothing but the answer counts as one."""

import asyncio
from typing import Any

import pytest

from hub.sockets.protocol import EXTENSION, HubProtocol
from tests.patience import until
from tests.security.bare import BINARY, CLOSE, PING, PONG, TEXT, UPGRADE, Wire, frame
from tests.security.conftest import Dial, Impatient, Serve

PING_S = 0.1


class Ear:
    """An application that hands its sockets over and returns; it remembers what came."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[tuple[str | None, bytes]] = asyncio.Queue()
        self.lost = asyncio.Event()
        self.protocol: asyncio.Future[HubProtocol] = asyncio.get_running_loop().create_future()
        self.may_open = asyncio.Event()
        self.may_open.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        protocol: HubProtocol = scope["extensions"][EXTENSION]
        self.protocol.set_result(protocol)
        await self.may_open.wait()
        await send({"type": "websocket.accept"})
        protocol.attach(self)

    def received(self, text: str | None, data: bytes) -> None:
        self.messages.put_nowait((text, data))

    def gone(self) -> None:
        self.lost.set()


async def pinged(wire: Wire) -> bytes:
    opcode, payload = await wire.frame()
    assert opcode == PING
    return payload


async def test_who_answers_stays_however_the_answer_comes(bare: Serve, dial: Dial) -> None:
    ear = Ear()
    # The time for requests is not that of sockets.
    async with bare(ear, http=Impatient, ping_s=PING_S, pong_s=60) as server:
        wire = await dial(server.url)
        await wire.upgraded()
        for _ in range(3):
            await wire.send(frame(PONG, await pinged(wire)))
            # In two pieces, and together with something else.
            answer = frame(PONG, await pinged(wire))
            await wire.send(answer[:3])
            await wire.send(answer[3:])
            await wire.send(frame(PONG, await pinged(wire)) + frame(TEXT, b"still here"))
            assert await ear.messages.get() == ("still here", b"still here")
        assert not ear.lost.is_set()


@pytest.mark.parametrize("answer", ["nothing", "another number", "longer", "in the middle of a message"])
async def test_who_does_not_answer_is_gone(bare: Serve, dial: Dial, answer: str) -> None:
    ear = Ear()
    async with bare(ear, ping_s=PING_S, pong_s=PING_S) as server:
        wire = await dial(server.url)
        await wire.upgraded()
        number = await pinged(wire)
        chunks = {
            "nothing": [],
            "another number": [frame(PONG, number[::-1]), frame(PONG, bytes(4))],
            "longer": [frame(PONG, number + b"!")],
            # What looks like the answer is what the message says.
            "in the middle of a message": [frame(BINARY, bytes(10))[:6], frame(PONG, number)],
        }
        for chunk in chunks[answer]:
            (await ear.protocol).data_received(chunk)  # as it would come, and surely each by itself
        opcode, data = await wire.frame()
        assert (opcode, data[:2]) == (CLOSE, (1011).to_bytes(2)), "before it is pinged again"
        await ear.lost.wait()


async def test_what_came_before_the_socket_was_accepted_is_heard(bare: Serve, dial: Dial) -> None:
    ear = Ear()
    ear.may_open.clear()
    async with bare(ear) as server:
        wire = await dial(server.url)
        await wire.send(UPGRADE + b"\r\n")
        protocol = await ear.protocol
        await wire.send(frame(TEXT, b"early"))

        async def come() -> bool:
            return protocol.read_paused

        await until(come)
        ear.may_open.set()
        assert b" 101 " in await wire.head()
        await wire.send(frame(TEXT, b"later"))
        heard = [await ear.messages.get(), await ear.messages.get()]
        assert heard == [("early", b"early"), ("later", b"later")]
        await wire.hang_up()
        await ear.lost.wait()
