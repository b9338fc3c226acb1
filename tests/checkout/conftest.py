"""A checkout desk over a real Valkey and a real Postgres."""

import pytest

from persistence.postgres.pool import Postgres
from tests.checkout.till import Till
from tests.dispatch.office import Office
from tests.loops.conftest import bench, office, valkey

__all__ = ["bench", "office", "valkey"]


@pytest.fixture
def till(office: Office, postgres: Postgres) -> Till:
    return Till(office, postgres)
