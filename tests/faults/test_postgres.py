"""Postgres dies, restarts, refuses or is silent: dispatch goes on, and the record misses nothing."""

import asyncio
import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx

from hub.client import HubHttp
from hub.domain.flags import FAVORITES_PRIORITY
from hub.identity import issue
from hub.signature import sign
from tests.faults.cluster import SECRET, STRIPE_SECRET, Cluster, Node
from tests.faults.crowd import Size
from tests.faults.scene import first, scene
from tests.faults.trial import trial
from tests.patience import until

CROWD = Size(mechanics=8, customers=10, bookings=2)
CHANGES_HOLD_WITHIN_S = 5.0
HELD_AT_MOST_S = 5.0
HEADROOM_S = 2.0
BOOKED_WITHIN_S = 2.0
ANSWER_WITHIN_S = 9.0
"""Three seconds for a connection, five for a statement."""


async def test_it_is_killed_in_traffic(cluster: Cluster) -> None:
    async with trial(cluster, 31, CROWD) as held:
        await held.under_way(4)
        await cluster.kill_postgres()
        await held.under_way(12)
        await cluster.revive_postgres()


async def test_it_is_restarted_in_traffic(cluster: Cluster) -> None:
    """Its fast shutdown ends every connection with a word of farewell."""
    async with trial(cluster, 32, CROWD) as held:
        await held.under_way(4)
        await cluster.kill_postgres(signal.SIGINT)
        await held.under_way(10)
        await cluster.revive_postgres()


async def test_it_may_not_be_written(cluster: Cluster) -> None:
    stuck = await cluster.alarms("journal_stuck")
    async with trial(cluster, 33, CROWD) as held, read_only(cluster):
        await held.under_way(12)
        assert {answer.status_code for answer in await everything_written(cluster)} == {503}
        await until(lambda: more_alarms(cluster, "journal_stuck", stuck))


async def test_it_is_silent_in_traffic(cluster: Cluster) -> None:
    """Lines stay open, and nothing comes back."""
    async with trial(cluster, 34, CROWD) as held:
        await held.under_way(4)
        for node in cluster.nodes:
            node.postgres.blackhole()
        await held.under_way(16)
        for node in cluster.nodes:
            await node.postgres.heal()


async def test_nobody_waits_for_it(cluster: Cluster) -> None:
    """While it is silent a booking becomes a broadcast, and what cannot do without it is refused."""
    await everything_read(cluster)
    for node in cluster.nodes:
        node.postgres.blackhole()
    asking = asyncio.gather(everything_written(cluster), everything_read(cluster))
    async with asyncio.timeout(BOOKED_WITHIN_S + HEADROOM_S):
        booked = await book_by_favorites(cluster)
    async with asyncio.timeout(ANSWER_WITHIN_S):
        refused = await asking
    assert (booked.status_code, booked.json()["routing"]["type"]) == (201, "broadcast")
    for answer in (answer for answers in refused for answer in answers):
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.request.url
        assert int(answer.headers["retry-after"]) >= 1
    for node in cluster.nodes:
        await node.postgres.heal()
    await until(lambda: recorded(cluster, booked.json()["session"]["customer_id"]))
    booker = booked.request.headers["Authorization"].removeprefix("Bearer ")
    await HubHttp(cluster.http, cluster.nodes[0].url, booker).end(booked.json()["session"]["id"])


async def test_it_is_far_away(cluster: Cluster) -> None:
    async with trial(cluster, 35, CROWD) as held:
        for node in cluster.nodes:
            node.postgres.delay(0.05)
        await held.under_way(12)
        await until(lambda: recorded(cluster, held.crowd.customers[0].id))
        for node in cluster.nodes:
            await node.postgres.heal()


async def test_a_node_freezes_with_the_cursors_in_its_hands(cluster: Cluster) -> None:
    """Its transaction, which Postgres cannot know to be lost, keeps others from the shard for 5 s at most."""
    async with scene(cluster) as people:
        mia = people.customer()
        traps = [node.postgres.trap(uuid.UUID(mia.id).bytes) for node in cluster.nodes]
        booking = asyncio.create_task(mia.book())
        frozen = cluster.nodes[await first(*(trap.wait() for trap in traps))]
        frozen.signal(signal.SIGSTOP)
        since = time.monotonic()
        for node in cluster.nodes:
            if node is not frozen:
                await node.postgres.heal()
        await until(lambda: recorded(cluster, mia.id))
        assert time.monotonic() - since < HELD_AT_MOST_S + HEADROOM_S
        await cluster.heal()
        await booking


async def test_nobody_tells_of_changes(cluster: Cluster) -> None:
    """The connections that are told of changes: one ends, two are silent. What changes holds all the same."""
    ended, *stopped = await until_listening(cluster, ())
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        await cluster.postgres.fetch("SELECT pg_terminate_backend($1)", ended)
        await set_share(cluster, 7)
        changed = time.monotonic()
        for node in cluster.nodes:
            await until(lambda node=node: share_is(cluster, node, 7))  # type: ignore[misc]  # bound now
        assert time.monotonic() - changed < CHANGES_HOLD_WITHIN_S + HEADROOM_S
        await until_listening(cluster, (ended, *stopped))
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    await set_share(cluster, 100)
    for node in cluster.nodes:
        await until(lambda node=node: share_is(cluster, node, 100))  # type: ignore[misc]  # bound now


