"""The native socket: hello, both subprotocols, presence, and every way in which a client can be wrong."""

import asyncio
import json
import uuid
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from hub.identity import issue
from tests.e2e.world import SECRET, World


@pytest.mark.parametrize("binary", [False, True])
async def test_both_subprotocols_say_the_same(world: World, binary: bool) -> None:
    ana, mia = await world.mechanic(), world.customer()
    at_ana = await ana.online(binary=binary)
    assert at_ana.welcome["user_id"] == ana.id
    assert at_ana.welcome["role"] == "mechanic"
    assert at_ana.welcome["heartbeat_seconds"] == 10
    booked = await mia.book(ana)
    offer = await at_ana.event("priority_session_request")
    assert offer["request"]["session"] == booked["session"] | {
        "updated_at": offer["request"]["session"]["updated_at"]
    }
    accepted = await at_ana.request("accept", assignment_id=booked["assignment"]["id"])
    assert accepted["assignment"]["status"] == "accepted"


async def test_json_is_the_default_and_headers_may_carry_the_token(world: World) -> None:
    ana = await world.mechanic()
    socket = await world.socket(protocol="chat", additional_headers={"Authorization": f"Bearer {ana.token}"})
    await socket.send({"type": "hello"})
    assert (await socket.other("welcome"))["user_id"] == ana.id


@pytest.mark.parametrize(
    ("first", "code", "error"),
    [
        (b"{", 4400, "malformed"),
        (b"[1]", 4400, "malformed"),
        (b'{"no": "type"}', 4400, "malformed"),
        (b'{"type": 1}', 4400, "malformed"),
        (b'{"type": "accept", "id": 1, "assignment_id": "x"}', 4401, "unauthorized"),
        (b'{"type": "hello"}', 4401, "unauthorized"),
        (b'{"type": "hello", "token": "abc"}', 4401, "unauthorized"),
        (b'{"type": "hello", "tokn": "abc"}', 4400, "invalid_request"),
    ],
)
async def test_first_messages_that_are_wrong(world: World, first: bytes, code: int, error: str) -> None:
    socket = await world.socket()
    await socket.connection.send(first.decode())
    assert await socket.closed() == code
    assert (await socket.other("error"))["code"] == error


@pytest.mark.parametrize(
    ("binary", "frame"),
    [
        (True, b"\xc1"),
        (True, b"\x93\x01"),
        (True, "text"),
        (False, b"\x80"),
        (True, msgspec.msgpack.encode([])),
    ],
)
async def test_frames_that_the_subprotocol_cannot_be(world: World, binary: bool, frame: str | bytes) -> None:
    socket = await world.socket(binary=binary)
    await socket.connection.send(frame)
    assert await socket.closed() == 4400


@pytest.mark.parametrize(
    ("part", "field"),
    [(r'"reason": "\ud800"', "reason"), (r'"\ud800": 1', r"\ud800"), (r'"a": "\u0000"', "a")],
)
async def test_text_that_is_none_is_answered_under_its_id(world: World, part: str, field: str) -> None:
    at_ana = await (await world.mechanic()).online()
    await at_ana.connection.send(f'{{"type": "decline", "id": 9, "assignment_id": "a", {part}}}')
    error = (await at_ana.reply(9))["error"]
    assert (error["code"], error["field"]) == ("invalid_request", field)
    await at_ana.quiet()


@pytest.mark.parametrize(
    ("claims", "code", "error"),
    [
        ({"role": "mechanic", "ttl": -10}, 4401, "token_expired"),
        ({"role": "service", "ttl": 60}, 4403, "forbidden"),
        ({"role": "king", "ttl": 60}, 4401, "unauthorized"),
    ],
)
async def test_tokens_that_open_nothing(world: World, claims: Any, code: int, error: str) -> None:
    token = issue(SECRET, role=claims["role"], user_id=str(uuid.uuid4()), ttl=claims["ttl"])
    socket = await world.socket()
    await socket.send({"type": "hello", "token": token})
    assert await socket.closed() == code
    assert (await socket.other("error"))["code"] == error


