"""`hub report`: the analytics as tables."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from hub.app import analytics_store
from hub.cli.workspace import data_dir_option, postgres_url_here
from hub.domain.errors import Unavailable
from hub.domain.reports import REPORTS

Row = dict[str, Any]

_TITLES = {
    "priority_requests_by_favorite": "Requests by favourite",
    "priority_success_by_mechanic": "How often favourites accept (from 5 requests on)",
    "priority_response_time": "How fast favourites accept",
    "priority_timeout_rate": "Windows that passed unanswered",
    "fallback_effectiveness": "What came of requests that went to everyone after all",
    "favorite_share": "Bookings that asked a favourite first",
    "notification_delay": "From the booking to the favourite's notification",
    "revenue_by_routing": "Revenue by routing",
    "repeat_customers": "Customers who come back, by mechanic",
    "sessions_by_type": "Sessions by day (UTC) and type",
    "acceptance_time": "From the booking to its acceptance",
    "queue_bottlenecks": "Waiting by hour of booking (UTC)",
}
_HEADINGS = {
    "mechanic_name": "mechanic",
    "accepted_by_favorite": "by the favourite",
    "repeat_customers": "came back",
    "repeat_sessions": "their sessions",
    "repeat_value": "worth",
    "routing_type": "routing",
    "session_type": "type",
    "average_wait": "average",
    "p95_wait": "p95",
    "median_seconds_to_acceptance": "median to accept",
    "under_1_minute": "<1 min",
    "under_5_minutes": "<5 min",
    "under_15_minutes": "<15 min",
    "over_15_minutes": "≥15 min",
}
_COUNTS_OF_NOTHING = frozenset({0, None})


@click.command()
@data_dir_option
@click.option(
    "--days",
    default=30,
    show_default=True,
    type=click.IntRange(1, 3650),
    envvar="HUB_REPORT_DAYS",
    help="How far to look back.",
)
@click.option("--json", "as_json", is_flag=True, envvar="HUB_REPORT_JSON", help="One object: {name: [rows]}.")
def report(data_dir: str, days: int, as_json: bool) -> None:
    """How favourites, routing and queues have done."""
    reports = asyncio.run(_read(postgres_url_here(data_dir), days))
    if as_json:
        click.echo(json.dumps(reports))
        return
    console = Console(highlight=False)
    console.print(f"The last {days} days" if days > 1 else "The last day", style="bold")
    for name, rows in reports.items():
        show(console, name, rows)


async def _read(url: str, days: int) -> dict[str, Sequence[Row]]:
    try:
        async with analytics_store(url) as analytics:
            return {name: await analytics.report(name, days) for name in REPORTS}
    except Unavailable as error:
        raise click.ClickException(error.detail) from None


def show(console: Console, name: str, rows: Sequence[Row]) -> None:
    """One report under its title, on a terminal of 80 columns as well."""
    console.print(f"\n{_TITLES[name]}", style="bold cyan")
    if _empty(rows):
        console.print("  nothing in this time", style="dim")
        return
    columns = [column for column in rows[0] if column != "mechanic_id"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for column in columns:
        words = any(isinstance(row[column], str) for row in rows)
        table.add_column(_heading(column), justify="left" if words else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(column, row[column]) for column in columns))
    console.print(table)


def _empty(rows: Iterable[Row]) -> bool:
    """A report of one row has that row even where there was nothing to count."""
    return all(value in _COUNTS_OF_NOTHING or value == "all" for row in rows for value in row.values())


def _heading(column: str) -> str:
    plain = column.removesuffix("_seconds").removesuffix("_cents")
    return _HEADINGS.get(plain, plain).replace("_", " ").replace("favorite", "favourite")


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if column.endswith("_cents"):
        return f"{value / 100:,.2f}"
    if column.endswith(("_rate", "_share")):
        return f"{value:.0%}"
    if "_seconds" in column:
        return _duration(value)
    if column == "hour":
        return f"{value:02d}:00"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("_", " ")


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m" if hours else f"{minutes} m {rest:02d} s"
