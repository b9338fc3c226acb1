"""One cluster of three nodes a module: what one test breaks is whole again for the next."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.cluster import Cluster, open_cluster


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with open_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def cluster(shared_cluster: Cluster) -> Cluster:
    await shared_cluster.heal()
    shared_cluster.complaints()
    return shared_cluster
