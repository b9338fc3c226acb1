"""The command line: `hub`."""

import click

from hub import __version__
from hub.cli.dev import dev
from hub.cli.flag import flag
from hub.cli.legacy import legacy
from hub.cli.migrate import migrate
from hub.cli.report import report
from hub.cli.serve import serve
from hub.cli.simulate import simulate_command
from hub.cli.stripe_event import stripe_event
from hub.cli.token import token


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hub")
def main() -> None:
    """Dispatch hub: a customer's favourite mechanic gets the request first."""


for command in (dev, serve, migrate, token, flag, simulate_command, legacy, stripe_event, report):
    main.add_command(command)
