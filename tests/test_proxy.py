"""The proxy breaks lines as it says, and nothing else."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.patience import until
from tests.proxy import Proxy


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1024):
        writer.write(data)
    writer.close()


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    proxy = await Proxy.start(server.sockets[0].getsockname()[1])
    yield proxy
    await proxy.close()
    server.close()


class Line:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, proxy: Proxy) -> "Line":
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    def say(self, word: bytes) -> None:
        self._writer.write(word)

    async def hear(self, word: bytes) -> None:
        async with asyncio.timeout(10):
            assert await self._reader.readexactly(len(word)) == word

    async def over(self) -> bool:
        async with asyncio.timeout(10):
            try:
                return await self._reader.read(1) == b""
            except ConnectionError:
                return True

    def close(self) -> None:
        self._writer.close()


@pytest_asyncio.fixture
async def line(proxy: Proxy) -> AsyncIterator[Line]:
    line = await Line.to(proxy)
    line.say(b"before")
    await line.hear(b"before")
    yield line
    line.close()


async def test_a_cut_ends_every_connection_and_takes_new_ones(proxy: Proxy, line: Line) -> None:
    proxy.cut()
    assert await line.over()
    again = await Line.to(proxy)
    again.say(b"again")
    await again.hear(b"again")
    again.close()


async def test_a_refusing_port_is_closed_until_it_is_healed(proxy: Proxy, line: Line) -> None:
    await proxy.refuse()
    assert await line.over()
    with pytest.raises(ConnectionRefusedError):
        await Line.to(proxy)
    await proxy.heal()
    again = await Line.to(proxy)
    again.say(b"again")
    await again.hear(b"again")
    again.close()


@pytest.mark.parametrize("breaking", [Proxy.blackhole, Proxy.half_open])
async def test_what_was_held_up_comes_when_it_is_healed(proxy: Proxy, line: Line, breaking: object) -> None:
    assert callable(breaking)
    breaking(proxy)
    line.say(b"held up")
    hearing = asyncio.create_task(line.hear(b"held up"))
    other = await Line.to(proxy)
    assert not hearing.done()
    await proxy.heal()
    await hearing
    other.close()


@pytest.mark.parametrize("pass_on", [True, False])
async def test_a_trap_stops_everything_at_its_word(proxy: Proxy, line: Line, pass_on: bool) -> None:
    sprung = proxy.trap(b"now", pass_on=pass_on)
    line.say(b"not yet")
    await line.hear(b"not yet")
    line.say(b"no")
    await line.hear(b"no")
    line.say(b"w")
    async with asyncio.timeout(10):
        await sprung.wait()
    await proxy.heal()
    await line.hear(b"w")


async def test_the_deaf_hear_no_messages_and_all_else(proxy: Proxy, line: Line) -> None:
    proxy.deafen()
    line.say(b"smessage")

    async def lost() -> bool:
        return proxy.lost == 1

    await until(lost)
    line.say(b"reply")
    await line.hear(b"reply")
