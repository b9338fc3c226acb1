"""`hub stripe-event`, and the greeting's line: a shell command that the hub takes."""

import json
import shlex
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hub import signature
from hub.cli import main
from hub.cli.greeting import greet_payers
from hub.cli.workspace import Workspace
from tests.domain.samples import ANA, CUSTOMER

PEOPLE = [
    ("mechanic", "Ana Silva", ANA),
    ("customer", "Mia", "not she"),
    ("customer", "Noah 'n' Co", CUSTOMER),
]


def run(data_dir: Path, *options: str, **environment: str) -> Result:
    clean = {"HUB_STRIPE_WEBHOOK_SECRETS": "", **environment}
    return CliRunner().invoke(main, ["stripe-event", "--data-dir", str(data_dir), *options], env=clean)


def sent(line: str, secret: str) -> tuple[str, dict[str, Any]]:
    """Address and event of a curl command whose signature is good."""
    words = shlex.split(line)
    assert words[0] == "curl"
    body = words[words.index("--data-binary") + 1]
    (signed,) = [word.partition(": ")[2] for word in words if word.startswith("Stripe-Signature: ")]
    signature.check(signed, body.encode(), [secret], time.time())
    return next(word for word in words if word.startswith("http")), json.loads(body)


def test_the_running_hub_gets_an_event_of_somebody_new(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    secret = workspace.stripe_secret()
    workspace.write_addresses({"urls": ["http://127.0.0.1:8000", "http://127.0.0.1:8001"]})
    assert secret.startswith("whsec_")
    assert stat.S_IMODE((tmp_path / "stripe-secret").stat().st_mode) == 0o600
    assert workspace.stripe_secret() == secret

    first, second = (sent(run(tmp_path).stdout, secret) for _ in range(2))
    assert first[0] == "http://127.0.0.1:8000/api/stripe/webhook"
    assert first[1]["id"] != second[1]["id"]
    checkout, other = first[1]["data"]["object"], second[1]["data"]["object"]
    assert checkout["id"] != other["id"]
    assert checkout["metadata"]["plan_code"] == "video15"
    assert checkout["metadata"]["customer_id"] != other["metadata"]["customer_id"]
    assert checkout["customer_details"] == {"name": "Test Customer"}
    assert checkout["id"] == f"cs_{first[1]['id'].removeprefix('evt_')}"


def test_every_part_can_be_said(tmp_path: Path) -> None:
    options = ["--url", "https://hub.example/", "--customer", CUSTOMER, "--mechanic", ANA, "--plan", "chat10"]
    environment = {"HUB_STRIPE_WEBHOOK_SECRETS": "whsec_1, whsec_2", "HUB_STRIPE_EVENT_ID": "evt_7"}
    url, event = sent(run(tmp_path, *options, **environment).stdout, "whsec_1")
    assert url == "https://hub.example/api/stripe/webhook"
    assert (event["id"], event["type"]) == ("evt_7", "checkout.session.completed")
    assert event["data"]["object"]["customer_details"] is None, "their name is the hub's to know"
    assert event["data"]["object"]["metadata"] == {
        "customer_id": CUSTOMER,
        "plan_code": "chat10",
        "preferred_mechanic_id": ANA,
        "routing_type": "priority_broadcast",
    }


def test_without_hub_or_secret_it_says_so(tmp_path: Path) -> None:
    refused = run(tmp_path, "--url", "http://hub")
    assert (refused.exit_code, "HUB_STRIPE_WEBHOOK_SECRETS" in refused.output) == (2, True)
    refused = run(tmp_path, "--secret", "whsec_1")
    assert (refused.exit_code, "--url" in refused.output) == (2, True)


def test_the_greeting_has_a_ready_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    greet_payers("http://127.0.0.1:8000", PEOPLE, "whsec_1", tmp_path / "my data")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    _, event = sent(next(line for line in lines if line.startswith("curl")), "whsec_1")
    checkout = event["data"]["object"]
    assert checkout["metadata"]["customer_id"] == CUSTOMER
    assert checkout["customer_details"]["name"] == "Noah 'n' Co"
    assert f".venv/bin/hub stripe-event --data-dir '{tmp_path}/my data' | sh" in lines

    greet_payers("http://127.0.0.1:8000", PEOPLE, "whsec_1", Path(".hub"))
    assert "    .venv/bin/hub stripe-event | sh\n" in capsys.readouterr().out
