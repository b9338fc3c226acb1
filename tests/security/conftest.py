"""A hub of three nodes that lists one origin and logs as JSON, and a bare server with the hub's protocols."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest
import pytest_asyncio
from uvicorn import Server

from hub.sockets.http import HubHttpProtocol
from hub.sockets.protocol import UpgradeGate, protocol_class
from hub.sockets.server import server_config
from tests.e2e.conftest import SHORT
from tests.e2e.world import Hub, World, world_of
from tests.security.bare import Application, Bare, Wire

LISTED = "https://app.example.com"


@pytest.fixture(scope="package")
def fortress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    settings = {
        "HUB_ALLOWED_ORIGINS": LISTED,
        "HUB_LOG_FORMAT": "json",
        "HUB_STRIPE_WEBHOOK_SECRETS": "whsec_x",
    }
    hub = Hub(tmp_path_factory.mktemp("fortress") / "data", nodes=3, **SHORT, **settings)
    yield hub
    assert hub.stop() == 0
    log = hub.log.read_text()
    assert "Traceback" not in log
    assert '"level": "error"' not in log


@pytest_asyncio.fixture
async def world(fortress: Hub) -> AsyncIterator[World]:
    async with world_of(fortress) as world:
        yield world


class Impatient(HubHttpProtocol):
    HEAD_S = 0.1
    BODY_S = 0.1
    STALL_S = 0.1


Serve = Callable[..., AbstractAsyncContextManager[Bare]]


@pytest.fixture
def bare() -> Serve:
    """A server of this process: `bare(application, http=…, max_outbox=…, ping_s=…, pong_s=…)`."""

    @contextlib.asynccontextmanager
    async def serve(
        application: Application,
        *,
        http: type[HubHttpProtocol] = HubHttpProtocol,
        max_outbox: int = 65_536,
        ping_s: float = 10,
        pong_s: float = 5,
    ) -> AsyncIterator[Bare]:
        sockets = protocol_class(
            max_message=16_384,
            max_outbox=max_outbox,
            gate=UpgradeGate(),
            ping_interval_s=ping_s,
            ping_timeout_s=pong_s,
        )
        sockets.LINGER_S = 0.1  # type: ignore[attr-defined]  # it is one of ours
        config = server_config(application, sockets)
        config.http = http
        config.port = 0
        server = Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        try:
            yield Bare(server)
        finally:
            await server.shutdown()

    return serve


Dial = Callable[[str], Awaitable[Wire]]


@pytest_asyncio.fixture
async def dial() -> AsyncIterator[Dial]:
    """Connections that are gone after the test: `await dial(url)`."""
    wires: list[Wire] = []

    async def to(url: str) -> Wire:
        wires.append(await Wire.to(url))
        return wires[-1]

    yield to
    for wire in wires:
        await wire.hang_up()


@pytest_asyncio.fixture(autouse=True)
async def no_unhandled_exception() -> AsyncIterator[None]:
    """What a callback raises goes to the loop's handler, where nobody would see it."""
    found: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: found.append(context))
    yield
    loop.set_exception_handler(None)
    assert found == []
