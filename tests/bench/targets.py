"""What the hub sets out to be, checked against the figures of one run."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from tests.bench.figures import HUB, TIMES, Figure, Figures
from tests.bench.servers.channels import Channels
from tests.bench.servers.floor import Floor
from tests.bench.servers.nchan import Nchan
from tests.bench.servers.socketio import PythonSocketIo, SocketIo
from tests.bench.servers.starlette import PlainStarlette
from tests.bench.works import broadcast, deadlines, handshakes, idle, journal, life, presence, targeted

Value = tuple[float, str]
"""A figure and the setting that it is of."""


class Target(Struct, frozen=True):
    """A bound that a figure is at most, or at least."""

    what: str
    bound: float
    unit: str
    measured: Callable[[Figures], Value | None]
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def shown(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:,g} {self.unit}".strip()


def _of(work: str, metric: str, setting: str = "") -> Callable[[Figures], Value | None]:
    """The hub's own figure, at the first setting that starts so."""

    def measured(figures: Figures) -> Value | None:
        found = _find(figures, work, metric, HUB, setting)
        return (found.median, found.setting) if found else None

    return measured


def _beside(
    work: str, metric: str, contender: str, *, inverse: bool = False
) -> Callable[[Figures], Value | None]:
    """The hub's figure in terms of the contender's or the other way round, at the first setting with both."""

    def measured(figures: Figures) -> Value | None:
        theirs = _find(figures, work, metric, contender)
        hubs = _find(figures, work, metric, HUB, theirs.setting) if theirs else None
        if theirs is None or hubs is None or not theirs.median or not hubs.median:
            return None
        ratio = hubs.median / theirs.median
        return (1 / ratio if inverse else ratio, theirs.setting)

    return measured


def _life_beside_channels(figures: Figures) -> Value | None:
    whole = _find(figures, life.NAME, life.CPU.name, HUB)
    message = _find(figures, targeted.NAME, targeted.CPU.name, Channels.name, "200/s")
    return (whole.median / message.median, whole.setting) if whole and message else None


def _find(figures: Figures, work: str, metric: str, contender: str, setting: str = "") -> Figure | None:
    for figure in figures.all():
        same = (figure.work, figure.metric.name, figure.contender) == (work, metric, contender)
        if same and figure.setting.startswith(setting):
            return figure
    return None


_FRAME = broadcast.CPU.name

TARGETS: Sequence[Target] = (
    Target("broadcast, CPU a frame beside nchan", 1.0, TIMES, _beside(broadcast.NAME, _FRAME, Nchan.name)),
    Target("… beside the C floor", 1.5, TIMES, _beside(broadcast.NAME, _FRAME, Floor.name)),
    Target(
        "… cheaper than socket.io",
        3, TIMES, _beside(broadcast.NAME, _FRAME, SocketIo.name, inverse=True), True,
    ),
    Target(
        "… cheaper than python-socketio",
        10, TIMES, _beside(broadcast.NAME, _FRAME, PythonSocketIo.name, inverse=True), True,
    ),
    Target(
        "… cheaper than Channels",
        20, TIMES, _beside(broadcast.NAME, _FRAME, Channels.name, inverse=True), True,
    ),
    Target("memory of an idle socket", 16, "KB", _of(idle.NAME, idle.MEMORY.name)),
    Target("booking to frame, p50", 2, "ms", _of(targeted.NAME, targeted.P50.name, "200/s")),
    Target("booking to frame, p99", 10, "ms", _of(targeted.NAME, targeted.P99.name, "200/s")),
    Target("CPU of a whole life beside one message of Channels", 1, TIMES, _life_beside_channels),
    Target("lives a CPU second", 500, "/s", _of(life.NAME, life.PER_SECOND.name), True),
    Target(
        "presence polls beside a bare Starlette route",
        0.7, TIMES, _beside(presence.NAME, presence.RATE.name, PlainStarlette.name), True,
    ),
    Target("deadlines late, p50", 2, "ms", _of(deadlines.NAME, deadlines.P50.name)),
    Target("deadlines late, p99", 10, "ms", _of(deadlines.NAME, deadlines.P99.name)),
    Target("earliest deadline", 0, "ms", _of(deadlines.NAME, deadlines.EARLIEST.name), True),
    Target("deadlines at once, all applied", 5, "s", _of(deadlines.AT_ONCE, deadlines.APPLIED.name)),
    Target("… not exactly once", 0, "", _of(deadlines.AT_ONCE, deadlines.TWICE.name)),
    Target("… event loop blocked", 20, "ms", _of(deadlines.AT_ONCE, deadlines.BLOCKED.name)),
    Target("journal rows", 50_000, "/s", _of(journal.NAME, journal.ROWS.name), True),
    Target("commit to row, p99", 50, "ms", _of(journal.LAG, journal.P99.name)),
    Target("idle heartbeating sockets, CPU of one core", 5, "%", _of(idle.HEARTBEATS, idle.CPU.name)),
    Target("… Redis commands", 50, "/s", _of(idle.HEARTBEATS, idle.COMMANDS.name)),
    Target("reconnect storm, all served", 4, "s", _of(handshakes.STORM, handshakes.SERVED.name)),
    Target("… others' heartbeats, p99", 50, "ms", _of(handshakes.STORM, handshakes.OTHERS.name)),
    Target("… others' polls, p99", 50, "ms", _of(handshakes.STORM, handshakes.POLLS.name)),
)  # fmt: skip
