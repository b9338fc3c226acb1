"""Dispatchers on a real Valkey."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.dispatch.office import Office
from tests.redis.bench import Bench, open_bench
from tests.redis.conftest import bench, valkey

__all__ = ["bench", "office", "other_office", "valkey"]


@pytest_asyncio.fixture
async def office(bench: Bench) -> Office:
    return Office(bench)


@pytest_asyncio.fixture
async def other_office(bench: Bench) -> AsyncIterator[Office]:
    """Another node: its own client, its own gate."""
    async with open_bench(bench.url) as other:
        yield Office(other)
