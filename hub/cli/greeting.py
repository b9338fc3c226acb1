"""What `hub dev` prints once it is ready: addresses, tokens and the first things to try."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from hub.identity import issue
from hub.settings import Settings

_TTL_S = 30 * 86_400


def greet_watchers(addresses: Mapping[str, Any]) -> None:
    """For those who came to see the simulation."""
    click.echo(f"\n  hub is ready: {'  '.join(addresses['urls'])}")
    click.echo(f"  redis     {addresses['redis_url']}")
    click.echo(f"  postgres  {addresses['postgres_url']}\n")


def greet(
    addresses: Mapping[str, Any], people: Sequence[tuple[str, str, str]], secret: str, settings: Settings
) -> None:
    """`people` are (role, name, id) of the demo data; without a shared secret no tokens can be made."""
    url = addresses["urls"][0]
    greet_watchers(addresses)
    if not secret:
        return
    click.echo("  tokens for the demo people:")
    tokens = {}
    for role, name, user_id in people:
        tokens[name] = issue(
            secret,
            role=role,
            user_id=user_id,
            ttl=_TTL_S,
            name=name,
            role_claim=settings.jwt_role_claim,
            audience=settings.jwt_audience,
        )
        click.echo(f"  {role} {name} {user_id}\n    {tokens[name]}")
    customer = next(name for role, name, _ in people if role == "customer")
    mechanic = next((name, user_id) for role, name, user_id in people if role == "mechanic")
    socket_url = url.replace("http", "ws", 1)
    click.echo(
        f"\n  {mechanic[0]} goes online (another terminal):\n"
        f"    .venv/bin/python -m websockets {socket_url}/ws\n"
        f'    > {{"type": "hello", "token": "{tokens[mechanic[0]]}"}}\n'
        f"\n  {customer} asks for {mechanic[0]}:\n"
        f"    curl -s {url}/api/intake/start -H 'Authorization: Bearer {tokens[customer]}' \\\n"
        f'      -d \'{{"plan_code": "free", "routing_type": "priority_broadcast",'
        f' "preferred_mechanic_id": "{mechanic[1]}"}}\'\n'
    )
