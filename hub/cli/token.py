"""`hub token`: one signed token."""

import click

from hub.cli.workspace import Workspace, settings_or_usage_error
from hub.domain.ids import canonical
from hub.domain.model import Role
from hub.identity import issue


@click.command()
@click.option("--role", type=click.Choice([str(role) for role in Role]), required=True, envvar="HUB_ROLE")
@click.option("--sub", required=True, envvar="HUB_SUB", metavar="UUID", help="Whose token it is.")
@click.option(
    "--ttl",
    type=click.FloatRange(min=0, min_open=True),
    default=86_400,
    show_default=True,
    envvar="HUB_TTL",
    metavar="S",
    help="Seconds until it expires.",
)
@click.option("--name", envvar="HUB_NAME", metavar="N", help="The name that others see.")
@click.option(
    "--data-dir",
    default=".hub",
    show_default=True,
    envvar="HUB_DATA_DIR",
    help="Where `hub dev` keeps its secret, used when HUB_JWT_SECRET is not set.",
)
def token(role: str, sub: str, ttl: float, name: str | None, data_dir: str) -> None:
    """Print one signed token, nothing else."""
    settings = settings_or_usage_error()
    user_id = canonical(sub)
    if user_id is None:
        raise click.BadParameter("not a UUID", param_hint="--sub")
    secret = settings.jwt_secret or Workspace(data_dir).existing_secret()
    if not secret:
        raise click.UsageError("HUB_JWT_SECRET is not set, and `hub dev` has not made one here.")
    click.echo(
        issue(
            secret,
            role=role,
            user_id=user_id,
            ttl=ttl,
            name=name,
            role_claim=settings.jwt_role_claim,
            audience=settings.jwt_audience,
        )
    )
