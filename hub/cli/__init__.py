"""The command line: `hub`."""

import gc
from importlib import import_module

import click

from hub import __version__

_COMMANDS = ("dev", "flag", "legacy", "migrate", "report", "serve", "simulate", "stripe-event", "token")
"""Each is in a module of this package that is called like it."""


class _Commands(click.Group):
    """Imports a command when it is asked for: a node starts in two thirds of the time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        # Nothing of what imports make is garbage; looking for it takes a sixth of the time.
        gc.disable()
        try:
            command: click.Command = getattr(import_module(f"hub.cli.{name}"), name)
        finally:
            gc.enable()
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hub")
def main() -> None:
    """Dispatch hub: a customer's favourite mechanic gets the request first."""
