"""The store's clock as a process knows it: by the least delayed answer."""

import time

from hub.clock import StoreClock

STORE = 1_800_000_000_000
REFRESH_S = 60.0


class Monotonic:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


class Store:
    """A store whose clock runs `ahead_ms` from the machine's; its answers take what a test says."""

    def __init__(self) -> None:
        self.monotonic = Monotonic()
        self.ahead_ms = STORE
        self.clock = StoreClock(self.monotonic)

    @property
    def time(self) -> int:
        return int(self.monotonic.seconds * 1000) + self.ahead_ms

    def passes(self, seconds: float) -> None:
        self.monotonic.seconds += seconds

    def answers(self, delay_s: float = 0.0) -> None:
        given = self.time
        self.passes(delay_s)
        self.clock.learn(given)

    @property
    def behind_ms(self) -> int:
        """How far the process believes the store to be behind the truth."""
        return self.time - self.clock.now()


def test_before_anything_was_learned_it_is_the_machines_time() -> None:
    before = time.time_ns() // 1_000_000
    now = StoreClock().now()

    assert before <= now <= time.time_ns() // 1_000_000


def test_it_runs_on_between_answers() -> None:
    store = Store()
    store.answers()
    store.passes(12.5)

    assert store.clock.now() == store.time


def test_one_answer_is_late_by_its_way() -> None:
    store = Store()
    store.answers(0.3)

    assert store.behind_ms == 300


def test_the_least_delayed_answer_counts() -> None:
    store = Store()
    for delay_s in (0.3, 0.01, 0.2, 0.05):
        store.answers(delay_s)
        store.passes(1)

    assert store.behind_ms == 10


def test_a_slow_answer_does_not_set_it_back() -> None:
    store = Store()
    store.answers()
    seen = store.clock.now()
    store.answers(5.0)

    assert store.clock.now() == seen + 5_000


def test_the_best_answer_of_the_last_minute_survives_a_refresh() -> None:
    store = Store()
    store.answers(0.5)
    store.passes(REFRESH_S / 2)
    store.answers(0.01)
    store.passes(REFRESH_S / 2)
    store.answers(0.5)

    assert store.behind_ms == 10


def test_a_clock_that_was_set_back_is_followed_within_two_refreshes() -> None:
    store = Store()
    store.answers()
    store.ahead_ms -= 10_000
    for _ in range(int(2 * REFRESH_S) + 1):
        store.passes(1)
        store.answers(0.01)

    assert 0 <= store.behind_ms <= 10


def test_a_clock_that_was_set_forward_is_followed_at_once() -> None:
    store = Store()
    store.answers()
    store.ahead_ms += 10_000
    store.answers(0.01)

    assert store.behind_ms == 10


def test_it_never_runs_ahead_of_a_store_that_keeps_time() -> None:
    store = Store()
    for n in range(1_000):
        store.answers(0.001 * (n * 7 % 50))
        store.passes(0.5)
        assert store.behind_ms >= -1  # a fraction of a millisecond, rounded


def test_a_store_that_runs_slow_is_never_missed_by_much() -> None:
    """One part in a thousand, far worse than any quartz: within what two refreshes can drift."""
    store = Store()
    for _ in range(1_000):
        store.passes(1)
        store.ahead_ms -= 1
        store.answers()

        assert -2 * REFRESH_S - 1 <= store.behind_ms <= 1
