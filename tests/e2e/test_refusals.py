"""Every code that the hub can refuse with, met where a user meets it; all of them are documented."""

import asyncio
import os
import re
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio
from websockets.exceptions import InvalidStatus

from hub.api.application import http_application
from hub.api.operation import Ask, operation
from hub.clock import StoreClock
from hub.domain.errors import Refused, Unavailable
from hub.domain.ids import shard_of_user
from hub.identity import TokenVerifier, issue
from tests.e2e.conftest import SHORT
from tests.e2e.world import SECRET, Hub, Person, World, world_of

DOCS = Path(__file__).parent.parent.parent / "docs" / "http.md"
PRIORITY = "priority_broadcast"
REACHED: set[str] = set()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def strict(tmp_path_factory: Any) -> AsyncIterator[World]:
    """A hub whose mechanics may hold one session, and whose journal may hold one entry a shard."""
    settings = {**SHORT, "HUB_MECHANIC_CAPACITY": "1", "HUB_JOURNAL_MAX": "16"}
    settings |= {"HUB_PRIORITY_WINDOW_SECONDS": "60", "HUB_STRIPE_WEBHOOK_SECRETS": "whsec_test"}
    hub = Hub(tmp_path_factory.mktemp("strict") / "data", nodes=2, **settings)
    try:
        async with world_of(hub) as world:
            yield world
    finally:
        hub.stop()


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["detail"]
    assert (status in (429, 503)) == ("retry-after" in answer.headers)
    REACHED.add(code)
    return body


async def booked(person: Person, **fields: Any) -> dict[str, Any]:
    """A booking, once the hub takes it: the journal here is full for a moment after each in its shard."""
    while True:
        answer = await person.call("POST", "/api/intake/start", {"plan_code": "free", **fields})
        if answer.status_code == 201:
            body: dict[str, Any] = answer.json()
            return body
        assert answer.json()["code"] in ("journal_full", "recovering", "too_fast"), answer.text


def accept(assignment: dict[str, Any]) -> str:
    return f"/api/mechanic/assignments/{assignment['id']}/accept"


async def test_who_asks(strict: World) -> None:
    mia, url = strict.customer(), strict.hub.urls[0]
    stale = issue(SECRET, role="customer", user_id=mia.id, ttl=-1)
    for token, code in (("rubbish", "unauthorized"), (stale, "token_expired")):
        headers = {"Authorization": f"Bearer {token}"}
        refused(await strict.http.get(f"{url}/api/customer/active-session", headers=headers), 401, code)
    refused(await mia.call("GET", "/api/mechanic/queue"), 403, "forbidden")


async def test_what_is_asked(strict: World) -> None:
    mia, url = strict.customer(), strict.hub.urls[0]
    start = f"{url}/api/intake/start"
    headers = {"Authorization": f"Bearer {mia.token}"}
    refused(await strict.http.post(start, headers=headers, content=b"{"), 400, "malformed")
    refused(await strict.http.post(start, headers=headers, content=b" " * 70_000), 413, "too_large")
    unknown = await mia.call("POST", "/api/intake/start", {"plan_code": "free", "colour": "red"})
    assert refused(unknown, 422, "invalid_request")["field"] == "colour"
    refused(await mia.call("DELETE", "/api/intake/start"), 405, "method_not_allowed")
    refused(await mia.call("GET", "/nowhere"), 404, "not_found")
    refused(await strict.http.get(f"{url}/api/mechanics/requests"), 410, "gone")
    refused(await strict.http.post(f"{url}/api/stripe/webhook", content=b"{}"), 400, "invalid_signature")


async def test_who_pays(strict: World) -> None:
    for payment, code in (("free", "payment_required"), ("credit", "no_credit")):
        body = {"plan_code": "chat10", "payment": payment}
        refused(await strict.customer().call("POST", "/api/intake/start", body), 402, code)


async def test_one_booking_at_a_time_and_one_body_a_key(strict: World) -> None:
    mia, free = strict.customer(), {"plan_code": "free"}

    async def keyed(body: dict[str, Any]) -> httpx.Response:
        return await mia.call("POST", "/api/intake/start", body, Idempotency_Key="k")

    while (answer := await keyed(free)).status_code != 201:
        refused(answer, 503, "journal_full")
    refused(await keyed({**free, "notes": "other"}), 422, "idempotency_key_reused")
    again = refused(await mia.call("POST", "/api/intake/start", free), 409, "active_session_exists")
    assert again["session"]["id"] == answer.json()["session"]["id"]


async def test_whose_request_it_is(strict: World) -> None:
    ana, ben = await strict.mechanic(), await strict.mechanic("Ben Okafor")
    pat = await strict.mechanic("Pat Pending", status="pending")
    await ana.online()
    mia = strict.customer()
    own = await booked(mia, routing_type=PRIORITY, preferred_mechanic_id=ana.id)
    path = accept(own["assignment"])
    refused(await ben.call("POST", path), 403, "priority_window")
    await ana.post(path)
    refused(await ben.call("POST", path), 409, "taken")
    start = f"/api/mechanic/sessions/{own['session']['id']}"
    refused(await ana.call("POST", f"{start}/end"), 409, "invalid_state")
    other = await booked(strict.customer())
    refused(await pat.call("POST", accept(other["assignment"])), 403, "mechanic_not_approved")
    refused(await ana.call("POST", accept(other["assignment"])), 409, "at_capacity")
    await mia.post(f"/api/customer/sessions/{own['session']['id']}/end")
    refused(await ana.call("POST", path), 409, "cancelled")


