"""What processes have spent and hold, from the kernel's accounts."""

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
"""Resolution of `cpu_seconds`."""

_PROC = Path("/proc")


def stat_fields(text: str) -> list[str]:
    """The fields of a `stat` line after the command's name, which may hold spaces and brackets."""
    return text[text.rindex(")") + 2 :].split()


def family(roots: Iterable[int]) -> list[int]:
    """The processes and all their descendants that are there now."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system time of the process trees, ended children included that were waited for."""
    ticks = 0
    for pid in family(roots):
        if fields := _stat(pid):
            ticks += sum(int(field) for field in fields[11:15])
    return ticks * TICK_S


def resident_bytes(roots: Iterable[int]) -> int:
    """Proportional set size of the process trees: shared pages count by the share."""
    total = 0
    for pid in family(roots):
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


class Spent(Struct, frozen=True, kw_only=True):
    """CPU seconds of each side, and the seconds that passed."""

    server: float
    stores: float
    generator: float
    wall: float

    @property
    def generator_share(self) -> float:
        """How much of one core the load generator took: near 1 it was the bottleneck."""
        return self.generator / self.wall


class Account:
    """What is spent from now on by a server, its stores and this process."""

    def __init__(self, server: Sequence[int], stores: Sequence[int] = ()) -> None:
        self._server = server
        self._stores = stores
        self._before = self._now()

    def spent(self) -> Spent:
        before, now = self._before, self._now()
        return Spent(
            server=now.server - before.server,
            stores=now.stores - before.stores,
            generator=now.generator - before.generator,
            wall=now.wall - before.wall,
        )

    def _now(self) -> Spent:
        return Spent(
            server=cpu_seconds(self._server),
            stores=cpu_seconds(self._stores),
            generator=time.process_time(),
            wall=time.monotonic(),
        )


def _stat(pid: int) -> list[str]:
    try:
        return stat_fields((_PROC / str(pid) / "stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return []
