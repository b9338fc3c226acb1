"""WebSocket frames encoded once and written to many sockets."""

import msgspec
from msgspec import Raw, Struct

from hub.wire import codec

_TEXT = 0x81
_BINARY = 0x82


def frame(payload: bytes, *, binary: bool) -> bytes:
    """A whole server frame (RFC 6455, 5.2): servers do not mask, so it is the same for every client."""
    size = len(payload)
    first = _BINARY if binary else _TEXT
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65_536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


class Outgoing:
    """One message for any number of sockets; each encoding is made when the first socket needs it."""

    __slots__ = ("_binary", "_message", "_text")

    def __init__(self, message: Struct | Raw) -> None:
        self._message = message
        self._text: bytes | None = None
        self._binary: bytes | None = None

    def text(self) -> bytes:
        if self._text is None:
            message = self._message
            payload = bytes(message) if isinstance(message, Raw) else codec.encode_json(message)
            self._text = frame(payload, binary=False)
        return self._text

    def binary(self) -> bytes:
        if self._binary is None:
            message = self._message
            value = msgspec.json.decode(message) if isinstance(message, Raw) else message
            self._binary = frame(codec.encode_msgpack(value), binary=True)
        return self._binary
