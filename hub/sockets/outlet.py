"""Where a socket's frames leave."""

import asyncio
import os
from typing import Protocol


class Owner(Protocol):
    """The protocol whose frames they are."""

    transport: asyncio.Transport

    def write_later(self, frame: bytes) -> bool: ...


class Outlet:
    """The little of a socket that a frame needs, apart from all else that its protocol holds: besides `send`
    itself, a broadcast to very many costs mostly fetching each one's objects from memory.

    While the transport holds nothing back, the bytes go straight to the descriptor, past its bookkeeping. The
    descriptor is ours from `open` until `close`, which comes before anyone else may have it.
    """

    __slots__ = ("_descriptor", "_owner", "_transport")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._transport = owner.transport
        self._descriptor: int | None = None

    def open(self) -> None:
        if self._transport.get_extra_info("sslcontext") is None:
            self._descriptor = self._transport.get_extra_info("socket").fileno()

    def close(self) -> None:
        self._descriptor = None

    def write(self, frame: bytes) -> bool:
        """Put a whole frame on its way; False where the socket is closing."""
        descriptor, transport = self._descriptor, self._transport
        if descriptor is None or transport.is_closing() or transport.get_write_buffer_size():
            return self._owner.write_later(frame)
        try:
            written = os.write(descriptor, frame)
        except BlockingIOError:
            written = 0
        except OSError:
            transport.abort()
            return False
        if written < len(frame):
            transport.write(frame[written:])
        return True
