"""Favourites are kept in order, a sequence asks them in it, and the customer hears of every turn by name."""

import asyncio
import uuid
from typing import Any

import pytest

from tests.e2e.world import Body, Person, World

SEQUENCE = "favorites_sequence"
STRANGER = "00000000-0000-4000-8000-000000000000"


async def put(customer: Person, mechanic: Person, rank: int | None = None, *, node: int = 0) -> int:
    """The rank that the answer gives."""
    body = None if rank is None else {"rank": rank}
    answer = await customer.call("PUT", f"/api/favorites/{mechanic.id}", body, node=node)
    assert answer.status_code in (200, 201), answer.text
    assert answer.json()["mechanic_id"] == mechanic.id
    return int(answer.json()["rank"])


async def listed(customer: Person, query: str = "", **more: Any) -> tuple[list[tuple[int, str]], str | None]:
    page = await customer.get(f"/api/favorites{query}", **more)
    return [(item["rank"], item["mechanic_name"]) for item in page["items"]], page["next_cursor"]


async def end(customer: Person, booked: Body) -> None:
    await customer.post(f"/api/customer/sessions/{booked['session']['id']}/end")


async def test_favourites_are_added_moved_and_removed(world: World) -> None:
    ana, ben, eve = [await world.mechanic(name) for name in ("Ana A", "Ben B", "Eve E")]
    mia = world.customer()
    assert await listed(mia) == ([], None)

    added = await mia.call("PUT", f"/api/favorites/{ana.id}")
    again = await mia.call("PUT", f"/api/favorites/{ana.id.upper()}", {"rank": None})

    assert (added.status_code, again.status_code) == (201, 200)
    assert added.json() == again.json()
    assert added.json().keys() == {"mechanic_id", "mechanic_name", "rank", "created_at"}
    assert (await put(mia, ben), await put(mia, eve, 1)) == (2, 1)
    assert await listed(mia, node=1) == ([(1, "Eve E"), (2, "Ana A"), (3, "Ben B")], None)
    first, cursor = await listed(mia, "?limit=2")
    assert first == [(1, "Eve E"), (2, "Ana A")]
    assert await listed(mia, f"?limit=2&cursor={cursor}") == ([(3, "Ben B")], None)
    for _ in range(2):
        removed = await mia.call("DELETE", f"/api/favorites/{eve.id}")
        assert (removed.status_code, removed.content) == (204, b"")
    assert await listed(mia) == ([(1, "Ana A"), (2, "Ben B")], None)
    assert await listed(world.customer()) == ([], None)


async def test_status_follows_on_every_node(world: World) -> None:
    ana, mia = await world.mechanic(), world.customer()
    path = f"/api/favorites/status?mechanic_id={ana.id}"

    async def everywhere(is_favorite: bool) -> None:
        assert await mia.get(path) == {"isFavorite": is_favorite}

        async def there() -> bool:
            return await mia.get(path, node=1) == {"isFavorite": is_favorite}

        await world.eventually(there)

    await everywhere(False)
    await put(mia, ana)
    await everywhere(True)
    await mia.call("DELETE", f"/api/favorites/{ana.id}")
    await everywhere(False)
    for unknown in ("ana", uuid.uuid4()):
        assert await mia.get(f"/api/favorites/status?mechanic_id={unknown}") == {"isFavorite": False}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "field"),
    [
        ("GET", "/api/favorites/status", None, 422, "invalid_request", "mechanic_id"),
        ("GET", "/api/favorites/status?mechanic_id=", None, 422, "invalid_request", "mechanic_id"),
        ("PUT", "/api/favorites/ana", None, 404, "not_found", None),
        ("PUT", f"/api/favorites/{STRANGER}", None, 404, "not_found", None),
        ("PUT", f"/api/favorites/{STRANGER}", {"rank": 0}, 422, "invalid_request", "rank"),
        ("PUT", f"/api/favorites/{STRANGER}", {"rank": 1001}, 422, "invalid_request", "rank"),
        ("PUT", f"/api/favorites/{STRANGER}", {"place": 1}, 422, "invalid_request", "place"),
    ],
)  # fmt: skip
async def test_what_is_refused(
    world: World, method: str, path: str, body: Any, status: int, code: str, field: str | None
) -> None:
    answer = await world.customer().call(method, path, body)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem.get("field")) == (status, code, field)
    mechanic = await world.somebody("mechanic").call(method, path, body)
    assert (mechanic.status_code, mechanic.json()["code"]) == (403, "forbidden")


async def test_adds_over_two_nodes_keep_the_ranks_dense(world: World) -> None:
    mia = world.customer()
    mechanics = [await world.mechanic(f"M {n}") for n in range(10)]
    await asyncio.gather(
        *(put(mia, mechanic, 1 if n % 2 else None, node=n % 2) for n, mechanic in enumerate(mechanics))
    )
    items, _ = await listed(mia)
    assert [rank for rank, _ in items] == list(range(1, 11))
    assert {name for _, name in items} == {mechanic.name for mechanic in mechanics}


