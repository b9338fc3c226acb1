"""Bookings: every reason why one is a broadcast, what is refused, what a repeat gives."""

import asyncio
import uuid
from typing import Any

import pytest

from tests.e2e.world import Person, World

PRIORITY = "priority_broadcast"
WINDOW = "priority_window_minutes"
STRANGER = str(uuid.uuid4())


async def test_a_plain_booking_is_a_broadcast(world: World) -> None:
    ben, mia = await world.mechanic("Ben Okafor"), world.customer()
    at_ben = await ben.online()

    booked = await mia.book(notes="It rattles.", metadata={"km": 120_000}, is_urgent=True)

    assert booked["routing"] == {
        "type": "broadcast", "mechanic_id": None, "expires_at": None, "expires_in_ms": None,
        "reason": "not_requested",
    }  # fmt: skip
    heard = await at_ben.event("new_assignment")
    assert heard["request"]["session"]["metadata"] == {"km": 120_000}
    assert heard["request"]["session"]["notes"] == "It rattles."
    assert "fallback_reason" not in heard
    assert (await ben.get("/api/mechanic/queue"))["assignments"][0]["priority"] is False


async def test_reasons(world: World) -> None:
    ana, pat = await world.mechanic(), await world.mechanic("Pat Pending", status="pending")
    unknown = str(uuid.uuid4())
    await ana.online(status="busy")
    await pat.online()
    away = await world.mechanic("Ole Off")
    hidden = await world.mechanic("Hid Den")
    await hidden.online(status="offline")
    expected: list[tuple[dict[str, Any], str]] = [
        ({"preferred_mechanic_id": ana.id}, "not_requested"),
        ({"routing_type": PRIORITY}, "not_requested"),
        ({"routing_type": PRIORITY, "preferred_mechanic_id": ""}, "not_requested"),
        ({"routing_type": PRIORITY, "preferred_mechanic_id": unknown}, "unknown_mechanic"),
        ({"routing_type": PRIORITY, "preferred_mechanic_id": "ana"}, "unknown_mechanic"),
        ({"routing_type": PRIORITY, "preferred_mechanic_id": "ana" * 1_000}, "unknown_mechanic"),
        ({"routing_type": PRIORITY, "preferred_mechanic_id": pat.id}, "mechanic_not_approved"),
        ({"routing_type": PRIORITY, "preferred_mechanic_id": away.id}, "mechanic_offline"),
        ({"routing_type": PRIORITY, "preferred_mechanic_id": hidden.id}, "mechanic_offline"),
        ({"routing_type": PRIORITY, "preferred_mechanic_id": ana.id}, "mechanic_busy"),
        ({"routing_type": "favorites_sequence"}, "no_favorites"),
        (
            {"routing_type": PRIORITY, "preferred_mechanic_id": ana.id, "workshop_id": unknown},
            "workshop",
        ),
    ]
    for fields, reason in expected:
        booked = await world.customer().book(**fields)
        assert (booked["routing"]["type"], booked["routing"]["reason"]) == ("broadcast", reason), fields
        assert booked["assignment"]["status"] == "open"


async def test_a_flag_holds_for_the_next_booking_on_every_node(world: World) -> None:
    ana = await world.mechanic()
    await ana.online()
    key = "ENABLE_FAVORITES_PRIORITY"

    async def routed(kind: str, reason: str | None) -> None:
        for node in (0, 1):

            async def as_said(node: int = node) -> bool:
                routing = (await world.customer().book(ana, node=node))["routing"]
                return bool(routing["type"] == kind and routing["reason"] == reason)

            await world.eventually(as_said)

    try:
        await world.postgres.execute("UPDATE feature_flags SET is_enabled = false WHERE flag_key = $1", key)
        await routed("broadcast", "flag_disabled")
        off = await world.customer().call("GET", f"/api/mechanics/{ana.id}/status")
        assert (off.status_code, off.json()["code"]) == (404, "feature_not_enabled")
        await world.postgres.execute(
            "UPDATE feature_flags SET is_enabled = true, enabled_for_roles = '{admin}' WHERE flag_key = $1",
            key,
        )
        await routed("broadcast", "flag_disabled")
    finally:
        await world.postgres.execute(
            "UPDATE feature_flags SET is_enabled = true, enabled_for_roles = '{admin,customer}'"
            " WHERE flag_key = $1",
            key,
        )
        await routed("priority", None)


