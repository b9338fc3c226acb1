"""Paid bookings by Stripe's webhook: what is signed is booked once, whatever dies or comes again."""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from hub.checkout import PAID_LATER
from hub.domain.ids import derived_session_id
from hub.loops.inbox import LEFT_S
from hub.signature import sign
from tests.checkout.till import stripe_event
from tests.e2e.conftest import SHORT
from tests.e2e.world import PATIENCE_S, Body, Hub, Person, World, world_of

EVENTS = "/api/admin/stripe/events"


class Stripe:
    """Signs and sends."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.http = world.http

    async def post(
        self,
        payload: bytes,
        header: str | None = None,
        *,
        node: int = 0,
        http: httpx.AsyncClient | None = None,
    ) -> httpx.Response:
        signed = sign("whsec_new", payload, int(time.time())) if header is None else header
        return await (http or self.http).post(
            f"{self.world.hub.urls[node]}/api/stripe/webhook",
            content=payload,
            headers={"Stripe-Signature": signed, "Content-Type": "application/json; charset=utf-8"},
        )

    async def send(self, payload: bytes, *, node: int = 0) -> Body:
        answer = await self.post(payload, node=node)
        assert answer.status_code == 200, answer.text
        found: Body = answer.json()
        assert found["received"] is True
        return found


def event_id() -> str:
    return f"evt_{uuid.uuid4().hex}"


def session_of(customer: Person, event: str) -> str:
    return derived_session_id(customer.id, f"stripe\n{event}")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stripe(tmp_path_factory: Any) -> AsyncIterator[Stripe]:
    settings = {**SHORT, "HUB_STRIPE_WEBHOOK_SECRETS": "whsec_old,whsec_new", "HUB_NODE_LEASE_SECONDS": "1.5"}
    hub = Hub(tmp_path_factory.mktemp("stripe") / "data", nodes=3, **settings)
    try:
        async with world_of(hub) as world:
            yield Stripe(world)
    finally:
        hub.stop()


@pytest.mark.parametrize(
    ("secret", "shift", "status"),
    [("whsec_old", 0, 200), ("whsec_new", -290, 200), ("whsec_new", 290, 200), ("whsec_new", -310, 400),
     ("whsec_new", 310, 400), ("whsec_other", 0, 400)],
)  # fmt: skip
async def test_only_what_stripe_signed_lately_is_taken(
    stripe: Stripe, secret: str, shift: int, status: int
) -> None:
    event = event_id()
    payload = stripe_event(event, "invoice.paid")
    answer = await stripe.post(payload, sign(secret, payload, int(time.time()) + shift))
    assert answer.status_code == status, answer.text
    if status == 400:
        assert answer.json()["code"] == "invalid_signature"
    stored = await stripe.world.postgres.fetchval("SELECT 1 FROM stripe_events WHERE event_id = $1", event)
    assert (stored is not None) == (status == 200)


async def test_a_token_is_no_signature(stripe: Stripe) -> None:
    answer = await stripe.world.somebody("admin").call(
        "POST", "/api/stripe/webhook", {"id": "e", "type": "x"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_signature")


async def test_a_paid_booking_goes_to_the_favourite_and_is_on_record(stripe: Stripe) -> None:
    world, event = stripe.world, event_id()
    ana, mia = await world.mechanic(), world.customer()
    at_ana = await ana.online(node=1)
    answer = await stripe.send(
        stripe_event(
            event,
            details={"name": "Mia Berg", "email": "mia@example.com"},
            customer_id=mia.id,
            routing_type="priority_broadcast",
            preferred_mechanic_id=ana.id,
            priority_window_minutes="500",
        )
    )
    session_id = session_of(mia, event)
    assert answer == {"received": True, "event_id": event, "outcome": "dispatched", "session_id": session_id}
    heard = await at_ana.event("priority_session_request")
    assert heard["message"].startswith("Mia Berg specifically requested you!")
    assert heard["priority_window_minutes"] == 60
    assert heard["request"]["session"]["payment"] == "paid"

    row = await world.row("SELECT * FROM sessions WHERE id = $1", session_id)
    assert (row["payment"], row["plan_code"], row["session_type"]) == ("paid", "video15", "video")
    assert row["customer_email"] == "mia@example.com"
    kept = await world.row("SELECT * FROM stripe_events WHERE event_id = $1", event)
    assert (kept["outcome"], str(kept["session_id"]), kept["detail"]) == ("dispatched", session_id, None)
    assert kept["received_at"] <= kept["handled_at"]


async def test_a_malformed_favourite_is_a_broadcast(stripe: Stripe) -> None:
    mia = stripe.world.customer()
    payload = stripe_event(
        event_id(),
        customer_id=mia.id,
        routing_type="priority_broadcast",
        preferred_mechanic_id="; drop table",
        priority_window_minutes="soon",
        session_type="dance",
    )
    assert (await stripe.send(payload))["outcome"] == "dispatched"
    active = await mia.get("/api/customer/active-session")
    assert (active["assignment"]["status"], active["assignment"]["routing_type"]) == ("open", "broadcast")
    assert active["session"]["session_type"] == "video"


async def test_a_delayed_payment_books_when_it_succeeds_and_not_before(stripe: Stripe) -> None:
    mia, checkout = stripe.world.customer(), event_id()
    unpaid = stripe_event(event_id(), checkout=checkout, payment_status="unpaid", customer_id=mia.id)
    assert (await stripe.send(unpaid))["outcome"] == "ignored"
    assert (await mia.get("/api/customer/active-session"))["session"] is None
    paid = await stripe.send(stripe_event(event_id(), PAID_LATER, checkout=checkout, customer_id=mia.id))
    assert paid["outcome"] == "dispatched"
    assert (await mia.get("/api/customer/active-session"))["session"]["id"] == paid["session_id"]


async def test_events_in_the_wrong_order_book_once(stripe: Stripe) -> None:
    mia, checkout = stripe.world.customer(), event_id()
    paid = await stripe.send(stripe_event(event_id(), PAID_LATER, checkout=checkout, customer_id=mia.id))
    late = stripe_event(event_id(), checkout=checkout, payment_status="unpaid", customer_id=mia.id)
    assert (await stripe.send(late, node=1))["outcome"] == "ignored"
    other = stripe_event(event_id(), checkout=checkout, customer_id=mia.id)
    assert (await stripe.send(other, node=1))["outcome"] == "ignored"
    assert (await mia.get("/api/customer/active-session"))["session"]["id"] == paid["session_id"]


@pytest.mark.parametrize("changed", [{"customer_id": "mia"}, {"plan_code": "gold"}])
async def test_what_cannot_be_booked_is_listed_and_can_be_retried(stripe: Stripe, changed: Body) -> None:
    admin, mia, event = stripe.world.somebody("admin"), stripe.world.customer(), event_id()
    metadata = {"customer_id": mia.id, **changed}
    answer = await stripe.send(stripe_event(event, **metadata))
    assert (answer["outcome"], answer["session_id"]) == ("needs_attention", None)
    listed = await admin.get(f"{EVENTS}?outcome=needs_attention&limit=1")
    (item,) = listed["items"]
    assert item["event_id"] == event
    assert (item["customer_id"], item["plan_code"]) == (
        metadata["customer_id"],
        changed.get("plan_code", "video15"),
    )
    assert next(iter(changed)) in item["detail"]
    assert (await admin.post(f"{EVENTS}/{event}/retry", node=1))["outcome"] == "needs_attention"


async def test_a_customer_with_a_session_is_booked_when_an_admin_says_so(stripe: Stripe) -> None:
    admin, mia, event = stripe.world.somebody("admin"), stripe.world.customer(), event_id()
    session_id = (await mia.book())["session"]["id"]
    payload = stripe_event(event, customer_id=mia.id)
    assert (await stripe.send(payload))["outcome"] == "needs_attention"
    refused = await admin.post(f"{EVENTS}/{event}/retry")
    assert (refused["outcome"], session_id in refused["detail"]) == ("needs_attention", True)

    await mia.post(f"/api/customer/sessions/{session_id}/end")
    assert (await stripe.send(payload))["outcome"] == "needs_attention"
    booked = await admin.post(f"{EVENTS}/{event}/retry", node=1)
    assert (booked["outcome"], booked["session_id"]) == ("dispatched", session_of(mia, event))
    assert booked["received_at"] < booked["handled_at"]
    assert "payload" not in booked
    assert await admin.post(f"{EVENTS}/{event}/retry") == booked
    created = "SELECT actor_id FROM session_events WHERE session_id = $1 AND type = 'created'"
    assert str((await stripe.world.row(created, booked["session_id"]))["actor_id"]) == admin.id


async def test_admins_alone_see_events_in_pages(stripe: Stripe) -> None:
    admin = stripe.world.somebody("admin")
    for person in (stripe.world.customer(), stripe.world.somebody("service")):
        assert (await person.call("GET", EVENTS)).status_code == 403
        assert (await person.call("POST", f"{EVENTS}/evt_1/retry")).status_code == 403
    assert (await admin.call("POST", f"{EVENTS}/evt_none/retry")).status_code == 404
    assert (await admin.call("GET", f"{EVENTS}?outcome=lost")).status_code == 422
    sent = [event_id() for _ in range(5)]
    for event in sent:
        await stripe.send(stripe_event(event, "invoice.paid"))
    found: list[str] = []
    cursor = ""
    while len(found) < 5:
        page = await admin.get(f"{EVENTS}?outcome=ignored&limit=2{cursor}")
        found += [item["event_id"] for item in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert found[:5] == sent[::-1]


async def test_a_thousand_replays_are_one_booking(stripe: Stripe) -> None:
    world, mia, event = stripe.world, stripe.world.customer(), event_id()
    payload = stripe_event(event, customer_id=mia.id)

    async def client(nth: int) -> set[str]:
        async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False) as http:
            answers = [await stripe.post(payload, node=(nth + i) % 2, http=http) for i in range(125)]
        return {answer.text for answer in answers}

    told = set().union(*await asyncio.gather(*(client(nth) for nth in range(8))))
    assert len(told) == 1, told
    assert session_of(mia, event) in told.pop()
    await world.row("SELECT 1 FROM sessions WHERE id = $1", session_of(mia, event))
    assert await _count(world, "sessions", "customer_user_id = $1", mia.id) == 1
    assert await _count(world, "stripe_events", "event_id = $1", event) == 1


async def test_without_postgres_nothing_is_promised_and_stripes_retry_books(stripe: Stripe) -> None:
    world, mia, event = stripe.world, stripe.world.customer(), event_id()
    payload = stripe_event(event, customer_id=mia.id)
    data = world.hub.data_dir / "postgres" / "data"
    supervisor = world.hub.process.pid
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

        async def refused() -> Any:
            answer = await stripe.post(payload)
            return answer if answer.status_code != 200 else None

        answer = await world.eventually(refused)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        os.kill(supervisor, signal.SIGCONT)

    async def taken() -> Any:
        found = await stripe.post(payload, node=1)
        return found.json() if found.status_code == 200 and found.json()["outcome"] else None

    assert (await world.eventually(taken))["session_id"] == session_of(mia, event)


async def test_an_event_that_a_killed_node_left_is_booked_by_another(stripe: Stripe) -> None:
    world, mia, event = stripe.world, stripe.world.customer(), event_id()
    redis = (await world.redis.info("server"))["process_id"]
    os.kill(redis, signal.SIGSTOP)
    try:
        sending = asyncio.create_task(stripe.post(stripe_event(event, customer_id=mia.id), node=2))
        stored = "SELECT outcome FROM stripe_events WHERE event_id = $1"
        assert (await world.row(stored, event))["outcome"] is None
        os.kill(world.hub.pids[2], signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            await sending
    finally:
        os.kill(redis, signal.SIGCONT)

    await world.postgres.execute(
        "UPDATE stripe_events SET received_at = received_at - $2 * interval '1 second' WHERE event_id = $1",
        event, LEFT_S,
    )  # fmt: skip
    await world.eventually(lambda: world.postgres.fetchval(stored, event))
    assert (await mia.get("/api/customer/active-session"))["session"]["id"] == session_of(mia, event)
    again = await stripe.send(stripe_event(event, customer_id=mia.id), node=1)
    assert (again["outcome"], again["session_id"]) == ("dispatched", session_of(mia, event))
    await world.row("SELECT 1 FROM sessions WHERE id = $1", session_of(mia, event))
    assert await _count(world, "sessions", "customer_user_id = $1", mia.id) == 1


async def _count(world: World, table: str, condition: str, argument: str) -> int:
    return int(await world.postgres.fetchval(f"SELECT count(*) FROM {table} WHERE {condition}", argument))
