"""What `hub dev` prints once it is ready: addresses, tokens and the first things to try."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from hub.cli.stripe_event import curl_line, paid_event
from hub.cli.workspace import DATA_DIR
from hub.identity import issue
from hub.settings import Settings

_TTL_S = 30 * 86_400


def greet_watchers(addresses: Mapping[str, Any]) -> None:
    """For those who came to see the simulation."""
    click.echo(f"\n  hub is ready: {'  '.join(addresses['urls'])}")
    click.echo(f"  docs      {addresses['urls'][0]}/docs")
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
        f'    (echo \'{{"type": "hello", "token": "{tokens[mechanic[0]]}"}}\'; cat)'
        f" | .venv/bin/python -m websockets {socket_url}/ws\n"
        f"\n  {customer} asks for {mechanic[0]}:\n"
        f"    curl -s {url}/api/intake/start -H 'Authorization: Bearer {tokens[customer]}' \\\n"
        f'      -d \'{{"plan_code": "free", "routing_type": "priority_broadcast",'
        f' "preferred_mechanic_id": "{mechanic[1]}"}}\'\n'
    )


def greet_payers(url: str, people: Sequence[tuple[str, str, str]], secret: str, data_dir: Path) -> None:
    """A booking that was paid for: the customer is not the one who asks in the first example."""
    payer, customer_id = [(name, user_id) for role, name, user_id in people if role == "customer"][-1]
    mechanic, mechanic_id = next((name, user_id) for role, name, user_id in people if role == "mechanic")
    here = [] if data_dir == Path(DATA_DIR) else ["--data-dir", str(data_dir.absolute())]
    again = shlex.join([".venv/bin/hub", "stripe-event", *here])
    event = paid_event(customer_id, "video15", name=payer, mechanic=mechanic_id)
    click.echo(
        f"  {payer} pays for {mechanic} by Stripe (signed now, good for five minutes):\n"
        f"    {curl_line(url, secret, event)}\n"
        f"  and later, somebody new:\n"
        f"    {again} | sh\n"
    )
