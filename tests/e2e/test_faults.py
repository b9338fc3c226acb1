"""Nodes and stores that die, stall or forget: nobody is stuck, and nothing that was answered is lost."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import httpx
import pytest_asyncio
from redis.exceptions import ConnectionError

from persistence.redis import keys
from tests.e2e.conftest import SHORT
from tests.e2e.world import Hub, World, world_of


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def faulty(tmp_path_factory: Any) -> AsyncIterator[World]:
    """A hub whose stores and nodes the tests may hurt; window and grace are long enough not to matter."""
    settings = {
        **SHORT,
        "HUB_NODE_LEASE_SECONDS": "1.5",
        "HUB_PRIORITY_WINDOW_SECONDS": "60",
        "HUB_MESSAGES_PER_SECOND": "10000",
    }
    hub = Hub(tmp_path_factory.mktemp("faulty") / "data", nodes=2, **settings)
    try:
        async with world_of(hub) as world:
            yield world
    finally:
        hub.stop()


@pytest_asyncio.fixture(autouse=True)
async def all_ready(faulty: World) -> None:
    """What the last test did to the hub is over."""

    async def ready() -> bool:
        try:
            lost = not await faulty.redis.exists(keys.RUN)
        except ConnectionError:  # the pool's connection was to the store before
            return False
        if lost:  # and not yet noticed
            return False
        answers = [await faulty.http.get(f"{url}/readyz") for url in faulty.hub.urls]
        return all(answer.status_code == 200 for answer in answers)

    await faulty.eventually(ready)


async def test_a_store_that_dies_comes_back_on_its_port_with_everything(faulty: World) -> None:
    ana, mia = await faulty.mechanic(), faulty.customer()
    at_ana = await ana.online()
    booked = await mia.book(ana)
    await at_ana.event("priority_session_request")
    pid = await _store_pid(faulty)

    os.kill(pid, signal.SIGKILL)

    accepted = await _retried(lambda: at_ana.request("accept", assignment_id=booked["assignment"]["id"]))
    assert accepted["session"]["status"] == "waiting"
    assert (await mia.get("/api/customer/active-session"))["session"]["mechanic_id"] == ana.id


async def test_a_stalled_store_delays_or_refuses_and_what_was_refused_did_not_happen(faulty: World) -> None:
    customers = [faulty.customer() for _ in range(6)]
    pid = await _store_pid(faulty)
    os.kill(pid, signal.SIGSTOP)
    try:
        waiting = [
            asyncio.create_task(c.call("POST", "/api/intake/start", {"plan_code": "free"}, node=n % 2))
            for n, c in enumerate(customers)
        ]
        await asyncio.wait(waiting, timeout=5)
    finally:
        os.kill(pid, signal.SIGCONT)
    for customer, answer in zip(customers, await asyncio.gather(*waiting), strict=True):
        active = (await _retried_call(customer.call, "GET", "/api/customer/active-session"))["session"]
        if answer.status_code == 201:
            assert active["id"] == answer.json()["session"]["id"]
        else:
            assert answer.status_code == 503
            assert answer.json()["code"] == "unavailable"
            assert int(answer.headers["retry-after"]) >= 1
            assert active is None


async def test_a_record_that_is_away_delays_nobody_and_misses_nothing(faulty: World) -> None:
    ana, mia = await faulty.mechanic(), faulty.customer()
    at_ana = await ana.online()
    pid = int((faulty.hub.data_dir / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)

    booked = await mia.book(ana)

    assert (await at_ana.event("priority_session_request"))["target_mechanic_id"] == ana.id
    session_id = booked["session"]["id"]

    async def recorded() -> Any:
        try:
            return await faulty.postgres.fetchval(
                "SELECT count(*) FROM session_events WHERE session_id = $1 HAVING count(*) = 3", session_id
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            return None

    assert await faulty.eventually(recorded) == 3


async def test_a_store_that_forgot_everything_is_told_again(faulty: World) -> None:
    ana, ben, mia = await faulty.mechanic(), await faulty.mechanic("Ben Okafor"), faulty.customer()
    at_ana, at_ben = await ana.online(), await ben.online(node=1)
    booked = await mia.book(ana)
    await at_ana.event("priority_session_request")
    open_request = await faulty.customer().book()
    await at_ben.event("new_assignment")

    await faulty.redis.flushall()

    accepted = await _retried(lambda: at_ana.request("accept", assignment_id=booked["assignment"]["id"]))
    assert accepted["assignment"]["mechanic_id"] == ana.id
    taken = await _retried(lambda: at_ben.request("accept", assignment_id=open_request["assignment"]["id"]))
    assert taken["assignment"]["mechanic_id"] == ben.id
    assert (await _retried_call(mia.call, "GET", f"/api/mechanics/{ben.id}/status"))["is_online"] is True


async def test_a_live_session_survives_the_loss_and_keeps_its_mechanic_busy(faulty: World) -> None:
    ana, mia = await faulty.mechanic(), faulty.customer()
    at_ana = await ana.online()
    body = {"plan_code": "free"}
    booked = await mia.post("/api/intake/start", body, Idempotency_Key="k")
    session_id = booked["session"]["id"]
    await at_ana.request("accept", assignment_id=booked["assignment"]["id"])
    await ana.post(f"/api/mechanic/sessions/{session_id}/start")
    await faulty.row("SELECT 1 FROM sessions WHERE id = $1 AND status = 'live'", session_id)

    await faulty.redis.flushall()

    held = await _retried_call(ana.call, "GET", "/api/mechanic/active-session")

    async def busy() -> bool:
        found = await _retried_call(mia.call, "GET", f"/api/mechanics/{ana.id}/status")
        return bool(found["status"] == "busy")

    async def in_hand() -> bool:
        nonlocal held
        held = await _retried_call(ana.call, "GET", "/api/mechanic/active-session")
        return held["session"] is not None

    await faulty.eventually(busy)
    await faulty.eventually(in_hand)
    assert held["session"]["id"] == session_id
    again = await _retried_call(mia.call, "POST", "/api/intake/start", body, Idempotency_Key="k")
    assert again["session"]["id"] == session_id
    await _retried_call(ana.call, "POST", f"/api/mechanic/sessions/{session_id}/end")


async def test_a_status_chosen_through_another_node_survives_the_loss(faulty: World) -> None:
    mechanics = [await faulty.mechanic() for _ in range(6)]
    for ana in mechanics:
        await ana.online(node=0)
        choosing = await ana.online(node=1)
        assert (await choosing.request("status", status="away"))["status"] == "away"

    await faulty.redis.flushall()

    async def all_are_back() -> bool:
        keys = [key async for key in faulty.redis.scan_iter("hub:*:conns:*")]
        mine = [key for key in keys if key.rpartition(":")[2] in {ana.id for ana in mechanics}]
        return sum([await faulty.redis.hlen(key) for key in mine]) == 2 * len(mechanics)

    await faulty.eventually(all_are_back)
    ids = ",".join(ana.id for ana in mechanics)
    found = (await _retried_call(mechanics[0].call, "GET", f"/api/presence?ids={ids}"))["presence"]
    assert {state["status"] for state in found.values()} == {"away"}


async def test_what_was_said_while_nobody_listened_is_made_up_for(faulty: World) -> None:
    """The nodes' bus connections are cut again and again; hints of that time are lost, offers are not."""
    ana, ben = await faulty.mechanic(), await faulty.mechanic("Ben Okafor")
    at_ana, at_ben = await ana.online(node=1), await ben.online()
    for nth in range(1, 6):
        mia = faulty.customer()
        await faulty.redis.client_kill_filter(_type="pubsub")
        booked = await _retried_call(mia.call, "POST", "/api/intake/start", {"plan_code": "free"})
        heard = await at_ana.event("new_assignment", nth)
        assert heard["request"]["assignment"]["id"] == booked["assignment"]["id"]
        await faulty.redis.client_kill_filter(_type="pubsub")
        await ben.post(f"/api/mechanic/assignments/{booked['assignment']['id']}/accept")
        closed = [p["assignment_id"] for p in at_ana.named("assignment_accepted")]
        while booked["assignment"]["id"] not in closed:
            await at_ana.event("assignment_accepted", len(closed) + 1)
            closed = [p["assignment_id"] for p in at_ana.named("assignment_accepted")]
        await ben.post(f"/api/mechanic/sessions/{booked['session']['id']}/start")
        await ben.post(f"/api/mechanic/sessions/{booked['session']['id']}/end")
    assert len({event["event_id"] for event in at_ana.events}) >= 10
    await at_ben.quiet()


