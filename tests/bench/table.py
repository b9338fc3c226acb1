"""The figures as Markdown: a table a work, the targets, what was missing, and the machine."""

from collections.abc import Sequence
from pathlib import Path

from tests.bench.figures import HUB, TIMES, Figure, Figures, Metric, ratio, settings_of
from tests.bench.targets import TARGETS

BEGIN = "<!-- figures: begin -->"
END = "<!-- figures: end -->"


def render(figures: Figures, facts: dict[str, str]) -> str:
    found = figures.all()
    parts = [_targets(figures)]
    parts += [_work(found, work) for work in dict.fromkeys(figure.work for figure in found)]
    notes = [f"- {note}" for note in figures.notes]
    notes += [f"- Failed: {work}: {reason}." for work, reason in figures.failures.items()]
    notes += [f"- Missing: {name}: {reason}." for name, reason in figures.absences.items()]
    if notes:
        parts.append("\n".join(["### Notes", "", *notes]))
    parts.append("\n".join(["### Environment", "", *(f"- {name}: {text}" for name, text in facts.items())]))
    return "\n\n".join(parts)


def write(path: Path, text: str) -> None:
    """Between the markers; raises `ValueError` where the file has none."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def _targets(figures: Figures) -> str:
    lines = [
        "### Targets",
        "",
        _row(["", "target", "figure", "met", "floor", "at"]),
        _row(["---", "---:", "---:", "---", "---:", "---"]),
    ]
    for target in TARGETS:
        try:
            value, setting = target.measured(figures)
        except LookupError:
            lines.append(_row([target.what, target.shown(), "not measured", "", "", ""]))
            continue
        met = "yes" if target.met(value) else "**no**"
        shown = [
            f"{_rounded(each)} {target.unit}" if each is not None else ""
            for each in (value, target.floor_in(figures))
        ]
        lines.append(_row([target.what, target.shown(), shown[0], met, shown[1], setting]))
    lines += ["", "What the floors are made of:", ""]
    lines += [f"- {target.what}: {target.floor.parts}" for target in TARGETS if target.floor]
    return "\n".join(lines)


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _work(found: Sequence[Figure], work: str) -> str:
    metrics = list(dict.fromkeys(figure.metric for figure in found if figure.work == work))
    header = ["", *(f"{metric.name}, {metric.unit}" for metric in metrics)]
    lines = [f"### {work}", "", _row(header), _row(["---", *("---:" for _ in metrics)])]
    for setting in settings_of(found, work):
        here = [f for f in found if (f.work, f.setting) == (work, setting)]
        lines.append(_row([f"**{setting}**", *("" for _ in metrics)]))
        for contender in dict.fromkeys(f.contender for f in here):
            cells = [_cell(here, contender, metric) for metric in metrics]
            lines.append(_row([contender, *cells]))
    return "\n".join(lines)


def _cell(here: Sequence[Figure], contender: str, metric: Metric) -> str:
    by_contender = {f.contender: f for f in here if f.metric == metric}
    figure = by_contender.get(contender)
    if figure is None:
        return ""
    shown = f"{figure.median:,.{metric.digits}f}"
    times = ratio(figure, by_contender.get(HUB)) if contender != HUB else None
    return shown if times is None else f"{shown} ({times:.2f}{TIMES})"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
