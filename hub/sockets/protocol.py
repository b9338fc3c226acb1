"""uvicorn's sans-I/O WebSocket protocol with what a hub needs besides: frames that were encoded once, a
bounded outbox, closing from synchronous code, messages in the very moment, a door for crowds, pings from one
timer for all, and no token in any log."""

import asyncio
import contextlib
import logging
from functools import partial
from typing import Any, Protocol

from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.streams import StreamReader

from hub.limiter import Bucket
from hub.sockets.door import Door
from hub.sockets.heartbeat import Heartbeat
from hub.sockets.outlet import Outlet
from hub.wire import codec
from hub.wire.closing import Close
from hub.wire.http import PROBLEM_JSON, problem

EXTENSION = "hub.socket"
"""Name of the ASGI extension under which an endpoint finds its `HubProtocol`."""

_FRAGMENTS = 64
_HANDSHAKES_IN_A_TURN = 4
"""Of the event loop: one or two milliseconds."""
_PONG = b"\x8a\x84"
"""The head of a pong with four bytes, as clients send it: a key follows, and then the number under it."""
_PONG_SIZE = 10
_AT_EOF = StreamReader.at_eof.__code__
_CONTROL_FRAMES_A_SECOND = 20
_BAD_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_DRAINING = codec.encode_json(problem(503, "draining", "The node is restarting; connect again.")).decode()

# uvicorn logs the query string of every handshake as information on its error logger, access log or not, and
# websockets logs headers there when debugging. Here they get a logger that lets through only what went wrong.
quiet = logging.getLogger("hub.sockets.protocol")
quiet.setLevel(logging.WARNING)


class UpgradeGate:
    """Shared by all sockets of a server: while `refusing`, upgrades get a 503."""

    refusing = False


class Listener(Protocol):
    """Who has a socket: gets every message's data, decoded where it is text, and at last news of its loss."""

    def received(self, text: str | None, data: bytes) -> None: ...
    def gone(self) -> None: ...


class _Nobody(asyncio.Queue[Any]):
    """The queue of an application that has returned."""

    def put_nowait(self, item: Any) -> None:
        """Nobody reads it."""


_NOBODY = _Nobody()
_ALWAYS = asyncio.Event()
_ALWAYS.set()


def protocol_class(
    *, max_message: int, max_outbox: int, gate: UpgradeGate, ping_interval_s: float, ping_timeout_s: float
) -> type[WebSocketsSansIOProtocol]:
    """The class to give to uvicorn's `ws` option."""

    class Bound(HubProtocol):
        MAX_MESSAGE = max_message
        MAX_OUTBOX = max_outbox
        GATE = gate
        HEARTBEAT = Heartbeat(ping_interval_s, ping_timeout_s)
        DOOR = Door(_HANDSHAKES_IN_A_TURN)

    return Bound


