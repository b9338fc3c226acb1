"""A mechanic who may not work any more: out at once on every node, and nobody waits for them."""

import asyncio

import pytest

from tests.e2e.world import Person, World


async def becomes(world: World, mechanic: Person, status: str) -> None:
    """Plain SQL, as the marketplace's own tools do it."""
    await world.postgres.execute("UPDATE mechanics SET status = $2 WHERE id = $1", mechanic.id, status)


async def test_sockets_of_the_suspended_close_on_every_node(world: World) -> None:
    ana, ben = await world.mechanic(), await world.mechanic("Ben Okafor")
    sockets = [await ana.online(node=node) for node in range(3)]
    at_ben = await ben.online()
    await becomes(world, ana, "suspended")
    assert [await socket.closed() for socket in sockets] == [4403] * 3
    for node in range(3):
        again = await world.socket(node=node)
        await again.send({"type": "hello", "token": ana.token})
        assert await again.closed() == 4403
        assert (await again.other("error"))["code"] == "forbidden"
    await at_ben.quiet()


async def test_within_seconds_even_where_nobody_is_told(world: World) -> None:
    """Without notifications there is the poll."""
    ana = await world.mechanic()
    sockets = [await ana.online(node=node) for node in range(3)]
    await world.postgres.execute("ALTER TABLE mechanics DISABLE TRIGGER USER")
    try:
        await becomes(world, ana, "suspended")
        async with asyncio.timeout(5):
            assert [await socket.closed() for socket in sockets] == [4403] * 3
    finally:
        await world.postgres.execute("ALTER TABLE mechanics ENABLE TRIGGER USER")


@pytest.mark.parametrize("status", ["suspended", "pending", "deleted"])
async def test_their_offers_move_on(world: World, status: str) -> None:
    ana, ben, mia = await world.mechanic(), await world.mechanic("Ben Okafor"), world.customer()
    at_ana, at_ben = await ana.online(), await ben.online(node=1)
    booked = await mia.book(ana, priority_window_minutes=60)
    await at_ana.event("priority_session_request")
    if status == "deleted":
        await world.postgres.execute("DELETE FROM mechanics WHERE id = $1", ana.id)
    else:
        await becomes(world, ana, status)
    opened = await at_ben.event("new_assignment")
    assert opened["request"]["assignment"]["id"] == booked["assignment"]["id"]


async def test_even_those_that_a_customer_wanted_to_wait_for(world: World) -> None:
    ana, ben, mia = await world.mechanic(), await world.mechanic("Ben Okafor"), world.customer()
    at_ben = await ben.online()
    booked = await mia.book(ana, wait_if_offline=True, priority_window_minutes=60)
    assert booked["routing"]["type"] == "priority"
    await becomes(world, ana, "suspended")
    opened = await at_ben.event("new_assignment")
    assert opened["request"]["assignment"]["id"] == booked["assignment"]["id"]


async def test_who_waits_for_approval_hears_nothing_and_takes_nothing(world: World) -> None:
    ana, ben, mia = await world.mechanic(), await world.mechanic("Ben Okafor"), world.customer()
    at_ana, at_ben = await ana.online(), await ben.online()
    first = await mia.book(ana, priority_window_minutes=60)
    await becomes(world, ana, "pending")
    opened = await at_ben.event("new_assignment")
    mine = opened["request"]["assignment"]["id"]
    assert mine == first["assignment"]["id"]
    await world.eventually(lambda: shown_nothing(ana))
    assert await unapproved(ana, mine)
    assert (await at_ana.request("accept", assignment_id=mine))["error"]["code"] == "mechanic_not_approved"
    later = await world.customer("Noah Lind").book(ana)
    assert later["routing"]["reason"] == "mechanic_not_approved"
    await at_ben.event("new_assignment", 2)
    await at_ana.quiet()
    heard = [event["request"]["assignment"]["id"] for event in at_ana.named("new_assignment")]
    assert later["assignment"]["id"] not in heard
    assert (await at_ana.request("status", status="online"))["assignments"] == []
    for node in range(3):
        assert (await ana.get("/api/mechanic/queue", node=node))["assignments"] == []


async def shown_nothing(person: Person) -> bool:
    """On any node: each learns of a change by itself."""
    queues = [await person.get("/api/mechanic/queue", node=node) for node in range(3)]
    return not any(queue["assignments"] for queue in queues)


async def unapproved(person: Person, assignment_id: str) -> bool:
    answer = await person.call("POST", f"/api/mechanic/assignments/{assignment_id}/accept", node=2)
    assert answer.status_code in (403, 409), answer.text
    return bool(answer.json()["code"] == "mechanic_not_approved")