# What can be asked of it


async def everything_written(cluster: Cluster) -> Sequence[httpx.Response]:
    """The answers of all routes that cannot do without writing to it."""
    customer, mechanic = str(uuid.uuid4()), str(uuid.uuid4())
    grant = {"customer_id": customer, "credits": 5}
    book = {"plan_code": "chat10", "payment": "credit"}
    flag = {"rollout_percentage": 100}
    event = json.dumps(
        {"id": f"evt_{customer}", "type": "checkout.session.completed", "data": {"object": {}}}
    )
    headers = {"Stripe-Signature": sign(STRIPE_SECRET, event.encode(), int(time.time()))}
    return await asyncio.gather(
        ask(cluster, "customer", customer, "PUT", f"/api/favorites/{mechanic}", json={}),
        ask(cluster, "customer", customer, "DELETE", f"/api/favorites/{mechanic}"),
        ask(cluster, "admin", customer, "POST", "/api/admin/credits", json=grant),
        ask(cluster, "customer", customer, "POST", "/api/intake/start", json=book),
        ask(cluster, "admin", customer, "PUT", f"/api/admin/flags/{FAVORITES_PRIORITY}", json=flag),
        ask(cluster, "admin", customer, "POST", "/api/stripe/webhook", content=event, headers=headers),
    )


async def everything_read(cluster: Cluster) -> Sequence[httpx.Response]:
    """The answers of routes that cannot do without reading from it."""
    somebody = str(uuid.uuid4())
    return await asyncio.gather(
        ask(cluster, "customer", somebody, "GET", "/api/favorites"),
        ask(cluster, "customer", somebody, "GET", f"/api/favorites/status?mechanic_id={somebody}"),
        ask(cluster, "customer", somebody, "GET", "/api/customer/credits"),
        ask(cluster, "mechanic", somebody, "GET", "/api/mechanic/stats"),
        ask(cluster, "admin", somebody, "GET", "/api/admin/analytics/priority_timeout_rate"),
        ask(cluster, "admin", somebody, "GET", "/api/admin/stripe/events"),
    )


async def book_by_favorites(cluster: Cluster) -> httpx.Response:
    """By somebody whom no node has met."""
    body = {"plan_code": "free", "routing_type": "favorites_sequence"}
    return await ask(cluster, "customer", str(uuid.uuid4()), "POST", "/api/intake/start", json=body)


async def ask(
    cluster: Cluster, role: str, who: str, method: str, path: str, *, headers: Any = None, **more: Any
) -> httpx.Response:
    token = issue(SECRET, role=role, user_id=who, ttl=60)
    headers = {"Authorization": f"Bearer {token}", **(headers or {})}
    url = cluster.nodes[1].url + path
    return await cluster.http.request(method, url, headers=headers, timeout=ANSWER_WITHIN_S, **more)


# What can be seen of it


@contextlib.asynccontextmanager
async def read_only(cluster: Cluster) -> AsyncIterator[None]:
    """For every session, those that are open too, as an operator or a failover would."""

    await cluster.set_read_only(True)
    await until(lambda: is_read_only(cluster, "on"))
    try:
        yield
    finally:
        await cluster.set_read_only(False)
        await until(lambda: is_read_only(cluster, "off"))


async def is_read_only(cluster: Cluster, value: str) -> bool:
    query = "SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_read_only'"
    return bool(await cluster.postgres.fetchval(query) == value)


async def more_alarms(cluster: Cluster, what: str, than: int) -> bool:
    return await cluster.alarms(what) > than


async def recorded(cluster: Cluster, customer_id: str) -> bool:
    query = "SELECT 1 FROM sessions WHERE customer_user_id = $1 LIMIT 1"
    return await cluster.postgres.fetchval(query, customer_id) is not None


async def set_share(cluster: Cluster, percent: int) -> None:
    await cluster.postgres.execute("UPDATE feature_flags SET rollout_percentage = $1", percent)


async def share_is(cluster: Cluster, node: Node, percent: int) -> bool:
    token = issue(SECRET, role="admin", user_id=str(uuid.uuid4()), ttl=60)
    flag = await HubHttp(cluster.http, node.url, token).call("GET", f"/api/admin/flags/{FAVORITES_PRIORITY}")
    return bool(flag["rollout_percentage"] == percent)


async def until_listening(cluster: Cluster, but: tuple[int, ...]) -> list[int]:
    """The backends that tell the nodes of changes, one a node, none of these."""
    found: list[int] = []

    async def all_listen() -> bool:
        query = "SELECT pid FROM pg_stat_activity WHERE query ~* '^(listen|select 1$)' AND pid <> ALL ($1)"
        found[:] = [row["pid"] for row in await cluster.postgres.fetch(query, list(but))]
        return len(found) == len(cluster.nodes)

    await until(all_listen)
    return found
