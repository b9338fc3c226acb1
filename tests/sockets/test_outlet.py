"""Frames go straight to the descriptor, and to nobody else's."""

import asyncio
import os
import socket
from collections.abc import Callable

import pytest

from hub.sockets.outlet import Outlet

FRAME = b"\x81\x05hello"


class Owner:
    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.later: list[bytes] = []

    def write_later(self, frame: bytes) -> bool:
        self.later.append(frame)
        return False


class Line:
    """An outlet, and what comes out at the other end of its socket."""

    def __init__(self, transport: asyncio.Transport, end: socket.socket) -> None:
        self.owner = Owner(transport)
        self.outlet = Outlet(self.owner)
        self.end = end
        self.descriptor: int = transport.get_extra_info("socket").fileno()


async def a_line() -> Line:
    here, there = socket.socketpair()
    there.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=here)
    return Line(transport, there)


async def test_a_frame_goes_past_the_transport() -> None:
    line = await a_line()
    line.outlet.open()
    with line.end:
        assert line.outlet.write(FRAME)
        assert (line.end.recv(100), line.owner.later) == (FRAME, [])
    line.owner.transport.close()


async def test_what_the_transport_holds_back_goes_first() -> None:
    line = await a_line()
    line.outlet.open()
    with line.end:
        line.owner.transport.write(b"x" * 10_000_000)
        assert not line.outlet.write(FRAME)
        assert line.owner.later == [FRAME]
    line.owner.transport.abort()


@pytest.mark.parametrize(
    "end",
    [lambda line: line.outlet.close(), lambda line: line.owner.transport.abort()],
    ids=["closed", "aborted"],
)
async def test_after_its_end_nothing_goes_to_whoever_has_the_descriptor(end: Callable[[Line], None]) -> None:
    line = await a_line()
    line.outlet.open()
    theirs, heard = socket.socketpair()
    heard.setblocking(False)
    with line.end, theirs, heard:
        end(line)
        os.dup2(theirs.fileno(), line.descriptor)
        assert not line.outlet.write(FRAME)
        with pytest.raises(BlockingIOError):
            heard.recv(100)
        line.owner.transport.abort()
        await asyncio.sleep(0)
