"""What one user may take: connections and messages in the whole cluster, requests and memory of a node."""

import asyncio
import json
import socket
from typing import Any

import httpx
import pytest
from msgspec import Raw

from hub.api.application import http_application
from hub.api.operation import ANYONE, Ask, operation
from hub.clock import StoreClock
from hub.identity import TokenVerifier, issue
from hub.limiter import Allowances, Bucket
from hub.sockets.connection import Connection
from hub.sockets.frames import Outgoing
from tests.e2e.world import SECRET, Socket, World
from tests.security.bare import TEXT, Wire, frame

BURST = 60


async def connections(world: World, user_id: str) -> int:
    (key,) = await world.redis.keys(f"hub:*:conns:{user_id}")
    found: int = await world.redis.hlen(key)
    return found


async def test_the_oldest_connections_yield_on_whatever_node(world: World) -> None:
    ana = await world.mechanic()
    sockets = [await ana.online(node=n % 3) for n in range(8)]
    assert [await each.closed() for each in sockets[:3]] == [4409] * 3
    for each in sockets[3:]:
        await each.quiet()
    assert await connections(world, ana.id) == 5


async def test_nor_does_a_crowd_get_more(world: World) -> None:
    mia = world.customer()
    sockets = await asyncio.gather(*(world.socket(node=n % 3) for n in range(12)))
    await asyncio.gather(*(each.send({"type": "hello", "token": mia.token}) for each in sockets))
    closed = [asyncio.create_task(each.closed()) for each in sockets]
    for _, done in zip(range(7), asyncio.as_completed(closed), strict=False):
        assert await done == 4409
    left = [each for each, end in zip(sockets, closed, strict=True) if not end.done()]
    for each in left:
        await each.quiet()
    assert (len(left), await connections(world, mia.id)) == (5, 5)
    for end in closed:
        end.cancel()


async def flood(each: Socket, count: int) -> None:
    for _ in range(count):
        await each.send({"type": "dance"})


async def test_connections_to_one_node_share_what_their_user_may_say(world: World) -> None:
    mia = world.customer()
    first, second = await mia.online(), await mia.online()
    await flood(first, BURST // 2 + 10)
    await first.quiet()
    await flood(second, BURST // 2 + 10)
    assert await second.closed() == 4429


async def test_connections_to_several_nodes_have_a_part_each(world: World) -> None:
    mia = world.customer()
    await mia.online(node=0)
    elsewhere = await mia.online(node=1)
    await flood(elsewhere, BURST // 2 + 15)
    assert await elsewhere.closed() == 4429


def test_parts_are_no_more_than_the_whole() -> None:
    time = 0.0
    buckets = [Bucket(20, lambda: time) for _ in range(3)]
    for bucket, share in zip(buckets, (0.4, 0.4, 0.2), strict=True):
        bucket.share = share
    taken = 0
    for tick in range(100):
        time = tick / 10
        taken += sum(bucket.take() for bucket in buckets for _ in range(20))
    assert taken <= BURST + 20 * 10


def test_a_small_part_is_not_nothing() -> None:
    time = 0.0
    bucket = Bucket(1, lambda: time)
    bucket.share = 0.1
    assert bucket.take()
    assert not bucket.take()
    time = 10.0
    assert bucket.take()


def test_to_come_again_does_not_fill_the_bucket() -> None:
    allowances = Allowances(1, lambda: 0.0)
    assert [allowances.of("mia").take() for _ in range(4)] == [True, True, True, False]
    assert allowances.of("ana").take()
    for user in range(60_000):
        allowances.of(str(user))
    assert allowances.of("mia").take()


@pytest.mark.parametrize(
    ("role", "limited"), [("customer", True), ("mechanic", True), ("service", False), ("admin", False)]
)
async def test_requests_of_a_user_to_a_node(role: str, limited: bool) -> None:
    async def fine(ask: Ask[None, None]) -> None:
        return None

    application = http_application(
        [operation("GET", "/", fine, ANYONE)],
        verifier=TokenVerifier(secret=SECRET),
        clock=StoreClock(),
        origins=(),
        requests_per_second=1 / Bucket.BURST,
    )
    headers = [
        {"Authorization": f"Bearer {issue(SECRET, role=role, user_id=user, ttl=60)}"}
        for user in ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002")
    ]
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as http:
        first, second = [await http.get("/", headers=headers[0]) for _ in range(2)]
        other = await http.get("/", headers=headers[1])
    assert (first.status_code, other.status_code) == (200, 200)
    if not limited:
        assert second.status_code == 200
        return
    assert (second.status_code, second.json()["code"]) == (429, "too_fast")
    assert second.headers["retry-after"] == "1"
    assert second.headers["content-type"] == "application/problem+json"


# Memory


async def test_who_reads_nothing_is_cut_off_and_the_others_hear_everything(world: World) -> None:
    deaf, ben = await world.mechanic("Dee Deaf"), await world.mechanic("Ben Okafor")
    at_ben = await ben.online()
    host, port = world.hub.urls[0].removeprefix("http://").split(":")
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, (host, int(port)))
    wire = Wire(*await asyncio.open_connection(sock=narrow, limit=1_024))
    await wire.upgraded()
    await wire.send(frame(TEXT, json.dumps({"type": "hello", "token": deaf.token}).encode()))

    booked = 0
    while True:
        mia = world.customer("😀" * 40)
        await mia.book(notes="😀" * 2_000, metadata={"more": "x" * 4_000})
        booked += 1
        if booked > 10 and not await _connected(world, deaf.id):
            break
        assert booked < 1_000
    await at_ben.event("new_assignment", booked)
    assert b"\x88" in await wire.ended()
    await wire.hang_up()


async def _connected(world: World, user_id: str) -> bool:
    keys = await world.redis.keys(f"hub:*:conns:{user_id}")
    return bool(keys)


async def test_what_waits_for_a_welcome_is_bounded_too() -> None:
    closed: list[int] = []

    class Protocol:
        outlet = None

        def close_with(self, code: int, reason: str) -> None:
            closed.append(code)

    host: Any = None
    protocol: Any = Protocol()
    connection = Connection(
        host, protocol, binary=False, bucket=Bucket(20, lambda: 0.0), hello_timeout=60, header_token=None
    )
    taken = [connection.send(Outgoing(Raw(b"{}"))) for _ in range(1_001)]
    connection.forget_timers()
    assert (taken.count(True), closed) == (1_000, [1012])
