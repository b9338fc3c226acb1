"""What the hub sets out to be, checked against the figures of one run."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from tests.bench import floors
from tests.bench.figures import HUB, TIMES, Figures
from tests.bench.servers.channels import Channels
from tests.bench.servers.floor import Floor
from tests.bench.servers.nchan import Nchan
from tests.bench.servers.socketio import PythonSocketIo, SocketIo
from tests.bench.servers.starlette import PlainStarlette
from tests.bench.works import broadcast, deadlines, handshakes, idle, journal, life, presence, targeted

Value = tuple[float, str]
"""A figure and the setting that it is of."""


class Target(Struct, frozen=True):
    """A bound that a figure is at most, or at least. `measured` raises `LookupError` where there is none."""

    what: str
    bound: float
    unit: str
    measured: Callable[[Figures], Value]
    at_least: bool = False
    floor: floors.Floor | None = None

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def floor_in(self, figures: Figures) -> float | None:
        """What nothing on this machine could be better than, as far as it was measured."""
        if self.floor is None:
            return None
        try:
            return self.floor.value(figures)
        except LookupError:
            return None

    def shown(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:,g} {self.unit}".strip()


def _of(work: str, metric: str, setting: str = "") -> Callable[[Figures], Value]:
    """The hub's own figure, at the first setting that starts so."""

    def measured(figures: Figures) -> Value:
        found = figures.find(work, metric, HUB, setting)
        return found.median, found.setting

    return measured


def _beside(work: str, metric: str, contender: str, *, inverse: bool = False) -> Callable[[Figures], Value]:
    """The hub's figure in terms of the contender's or the other way round, at their first setting."""

    def measured(figures: Figures) -> Value:
        theirs = figures.find(work, metric, contender)
        hubs = figures.find(work, metric, HUB, theirs.setting)
        above, below = (theirs, hubs) if inverse else (hubs, theirs)
        if not below.median:
            raise LookupError(f"{work} of {below.contender} took nothing that can be measured: {metric}")
        return above.median / below.median, theirs.setting

    return measured


def _life_beside_channels(figures: Figures) -> Value:
    whole = figures.find(life.NAME, life.CPU.name)
    message = figures.find(targeted.NAME, targeted.CPU.name, Channels.name, "200/s")
    return whole.median / message.median, whole.setting


_FRAME = broadcast.CPU.name

TARGETS: Sequence[Target] = (
    Target("broadcast, CPU a frame beside nchan", 1.0, TIMES, _beside(broadcast.NAME, _FRAME, Nchan.name)),
    Target("… beside the C floor", 1.5, TIMES, _beside(broadcast.NAME, _FRAME, Floor.name)),
    Target(
        "… cheaper than socket.io",
        3, TIMES, _beside(broadcast.NAME, _FRAME, SocketIo.name, inverse=True), True,
        floors.cheaper_than(SocketIo.name),
    ),
    Target(
        "… cheaper than python-socketio",
        10, TIMES, _beside(broadcast.NAME, _FRAME, PythonSocketIo.name, inverse=True), True,
        floors.cheaper_than(PythonSocketIo.name),
    ),
    Target(
        "… cheaper than Channels",
        20, TIMES, _beside(broadcast.NAME, _FRAME, Channels.name, inverse=True), True,
        floors.cheaper_than(Channels.name),
    ),
    Target("memory of an idle socket", 16, "KB", _of(idle.NAME, idle.MEMORY.name)),
    Target(
        "booking to frame, p50", 2, "ms", _of(targeted.NAME, targeted.P50.name, "200/s"),
        floor=floors.FRAME_P50,
    ),
    Target(
        "booking to frame, p99", 10, "ms", _of(targeted.NAME, targeted.P99.name, "200/s"),
        floor=floors.FRAME_P99,
    ),
    Target("CPU of a whole life beside one message of Channels", 1, TIMES, _life_beside_channels),
    Target("lives a CPU second", 500, "/s", _of(life.NAME, life.PER_SECOND.name), True, floors.LIVES),
    Target(
        "presence polls beside a bare Starlette route",
        0.7, TIMES, _beside(presence.NAME, presence.RATE.name, PlainStarlette.name), True,
    ),
    Target("deadlines late, p50", 2, "ms", _of(deadlines.NAME, deadlines.P50.name), floor=floors.LATE_P50),
    Target("deadlines late, p99", 10, "ms", _of(deadlines.NAME, deadlines.P99.name), floor=floors.LATE_P99),
    Target("earliest deadline", 0, "ms", _of(deadlines.NAME, deadlines.EARLIEST.name), True),
    Target(
        "deadlines at once, all applied", 5, "s", _of(deadlines.AT_ONCE, deadlines.APPLIED.name),
        floor=floors.DUE_AT_ONCE,
    ),
    Target("… not exactly once", 0, "", _of(deadlines.AT_ONCE, deadlines.TWICE.name)),
    Target("… event loop blocked", 20, "ms", _of(deadlines.AT_ONCE, deadlines.BLOCKED.name)),
    Target("journal rows", 50_000, "/s", _of(journal.NAME, journal.ROWS.name), True, floors.JOURNAL),
    Target("commit to row, p99", 50, "ms", _of(journal.LAG, journal.P99.name)),
    Target("idle heartbeating sockets, CPU of one core", 5, "%", _of(idle.HEARTBEATS, idle.CPU.name)),
    Target("… Redis commands", 50, "/s", _of(idle.HEARTBEATS, idle.COMMANDS.name)),
    Target(
        "reconnect storm, all served", 4, "s", _of(handshakes.STORM, handshakes.SERVED.name),
        floor=floors.STORM,
    ),
    Target("… others' heartbeats, p99", 50, "ms", _of(handshakes.STORM, handshakes.OTHERS.name)),
    Target("… others' polls, p99", 50, "ms", _of(handshakes.STORM, handshakes.POLLS.name)),
)  # fmt: skip
