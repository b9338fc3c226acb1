"""uvicorn's HTTP protocol with the limits that it lacks: nobody holds a connection without asking anything,
or fills memory with a head that never ends."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from hub.sockets.protocol import HubProtocol
from hub.wire import codec
from hub.wire.http import AT_ONCE, HANG_UP, PROBLEM_JSON, problem

MAX_HEAD = 32_768
"""Bytes of method, URL and headers together."""
MAX_URL = 8_192
MAX_HEADERS = 100

HEAD_S = 10.0
BODY_S = 30.0
STALL_S = 30.0


class _HeadTooLarge(Exception):
    """The parser hands it on as an invalid request."""


class HubHttpProtocol(HttpToolsProtocol):
    """A request's head must be here `HEAD_S` after its first byte (the first one's after the connection), its
    body `BODY_S` later; a client that leaves an answer unread for `STALL_S` is dropped."""

    HEAD_S = HEAD_S
    BODY_S = BODY_S
    STALL_S = STALL_S

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_head = True
        self._head = 0
        self._received = 0
        self._messages = 0
        self._waits = False
        self._too_large = False
        self._due: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._expect_within(self.HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        reading = self._messages if self._in_head else None
        self._received = self._head + len(data)
        super().data_received(data)
        # Most requests come in one piece, and need no timer.
        if not self._in_head:
            patience = self.BODY_S
        elif self._messages == reading:
            patience = self.HEAD_S
            self._head = self._received
            if self._head > MAX_HEAD and not self.transport.is_closing():
                self._too_large = True
                self.send_400_response("")
        else:
            return
        if self._due is None:
            self._expect_within(patience)

    def on_headers_complete(self) -> None:
        if len(self.url) > MAX_URL or len(self.headers) > MAX_HEADERS or self._fills_too_much():
            self._too_large = True
            raise _HeadTooLarge
        self._in_head = False
        self._expect_nothing()
        cycle = self.cycle
        super().on_headers_complete()
        if self.cycle is not cycle:
            ours = {AT_ONCE: partial(_answer, self.cycle), HANG_UP: partial(_hang_up, self.cycle)}
            self.scope["extensions"] = ours  # type: ignore[typeddict-item]  # which are called

    def on_message_complete(self) -> None:
        self._expect_nothing()
        self._in_head, self._head = True, 0
        self._messages += 1
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._expect_nothing()
        sockets = cast(type[HubProtocol], self.ws_protocol_class)
        if not sockets.DOOR.pass_through(self._upgrade):
            self.transport.pause_reading()
            self._waits = True

    def _upgrade(self) -> None:
        if self.transport.is_closing():
            return
        super().handle_websocket_upgrade()
        if self._waits:
            self.transport.resume_reading()

    def send_400_response(self, msg: str) -> None:
        """Whatever cannot be read as a request, in the shape of every other refusal."""
        status, code, detail = 400, "malformed", "That is no HTTP request."
        if self._too_large:
            status, code, detail = 431, "too_large", f"URL and headers may have {MAX_HEAD} bytes."
        body = codec.encode_json(problem(status, code, detail))
        head = (
            f"HTTP/1.1 {status} {'Bad Request' if status == 400 else 'Request Header Fields Too Large'}\r\n"
            f"content-type: {PROBLEM_JSON}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._abort_what_is_left()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._abort_what_is_left()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self.STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def _abort_what_is_left(self) -> None:
        """A transport closes when everything is written, and without this never where nobody reads."""
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self.loop.call_later(self.STALL_S, self.transport.abort)

    def _fills_too_much(self) -> bool:
        """Counted only where as much has been received at all."""
        if self._received <= MAX_HEAD:
            return False
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD

    def _expect_within(self, seconds: float) -> None:
        self._expect_nothing()
        self._due = self.loop.call_later(seconds, self.transport.abort)

    def _expect_nothing(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


async def _answer(
    cycle: RequestResponseCycle, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> None:
    """A whole answer in one piece, with its length among the headers. uvicorn takes it in two and puts every
    header through two regular expressions, which is a fifth of what a short answer costs."""
    if cycle.flow.write_paused and not cycle.disconnected:
        await cycle.flow.drain()
    if cycle.disconnected:
        return
    lines = [b"%b: %b\r\n" % header for header in (*cycle.default_headers, *headers)]
    if not cycle.keep_alive:
        lines.append(b"connection: close\r\n")
    head = b"".join(lines)
    if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines):
        raise ValueError("a header holds a line break")
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], head, body))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()


def _hang_up(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.transport.abort()
