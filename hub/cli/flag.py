"""`hub flag`: feature flags."""

import asyncio
import sys

import click

from hub.app import flag_store
from hub.cli.workspace import data_dir_option, postgres_url_here
from hub.domain.errors import Unavailable
from hub.domain.flags import Flag
from hub.domain.model import Role


@click.group()
@data_dir_option
@click.pass_context
def flag(context: click.Context, data_dir: str) -> None:
    """Feature flags; a change holds on every node at once."""
    context.obj = data_dir


@flag.command("list")
@click.pass_obj
def list_flags(data_dir: str) -> None:
    """Every flag, for whom and how far rolled out."""
    for found in asyncio.run(_all(postgres_url_here(data_dir))):
        _show(found)


@flag.command()
@click.argument("key")
@click.pass_obj
def on(data_dir: str, key: str) -> None:
    """Switch a flag on."""
    _change(data_dir, key, is_enabled=True)


@flag.command()
@click.argument("key")
@click.pass_obj
def off(data_dir: str, key: str) -> None:
    """Switch a flag off."""
    _change(data_dir, key, is_enabled=False)


@flag.command("set")
@click.argument("key")
@click.option("--enabled/--disabled", "is_enabled", default=None, envvar="HUB_FLAG_ENABLED")
@click.option(
    "--roles", envvar="HUB_FLAG_ROLES", metavar="ROLE,…", help="Who may have it, e.g. admin,customer."
)
@click.option(
    "--rollout",
    envvar="HUB_FLAG_ROLLOUT",
    type=click.IntRange(0, 100),
    metavar="PERCENT",
    help="To how many of them.",
)
@click.pass_obj
def set_flag(
    data_dir: str, key: str, is_enabled: bool | None, roles: str | None, rollout: int | None
) -> None:
    """Change what a flag says."""
    named = [role.strip() for role in roles.split(",") if role.strip()] if roles is not None else None
    unknown = [role for role in named or [] if role not in set(Role)]
    if unknown:
        raise click.BadParameter(f"unknown role {unknown[0]}", param_hint="--roles")
    _change(data_dir, key, is_enabled=is_enabled, roles=named, rollout=rollout)


def _change(
    data_dir: str,
    key: str,
    *,
    is_enabled: bool | None = None,
    roles: list[str] | None = None,
    rollout: int | None = None,
) -> None:
    changed = asyncio.run(_set(postgres_url_here(data_dir), key, is_enabled, roles, rollout))
    if changed is None:
        click.echo(f"There is no flag {key}.", err=True)
        sys.exit(1)
    _show(changed)


async def _all(url: str) -> list[Flag]:
    try:
        async with flag_store(url) as store:
            return await store.flags()
    except Unavailable as error:
        raise click.ClickException(error.detail) from None


async def _set(
    url: str, key: str, is_enabled: bool | None, roles: list[str] | None, rollout: int | None
) -> Flag | None:
    try:
        async with flag_store(url) as store:
            return await store.set_flag(
                key, is_enabled=is_enabled, enabled_for_roles=roles, rollout_percentage=rollout
            )
    except Unavailable as error:
        raise click.ClickException(error.detail) from None


def _show(found: Flag) -> None:
    state = "on " if found.is_enabled else "off"
    roles = ",".join(found.enabled_for_roles) or "nobody"
    click.echo(f"{state}  {found.key}  for {roles}, rolled out to {found.rollout_percentage} %")