async def test_one_active_session_a_customer(world: World) -> None:
    mia = world.customer()
    answers = await asyncio.gather(
        *(mia.call("POST", "/api/intake/start", {"plan_code": "free"}, node=n % 2) for n in range(10))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    booked = next(answer.json() for answer in answers if answer.status_code == 201)
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["code"] == "active_session_exists"
            assert answer.json()["session"]["id"] == booked["session"]["id"]
    active = await mia.get("/api/customer/active-session", node=1)
    assert active["session"]["id"] == booked["session"]["id"]


async def test_the_same_key_gives_the_same_booking(world: World) -> None:
    mia = world.customer()
    body = {"plan_code": "free", "notes": "once"}

    answers = await asyncio.gather(
        *(mia.call("POST", "/api/intake/start", body, node=n % 2, Idempotency_Key="k-1") for n in range(8))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["session"]["id"] for answer in answers}) == 1
    other = await mia.call("POST", "/api/intake/start", {**body, "notes": "twice"}, Idempotency_Key="k-1")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    session_id = answers[0].json()["session"]["id"]
    await mia.post(f"/api/customer/sessions/{session_id}/end")
    again = await mia.post("/api/intake/start", body, Idempotency_Key="k-1")
    assert (again["session"]["id"], again["session"]["status"]) == (session_id, "cancelled")


async def test_the_same_key_long_after_is_answered_from_the_record(world: World) -> None:
    mia = world.customer()
    booked = await mia.post("/api/intake/start", {"plan_code": "free"}, Idempotency_Key="k-2")
    session_id = booked["session"]["id"]
    await mia.post(f"/api/customer/sessions/{session_id}/end")
    await world.row("SELECT 1 FROM sessions WHERE id = $1 AND status = 'cancelled'", session_id)
    (key,) = [k async for k in world.redis.scan_iter(f"hub:*:session:{session_id}")]
    assert 0 < await world.redis.pttl(key) <= 3_600_000
    await world.redis.delete(key)

    again = await mia.post("/api/intake/start", {"plan_code": "free"}, Idempotency_Key="k-2")
    ended = await mia.post(f"/api/customer/sessions/{session_id}/end")

    assert (again["session"]["id"], again["session"]["status"]) == (session_id, "cancelled")
    assert ended["session"]["status"] == "cancelled"


async def test_windows_come_from_booking_or_mechanic(world: World) -> None:
    ana = await world.mechanic()
    await ana.online()
    await world.postgres.execute("UPDATE mechanics SET priority_window_minutes = 7 WHERE id = $1", ana.id)

    async def seven() -> bool:
        booked = await world.customer().book(ana)
        return bool(booked["assignment"]["priority_window_minutes"] == 7)

    await world.eventually(seven)
    booked = await world.customer().book(ana, priority_window_minutes=3)
    assert booked["assignment"]["priority_window_minutes"] == 3
    assert 170_000 < booked["routing"]["expires_in_ms"] <= 180_000


