"""Who has a flag: stable, monotone as it rolls out, spread evenly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.domain.flags import FAVORITES_PRIORITY, Flag, bucket
from tests.domain.samples import CUSTOMER

USERS = [f"user-{n}" for n in range(10_000)]
ON = Flag(key=FAVORITES_PRIORITY, is_enabled=True, enabled_for_roles=("customer",))


@pytest.mark.parametrize(
    ("flag", "role", "expected"),
    [
        (ON, "customer", True),
        (ON, "mechanic", False),
        (replace(ON, enabled_for_roles=("mechanic", "customer")), "mechanic", True),
        (replace(ON, enabled_for_roles=()), "customer", False),
        (replace(ON, is_enabled=False), "customer", False),
        (replace(ON, rollout_percentage=0), "customer", False),
    ],
)
def test_switch_roles_and_rollout_must_all_allow_it(flag: Flag, role: str, expected: bool) -> None:
    assert flag.enabled_for(role, CUSTOMER) is expected


@given(st.uuids().map(str), st.integers(0, 100), st.integers(0, 100))
def test_who_is_in_stays_in_as_it_rolls_out(user_id: str, percentage: int, more: int) -> None:
    low, high = sorted((percentage, more))
    in_at = {
        p: replace(ON, rollout_percentage=p).enabled_for("customer", user_id) for p in (0, low, high, 100)
    }
    assert in_at[0] <= in_at[low] <= in_at[high] <= in_at[100]
    assert (in_at[0], in_at[100]) == (False, True)


def test_a_bucket_is_in_from_the_next_percentage_on() -> None:
    percentage = bucket(ON.key, CUSTOMER)
    assert not replace(ON, rollout_percentage=percentage).enabled_for("customer", CUSTOMER)
    assert replace(ON, rollout_percentage=percentage + 1).enabled_for("customer", CUSTOMER)


@pytest.mark.parametrize("percentage", [1, 20, 50, 99])
def test_a_percentage_of_the_users_has_it(percentage: int) -> None:
    flag = replace(ON, rollout_percentage=percentage)
    share = sum(flag.enabled_for("customer", user) for user in USERS) / len(USERS)
    assert share == pytest.approx(percentage / 100, abs=0.015)


def test_buckets_are_stable_and_even() -> None:
    counts = [0] * 100
    for user in USERS:
        counts[bucket("A", user)] += 1
    assert min(counts) > 60
    assert max(counts) < 140
    assert [bucket(FAVORITES_PRIORITY, f"user-{n}") for n in range(5)] == [17, 43, 63, 89, 9]


def test_flags_roll_out_independently_of_each_other() -> None:
    first = {user for user in USERS if bucket("A", user) < 20}
    both = {user for user in first if bucket("B", user) < 20}
    assert len(both) / len(first) == pytest.approx(0.2, abs=0.04)
