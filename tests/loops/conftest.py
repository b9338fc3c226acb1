"""Loops step by step, over a real Valkey and, where they write the record, a real Postgres."""

import pytest_asyncio

from tests.dispatch.office import Office
from tests.redis.bench import Bench
from tests.redis.conftest import bench, valkey

__all__ = ["bench", "office", "valkey"]


@pytest_asyncio.fixture
async def office(bench: Bench) -> Office:
    return Office(bench)