async def test_services_book_for_customers(world: World) -> None:
    service, mia = world.somebody("service"), world.customer()
    nobody = await service.call("POST", "/api/intake/start", {"plan_code": "free"})
    assert (nobody.status_code, nobody.json()["field"]) == (422, "customer_id")
    booked = await service.book(customer_id=mia.id)
    assert booked["session"]["customer_id"] == mia.id


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({}, 422, "invalid_request", "plan_code"),
        ({"plan_code": "nope"}, 422, "invalid_request", "plan_code"),
        ({"plan_code": 7}, 422, "invalid_request", "plan_code"),
        ({"plan_code": "free", "surprise": 1}, 422, "invalid_request", "surprise"),
        ({"plan_code": "free", "notes": "x" * 2001}, 422, "invalid_request", "notes"),
        ({"plan_code": "free", "notes": "nul\x00"}, 422, "invalid_request", "notes"),
        ({"plan_code": "free", "metadata": {"a": {"b": "\x00"}}}, 422, "invalid_request", "metadata.a.b"),
        ({"plan_code": "free", "metadata": {"n": 2**70}}, 422, "invalid_request", "metadata"),
        ({"plan_code": "free", "metadata": {"big": "x" * 5000}}, 422, "invalid_request", "metadata"),
        ({"plan_code": "free", "priority_window_minutes": 61}, 422, "invalid_request", WINDOW),
        ({"plan_code": "free", "priority_window_minutes": 0}, 422, "invalid_request", WINDOW),
        ({"plan_code": "free", "routing_type": "mine"}, 422, "invalid_request", "routing_type"),
        ({"plan_code": "free", "workshop_id": "w-1"}, 422, "invalid_request", "workshop_id"),
        ({"plan_code": "free", "is_urgent": "yes"}, 422, "invalid_request", "is_urgent"),
        ({"plan_code": "chat10"}, 402, "payment_required", None),
        ({"plan_code": "chat10", "payment": "credit"}, 402, "no_credit", None),
        ({"plan_code": "free", "customer_id": STRANGER}, 403, "forbidden", None),
        ([], 422, "invalid_request", None),
    ],
)  # fmt: skip
async def test_bad_bookings(world: World, body: Any, status: int, code: str, field: str | None) -> None:
    mia = world.customer()
    answer = await mia.call("POST", "/api/intake/start", body)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["code"], problem.get("field")) == (status, code, field)
    assert (await mia.get("/api/customer/active-session"))["session"] is None


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "malformed"),
        (b"", 422, "invalid_request"),
        (b"\xff\xfe", 400, "malformed"),
        (b'{"plan_code": "\\ud800"}', 422, "invalid_request"),
        (b'{"plan_code": "free", "\\ud800": 1}', 422, "invalid_request"),
        (b'{"plan_code": "free", "metadata": {"\\ud800": 1}}', 422, "invalid_request"),
        (b'{"plan_code": "free", "metadata": {"\\u0000": 1}}', 422, "invalid_request"),
        (b'{"metadata": {"a": ' + b"[" * 60_000, 400, "malformed"),
        (b" " * 70_000, 413, "too_large"),
    ],
)
async def test_bodies_that_are_no_json(world: World, content: bytes, status: int, code: str) -> None:
    mia = world.customer()
    answer = await world.http.post(
        world.hub.urls[0] + "/api/intake/start",
        content=content,
        headers={"Authorization": f"Bearer {mia.token}"},
    )
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_client_that_hangs_up_is_no_error(world: World) -> None:
    host, port = world.hub.urls[0].removeprefix("http://").split(":")
    head = (
        f"POST /api/intake/start HTTP/1.1\r\nHost: {host}\r\n"
        f"Authorization: Bearer {world.customer().token}\r\nContent-Length: 100\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode() + b'{"plan')
    writer.write_eof()
    assert not (await reader.read()).startswith(b"HTTP/1.1 5")
    writer.close()
    await writer.wait_closed()
    assert "ClientDisconnect" not in world.hub.log.read_text()


async def test_the_whole_life(world: World) -> None:
    ana, mia = await world.mechanic(), world.customer()
    at_ana, at_mia = await ana.online(), await mia.online()
    booked = await mia.book(ana)
    session_id, assignment_id = booked["session"]["id"], booked["assignment"]["id"]
    await at_ana.event("priority_session_request")
    await at_ana.send({"type": "ack", "assignment_id": assignment_id, "stage": "delivered"})
    await at_ana.request("ack", assignment_id=assignment_id, stage="seen")
    await ana.post(f"/api/mechanic/assignments/{assignment_id}/accept")
    repeated = await ana.post(f"/api/mechanic/assignments/{assignment_id}/accept", node=1)
    assert repeated["session"]["status"] == "waiting"
    started = await ana.post(f"/api/mechanic/sessions/{session_id}/start", node=1)
    assert started["session"]["status"] == "live"
    assert (await ana.get("/api/mechanic/active-session"))["session"]["id"] == session_id
    assert await _status(mia, ana) == "busy"
    ended = await mia.post(f"/api/customer/sessions/{session_id}/end")
    assert ended["session"]["status"] == "completed"
    assert await _status(mia, ana) == "online"
    assert (await at_mia.event("session_updated", 2))["session"]["status"] == "completed"
    assert (await at_ana.event("session_updated", 2))["session"]["status"] == "completed"
    again = await mia.post(f"/api/customer/sessions/{session_id}/end")
    assert again["session"]["status"] == "completed"
    assert (await ana.get("/api/mechanic/active-session"))["session"] is None

    await world.row("SELECT 1 FROM sessions WHERE id = $1 AND status = 'completed'", session_id)
    row = await world.row(
        "SELECT s.*, a.status AS assignment_status, a.priority_notified_at, a.accepted_at, a.routing_type"
        " FROM sessions s JOIN session_assignments a ON a.session_id = s.id WHERE s.id = $1",
        session_id,
    )
    assert (row["assignment_status"], row["routing_type"]) == ("accepted", "priority_broadcast")
    assert row["created_at"] <= row["priority_notified_at"] <= row["accepted_at"] <= row["started_at"]
    events = await world.postgres.fetch(
        "SELECT type, actor_id FROM session_events WHERE session_id = $1 ORDER BY version, at", session_id
    )
    assert sorted(event["type"] for event in events) == sorted(
        ["created", "offered", "notified", "delivered", "seen", "accepted", "started", "completed"]
    )
    people = await world.postgres.fetch(
        "SELECT role, left_at FROM session_participants WHERE session_id = $1", session_id
    )
    assert sorted(person["role"] for person in people) == ["customer", "mechanic"]
    assert all(person["left_at"] is not None for person in people)


async def _status(asking: Person, mechanic: Person) -> str:
    answer = await asking.get(f"/api/mechanics/{mechanic.id}/status", node=1)
    return str(answer["status"])
