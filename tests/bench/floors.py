"""What a target's work costs at least on this machine: the same run's figures of its bare parts."""

from collections.abc import Callable

from msgspec import Struct

from tests.bench.figures import Figures, Metric
from tests.bench.servers.floor import Floor as C
from tests.bench.servers.starlette import PlainStarlette
from tests.bench.works import broadcast, deadlines, handshakes, journal, machine, presence, targeted

_READ, _WRITE = "redis-py, one read", "redis-py, one synced write"
_PIPELINED = "redis-py, one read of a pipeline of 100"


class Floor(Struct, frozen=True):
    """`parts`: what is counted, in words. `value` raises `LookupError` where a part was not measured."""

    parts: str
    value: Callable[[Figures], float]


def _part(figures: Figures, work: str, metric: Metric, contender: str, setting: str = "") -> float:
    return figures.find(work, metric.name, contender, setting).median


def _beside_c(contender: str) -> Callable[[Figures], float]:
    """How much cheaper than the contender the C floor is."""

    def value(figures: Figures) -> float:
        setting = figures.find(broadcast.NAME, broadcast.CPU.name, C.name).setting
        theirs = _part(figures, broadcast.NAME, broadcast.CPU, contender, setting)
        return theirs / _part(figures, broadcast.NAME, broadcast.CPU, C.name, setting)

    return value


def cheaper_than(contender: str) -> Floor:
    return Floor("the C floor in its place", _beside_c(contender))


def _calls(figures: Figures, write: Metric) -> float:
    """A read, usually, and a synced write."""
    return _part(figures, machine.NAME, machine.P50, _READ) + _part(figures, machine.NAME, write, _WRITE)


def _message(figures: Figures) -> float:
    return _part(figures, targeted.NAME, targeted.P50, PlainStarlette.name, "200/s")


def _life(figures: Figures) -> float:
    answer = 1e6 / _part(figures, presence.NAME, presence.RATE, PlainStarlette.name)
    call = _part(figures, machine.NAME, machine.STEP, _PIPELINED)
    return 1e6 / (3 * answer + 10 * call)


def _due_at_once(figures: Figures) -> float:
    due = _number(figures, deadlines.AT_ONCE, deadlines.APPLIED)
    return due * _part(figures, machine.NAME, machine.STEP, "Valkey") / 1e6


def _storm(figures: Figures) -> float:
    sockets = _number(figures, handshakes.STORM, handshakes.SERVED)
    return sockets * _part(figures, handshakes.NAME, handshakes.CPU, PlainStarlette.name) / 1e6


def _number(figures: Figures, work: str, metric: Metric) -> int:
    return int(figures.find(work, metric.name).setting.split()[0].replace(",", ""))


FRAME_P50 = Floor(
    "a message of Starlette, which asks no store, a read and a synced write of redis-py, each at its median",
    lambda figures: _message(figures) + _calls(figures, machine.P50),
)
FRAME_P99 = Floor(
    "the same with the synced write at its 99th percentile",
    lambda figures: _message(figures) + _calls(figures, machine.P99),
)
LIVES = Floor("three answers of Starlette and ten calls of redis-py, pipelined", _life)
LATE_P50 = Floor(
    "a read and a synced write of redis-py, each at its median",
    lambda figures: _calls(figures, machine.P50),
)
LATE_P99 = Floor(
    "the same with the write at its 99th percentile", lambda figures: _calls(figures, machine.P99)
)
DUE_AT_ONCE = Floor("Valkey's CPU of as many commits", _due_at_once)
JOURNAL = Floor(
    "the same rows told by COPY, over two connections, to a database like the hub's",
    lambda figures: _part(figures, journal.NAME, journal.ROWS, journal.BARE),
)
STORM = Floor("CPU of as many handshakes of Starlette", _storm)