async def test_too_late(strict: World) -> None:
    ben = await strict.mechanic("Ben Okafor")
    old = await booked(strict.customer())
    await strict.row("SELECT 1 FROM sessions WHERE id = $1", old["session"]["id"])
    await strict.postgres.execute("SELECT expire_orphaned_sessions('0 s')")

    async def told() -> bool:
        answer = await ben.call("POST", accept(old["assignment"]))
        if answer.status_code == 200:
            await ben.call("POST", accept(old["assignment"]).replace("accept", "release"))
            return False
        refused(answer, 409, "expired")
        return True

    await strict.eventually(told)


async def test_a_feature_that_is_off(strict: World) -> None:
    mia = strict.customer()
    await strict.postgres.execute("UPDATE feature_flags SET is_enabled = false")

    async def off() -> bool:
        answer = await mia.call("GET", f"/api/mechanics/{uuid.uuid4()}/status")
        return answer.status_code == 404 and bool(refused(answer, 404, "feature_not_enabled"))

    try:
        await strict.eventually(off)
    finally:
        await strict.postgres.execute("UPDATE feature_flags SET is_enabled = true")


async def test_more_favourites_than_there_may_be(strict: World) -> None:
    mia, ana = strict.customer(), await strict.mechanic()
    await strict.prefer(mia)
    await strict.postgres.execute(
        """
        WITH crowd AS (
          INSERT INTO mechanics (id, status) SELECT gen_random_uuid(), 'approved' FROM generate_series(1, 200)
          RETURNING id
        )
        INSERT INTO customer_favorites (customer_id, mechanic_id) SELECT $1, id FROM crowd
        """,
        mia.id,
    )
    refused(await mia.call("PUT", f"/api/favorites/{ana.id}"), 409, "too_many_favorites")


async def test_too_many_messages(strict: World) -> None:
    socket = await strict.customer().online()
    for number in range(200):
        await socket.send({"type": "heartbeat", "id": number})
    assert (await socket.other("error"))["code"] == "too_fast"
    assert await socket.closed() == 4429
    REACHED.add("too_fast")


async def test_a_mistake_of_our_own() -> None:
    async def stumble(ask: Ask[None, None]) -> None:
        raise RuntimeError("not meant to happen")

    verifier = TokenVerifier(secret=SECRET)
    broken = http_application(
        [operation("GET", "/broken", stumble, None)], verifier=verifier, clock=StoreClock(), origins=()
    )
    transport = httpx.ASGITransport(app=broken, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as http:
        refused(await http.get("/broken"), 500, "internal")


async def test_a_record_that_stalls(strict: World) -> None:
    """Bookings go on until the journal is full; after a loss of Redis they wait for the record."""
    first, second = _neighbours(strict)
    before = await booked(strict.customer())
    await strict.row("SELECT 1 FROM sessions WHERE id = $1", before["session"]["id"])
    stalled = _postgres(strict)
    for process in stalled:
        process.suspend()
    try:
        asked = asyncio.create_task(first.call("GET", "/api/favorites"))
        await booked(first)
        answer = await second.call("POST", "/api/intake/start", {"plan_code": "free"})
        refused(answer, 503, "journal_full")
        refused(await asked, 503, "unavailable")
        await strict.redis.flushall()
        refused(await second.call("POST", "/api/intake/start", {"plan_code": "free"}), 503, "recovering")
    finally:
        for process in stalled:
            process.resume()
    await booked(second)


async def test_a_node_that_drains(strict: World) -> None:
    ana = await strict.mechanic()
    socket = await ana.online(node=1)
    os.kill(strict.hub.pids[1], signal.SIGTERM)
    await socket.other("going_away")
    with pytest.raises(InvalidStatus) as caught:
        await strict.socket(node=1)
    response = caught.value.response
    headers = list(response.headers.raw_items())
    refused(
        httpx.Response(503, headers=headers, content=bytes(response.body)), response.status_code, "draining"
    )


def test_all_of_them_are_documented_and_were_met() -> None:
    documented = set(re.findall(r"`(\w+)`", DOCS.read_text().split("\n## Refusals\n")[1].split("\n## ")[0]))
    codes = Refused.STATUS.keys() | Unavailable.STATUS.keys() | {"internal"}
    assert codes == REACHED
    assert codes <= documented


def _neighbours(world: World) -> tuple[Person, Person]:
    """Two customers in one shard."""
    first = world.customer()
    while shard_of_user((second := world.customer()).id, 16) != shard_of_user(first.id, 16):
        pass
    return first, second


def _postgres(world: World) -> list[psutil.Process]:
    directory = world.hub.data_dir / "postgres" / "data"
    postmaster = psutil.Process(int((directory / "postmaster.pid").read_text().split()[0]))
    return [*postmaster.children(), postmaster]
