"""Requests that are slow, endless or two things at once, and clients that do not read what they asked for."""

import asyncio
from typing import Any

import pytest

from hub.sockets import protocol
from tests.e2e.world import World
from tests.security.bare import TEXT, UPGRADE, frame
from tests.security.conftest import Dial, Impatient, Serve

HUGE = b"x" * 40_000


async def talker(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, answers with more than any buffer holds."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(64):
        await send({"type": "http.response.body", "body": b"x" * 1_048_576, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"G",
        b"GET /healthz HTTP/1.1\r\nHost: hub\r\nX-Slow: ",
        b"\r\n",
        UPGRADE,
        b"POST / HTTP/1.1\r\nHost: hub\r\nContent-Length: 5\r\n\r\n123",
        b"POST / HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123",
    ],
)
async def test_who_does_not_go_on_is_dropped(bare: Serve, said: bytes, dial: Dial) -> None:
    async with bare(talker, http=Impatient) as server:
        wire = await dial(server.url)
        await wire.send(said)
        assert await wire.ended() == b""
        await server.deserted()


@pytest.mark.parametrize(
    "start", [b"GET /healthz HTTP/1.1\r\nX: ", b"\r\n", b"POST / HTTP/1.1\r\nContent-Length: 999\r\n\r\n"]
)
async def test_a_byte_now_and_then_buys_no_time(bare: Serve, start: bytes, dial: Dial) -> None:
    async with bare(talker, http=Impatient) as server:
        wire = await dial(server.url)
        await wire.send(start)
        end = asyncio.create_task(wire.ended())
        while not end.done():
            wire.writer.write(b"\r\n" if start == b"\r\n" else b"x")
            await asyncio.sleep(0.01)
        await server.deserted()


async def test_a_second_request_has_its_own_time(bare: Serve, dial: Dial) -> None:
    async def short(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with bare(short, http=Impatient) as server:
        wire = await dial(server.url)
        await wire.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await wire.status() == 204
        await wire.send(b"GET / HT")
        assert await wire.ended() == b""


async def test_who_does_not_read_the_answer_is_dropped(bare: Serve, dial: Dial) -> None:
    async with bare(talker, http=Impatient) as server:
        wire = await dial(server.url)
        await wire.send(b"GET / HTTP/1.1\r\n\r\n")
        await wire.head()
        await server.deserted()


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"GET / HTTP/1.1\r\nX: " + HUGE + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + HUGE, 431),
        (b"GET / HTTP/1.1\r\n" + HUGE, 431),
        (b"GET /" + HUGE, 431),
        (b"GET /" + HUGE[:9_000] + b" HTTP/1.1\r\n\r\n", 431),
        (b"\r\n" * 20_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (UPGRADE + b"X: " + HUGE[:9_000] + b"\r\n\r\n", 431),
        (UPGRADE + b"X: y\r\n" * 101 + b"\r\n", 431),
        (UPGRADE + b"Content-Length: 5\r\n\r\nhello", 400),
        (UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (UPGRADE.replace(b"Sec-WebSocket-Key", b"X") + b"\r\n", 400),
        (UPGRADE.replace(b"GET", b"POST") + b"\r\n", 405),
        (UPGRADE.replace(b"/ws", b"/elsewhere") + b"\r\n", 403),
    ],
)
async def test_heads_that_are_too_large_or_no_handshake(
    world: World, dial: Dial, said: bytes, status: int
) -> None:
    wire = await dial(world.hub.urls[0])
    await wire.send(said)
    assert await wire.status() == status
    await wire.ended()


@pytest.mark.parametrize(
    "said",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        b"Content-Length: +4\r\n\r\nabcd",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        b"X-Space : y\r\n\r\n",
        b"X-Folded: a\r\n b\r\n\r\n",
        b"X-Bare: a\nX-Feed: b\r\n\r\n",
        b"X-Nul: a\x00b\r\n\r\n",
    ],
)
async def test_what_two_parsers_could_read_in_two_ways_is_refused(
    world: World, dial: Dial, said: bytes
) -> None:
    """Behind a balancer that reads it otherwise, the rest would be somebody else's request."""
    wire = await dial(world.hub.urls[0])
    await wire.send(b"POST /api/intake/start HTTP/1.1\r\nHost: hub\r\n" + said)
    answer = await wire.ended()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"malformed"' in answer


@pytest.mark.parametrize("announced", [True, False])
async def test_bodies_that_are_too_large(world: World, announced: bool, dial: Dial) -> None:
    token = world.customer().token.encode()
    wire = await dial(world.hub.urls[0])
    head = b"POST /api/intake/start HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer " + token + b"\r\n"
    if announced:
        await wire.send(head + b"Content-Length: 999999999\r\n\r\n")
    else:
        await wire.send(
            head + b"Transfer-Encoding: chunked\r\n\r\n" + (b"4000\r\n" + b" " * 16_384 + b"\r\n") * 5
        )
    assert await wire.status() == 413


async def test_where_many_come_at_once_all_get_in(
    bare: Serve, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": (await receive())["text"]})

    monkeypatch.setattr(protocol, "_HANDSHAKES_IN_A_TURN", 1)
    async with bare(echo) as server:
        wires = [await dial(server.url) for _ in range(20)]
        for wire in wires:
            wire.writer.write(UPGRADE + b"\r\n")
        for number, wire in enumerate(wires):
            assert await wire.status() == 101
            await wire.send(frame(TEXT, b"%d" % number))
            assert await wire.frame() == (TEXT, b"%d" % number)
