"""The webhook's own rules: secrets, sizes, refusals."""

import httpx
import pytest

from hub.api.application import http_application
from hub.api.stripe import StripeApi
from hub.clock import StoreClock
from hub.identity import TokenVerifier
from hub.signature import sign
from tests.checkout.till import Till, stripe_event

NOW = 1_700_000_000
WEBHOOK = "http://hub/api/stripe/webhook"


class StoppedClock(StoreClock):
    def now(self) -> int:
        return NOW * 1000


def client(till: Till, *secrets: str) -> httpx.AsyncClient:
    api = StripeApi(checkout=till.desk, inbox=till.inbox, clock=StoppedClock(), secrets=secrets)
    verifier = TokenVerifier(secret="s", jwks_url="", audience="", role_claim="role")
    application = http_application(api.operations(), verifier=verifier, clock=StoreClock(), origins=())
    return httpx.AsyncClient(transport=httpx.ASGITransport(application))


async def posted(till: Till, payload: bytes, *secrets: str) -> httpx.Response:
    async with client(till, *secrets) as http:
        header = sign("whsec_1", payload, NOW)
        return await http.post(WEBHOOK, content=payload, headers={"Stripe-Signature": header})


async def test_without_a_secret_stripe_is_asked_to_come_again(till: Till) -> None:
    answer = await posted(till, stripe_event())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "60"
    assert await till.inbox.page(1) == []


@pytest.mark.parametrize(
    ("size", "status", "code"), [(1_048_576, 400, "malformed"), (1_048_577, 413, "too_large")]
)
async def test_an_event_may_have_a_megabyte(till: Till, size: int, status: int, code: str) -> None:
    answer = await posted(till, b"x" * size, "whsec_1")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_large_event_is_read_as_it_came(till: Till) -> None:
    payload = b" \n" + stripe_event(notes="ä" * 100_000)
    answer = await posted(till, payload, "whsec_0", "whsec_1")
    assert answer.status_code == 200
    assert answer.json()["outcome"] == "dispatched"


async def test_while_it_waits_it_is_received_all_the_same(till: Till) -> None:
    till.office.gate.shut()
    answer = await posted(till, stripe_event(), "whsec_1")
    assert answer.status_code == 200
    assert answer.json() == {"received": True, "event_id": "evt_1", "outcome": None, "session_id": None}
