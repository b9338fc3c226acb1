"""`hub migrate`: the database's schema."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from hub.app import MigrationError, migrator
from hub.cli.workspace import data_dir_option, postgres_url_here

Result = TypeVar("Result")


@click.group()
@data_dir_option
@click.pass_context
def migrate(context: click.Context, data_dir: str) -> None:
    """The database's schema: bring it up to date, undo, prove."""
    context.obj = data_dir


@migrate.command()
@click.pass_obj
def up(data_dir: str) -> None:
    """Apply what is missing."""
    applied = _run(migrator(postgres_url_here(data_dir)).up())
    click.echo("\n".join(f"applied {name}" for name in applied) or "up to date")


@migrate.command()
@click.option("--yes", is_flag=True, envvar="HUB_YES", help="Even where rows would go.")
@click.pass_obj
def down(data_dir: str, yes: bool) -> None:
    """Undo the last migration."""
    undone = _run(migrator(postgres_url_here(data_dir)).down(yes=yes))
    click.echo(f"undone {undone}" if undone else "nothing to undo")


@migrate.command()
@click.pass_obj
def verify(data_dir: str) -> None:
    """Prove from the catalog that everything is there; exit 1 naming what is not."""
    absent = _run(migrator(postgres_url_here(data_dir)).verify())
    for line in absent:
        click.echo(line, err=True)
    if absent:
        sys.exit(1)
    click.echo("complete")


@migrate.command()
@click.pass_obj
def status(data_dir: str) -> None:
    """List the migrations."""
    for entry in _run(migrator(postgres_url_here(data_dir)).status()):
        when = entry.applied_at.isoformat(timespec="seconds") if entry.applied_at else "not applied"
        click.echo(f"{entry.name}  {when}{'  (changed since)' if entry.changed else ''}")


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return asyncio.run(work)
    except (MigrationError, OSError) as error:
        raise click.ClickException(str(error)) from None
