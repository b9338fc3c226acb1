"""`hub legacy`: the older table `session_requests`, from before sessions and assignments."""

import asyncio
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from hub.app import OlderTableError, older_table
from hub.cli.workspace import data_dir_option, postgres_url_here
from hub.domain.errors import Unavailable

Result = TypeVar("Result")

_SHOWN = 20


@click.group()
@data_dir_option
@click.pass_context
def legacy(context: click.Context, data_dir: str) -> None:
    """The older table session_requests: into sessions, and away."""
    context.obj = data_dir


@legacy.command("import")
@click.option("--dry-run", is_flag=True, envvar="HUB_DRY_RUN", help="Only say what would be imported.")
@click.option("--json", "as_json", is_flag=True, envvar="HUB_JSON", help="The outcome as JSON on stdout.")
@click.pass_obj
def import_rows(data_dir: str, dry_run: bool, as_json: bool) -> None:
    """Write each row once into the unified tables; exit 1 naming rows whose ids other bookings have.

    May be stopped and repeated at any time, beside a running hub.
    """
    done = _run(older_table(postgres_url_here(data_dir)).import_rows(dry_run=dry_run))
    if as_json:
        click.echo(msgspec.json.encode(done))
    else:
        verb = "to import" if dry_run else "imported"
        click.echo(f"{done.imported} {verb}, {done.skipped} skipped, {len(done.conflicts)} conflicts")
        for row_id in done.conflicts[:_SHOWN]:
            click.echo(f"{row_id}: another booking has this id", err=True)
    if done.conflicts:
        sys.exit(1)


@legacy.command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="HUB_OUTPUT",
    metavar="PATH",
    help="Where to; compressed where it ends in .gz. By default session_requests-<date>.jsonl.",
)
@click.option("--force", is_flag=True, envvar="HUB_FORCE", help="Even where that file exists.")
@click.pass_obj
def archive(data_dir: str, output: Path | None, force: bool) -> None:
    """Export all rows, rename the table to session_requests_archived, and put a view of sessions there.

    Every row has to be imported before.
    """
    path = output or Path(f"session_requests-{datetime.now(UTC):%Y-%m-%d}.jsonl")
    done = _run(older_table(postgres_url_here(data_dir)).archive(path, force=force))
    if done is None:
        click.echo("archived before")
    else:
        click.echo(f"{done.rows} rows in {done.path}; the table is session_requests_archived now")


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return asyncio.run(work)
    except Unavailable as error:
        raise click.ClickException(error.detail) from None
    except OlderTableError as error:
        raise click.ClickException(str(error)) from None