async def test_a_foreign_signature_opens_nothing(world: World) -> None:
    token = issue(
        "another secret that is long enough for HS256", role="admin", user_id=str(uuid.uuid4()), ttl=60
    )
    socket = await world.socket()
    await socket.send({"type": "hello", "token": token})
    assert await socket.closed() == 4401


async def test_no_hello(world: World) -> None:
    assert await (await world.socket()).closed() == 4408


async def test_a_suspended_mechanic_is_shut_out(world: World) -> None:
    ana = await world.mechanic()
    at_ana = await ana.online()
    await world.postgres.execute("UPDATE mechanics SET status = 'suspended' WHERE id = $1", ana.id)
    assert await at_ana.closed() == 4403
    socket = await world.socket(node=1)
    await socket.send({"type": "hello", "token": ana.token})
    assert await socket.closed() == 4403


async def test_an_expiring_token_ends_the_socket_unless_refreshed(world: World) -> None:
    ana, ben = await world.mechanic(), await world.mechanic()
    short = {p.id: issue(SECRET, role="mechanic", user_id=p.id, ttl=2) for p in (ana, ben)}
    ana_token, ana.token, ben.token = ana.token, short[ana.id], short[ben.id]
    at_ana, at_ben = await ana.online(), await ben.online()
    stranger = await at_ana.request("refresh", token=world.customer().token)
    assert stranger["error"]["code"] == "forbidden"
    assert (await at_ana.request("refresh", token=ana_token))["ok"]
    assert await at_ben.closed() == 4401
    assert (await at_ben.other("error"))["code"] == "token_expired"
    assert (await at_ana.request("heartbeat"))["ok"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "accept", "assignment_id": "x"}, "not_found"),
        ({"type": "accept", "assignment_id": str(uuid.uuid4())}, "not_found"),
        ({"type": "decline", "assignment_id": str(uuid.uuid4())}, "not_found"),
        ({"type": "release", "assignment_id": str(uuid.uuid4())}, "not_found"),
        ({"type": "ack", "assignment_id": str(uuid.uuid4()), "stage": "seen"}, "not_found"),
        ({"type": "ack", "assignment_id": str(uuid.uuid4()), "stage": "eaten"}, "invalid_request"),
        ({"type": "status", "status": "sleeping"}, "invalid_request"),
        ({"type": "status"}, "invalid_request"),
        ({"type": "dance"}, "invalid_request"),
        ({"type": "accept"}, "invalid_request"),
        ({"type": "accept", "assignment_id": 7}, "invalid_request"),
        ({"type": "heartbeat", "more": True}, "invalid_request"),
        ({"type": "watch", "mechanic_ids": ["a"] * 501}, "invalid_request"),
        ({"type": "refresh", "token": "nope"}, "unauthorized"),
        ({"type": "hello"}, "invalid_state"),
    ],
)
async def test_wrong_requests_are_answered_and_the_socket_lives(
    world: World, message: Any, code: str
) -> None:
    ana = await world.mechanic()
    at_ana = await ana.online()
    reply = await at_ana.request(message["type"], **{k: v for k, v in message.items() if k != "type"})
    assert (reply["ok"], reply["error"]["code"]) == (False, code)
    assert (await at_ana.request("heartbeat"))["ok"]


async def test_a_wrong_message_without_id_gets_an_error(world: World) -> None:
    at_ana = await (await world.mechanic()).online()
    await at_ana.send({"type": "dance"})
    assert (await at_ana.other("error"))["code"] == "invalid_request"


@pytest.mark.parametrize("kind", ["accept", "decline", "release"])
async def test_customers_do_not_do_mechanics_work(world: World, kind: str) -> None:
    at_mia = await world.customer().online()
    reply = await at_mia.request(kind, assignment_id=str(uuid.uuid4()))
    assert reply["error"]["code"] == "forbidden"
    assert (await at_mia.request("status", status="online"))["error"]["code"] == "forbidden"


