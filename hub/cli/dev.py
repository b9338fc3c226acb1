"""`hub dev`: everything on one machine with nothing installed."""

import asyncio
import logging
import socket
import sys
from pathlib import Path

import click

from hub import logs
from hub.cli.development import Development, Options
from hub.cli.serve import listen
from hub.cli.workspace import DATA_DIR, settings_or_usage_error

logger = logging.getLogger("hub.cli.dev")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, envvar="HUB_HOST")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    envvar="HUB_PORT",
    help="Port of the first node; 0 = any free ones.",
)
@click.option(
    "--nodes",
    type=click.IntRange(1, 32),
    default=1,
    show_default=True,
    envvar="HUB_NODES",
    help="Hub processes over the same stores, on the ports that follow.",
)
@click.option(
    "--data-dir",
    default=DATA_DIR,
    show_default=True,
    envvar="HUB_DATA_DIR",
    help="Where the stores' data and the secret are kept between runs.",
)
@click.option("--fresh", is_flag=True, envvar="HUB_FRESH", help="Start with empty stores.")
@click.option(
    "--simulate", is_flag=True, envvar="HUB_SIMULATE", help="Simulated mechanics and customers keep it busy."
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    envvar="HUB_JSON",
    help="One line of JSON on stdout once every node accepts connections.",
)
def dev(host: str, port: int, nodes: int, data_dir: str, fresh: bool, simulate: bool, as_json: bool) -> None:
    """Everything on one machine: stores, migrations, demo data, nodes. Not for production."""
    settings = settings_or_usage_error()
    logs.set_up(settings.log_format)
    listeners = _listeners(host, port, nodes)
    options = Options(host=host, data_dir=Path(data_dir), fresh=fresh, simulate=simulate, as_json=as_json)
    sys.exit(asyncio.run(Development(options, settings, listeners).run()))


def _listeners(host: str, port: int, count: int) -> list[socket.socket]:
    found: list[socket.socket] = []
    for index in range(count):
        wanted = port + index if port else 0
        try:
            found.append(listen(host, wanted))
        except (OSError, OverflowError) as error:
            for listener in found:
                listener.close()
            reason = error.strerror if isinstance(error, OSError) else "no such port"
            raise click.ClickException(
                f"Cannot listen on {host}:{wanted}: {reason}. Choose another with --port."
            ) from None
    return found
