"""Nonsense that somebody stored by SQL never reaches a booking."""

from typing import Any

import pytest
from msgspec.structs import replace

from hub.domain.plan import SEQUENCE_SPLIT
from hub.domain.run_time import OfflinePolicy, RunTimeSettings, run_time_settings, whole_split

DEFAULT = run_time_settings({}, 600)


def test_what_nobody_stored_has_its_default() -> None:
    assert run_time_settings({}, 600) == DEFAULT
    assert DEFAULT.sequence_split == SEQUENCE_SPLIT
    assert DEFAULT.offline_policy is OfflinePolicy.SKIP


def test_what_is_stored_holds() -> None:
    stored = {"default_window_seconds": 90, "sequence_split": [0.7, 0.3], "offline_policy": "wait"}

    assert run_time_settings(stored, 600) == RunTimeSettings(
        default_window_seconds=90, sequence_split=(0.7, 0.3), offline_policy=OfflinePolicy.WAIT
    )


@pytest.mark.parametrize(
    "value", [True, False, None, "90", "NaN", 0, 0.9, -5, 3600.5, 1e400, float("nan"), [], {}]
)
def test_a_window_that_makes_no_sense_is_ignored(value: Any) -> None:
    assert run_time_settings({"default_window_seconds": value, "offline_policy": "wait"}, 600) == replace(
        DEFAULT, offline_policy=OfflinePolicy.WAIT
    )


@pytest.mark.parametrize(
    "value",
    [
        [], [0.25] * 4, [0.6, 0.5], [1, 1], [0], [-0.5, 0.5], [1.5], [True], ["0.5"], [None], [float("nan")],
        0.5, "0.5", True, None, {"0": 0.5},
    ],
)  # fmt: skip
def test_a_split_that_makes_no_sense_is_ignored(value: Any) -> None:
    assert run_time_settings({"sequence_split": value}, 600) == DEFAULT


@pytest.mark.parametrize("value", ["Wait", "", "never", True, 1, None, ["wait"]])
def test_a_policy_that_nobody_knows_is_ignored(value: Any) -> None:
    assert run_time_settings({"offline_policy": value}, 600) == DEFAULT


def test_a_key_that_nobody_knows_is_ignored() -> None:
    assert run_time_settings({"window": 5, "": None}, 600) == DEFAULT


@pytest.mark.parametrize("split", [(1.0,), (0.5, 0.3, 0.2), (0.1, 0.1), (0.7, 0.2, 0.1), ()])
def test_a_split_is_whole_whatever_floats_make_of_it(split: tuple[float, ...]) -> None:
    assert whole_split(split)


def test_more_than_the_whole_is_none() -> None:
    assert not whole_split((0.5, 0.5, 0.01))
