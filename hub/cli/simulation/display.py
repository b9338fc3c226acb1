"""How a simulation looks: a live table on a terminal, a line now and then elsewhere, a summary at the end."""

import asyncio
import time
from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from hub.cli.simulation.run import Simulation
from hub.cli.simulation.tally import Summary, Tally, quantiles

_REFRESH_S = 0.25
_LINE_EVERY_S = 5.0


async def show(simulation: Simulation, console: Console) -> None:
    """Until cancelled."""
    if not console.is_terminal:
        while True:
            await asyncio.sleep(_LINE_EVERY_S)
            console.print(line(simulation.tally, time.perf_counter() - simulation.started), soft_wrap=True)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(panel(simulation), refresh=True)
            await asyncio.sleep(_REFRESH_S)


def line(tally: Tally, seconds: float) -> str:
    offered, _ = quantiles(tally.offer_ms)
    return (
        f"{seconds:5.0f} s  {len(tally.booked)} bookings  {tally.accepted.total()} accepted"
        f" ({tally.accepted['the favourite']} by the favourite, {tally.released} released again)"
        f"  {tally.fallbacks.total()} fallbacks"
        f"  {tally.sockets} mechanics connected  {offered:.1f} ms to the favourite"
    )


def panel(simulation: Simulation) -> Panel:
    tally = simulation.tally
    seconds = time.perf_counter() - simulation.started
    offer, broadcast = quantiles(tally.offer_ms), quantiles(tally.broadcast_ms)
    facts = Table.grid(padding=(0, 3))
    facts.add_row("time", f"{seconds:.0f} s", "mechanics connected", str(tally.sockets))
    facts.add_row("bookings", str(len(tally.booked)), "accepted", str(tally.accepted.total()))
    facts.add_row(
        "to the favourite",
        f"{offer[0]} ms (p99 {offer[1]})",
        "to everyone",
        f"{broadcast[0]} ms (p99 {broadcast[1]})",
    )
    facts.add_row("accepted twice", str(tally.double), "released again", str(tally.released))
    counts = Table.grid(padding=(0, 4))
    counts.add_row(
        _counts("asked first", tally.routing),
        _counts("accepted by", tally.accepted),
        _counts("fell back", tally.fallbacks),
    )
    return Panel(
        Group(facts, "", counts), title="favourites get their requests first", subtitle="Ctrl-C to stop"
    )


def summarise(summary: Summary, console: Console) -> None:
    console.rule("summary")
    facts = Table.grid(padding=(0, 3))
    facts.add_row("time", f"{summary.seconds} s")
    facts.add_row("bookings", str(summary.bookings))
    for name, counts in (
        ("routing", summary.routing),
        ("accepted by", summary.accepted),
        ("fell back", summary.fallbacks),
        ("ended", summary.ended),
        ("refused", summary.refused),
    ):
        facts.add_row(name, ", ".join(f"{what} {n}" for what, n in _ordered(counts)) or "none")
    facts.add_row("booking to the favourite's frame", _latency(summary.offer_ms))
    facts.add_row("booking to everyone's frame", _latency(summary.broadcast_ms))
    rows = f"{summary.sessions} sessions, {summary.assignments} assignments, {summary.events} events"
    facts.add_row("rows in Postgres", rows)
    facts.add_row("released again", str(summary.released))
    facts.add_row("accepted twice", str(summary.double))
    facts.add_row("lost", str(summary.lost))
    console.print(facts)


def _latency(ms: tuple[float, float]) -> str:
    return f"p50 {ms[0]} ms, p99 {ms[1]} ms"


def _counts(title: str, counts: Mapping[str, int]) -> Table:
    table = Table(title=title, show_header=False, box=None, title_justify="left", min_width=26)
    for what, number in _ordered(counts) or [("none yet", 0)]:
        table.add_row(what, str(number))
    return table


def _ordered(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
