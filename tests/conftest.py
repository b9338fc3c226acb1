"""What holds for all tests."""

from pathlib import Path

import pytest

_HERE = Path(__file__).parent
FAULTS = _HERE / "faults"
_LONG = (FAULTS, _HERE / "e2e")
# httpcore leaves a socket behind that is being connected when whoever asks gives up, as crowds do here.
_LEFT_BEHIND = (
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning",
    "ignore:Exception ignored in. <function _SelectorTransport:pytest.PytestUnraisableExceptionWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes come first, so that no worker is left alone with one in the end."""
    items.sort(key=lambda item: not any(item.path.is_relative_to(place) for place in _LONG))
    for item in items:
        if item.path.is_relative_to(FAULTS):
            for ignored in _LEFT_BEHIND:
                item.add_marker(pytest.mark.filterwarnings(ignored))