class HubProtocol(WebSocketsSansIOProtocol):
    MAX_MESSAGE = 16_384
    MAX_OUTBOX = 1_048_576
    LINGER_S = 2.0
    GATE = UpgradeGate()
    HEARTBEAT: Heartbeat
    DOOR: Door

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = quiet
        self.conn.logger = quiet
        self.conn.debug = False
        self.conn.max_message_size = None
        self.conn.max_fragment_size = self.MAX_MESSAGE
        self.pinged: int | None = None
        self.slot = 0
        self._listener: Listener | None = None
        self._told = False
        self.outlet: Outlet
        self._size = 0
        self._fragments = 0
        self._control = Bucket(_CONTROL_FRAMES_A_SECOND, self.loop.time)

    # What the hub calls

    def attach(self, listener: Listener) -> None:
        """Once accepted. From here on messages go to the listener at once, and the application may return: no
        task with its coroutines, queue and events is kept for a socket that has nothing to say."""
        early, self.queue = self.queue, _NOBODY
        self.writable = _ALWAYS
        self._listener = listener
        while not early.empty():
            event: Any = early.get_nowait()
            if event["type"] == "websocket.receive":
                text = event.get("text")
                listener.received(text, event["bytes"] if text is None else text.encode())
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def write_later(self, frame: bytes) -> bool:
        """Behind what the transport holds back; False where the socket is closing. A consumer who does not
        keep up is closed: nothing is ever dropped from the middle."""
        transport = self.transport
        if self.close_sent or self.disconnected or transport.is_closing():
            return False
        if transport.get_write_buffer_size() + len(frame) > self.MAX_OUTBOX:
            self.close_with(Close.SLOW_CONSUMER, "The outbox is full.")
            return False
        transport.write(frame)
        return True

    def close_with(self, code: int, reason: str = "") -> None:
        """Start the closing handshake; the transport goes at the latest after a short while."""
        if self.close_sent or self.disconnected or not self.handshake_complete:
            return
        self._lose()
        self.close_sent = True
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self.transport.is_closing():
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self._abort_later()

    def ping(self, frame: bytes) -> None:
        self.outlet.write(frame)

    # What uvicorn calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.outlet = Outlet(self)

    async def run_asgi(self) -> None:
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            return
        except Exception:
            self.logger.exception("socket_failed")
            self.send_500_response()
        if self._listener is None and self.close_timer is None:
            self.transport.close()

    def start_keepalive(self) -> None:
        self.HEARTBEAT.join(self)

    def stop_keepalive(self) -> None:
        self.HEARTBEAT.leave(self)
        self.pinged = None

    def pause_writing(self) -> None:
        if self._listener is None:
            super().pause_writing()

    def resume_writing(self) -> None:
        if self._listener is None:
            super().resume_writing()

    def data_received(self, data: bytes) -> None:
        # Most of what comes is the answer to a ping, alone: that spares it the parser, three times its cost.
        if len(data) == _PONG_SIZE and data.startswith(_PONG) and self._between_frames():
            key, number = int.from_bytes(data[2:6]), int.from_bytes(data[6:])
            if key ^ number == self.pinged:
                self.pinged = None
                return
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            # uvicorn leaves a handshake that cannot be read without an answer.
            self.close_sent = self.handshake_complete = True
            self.transport.write(b"".join(self.conn.data_to_send()) or _BAD_HANDSHAKE)
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        if self.GATE.refusing:
            self.handshake_complete = True
            self.close_sent = True
            response = self.conn.reject(503, _DRAINING)
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = PROBLEM_JSON
            response.headers["Retry-After"] = "1"
            self.conn.send_response(response)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
            return
        super().handle_connect(event)
        if hasattr(self, "scope"):
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[EXTENSION] = self

    def handle_text(self, event: Frame) -> None:
        self._size, self._fragments = len(event.data), 1
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        self._size, self._fragments = len(event.data), 1
        super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        self._size += len(event.data)
        self._fragments += 1
        if self._size > self.MAX_MESSAGE or self._fragments > _FRAGMENTS:
            self.frames = []
            self.close_with(Close.TOO_LARGE, "The message is too large, or in too many fragments.")
            return
        super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        data, text = b"".join(self.frames), None
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                text = data.decode()
            except UnicodeDecodeError:
                # uvicorn would log what came, as a mistake of ours.
                self.frames = []
                self.close_with(Close.NOT_UTF8, "Text is UTF-8.")
                return
        if self._listener is None or self.close_sent:
            super().send_receive_event_to_app()
        else:
            self.frames = []
            self._listener.received(text, data)

    def handle_ping(self) -> None:
        pong = b"".join(self.conn.data_to_send())
        if self._control_frame():
            self.outlet.write(pong)

    def handle_pong(self, event: Frame) -> None:
        if self._control_frame() and len(event.data) == 4 and int.from_bytes(event.data) == self.pinged:
            self.pinged = None

    def _control_frame(self) -> bool:
        """Whether there may be one more; no client needs as many as there may be messages."""
        allowed = self._control.take()
        if not allowed:
            self.close_with(Close.TOO_FAST, "Too many pings or pongs.")
        return allowed

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept" and self.handshake_complete:
            self.outlet.open()
            # Nothing needs the handshake any more, and it is half of what an idle socket would hold.
            del self.request, self.response
            self.scope = {"type": "websocket"}  # type: ignore[typeddict-item]  # emptied
        elif self.close_sent:
            self.outlet.close()

    def handle_close(self, event: Frame) -> None:
        self._lose()
        super().handle_close(event)
        self._abort_later()

    def handle_parser_exception(self) -> None:
        self._lose()
        super().handle_parser_exception()
        self._abort_later()

    def keepalive_timeout(self) -> None:
        self._lose()
        super().keepalive_timeout()
        self._abort_later()

    def shutdown(self) -> None:
        super().shutdown()
        self._abort_later()

    def connection_lost(self, exc: Exception | None) -> None:
        # The descriptor may belong to someone else in the next step of the loop; all else has time.
        self.outlet.close()
        self.DOOR.pass_through(partial(self._see_off, exc))

    def _see_off(self, exc: Exception | None) -> None:
        self._lose()
        with contextlib.suppress(KeyError):  # uvicorn removes itself from its set without looking
            super().connection_lost(exc)

    def _abort_later(self) -> None:
        """A peer who does not read would otherwise keep what is still to be written, and the descriptor."""
        if not self.disconnected and self.close_timer is None:
            self.close_timer = self.loop.call_later(self.LINGER_S, self.transport.abort)

    def _lose(self) -> None:
        self.outlet.close()
        if self._listener is not None and not self._told:
            self._told = True
            self._listener.gone()

    def _between_frames(self) -> bool:
        """Whether the parser waits for the beginning of a frame."""
        waiting: Any = self.conn.parser
        while waiting is not None and waiting.gi_code is not _AT_EOF:
            waiting = waiting.gi_yieldfrom
        return waiting is not None and self.handshake_complete and not self.close_sent
