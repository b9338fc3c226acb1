"""One socket from its hello to its end: reads never wait for a store, every request gets one reply."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from msgspec import Struct

from hub.domain.errors import HubError, Refused
from hub.domain.ids import new_id
from hub.domain.model import Role
from hub.identity import Identity
from hub.limiter import Bucket
from hub.sockets.frames import Outgoing
from hub.sockets.protocol import HubProtocol
from hub.wire import client, codec
from hub.wire.closing import Close
from hub.wire.server import ErrorBody, ErrorMessage, Reply

_AT_ONCE = 8
"""Requests of one connection that may be waiting for a store at the same time."""
_HELD = 1_000
"""Frames that may wait for the welcome."""
_LONGEST_TIMER_S = 86_400.0


class Host(Protocol):
    """What a connection needs of the endpoint that it belongs to."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]": ...
    async def join(self, connection: "Connection", hello: client.Hello) -> None: ...
    async def answer(self, connection: "Connection", message: client.ClientMessage) -> dict[str, Any]: ...
    def active(self, connection: "Connection") -> None: ...
    def lost(self, connection: "Connection") -> None: ...
    def failed(self, error: BaseException) -> ErrorBody: ...


class Connection:
    """`identity` is None until the hello was accepted. Frames sent before the welcome wait behind it."""

    __slots__ = (
        "_at_once",
        "_binary",
        "_early",
        "_expiry",
        "_hello",
        "_host",
        "_outlet",
        "_protocol",
        "bucket",
        "entered",
        "header_token",
        "held",
        "id",
        "identity",
        "joined",
        "lost",
        "touched",
        "watched",
    )

    def __init__(
        self,
        host: Host,
        protocol: HubProtocol,
        *,
        binary: bool,
        bucket: Bucket,
        hello_timeout: float,
        header_token: str | None,
    ) -> None:
        self.id = new_id()
        self.bucket = bucket
        self.identity: Identity | None = None
        self.header_token = header_token
        self.watched: set[str] = set()
        self.joined = False
        self.lost = False
        self.entered: asyncio.Task[None] | None = None
        self.held: list[tuple[Outgoing, Callable[[], None] | None]] | None = []
        self.touched = 0.0
        self._host = host
        self._protocol = protocol
        self._outlet = protocol.outlet
        self._binary = binary
        self._at_once = 0
        self._early: list[client.ClientMessage] = []
        self._expiry: asyncio.TimerHandle | None = None
        self._hello: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(
            hello_timeout, self.close, Close.NO_HELLO, "Say hello first."
        )

    @property
    def user_id(self) -> str:
        return self.identity.user_id if self.identity else ""

    @property
    def role(self) -> Role:
        assert self.identity is not None
        return self.identity.role

    @property
    def waits(self) -> bool:
        """For a reply."""
        return self._at_once > 0

    # Out

    def send(self, message: Outgoing, written: Callable[[], None] | None = None) -> bool:
        """Whether the frame is on its way or waits for the welcome; `written` is called when it has left."""
        if self.held is not None:
            if len(self.held) >= _HELD:
                self.close(Close.RESTARTING, "The welcome takes too long.")
                return False
            self.held.append((message, written))
            return True
        if not self._outlet.write(message.binary() if self._binary else message.text()):
            return False
        if written is not None:
            written()
        return True

    def say(self, message: Struct) -> bool:
        """Write at once, before anything that is held."""
        outgoing = Outgoing(message)
        return self._outlet.write(outgoing.binary() if self._binary else outgoing.text())

    def close(self, code: int, reason: str = "") -> None:
        self._protocol.close_with(code, reason)

    def refuse(self, error: HubError, code: Close) -> None:
        """Say why, then close."""
        self.say(ErrorMessage(code=error.code, detail=error.detail))
        self.close(code, error.code)

    def welcome(self, message: Struct) -> None:
        """From here on this is an ordinary member; what was held follows the welcome."""
        self.say(message)
        waiting, self.held = self.held or [], None
        for outgoing, written in waiting:
            self.send(outgoing, written)
        self.joined = True
        early, self._early = self._early, []
        for request in early:
            self._handle(request)

    def expire_in(self, seconds_left: float) -> None:
        """Close when the token expires, unless it is refreshed before."""
        if self._expiry is not None:
            self._expiry.cancel()
        loop = asyncio.get_running_loop()
        if seconds_left > _LONGEST_TIMER_S:
            self._expiry = loop.call_later(_LONGEST_TIMER_S, self.expire_in, seconds_left - _LONGEST_TIMER_S)
            return
        self._expiry = loop.call_later(
            seconds_left,
            self.refuse,
            Refused("token_expired", "The token has expired."),
            Close.NOT_AUTHENTICATED,
        )

    def forget_timers(self) -> None:
        for timer in (self._hello, self._expiry):
            if timer is not None:
                timer.cancel()
        self._hello = self._expiry = None

    # In

    def gone(self) -> None:
        """No frame is written any more."""
        self.lost = True
        self.forget_timers()
        self._host.lost(self)

    def received(self, text: str | None, data: bytes) -> None:
        """A message came, as text or as data."""
        if (text is None) is not self._binary or self._protocol.close_sent:
            if not self._protocol.close_sent:
                kind = "binary" if self._binary else "text"
                self.refuse(Refused("malformed", f"This subprotocol uses {kind} frames."), Close.MALFORMED)
            return
        if not self.bucket.take():
            self.refuse(Refused("too_fast", "Too many messages."), Close.TOO_FAST)
            return
        try:
            message = codec.decode_message(data, binary=self._binary)
        except codec.InvalidMessage as error:
            self._complain(error)
            return
        except Refused as error:
            self.refuse(error, Close.MALFORMED)
            return
        self._host.active(self)
        self._take(message)

    def _take(self, message: client.ClientMessage) -> None:
        if self.joined:
            self._handle(message)
        elif self._hello is not None:
            if not isinstance(message, client.Hello):
                self.refuse(Refused("unauthorized", "The first message is hello."), Close.NOT_AUTHENTICATED)
                return
            self._hello.cancel()
            self._hello = None
            self.entered = self._host.spawn(self._host.join(self, message))
        elif len(self._early) < _AT_ONCE:
            self._early.append(message)
        else:
            self.refuse(Refused("too_fast", "Wait for the welcome."), Close.TOO_FAST)

    def _handle(self, message: client.ClientMessage) -> None:
        if self._at_once >= _AT_ONCE:
            self.refuse(Refused("too_fast", "Too many requests at once."), Close.TOO_FAST)
            return
        self._at_once += 1
        self._host.spawn(self._answer(message))

    async def _answer(self, message: client.ClientMessage) -> None:
        try:
            fields = await self._host.answer(self, message)
        except Exception as error:
            self._report(self._host.failed(error), message.id)
        else:
            if message.id is not None:
                self.send(Outgoing(Reply(id=message.id, ok=True, **fields)))
        finally:
            self._at_once -= 1

    def _complain(self, error: codec.InvalidMessage) -> None:
        if not self.joined and self._hello is not None:
            self.refuse(error, Close.MALFORMED)
            return
        self._report(codec.error_body(error), error.request_id)

    def _report(self, body: ErrorBody, request_id: client.RequestId | None) -> None:
        if request_id is None:
            self.send(Outgoing(ErrorMessage(code=body.code, detail=body.detail)))
        else:
            self.send(Outgoing(Reply(id=request_id, ok=False, error=body)))
