"""Figures: what was measured, run by run, and what becomes of it."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

HUB = "hub"
TIMES = "\N{MULTIPLICATION SIGN}"


class Metric(Struct, frozen=True):
    """`digits` behind the point when shown."""

    name: str
    unit: str
    digits: int = 1
    lower_is_better: bool = True


class Figure(Struct, frozen=True):
    """One metric of one contender at one setting of a work; a value a run."""

    work: str
    setting: str
    contender: str
    metric: Metric
    values: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


class Absence(Struct, frozen=True):
    """A contender that could not take part."""

    contender: str
    reason: str


class Figures:
    """All figures of a run of the benchmark, in the order in which they were first measured."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, str, str, str], Figure] = {}
        self.absences: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self.notes: list[str] = []

    def add(self, work: str, setting: str, contender: str, metric: Metric, value: float) -> None:
        key = (work, setting, contender, metric.name)
        if key not in self._figures:
            self._figures[key] = Figure(work, setting, contender, metric, [])
        self._figures[key].values.append(value)

    def all(self) -> list[Figure]:
        return list(self._figures.values())

    def find(self, work: str, metric: str, contender: str = HUB, setting: str = "") -> Figure:
        """At the first setting that starts so; raises `LookupError` where it was not measured."""
        for figure in self._figures.values():
            same = (figure.work, figure.metric.name, figure.contender) == (work, metric, contender)
            if same and figure.setting.startswith(setting):
                return figure
        raise LookupError(f"{work} of {contender} was not measured: {metric}")

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def failed(self, work: str, reason: str) -> None:
        self.failures[work] = reason

    def missing(self, contender: str, reason: str) -> None:
        self.absences[contender] = reason

    def write(self, path: Path, environment: dict[str, Any]) -> None:
        absences = [Absence(name, reason) for name, reason in self.absences.items()]
        medians = [msgspec.to_builtins(f) | {"median": f.median} for f in self.all()]
        document = {
            "environment": environment,
            "figures": medians,
            "missing": absences,
            "failed": self.failures,
            "notes": self.notes,
        }
        path.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which that share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def ratio(figure: Figure, hub: Figure | None) -> float | None:
    """The contender's median in terms of the hub's."""
    if hub is None or hub.median == 0:
        return None
    return figure.median / hub.median


def settings_of(figures: Sequence[Figure], work: str) -> list[str]:
    return list(dict.fromkeys(f.setting for f in figures if f.work == work))
