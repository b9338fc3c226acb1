"""What every server under test can do: let sockets join, send one message to all of them or to one user."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from msgspec import Struct

from persistence.embedded.process import free_port
from tests.bench.servers.process import Process
from tests.bench.wire import HttpPool, Joining, http_request

TOOLS = Path(__file__).parents[3] / ".bench"
"""Where references are installed: never among the hub's own packages, with which some do not agree."""

APPS = Path(__file__).parent / "apps"


class Place(Struct, frozen=True):
    """A directory of its own and a Redis for those who need one."""

    directory: Path
    redis_url: str
    redis_pid: int


class Server(ABC):
    name: ClassVar[str]

    @property
    @abstractmethod
    def address(self) -> tuple[str, int]: ...

    @property
    @abstractmethod
    def pids(self) -> Sequence[int]:
        """The server's own processes, without stores."""

    @property
    def store_pids(self) -> Sequence[int]:
        return ()

    @abstractmethod
    async def stop(self) -> None: ...

    @abstractmethod
    def joining(self, user: str) -> Joining:
        """How this user's socket joins those who hear what is published."""

    def addressee(self, user: str) -> Joining:
        """How this user's socket joins to hear what is for this user alone."""
        return self.joining(user)

    @abstractmethod
    async def publish(self, payload: bytes) -> None:
        """Have one frame written to every socket."""


class Reference(Server):
    """A program that takes `POST /publish` and `POST /to/USER`, with the message as the body."""

    uses_redis: ClassVar[bool] = False

    def __init__(self, place: Place) -> None:
        self.port = free_port()
        self._place = place
        self._process = Process(
            self.name, self.command(place), place.directory / f"{self.name}.log", self.environment(place)
        )
        self._pool = HttpPool(self.address)

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """Why it cannot take part here."""

    @abstractmethod
    def command(self, place: Place) -> Sequence[str]: ...

    def environment(self, place: Place) -> dict[str, str]:
        return {"BENCH_REDIS_URL": place.redis_url, "BENCH_PORT": str(self.port)}

    @classmethod
    async def start(cls, place: Place) -> "Reference":
        server = cls(place)
        try:
            await server._process.listening(server.port)
        except BaseException:
            await server.stop()
            raise
        return server

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    @property
    def pids(self) -> Sequence[int]:
        return [self._process.pid]

    @property
    def store_pids(self) -> Sequence[int]:
        return [self._place.redis_pid] if self.uses_redis else []

    async def stop(self) -> None:
        self._pool.close()
        await self._process.kill()

    def joining(self, user: str) -> Joining:
        return Joining(path=f"/ws?user={quote(user)}")

    def publish_path(self) -> str:
        return "/publish"

    def target_path(self, user: str) -> str:
        return f"/to/{quote(user)}"

    async def publish(self, payload: bytes) -> None:
        await self._pool.ask(http_request("POST", self.publish_path(), self._pool.host, payload))

    async def target(self, user: str, payload: bytes) -> None:
        await self._pool.ask(http_request("POST", self.target_path(user), self._pool.host, payload))
