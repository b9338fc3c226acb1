"""What holds for all tests, and the databases that many of them have."""

from pathlib import Path

import pytest

from tests.postgres.databases import (
    committed,
    database_url,
    empty_url,
    postgres,
    postgres_url,
    server,
    stock,
)

__all__ = ["committed", "database_url", "empty_url", "postgres", "postgres_url", "server", "stock"]

_HERE = Path(__file__).parent
_LONG = (_HERE / "faults", _HERE / "e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes come first, so that no worker is left alone with one in the end."""
    items.sort(key=lambda item: not any(item.path.is_relative_to(place) for place in _LONG))
