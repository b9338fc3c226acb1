"""`hub simulate`: simulated mechanics and customers against a running hub."""

import asyncio
import contextlib
import signal
import sys

import click
import httpx
import msgspec
import uvloop
from rich.console import Console

from hub.app import census
from hub.cli.simulation import display
from hub.cli.simulation.run import Options, Simulation
from hub.cli.simulation.tally import Summary
from hub.cli.workspace import Workspace, data_dir_option, settings_here
from hub.domain.errors import StoreFailed


@click.command("simulate")
@click.option(
    "--url",
    "urls",
    multiple=True,
    envvar="HUB_URLS",
    metavar="URL",
    help="A node; name several, or separate them by commas. By default those of the `hub dev` here.",
)
@click.option(
    "--mechanics",
    type=click.IntRange(1, 100_000),
    default=20,
    show_default=True,
    envvar="HUB_SIMULATE_MECHANICS",
)
@click.option(
    "--customers",
    type=click.IntRange(1, 100_000),
    default=40,
    show_default=True,
    envvar="HUB_SIMULATE_CUSTOMERS",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    envvar="HUB_SIMULATE_RATE",
    help="Bookings a second.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    envvar="HUB_SIMULATE_DURATION",
    help="Seconds; 0 = until Ctrl-C.",
)
@click.option("--seed", type=int, default=1, show_default=True, envvar="HUB_SIMULATE_SEED")
@click.option(
    "--json", "as_json", is_flag=True, envvar="HUB_SIMULATE_JSON", help="The summary as JSON on stdout."
)
@data_dir_option
def simulate(
    urls: tuple[str, ...],
    mechanics: int,
    customers: int,
    rate: float,
    duration: float,
    seed: int,
    as_json: bool,
    data_dir: str,
) -> None:
    """Simulated mechanics and customers over real sockets, and a summary of what became of them.

    Exits with 1 where a booking was lost or accepted twice.
    """
    settings = settings_here(data_dir)
    known = Workspace(data_dir).addresses().get("urls")
    nodes = [url for part in urls for url in part.split(",") if url] or (
        known if isinstance(known, list) else []
    )
    if not nodes:
        raise click.UsageError("Name a node with --url: no `hub dev` is running here.")
    if not settings.jwt_secret:
        raise click.UsageError("HUB_JWT_SECRET is not set.")
    if not settings.postgres_url:
        raise click.UsageError("HUB_POSTGRES_URL is not set.")
    options = Options(
        urls=nodes,
        secret=settings.jwt_secret,
        role_claim=settings.jwt_role_claim,
        audience=settings.jwt_audience,
        mechanics=mechanics,
        customers=customers,
        rate=rate,
        seconds=duration,
        seed=seed,
        window_s=settings.priority_window_seconds,
    )
    console = Console(stderr=as_json, highlight=False)
    simulation = Simulation(options, census(settings.postgres_url))
    try:
        summary = uvloop.run(_run(simulation, console))
    except StoreFailed as error:
        raise click.ClickException(error.detail) from None
    display.summarise(summary, console)
    if as_json:
        click.echo(msgspec.json.encode(summary))
    sys.exit(0 if summary.sound else 1)


async def _find(urls: list[str]) -> None:
    """Whether anybody is there to simulate for."""
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        for url in urls:
            with contextlib.suppress(httpx.HTTPError):
                await client.get(f"{url.rstrip('/')}/healthz")
                return
    raise click.ClickException(f"No hub answers at {', '.join(urls)}.")


async def _run(simulation: Simulation, console: Console) -> Summary:
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, simulation.stop)
    await _find(simulation.options.urls)
    shown = asyncio.create_task(display.show(simulation, console))
    try:
        return await simulation.run()
    finally:
        shown.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await shown
