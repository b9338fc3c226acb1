"""A mechanic sees what their own work has come to."""

from typing import Any

from tests.e2e.world import Body, Person, World


async def offered(customer: Person, mechanic: Person, socket: Any, nth: int) -> Body:
    """The nth priority request of the mechanic, on its socket."""
    booked = await customer.book(mechanic, priority_window_minutes=5)
    await socket.event("priority_session_request", nth)
    return booked


async def test_a_mechanics_own_numbers(world: World) -> None:
    ana, mia, zoe = await world.mechanic(), world.customer("Mia Berg"), world.customer("Zoe Lang")
    at_ana, at_mia = await ana.online(), await mia.online()
    for nth in (1, 2):
        booked = await offered(mia, ana, at_ana, nth)
        await at_mia.event("favorite_notified", nth)
        await at_ana.request("accept", assignment_id=booked["assignment"]["id"])
        if nth == 1:
            await ana.post(f"/api/mechanic/sessions/{booked['session']['id']}/start")
            await ana.post(f"/api/mechanic/sessions/{booked['session']['id']}/end")
    refused = await offered(zoe, ana, at_ana, 3)
    await at_ana.request("decline", assignment_id=refused["assignment"]["id"])
    await mia.call("PUT", f"/api/favorites/{ana.id}")

    async def counted() -> Any:
        stats = await ana.get("/api/mechanic/stats", node=1)
        return stats if stats["priority"]["declined"] and stats["sessions"]["accepted"] == 2 else None

    stats = await world.eventually(counted)
    seconds = stats["priority"].pop("response_seconds")
    assert 0 <= seconds["min"] <= seconds["median"] <= seconds["max"]
    assert stats == {
        "favorited_by": 1,
        "favorited_by_customers": ["Mia Berg"],
        "priority": {"offers": 3, "accepted": 2, "declined": 1, "expired": 0, "accept_rate": 2 / 3},
        "sessions": {"accepted": 2, "completed": 1},
        "repeat_customers": {"customers": 1, "sessions": 2, "value_cents": 0},
        "capacity": {"limit": None, "held": 1},
    }
    assert (await ana.get("/api/mechanic/stats?days=1"))["sessions"] == stats["sessions"]


async def test_who_may_ask_for_numbers(world: World) -> None:
    admin = await world.somebody("admin").get("/api/mechanic/stats")
    assert (admin["favorited_by"], admin["priority"]["offers"]) == (0, 0)
    assert (admin["priority"]["accept_rate"], admin["priority"]["response_seconds"]) == (None, None)
    answer = await world.customer().call("GET", "/api/mechanic/stats")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    for days in ("0", "3651", "many"):
        answer = await world.somebody("mechanic").call("GET", f"/api/mechanic/stats?days={days}")
        assert (answer.status_code, answer.json()["field"]) == (422, "days")
