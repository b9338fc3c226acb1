"""What holds for all tests."""

from pathlib import Path

import pytest

FAULTS = Path(__file__).parent / "faults"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes come first, so that no worker is left alone with one in the end."""
    items.sort(key=lambda item: not item.path.is_relative_to(FAULTS))
