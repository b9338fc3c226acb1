"""socket.io on Node with its Redis adapter, and its Python counterpart with a Redis manager."""

import shutil
from collections.abc import Sequence

from tests.bench.servers.server import APPS, Place, Reference
from tests.bench.servers.starlette import uvicorn
from tests.bench.servers.tools import NODE_MODULES, PYTHON, node_missing, python_missing
from tests.bench.wire import Joining


class _EngineIo(Reference):
    """Over WebSockets from the first byte: the long polling that it starts with elsewhere is left out."""

    def joining(self, user: str) -> Joining:
        path = f"/socket.io/?EIO=4&transport=websocket&user={user}"
        return Joining(path=path, hello=[b"40"], ready=b"40")


class SocketIo(_EngineIo):
    name = "socket.io"
    uses_redis = True

    @classmethod
    def missing(cls) -> str | None:
        return node_missing("socket.io", "@socket.io/redis-adapter", "redis")

    def command(self, place: Place) -> Sequence[str]:
        return [shutil.which("node") or "node", str(APPS / "socketio_app.js")]

    def environment(self, place: Place) -> dict[str, str]:
        return {**super().environment(place), "NODE_PATH": str(NODE_MODULES), "NODE_ENV": "production"}


class PythonSocketIo(_EngineIo):
    name = "python-socketio"
    uses_redis = True

    @classmethod
    def missing(cls) -> str | None:
        return python_missing("socketio")

    def command(self, place: Place) -> Sequence[str]:
        return uvicorn(str(PYTHON), self.port, "--app-dir", str(APPS), "python_socketio_app:app")
