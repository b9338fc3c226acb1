"""Plain Starlette under uvicorn, as the hub is: `send_text` a socket, no Redis, and a bare JSON route."""

import sys
from collections.abc import Sequence

from tests.bench.servers.server import Place, Reference

_UVICORN = ("--http", "httptools", "--loop", "uvloop", "--ws", "websockets-sansio")
_QUIET = ("--no-access-log", "--no-proxy-headers", "--log-level", "warning", "--backlog", "4096")


def uvicorn(python: str, port: int, *app: str) -> list[str]:
    """The command that serves an application as the hub is served."""
    return [python, "-m", "uvicorn", *app, "--port", str(port), *_UVICORN, *_QUIET]


class PlainStarlette(Reference):
    name = "Starlette"

    @classmethod
    def missing(cls) -> str | None:
        return None

    def command(self, place: Place) -> Sequence[str]:
        return uvicorn(sys.executable, self.port, "tests.bench.servers.apps.starlette_app:app")