async def test_huge_frames(world: World) -> None:
    at_ana = await (await world.mechanic()).online()
    await at_ana.connection.send("x" * 20_000)
    assert await at_ana.closed() == 1009


async def test_huge_messages_in_small_frames(world: World) -> None:
    at_ana = await (await world.mechanic()).online()
    await at_ana.connection.send(["x" * 9_000, "x" * 9_000, "x"])
    assert await at_ana.closed() == 4413


async def test_too_fast(world: World) -> None:
    at_ana = await (await world.mechanic()).online()
    for _ in range(80):
        await at_ana.send({"type": "dance"})
    assert await at_ana.closed() == 4429


async def test_the_oldest_connection_yields(world: World) -> None:
    ana = await world.mechanic()
    sockets = [await ana.online(node=n % 2) for n in range(6)]
    assert await sockets[0].closed() == 4409
    assert (await sockets[1].request("heartbeat"))["ok"]


async def test_foreign_origins_are_refused(world: World) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await world.socket(origin="https://evil.example")
    assert refused.value.response.status_code == 403
    own: Any = world.hub.urls[0]
    ana = await world.mechanic()
    socket = await world.socket(origin=own)
    await socket.send({"type": "hello", "token": ana.token})
    await socket.other("welcome")


async def test_presence_is_watched_and_polled(world: World) -> None:
    ana, mia = await world.mechanic(), world.customer()
    at_mia = await mia.online(node=1)
    watched = await at_mia.request("watch", mechanic_ids=[ana.id, "nobody"])
    offline = {"is_online": False, "status": "offline", "last_seen": None}
    assert watched["presence"] == {ana.id: offline, "nobody": offline}

    at_ana = await ana.online()
    assert (await at_mia.event("presence_update", 1))["status"] == "online"
    await at_ana.request("status", status="busy")
    assert (await at_mia.event("presence_update", 2))["status"] == "busy"
    polled = await mia.get(f"/api/presence?ids={ana.id},x", node=1)
    assert polled["presence"][ana.id]["status"] == "busy"
    assert polled["presence"]["x"] == offline
    at_ana.abort()
    gone = await at_mia.event("presence_update", 3)
    assert (gone["status"], gone["is_online"]) == ("offline", False)
    assert gone["last_seen"] is not None
    await at_mia.request("unwatch", mechanic_ids=[ana.id])
    await ana.online()
    await at_mia.quiet()
    assert len(at_mia.named("presence_update")) == 3


async def test_presence_is_on_record_too(world: World) -> None:
    ana = await world.mechanic()
    at_ana = await ana.online()
    is_online = "SELECT last_seen_at FROM mechanics WHERE id = $1 AND is_online = $2"
    seen = (await world.row(is_online, ana.id, True))["last_seen_at"]
    at_ana.abort()
    assert (await world.row(is_online, ana.id, False))["last_seen_at"] > seen


