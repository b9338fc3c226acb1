"""A checkout desk over a real Valkey and a real Postgres."""

import pytest

from persistence.postgres.pool import Postgres
from tests.checkout.till import Till
from tests.dispatch.office import Office
from tests.loops.conftest import (
    bench,
    committed,
    database_url,
    office,
    postgres,
    postgres_url,
    server,
    valkey,
)

__all__ = ["bench", "committed", "database_url", "office", "postgres", "postgres_url", "server", "valkey"]


@pytest.fixture
def till(office: Office, postgres: Postgres) -> Till:
    return Till(office, postgres)
