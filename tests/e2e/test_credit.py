"""Credits through three nodes: taken once, never more than there are, and back where nobody was served."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.e2e.conftest import SHORT
from tests.e2e.world import Body, Hub, Person, World, world_of

CHAT = {"plan_code": "chat10", "payment": "credit"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bank(tmp_path_factory: Any) -> AsyncIterator[World]:
    """A hub whose unserved sessions expire while one looks on."""
    settings = {**SHORT, "HUB_ORPHAN_SECONDS": "8", "HUB_NODE_LEASE_SECONDS": "1.5"}
    hub = Hub(tmp_path_factory.mktemp("bank") / "data", nodes=3, **settings)
    try:
        async with world_of(hub) as world:
            yield world
    finally:
        hub.stop()


async def granted(bank: World, credits: int) -> Person:
    """A customer who has so many credits."""
    mia = bank.customer()
    body = {"customer_id": mia.id, "credits": credits}
    answer = await bank.somebody("admin").post("/api/admin/credits", body)
    assert answer == {"customer_id": mia.id, "credits": credits, "balance": credits}
    return mia


async def balance(mia: Person) -> int:
    found: int = (await mia.get("/api/customer/credits"))["balance"]
    return found


async def entries(mia: Person) -> list[tuple[str, int]]:
    found = await mia.world.postgres.fetch(
        "SELECT reason, delta FROM credit_ledger WHERE customer_id = $1 ORDER BY id", mia.id
    )
    return [(row["reason"], row["delta"]) for row in found]


async def comes_to(mia: Person, credits: int) -> None:
    async def holds() -> bool:
        return await balance(mia) == credits

    await mia.world.eventually(holds)


async def book(mia: Person, *, node: int = 0, **headers: str) -> httpx.Response:
    return await mia.call("POST", "/api/intake/start", CHAT, node=node, **headers)


async def test_many_bookings_at_once_make_one_session_for_one_credit(bank: World) -> None:
    mia = await granted(bank, 3)
    answers = await asyncio.gather(*(book(mia, node=n % 3) for n in range(50)))
    codes = Counter(answer.status_code for answer in answers)
    assert codes[201] == 1
    assert codes[201] + codes[402] + codes[409] == 50
    assert await balance(mia) == 2
    running = [delta for _, delta in await entries(mia)]
    assert min(sum(running[: n + 1]) for n in range(len(running))) >= 0
    (made,) = [answer.json()["session"] for answer in answers if answer.status_code == 201]
    assert (made["payment"], made["status"]) == ("credit", "pending")
    await bank.row("SELECT 1 FROM sessions WHERE id = $1", made["id"])
    assert (
        await bank.postgres.fetchval("SELECT count(*) FROM sessions WHERE customer_user_id = $1", mia.id) == 1
    )

    await mia.post(f"/api/customer/sessions/{made['id']}/end")
    await mia.post(f"/api/customer/sessions/{made['id']}/end")

    await comes_to(mia, 3)


async def test_repeats_of_one_key_are_one_booking_and_one_debit(bank: World) -> None:
    mia = await granted(bank, 3)
    answers = await asyncio.gather(*(book(mia, node=n % 3, Idempotency_Key="k") for n in range(10)))
    assert [answer.status_code for answer in answers] == [201] * 10
    assert len({answer.json()["session"]["id"] for answer in answers}) == 1
    assert await entries(mia) == [("grant", 3), ("debit", -1)]


async def test_who_has_too_little_is_told_and_keeps_it(bank: World) -> None:
    mia = await granted(bank, 2)
    body = {"plan_code": "video15", "payment": "credit"}
    answer = await mia.call("POST", "/api/intake/start", body, Idempotency_Key="k")
    assert (answer.status_code, answer.json()["code"]) == (402, "no_credit")
    assert answer.json()["detail"] == "This takes 3 credits; you have 2."
    await bank.somebody("admin").post("/api/admin/credits", {"customer_id": mia.id, "credits": 1})
    await mia.post("/api/intake/start", body, Idempotency_Key="k")
    assert await balance(mia) == 0


async def test_a_session_that_nobody_takes_gives_its_credit_back_once(bank: World) -> None:
    mia = await granted(bank, 1)
    session_id = (await book(mia)).json()["session"]["id"]
    assert await balance(mia) == 0
    await bank.row("SELECT 1 FROM sessions WHERE id = $1 AND status = 'expired'", session_id)
    assert await entries(mia) == [("grant", 1), ("debit", -1), ("refund", 1)]


@pytest.mark.parametrize("node", [0, 1])
async def test_a_session_that_was_started_is_paid_for(bank: World, node: int) -> None:
    ana, mia = await bank.mechanic(), await granted(bank, 1)
    booked = (await book(mia)).json()
    await ana.post(f"/api/mechanic/assignments/{booked['assignment']['id']}/accept", node=node)
    session = f"/api/mechanic/sessions/{booked['session']['id']}"
    await ana.post(f"{session}/start", node=node)
    await mia.post(f"/api/customer/sessions/{booked['session']['id']}/end")
    await bank.row("SELECT 1 FROM sessions WHERE id = $1 AND ended_at IS NOT NULL", booked["session"]["id"])
    assert await entries(mia) == [("grant", 1), ("debit", -1)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"customer_id": "mia", "credits": 1}, "customer_id"),
        ({"customer_id": "00000000-0000-4000-8000-000000000000", "credits": 0}, "credits"),
        ({"customer_id": "00000000-0000-4000-8000-000000000000", "credits": 1_000_001}, "credits"),
    ],
)
async def test_a_grant_must_make_sense(bank: World, body: Body, field: str) -> None:
    answer = await bank.somebody("admin").call("POST", "/api/admin/credits", body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_credits_are_the_admins_to_give_and_to_take(bank: World) -> None:
    mia = await granted(bank, 2)
    body = {"customer_id": mia.id, "credits": -3}
    for role in ("customer", "mechanic", "service"):
        assert (await bank.somebody(role).call("POST", "/api/admin/credits", body)).status_code == 403
    answer = await bank.somebody("admin").call("POST", "/api/admin/credits", body)
    assert (answer.status_code, answer.json()["code"]) == (402, "no_credit")
    taken = await bank.somebody("admin").post("/api/admin/credits", {**body, "credits": -2})
    assert taken["balance"] == await balance(mia) == 0


async def test_without_postgres_no_credit_is_spent_and_nothing_else_stops(bank: World) -> None:
    mia = await granted(bank, 1)
    async with closed(bank):
        answer = await book(mia, Idempotency_Key="k")
        free = await mia.book(node=1)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    await mia.post(f"/api/customer/sessions/{free['session']['id']}/end")
    assert await entries(mia) == [("grant", 1)]
    again = await book(mia, Idempotency_Key="k")
    assert again.status_code == 201, again.text


async def test_a_node_that_dies_after_the_debit_takes_no_credit_with_it(bank: World) -> None:
    """Redis stands still while the debit commits, so the node dies before it can dispatch."""
    mia = await granted(bank, 1)
    async with bank.postgres.acquire() as connection:
        held = connection.transaction()
        await held.start()
        await connection.execute("SELECT FROM customers WHERE id = $1 FOR UPDATE", mia.id)
        booking = asyncio.create_task(book(mia, node=2, Idempotency_Key="k"))
        await bank.row("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        with stopped((await bank.redis.info("server"))["process_id"]):
            await held.rollback()
            await bank.row("SELECT 1 FROM credit_ledger WHERE customer_id = $1 AND reason = 'debit'", mia.id)
            os.kill(bank.hub.pids[2], signal.SIGKILL)
    with pytest.raises(httpx.TransportError):
        await booking
    assert await balance(mia) == 0
    waiting = await book(mia, node=1, Idempotency_Key="k")
    assert (waiting.status_code, waiting.json()["code"]) == (503, "unavailable")

    await bank.postgres.execute(
        "UPDATE credit_ledger SET created_at = created_at - interval '1 minute' WHERE customer_id = $1",
        mia.id,
    )

    async with asyncio.timeout(40):  # the loop looks every 20 s
        while await balance(mia) != 1:  # noqa: ASYNC110  # what is awaited happens in another process
            await asyncio.sleep(0.1)
    assert (await book(mia, node=1, Idempotency_Key="k")).status_code == 201
    assert await entries(mia) == [("grant", 1), ("debit", -1), ("refund", 1), ("debit", -1)]


@asynccontextmanager
async def closed(bank: World) -> AsyncIterator[None]:
    """Postgres turns the nodes away."""
    name = await bank.postgres.fetchval("SELECT current_database()")
    elsewhere = await asyncpg.connect(bank.hub.postgres_url, database="template1")
    await elsewhere.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
    await elsewhere.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hub'"
    )
    try:
        yield
    finally:
        await elsewhere.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
        await elsewhere.close()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