async def test_status_has_an_etag(world: World) -> None:
    ana, mia = await world.mechanic(), world.customer()
    await ana.online()
    first = await mia.call("GET", f"/api/mechanics/{ana.id}/status")
    assert first.headers["cache-control"] == "private, max-age=1"
    again = await mia.call("GET", f"/api/mechanics/{ana.id}/status", If_None_Match=first.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    assert (await mia.get("/api/mechanics/not-an-id/status"))["status"] == "offline"


async def test_appearing_offline_and_back_at_once_leaves_nobody_deaf(world: World) -> None:
    ana, mia = await world.mechanic(), world.customer()
    at_ana = await ana.online()
    await at_ana.send({"type": "status", "id": "off", "status": "offline"})
    await at_ana.send({"type": "status", "id": "on", "status": "online"})
    await at_ana.quiet()
    booked = await mia.book()
    heard = await at_ana.event("new_assignment")
    assert heard["request"]["assignment"]["id"] == booked["assignment"]["id"]


async def test_what_a_status_reply_lists_is_also_taken_back(world: World) -> None:
    ana, ben, mia = await world.mechanic(), await world.mechanic(), world.customer()
    at_ana = await ana.online(status="offline")
    booked = await mia.book()
    listed = await at_ana.request("status", status="online")
    assert booked["assignment"]["id"] in [item["assignment"]["id"] for item in listed["assignments"]]
    await ben.post(f"/api/mechanic/assignments/{booked['assignment']['id']}/accept", node=1)
    assert (await at_ana.event("assignment_accepted"))["mechanic_id"] == ben.id


async def test_who_was_busy_hears_what_is_still_open(world: World) -> None:
    ana, mia, noah = await world.mechanic(), world.customer(), world.customer("Noah Lind")
    at_ana = await ana.online()
    held = await mia.book(ana)
    await at_ana.request("accept", assignment_id=held["assignment"]["id"])
    await ana.post(f"/api/mechanic/sessions/{held['session']['id']}/start")
    unwanted = await world.customer().book()
    await at_ana.request("decline", assignment_id=unwanted["assignment"]["id"])
    waiting = await noah.book()
    await at_ana.quiet()
    assert at_ana.named("new_assignment") == []
    await ana.post(f"/api/mechanic/sessions/{held['session']['id']}/end")
    heard = await at_ana.event("new_assignment")
    assert heard["request"]["assignment"]["id"] == waiting["assignment"]["id"]


async def test_the_queue_goes_on_behind_the_offers(world: World) -> None:
    ana = await world.mechanic()
    await ana.online()
    offers = [
        (await world.customer().book(ana, priority_window_minutes=5))["assignment"]["id"] for _ in range(3)
    ]
    opened = {(await world.customer().book())["assignment"]["id"] for _ in range(3)}
    seen: list[str] = []
    page = await ana.get("/api/mechanic/queue?limit=1")
    while True:
        seen += [item["assignment"]["id"] for item in page["assignments"]]
        if page["next_cursor"] is None:
            break
        page = await ana.get(f"/api/mechanic/queue?limit=1&cursor={page['next_cursor']}")
    assert seen[:3] == offers[::-1]
    assert opened <= set(seen)
    assert len(seen) == len(set(seen))
    for wrong in ("limit=0", "limit=201", "limit=x", "limit=000000200999999", "cursor=x"):
        answer = await ana.call("GET", f"/api/mechanic/queue?{wrong}")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), wrong


async def test_those_online_are_listed_in_pages(world: World) -> None:
    people = [await world.mechanic() for _ in range(3)]
    for person in people:
        await person.online()
    mia = world.customer()
    seen: list[str] = []
    cursor = ""
    while True:
        page = await mia.get(f"/api/presence?status=online&limit=1{cursor}")
        seen += [item["mechanic_id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert {person.id for person in people} <= set(seen)
    assert len(seen) == len(set(seen))


async def test_a_short_loss_of_the_network_is_not_an_absence(world: World) -> None:
    ana, mia = await world.mechanic(), world.customer()
    at_mia = await mia.online()
    await at_mia.request("watch", mechanic_ids=[ana.id])
    at_ana = await ana.online()
    await at_mia.event("presence_update")
    at_ana.abort()
    again = await ana.online(node=1)
    await asyncio.gather(again.quiet(), at_mia.quiet())
    assert (await mia.get(f"/api/mechanics/{ana.id}/status"))["is_online"] is True
    assert len(at_mia.named("presence_update")) == 1


async def test_no_token_in_any_log(world: World) -> None:
    ana = await world.mechanic()
    await ana.online()
    await ana.call("GET", f"/api/mechanic/queue?token={ana.token}")
    query = f"?token={ana.token}&apikey={ana.token}"
    async with connect(world.hub.urls[0].replace("http", "ws") + f"/ws{query}", proxy=None):
        await ana.call("GET", f"/api/nowhere{query}")
    with pytest.raises(InvalidStatus):
        await world.socket(origin="https://evil.example", additional_headers={"Authorization": ana.token})
    assert ana.token[:40] not in world.hub.log.read_text()
    assert json.dumps(ana.token)[:30] not in world.hub.log.read_text()
