"""Django Channels with the Redis layer that its documentation recommends, under uvicorn."""

from collections.abc import Sequence

from tests.bench.servers.server import APPS, Place, Reference
from tests.bench.servers.starlette import uvicorn
from tests.bench.servers.tools import PYTHON, python_missing


class Channels(Reference):
    name = "Channels"
    uses_redis = True

    @classmethod
    def missing(cls) -> str | None:
        return python_missing("django", "channels", "channels_redis")

    def command(self, place: Place) -> Sequence[str]:
        return uvicorn(str(PYTHON), self.port, "--app-dir", str(APPS), "channels_app:app")