async def test_a_node_that_is_killed_takes_nobody_with_it(faulty: World) -> None:
    ana, ben, mia = await faulty.mechanic(), await faulty.mechanic("Ben Okafor"), faulty.customer()
    at_ana, at_ben = await ana.online(node=1), await ben.online(node=0)
    booked = await mia.book(ana, priority_window_minutes=10)
    await at_ana.event("priority_session_request")
    await _noticed(faulty, booked["session"]["id"])

    os.kill(faulty.hub.pids[1], signal.SIGKILL)

    heard = await at_ben.event("new_assignment")
    assert heard["request"]["session"]["id"] == booked["session"]["id"]
    assert heard["fallback_reason"] == "mechanic_offline"
    assert (await mia.get(f"/api/mechanics/{ana.id}/status"))["is_online"] is False
    assert [k async for k in faulty.redis.scan_iter("hub:node:*:conns")] != []
    assert (await at_ben.request("accept", assignment_id=booked["assignment"]["id"]))["ok"]


async def _noticed(world: World, session_id: str) -> None:
    notified = "SELECT 1 FROM session_events WHERE session_id = $1 AND type = 'notified'"
    await world.row(notified, session_id)


async def _store_pid(world: World) -> int:
    async def pid() -> Any:
        try:
            return (await world.redis.info("server"))["process_id"]
        except ConnectionError:  # the pool's connection was to the store before
            return None

    return int(await world.eventually(pid))


async def _retried(ask: Callable[[], Any]) -> Any:
    """The reply, asked for again while the hub says that it cannot answer now."""
    async with asyncio.timeout(20):
        while True:
            reply = await ask()
            if reply["ok"] or reply["error"]["code"] not in ("unavailable", "recovering"):
                assert reply["ok"], reply
                return reply
            await asyncio.sleep(0)


async def _retried_call(call: Callable[..., Any], *arguments: Any, **headers: str) -> Any:
    async with asyncio.timeout(20):
        while True:
            answer: httpx.Response = await call(*arguments, **headers)
            if answer.status_code != 503:
                assert answer.status_code in (200, 201), answer.text
                return answer.json()
