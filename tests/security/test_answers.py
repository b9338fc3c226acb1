"""Answers that are written in one piece."""

from typing import Any

import pytest

from hub.wire.http import AT_ONCE
from tests.security.conftest import Dial, Serve


class Teller:
    """Answers each request with its path, and with this header."""

    def __init__(self, name: bytes = b"x-said", value: bytes = b"so") -> None:
        self._header = (name, value)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body: bytes = scope["raw_path"]
        headers = [self._header, (b"content-length", b"%d" % len(body))]
        await scope["extensions"][AT_ONCE](200, headers, body)


async def test_requests_that_come_together_are_answered_in_order(bare: Serve, dial: Dial) -> None:
    async with bare(Teller()) as server:
        wire = await dial(server.url)
        keep, close = b"Host: hub\r\n\r\n", b"Host: hub\r\nConnection: close\r\n\r\n"
        await wire.send(b"GET /a HTTP/1.1\r\n" + keep + b"GET /b HTTP/1.1\r\n" + keep)
        await wire.send(b"GET /c HTTP/1.1\r\n" + close)
        said = await wire.ended()
        assert [part.rpartition(b"\r\n\r\n")[2] for part in said.split(b"HTTP/1.1 200 OK")[1:]] == [
            b"/a",
            b"/b",
            b"/c",
        ]
        assert said.count(b"x-said: so\r\n") == 3
        assert said.count(b"connection: close\r\n") == 1


@pytest.mark.parametrize("value", [b"a\r\nx-forged: b", b"a\nx-forged: b", b"a\rb"])
async def test_no_header_smuggles_in_another(bare: Serve, dial: Dial, value: bytes) -> None:
    async with bare(Teller(value=value)) as server:
        wire = await dial(server.url)
        await wire.send(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
        head = await wire.head()
        assert head.startswith(b"HTTP/1.1 500")
        assert b"forged" not in head
