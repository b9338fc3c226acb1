"""One hub of two nodes for all tests here of a worker, with times short enough to wait for."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.e2e.world import Hub, World, world_of

SHORT = {
    "HUB_PRIORITY_WINDOW_SECONDS": "2.5",
    "HUB_OFFLINE_GRACE_SECONDS": "0.5",
    "HUB_NOTIFY_TIMEOUT_SECONDS": "1",
    "HUB_HELLO_TIMEOUT_SECONDS": "1",
}


@pytest.fixture(scope="package")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub") / "data", nodes=2, **SHORT)
    yield hub
    assert hub.stop() == 0
    assert "Traceback" not in hub.log.read_text()


@pytest_asyncio.fixture
async def world(hub: Hub) -> AsyncIterator[World]:
    async with world_of(hub) as world:
        yield world
