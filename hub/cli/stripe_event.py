"""`hub stripe-event`: a test event as Stripe would send it, ready for a shell."""

import json
import secrets
import shlex
import time

import click

from hub import signature
from hub.checkout import COMPLETED
from hub.cli.workspace import Workspace, data_dir_option
from hub.domain.ids import new_id
from hub.domain.model import RoutingType


@click.command("stripe-event")
@click.option(
    "--url",
    envvar="HUB_STRIPE_EVENT_URL",
    help="The hub's address. Default: the `hub dev` that is running here.",
)
@click.option(
    "--customer", envvar="HUB_STRIPE_EVENT_CUSTOMER", metavar="UUID", help="Who pays. Default: somebody new."
)
@click.option("--mechanic", envvar="HUB_STRIPE_EVENT_MECHANIC", metavar="UUID", help="Whom they prefer.")
@click.option(
    "--plan", default="video15", show_default=True, envvar="HUB_STRIPE_EVENT_PLAN", help="What they pay for."
)
@click.option(
    "--routing-type",
    type=click.Choice([str(kind) for kind in RoutingType]),
    envvar="HUB_STRIPE_EVENT_ROUTING_TYPE",
    help="Default: priority_broadcast with a mechanic, else broadcast.",
)
@click.option(
    "--type",
    "kind",
    default=COMPLETED,
    show_default=True,
    envvar="HUB_STRIPE_EVENT_TYPE",
    help="Of the event.",
)
@click.option(
    "--event-id", envvar="HUB_STRIPE_EVENT_ID", help="One that was sent before is a repeat. Default: any."
)
@click.option(
    "--secret",
    envvar="HUB_STRIPE_WEBHOOK_SECRETS",
    help="With which it is signed. Default: that of the `hub dev` here.",
)
@data_dir_option
def stripe_event(
    url: str | None,
    customer: str | None,
    mechanic: str | None,
    plan: str,
    routing_type: str | None,
    kind: str,
    event_id: str | None,
    secret: str | None,
    data_dir: str,
) -> None:
    """Print a curl line that sends a signed test event.

    The signature is good for five minutes: `hub stripe-event | sh`.
    """
    workspace = Workspace(data_dir)
    known = (secret or "").split(",")[0].strip() or workspace.existing_stripe_secret()
    if not known:
        raise click.UsageError("HUB_STRIPE_WEBHOOK_SECRETS is not set, and `hub dev` has not made one here.")
    urls = workspace.addresses().get("urls")
    url = url or (str(urls[0]) if isinstance(urls, list) else None)
    if url is None:
        raise click.UsageError("No `hub dev` is running here: name the hub with --url.")
    event = paid_event(
        customer or new_id(),
        plan,
        name=None if customer else "Test Customer",
        mechanic=mechanic,
        routing_type=routing_type,
        kind=kind,
        event_id=event_id,
    )
    click.echo(curl_line(url, known, event))


def paid_event(
    customer: str,
    plan: str,
    *,
    name: str | None,
    mechanic: str | None = None,
    routing_type: str | None = None,
    kind: str = COMPLETED,
    event_id: str | None = None,
) -> str:
    """The event's JSON; the same id means the same checkout."""
    event_id = event_id or f"evt_test_{secrets.token_hex(8)}"
    metadata = {
        "customer_id": customer,
        "plan_code": plan,
        "preferred_mechanic_id": mechanic,
        "routing_type": routing_type or (RoutingType.PRIORITY if mechanic else None),
    }
    checkout = {
        "id": f"cs_test_{event_id.removeprefix('evt_test_')}",
        "object": "checkout.session",
        "payment_status": "paid",
        "customer_details": {"name": name} if name else None,
        "metadata": {name: value for name, value in metadata.items() if value},
    }
    return json.dumps({"id": event_id, "object": "event", "type": kind, "data": {"object": checkout}})


def curl_line(url: str, secret: str, event: str) -> str:
    """A command for a shell that sends the event, signed now."""
    signed = signature.sign(secret, event.encode(), int(time.time()))
    headers = ["-H", "Content-Type: application/json", "-H", f"Stripe-Signature: {signed}"]
    address = f"{url.rstrip('/')}/api/stripe/webhook"
    return shlex.join(["curl", "-sS", "-w", r"\n", address, *headers, "--data-binary", event])
