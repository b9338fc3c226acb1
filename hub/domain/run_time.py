"""What an admin changes without a restart, and what holds where nobody has changed it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from hub.domain.plan import SEQUENCE_SPLIT


class OfflinePolicy(StrEnum):
    """What a booking that does not say `wait_if_offline` does about a favourite who is offline or busy."""

    SKIP = "skip"
    WAIT = "wait"


WindowSeconds = Annotated[float, Meta(ge=1, le=3600)]
Share = Annotated[float, Meta(ge=0.01, le=1)]
Split = Annotated[tuple[Share, ...], Meta(min_length=1, max_length=3)]

_KINDS: dict[str, Any] = {
    "default_window_seconds": WindowSeconds,
    "sequence_split": Split,
    "offline_policy": OfflinePolicy,
}


class RunTimeSettings(Struct, frozen=True, kw_only=True):
    """`sequence_split`: the shares of the window that the first favourites of a sequence get."""

    default_window_seconds: float
    sequence_split: tuple[float, ...]
    offline_policy: OfflinePolicy


def run_time_settings(stored: Mapping[str, object], default_window_seconds: float) -> RunTimeSettings:
    """The stored values over the defaults. A person may have stored nonsense by SQL: that does not count."""
    known = {name: value for name, value in stored.items() if name in _KINDS and _makes_sense(name, value)}
    default = {
        "default_window_seconds": default_window_seconds,
        "sequence_split": SEQUENCE_SPLIT,
        "offline_policy": OfflinePolicy.SKIP,
    }
    return msgspec.convert(default | known, RunTimeSettings, strict=False)


def whole_split(split: tuple[float, ...]) -> bool:
    """Whether the shares are of one window, and no more than the whole of it."""
    return sum(split) <= 1 + 1e-9


def _makes_sense(name: str, value: object) -> bool:
    try:
        known = msgspec.convert(value, _KINDS[name])
    except msgspec.ValidationError:
        return False
    return name != "sequence_split" or whole_split(known)