async def test_the_next_booking_follows_what_was_just_written(world: World) -> None:
    ana, ben = await world.mechanic("Ana A"), await world.mechanic("Ben B")
    await ana.online()
    await ben.online()
    mia = world.customer()
    for first in (ana, ben, ana, ben):
        await put(mia, first, 1)
        booked = await mia.book(routing_type=SEQUENCE)
        assert booked["routing"]["mechanic_id"] == first.id
        await end(mia, booked)
    for removed in (ben, ana):
        await mia.call("DELETE", f"/api/favorites/{removed.id}")
        booked = await mia.book(routing_type=SEQUENCE)
        assert booked["routing"]["mechanic_id"] != removed.id
        await end(mia, booked)
    assert booked["routing"]["reason"] == "no_favorites"


async def test_a_sequence_asks_the_first_three_who_can_answer(world: World) -> None:
    """All answers come by HTTP from the node that has met none of the mechanics before."""
    off, pending = await world.mechanic("Off F"), await world.mechanic("Pat P", status="pending")
    suspended, busy = await world.mechanic("Sue S", status="suspended"), await world.mechanic("Bus Y")
    ana, ben, eve, dan = [await world.mechanic(name) for name in ("Ana A", "Ben B", "Eve E", "Dan D")]
    mia = world.customer()
    for mechanic in (off, pending, suspended, busy, ana, ben, eve, dan):
        await put(mia, mechanic)
    await pending.online()
    await busy.online(status="busy")
    at_dan, at_mia = await dan.online(), await mia.online(node=1)
    sockets = [(mechanic, await mechanic.online()) for mechanic in (ana, ben, eve)]

    booked = await mia.book(routing_type=SEQUENCE, priority_window_minutes=7)

    assert booked["routing"]["mechanic_id"] == ana.id
    decline = f"/api/mechanic/assignments/{booked['assignment']['id']}/decline"
    parts = [(210_000, 4), (126_000, 3), (84_000, 2)]
    for wave, ((mechanic, socket), (window_ms, minutes)) in enumerate(zip(sockets, parts, strict=True)):
        offer = await socket.event("priority_session_request")
        assert (offer["request"]["assignment"]["wave"], offer["priority_window_minutes"]) == (wave, minutes)
        assert window_ms - 20_000 < offer["expires_in_ms"] <= window_ms
        waiting = await at_mia.event("favorite_notified", wave + 1)
        assert waiting["message"] == f"Waiting for {mechanic.name}'s response…"
        assert (waiting["mechanic_id"], waiting["mechanic_name"]) == (mechanic.id, mechanic.name)
        await mechanic.post(decline, node=1)
        declined = await at_mia.event("favorite_declined", wave + 1)
        assert declined["message"] == f"{mechanic.name} cannot take your request now."
        assert (declined["mechanic_id"], declined["mechanic_name"]) == (mechanic.id, mechanic.name)
    searching = await at_mia.event("searching")
    assert (searching["message"], searching["reason"]) == ("Finding another mechanic…", "priority_declined")
    assert (await at_dan.event("new_assignment"))["fallback_reason"] == "priority_declined"
    assert at_dan.named("priority_session_request") == []


async def test_the_customer_hears_who_took_it_wherever_they_answered(world: World) -> None:
    ana, mia = await world.mechanic("Ana A"), world.customer()
    await ana.online()
    at_mia = await mia.online()
    booked = await mia.book(ana, priority_window_minutes=5)
    session, assignment = booked["session"]["id"], booked["assignment"]["id"]

    await ana.post(f"/api/mechanic/assignments/{assignment}/accept", node=1)
    assert (await at_mia.event("assignment_accepted"))["mechanic_name"] == "Ana A"
    await world.postgres.execute("DELETE FROM mechanics WHERE id = $1", ana.id)
    await ana.post(f"/api/mechanic/sessions/{session}/start")
    assert (await at_mia.event("session_updated"))["mechanic_name"] == "Ana A"


async def test_windows_in_a_sequence(world: World) -> None:
    """The booking's own, else the mechanic's, else the plan's; each gives its part to its turn."""
    ana, ben, mia = await world.mechanic("Ana A"), await world.mechanic("Ben B"), world.customer()
    plan = f"plan-{uuid.uuid4()}"
    await world.postgres.execute("UPDATE mechanics SET priority_window_minutes = 21 WHERE id = $1", ana.id)
    await world.postgres.execute(
        "INSERT INTO plans (plan_code, name, session_type, priority_window_minutes)"
        " VALUES ($1, 'Eight', 'chat', 8)",
        plan,
    )
    await put(mia, ana)
    await put(mia, ben)
    at_ana, at_ben = await ana.online(), await ben.online()

    async def known() -> bool:
        return plan in [item["plan_code"] for item in (await mia.get("/api/plans"))["items"]]

    await world.eventually(known)
    for nth, own, minutes in ((1, None, (11, 3)), (2, 6, (3, 2))):
        booked = await mia.book(routing_type=SEQUENCE, plan_code=plan, priority_window_minutes=own)
        first = await at_ana.event("priority_session_request", nth)
        await at_ana.request("decline", assignment_id=booked["assignment"]["id"])
        second = await at_ben.event("priority_session_request", nth)
        assert (first["priority_window_minutes"], second["priority_window_minutes"]) == minutes
        await end(mia, booked)
