"""Plain Starlette under uvicorn, as the hub is: `send_text` a socket, no Redis, and a bare JSON route."""

import sys
from collections.abc import Sequence

from tests.bench.servers.server import Place, Reference

UVICORN = ("--http", "httptools", "--loop", "uvloop", "--ws", "websockets-sansio")
QUIET = ("--no-access-log", "--log-level", "warning", "--backlog", "4096")


class PlainStarlette(Reference):
    name = "Starlette"

    @classmethod
    def missing(cls) -> str | None:
        return None

    def command(self, place: Place) -> Sequence[str]:
        app = "tests.bench.servers.apps.starlette_app:app"
        return [sys.executable, "-m", "uvicorn", app, "--port", str(self.port), *UVICORN, *QUIET]
