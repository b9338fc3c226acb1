"""The curves of growth as SVG: what a unit costs beside what it cost when everything was small."""

from collections.abc import Sequence
from pathlib import Path

from tests.bench.figures import Figure, Figures
from tests.bench.works import growth

FILE = "benchmarks-growth.svg"
_DIMENSIONS = (growth.SOCKETS, growth.OPEN, growth.NODES)


class NoPlots(Exception):
    """There is nothing to draw, or nothing to draw with; the message says which."""


def write(figures: Figures, directory: Path) -> Path:
    curves = {
        f"{metric.name} by {dimension}": points
        for metric in (growth.FRAME, growth.LIFE)
        for dimension in _DIMENSIONS
        if len(points := curve(figures.all(), metric.name, dimension)) > 1
    }
    if not curves:
        raise NoPlots("growth was not measured")
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure as Drawing
    except ImportError:
        raise NoPlots("matplotlib is not installed (the extra `bench`)") from None
    drawing = Drawing(figsize=(8, 4.5), layout="constrained")
    axes = drawing.subplots()
    for name, points in curves.items():
        smallest = points[0][1]
        axes.plot(
            [size for size, _ in points], [cost / smallest for _, cost in points], marker="o", label=name
        )
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.axhline(1, color="grey", linewidth=0.5)
    axes.set_xlabel("how many")
    axes.set_ylabel("cost of a unit, smallest = 1")
    axes.legend()
    path = directory / FILE
    # Neither date nor random ids: the same figures make the same file.
    with rc_context({"svg.hashsalt": FILE}):
        drawing.savefig(path, format="svg", metadata={"Date": None})
    return path


def curve(figures: Sequence[Figure], metric: str, dimension: str) -> list[tuple[int, float]]:
    """(how many, median) from small to large."""
    points = []
    for figure in figures:
        size, _, what = figure.setting.partition(" ")
        if (figure.work, figure.metric.name, what) == (growth.NAME, metric, dimension):
            points.append((int(size.replace(",", "")), figure.median))
    return sorted(points)
