"""The favourite is asked first and nobody else hears of it; everyone does when the favourite is silent."""

import asyncio

import pytest

from tests.e2e.world import Socket, World


async def test_the_favourite_alone_is_asked_and_the_session_is_theirs(world: World) -> None:
    ana, ben, mia = await world.mechanic("Ana Silva"), await world.mechanic("Ben Okafor"), world.customer()
    at_ana, at_ben, at_mia = await ana.online(), await ben.online(node=1), await mia.online(node=1)

    booked = await mia.book(ana)

    assert booked["routing"] | {"expires_at": 0, "expires_in_ms": 0} == {
        "type": "priority", "mechanic_id": ana.id, "expires_at": 0, "expires_in_ms": 0, "reason": None,
    }  # fmt: skip
    offer = await at_ana.event("priority_session_request")
    assert offer["request"]["session"]["id"] == booked["session"]["id"]
    assert offer["target_mechanic_id"] == ana.id
    assert offer["message"].startswith("Mia Berg specifically requested you!")
    assert 0 < offer["expires_in_ms"] <= 2500
    assert (await ana.get("/api/mechanic/queue"))["assignments"][0]["priority"] is True
    assert (await at_mia.event("favorite_notified"))["mechanic_name"] == "Ana Silva"
    queue = await ben.get("/api/mechanic/queue", node=1)
    assert booked["assignment"]["id"] not in [a["assignment"]["id"] for a in queue["assignments"]]
    refused = await at_ben.request("accept", assignment_id=booked["assignment"]["id"])
    assert refused["error"]["code"] == "priority_window"

    accepted = await at_ana.request("accept", assignment_id=booked["assignment"]["id"])

    assert accepted["session"]["status"] == "waiting"
    assert accepted["assignment"]["mechanic_id"] == ana.id
    assert (await at_mia.event("assignment_accepted"))["mechanic_name"] == "Ana Silva"
    await at_ben.quiet()
    assert at_ben.events == []


async def test_when_the_window_is_over_everyone_hears_and_one_of_two_wins(world: World) -> None:
    ana, ben, mia = await world.mechanic(), await world.mechanic("Ben Okafor"), world.customer()
    at_ana, at_ben, at_mia = await ana.online(), await ben.online(node=1), await mia.online()
    booked = await mia.book(ana)
    assignment_id = booked["assignment"]["id"]

    heard = await at_ben.event("new_assignment")

    assert heard["fallback_reason"] == "priority_timeout"
    assert (await at_ana.event("offer_ended"))["reason"] == "timeout"
    assert (await at_ana.event("new_assignment"))["request"]["assignment"]["id"] == assignment_id
    assert (await at_mia.event("searching"))["reason"] == "priority_timeout"
    replies = await asyncio.gather(
        at_ana.request("accept", assignment_id=assignment_id),
        at_ben.request("accept", assignment_id=assignment_id),
    )
    assert sorted(reply["ok"] for reply in replies) == [False, True]
    assert next(reply for reply in replies if not reply["ok"])["error"]["code"] == "taken"
    closed = await (at_ben if replies[0]["ok"] else at_ana).event("assignment_accepted")
    assert closed["assignment_id"] == assignment_id


async def test_a_declined_request_goes_to_everyone_else(world: World) -> None:
    ana, ben, mia = await world.mechanic(), await world.mechanic("Ben Okafor"), world.customer()
    at_ana, at_ben, at_mia = await ana.online(), await ben.online(), await mia.online()
    booked = await mia.book(ana)
    assignment_id = booked["assignment"]["id"]
    await at_ana.event("priority_session_request")

    await at_ana.request("decline", assignment_id=assignment_id, reason="lunch")

    assert (await at_ben.event("new_assignment"))["fallback_reason"] == "priority_declined"
    assert (await at_mia.event("favorite_declined"))["mechanic_name"] == "Ana Silva"
    assert (await at_ana.event("offer_ended"))["reason"] == "declined"
    await at_ana.quiet()
    assert at_ana.named("new_assignment") == []
    assert (await ana.get("/api/mechanic/queue"))["assignments"] == []


async def test_a_lost_connection_hands_the_request_to_the_next_one(world: World) -> None:
    ana, mia = await world.mechanic(), world.customer()
    first, second = await ana.online(), await ana.online(node=1)
    await second.request("heartbeat")
    await mia.book(ana)
    holder, other = await _who_has(first, second)
    await other.quiet()
    assert other.events == []

    holder.abort()

    assert (await other.event("priority_session_request"))["target_mechanic_id"] == ana.id


async def test_a_favourite_who_stays_away_is_not_waited_for(world: World) -> None:
    ana, ben, mia = await world.mechanic(), await world.mechanic("Ben Okafor"), world.customer()
    at_ana, at_ben = await ana.online(), await ben.online()
    await mia.book(ana, priority_window_minutes=10)
    await at_ana.event("priority_session_request")

    at_ana.abort()

    assert (await at_ben.event("new_assignment"))["fallback_reason"] == "mechanic_offline"


async def test_a_favourite_who_comes_back_in_time_finds_the_request_again(world: World) -> None:
    ana, mia = await world.mechanic(), world.customer()
    at_ana = await ana.online()
    booked = await mia.book(ana, priority_window_minutes=10)
    await at_ana.event("priority_session_request")
    at_ana.abort()

    again = await ana.online(node=1)

    (item,) = again.welcome["assignments"]
    assert item["priority"] is True
    assert item["assignment"]["id"] == booked["assignment"]["id"]
    assert (await again.event("priority_session_request"))["version"] >= item["assignment"]["version"]


async def test_an_offer_that_reaches_no_socket_goes_to_everyone(world: World) -> None:
    """The favourite has only just lost the network: within the grace they still count as online."""
    ana, ben, mia = await world.mechanic(), await world.mechanic("Ben Okafor"), world.customer()
    at_ana, at_ben = await ana.online(), await ben.online()
    at_ana.abort()
    await world.eventually(lambda: _gone(world, ana.id))

    booked = await mia.book(ana, priority_window_minutes=10)

    heard = await at_ben.event("new_assignment")
    assert booked["routing"]["type"] == "priority"
    assert heard["fallback_reason"] in ("notify_failed", "mechanic_offline")


async def test_waiting_for_an_offline_favourite_offers_when_they_come(world: World) -> None:
    ana, ben, mia = await world.mechanic(), await world.mechanic("Ben Okafor"), world.customer()
    at_ben = await ben.online()
    booked = await mia.book(ana, wait_if_offline=True, priority_window_minutes=10)
    assert booked["assignment"]["status"] == "queued"

    at_ana = await ana.online()

    assert (await at_ana.event("priority_session_request"))["target_mechanic_id"] == ana.id
    await at_ben.quiet()
    assert at_ben.events == []


async def test_a_sequence_asks_one_favourite_after_the_other(world: World) -> None:
    ana, ben, eve = [await world.mechanic(name) for name in ("Ana A", "Ben B", "Eve E")]
    mia = world.customer()
    await world.prefer(mia, ana, eve, ben)
    at_ana, at_ben = await ana.online(), await ben.online()

    booked = await mia.book(routing_type="favorites_sequence")

    assert booked["routing"]["mechanic_id"] == ana.id
    await at_ana.event("priority_session_request")
    offered = await at_ben.event("priority_session_request")
    assert offered["request"]["assignment"]["wave"] == 1
    assert (await at_ana.event("offer_ended"))["reason"] == "timeout"
    assert (await at_ana.event("new_assignment"))["fallback_reason"] == "priority_timeout"


async def test_a_released_request_goes_back_to_everyone_but_the_one_who_released(world: World) -> None:
    ana, ben, mia = await world.mechanic(), await world.mechanic("Ben Okafor"), world.customer()
    at_ana, at_ben = await ana.online(), await ben.online()
    booked = await mia.book(ana)
    assignment_id = booked["assignment"]["id"]
    await at_ana.request("accept", assignment_id=assignment_id)

    released = await at_ana.request("release", assignment_id=assignment_id, reason="flat tyre")

    assert released["session"]["status"] == "pending"
    assert (await at_ben.event("new_assignment"))["fallback_reason"] == "released"
    await at_ana.quiet()
    assert at_ana.named("new_assignment") == []
    accepted = await ben.post(f"/api/mechanic/assignments/{assignment_id}/accept")
    assert accepted["assignment"]["mechanic_id"] == ben.id


@pytest.mark.parametrize("during_window", [True, False])
async def test_a_cancelled_request_is_taken_back_from_those_who_saw_it(
    world: World, during_window: bool
) -> None:
    ana, mia = await world.mechanic(), world.customer()
    at_ana = await ana.online()
    booked = await mia.book(ana if during_window else None)
    await at_ana.event("priority_session_request" if during_window else "new_assignment")

    await mia.post(f"/api/customer/sessions/{booked['session']['id']}/end")

    closed = await at_ana.event("assignment_cancelled")
    assert closed["assignment_id"] == booked["assignment"]["id"]
    if during_window:
        assert (await at_ana.event("offer_ended"))["reason"] == "rescinded"
    refused = await at_ana.request("accept", assignment_id=booked["assignment"]["id"])
    assert refused["error"]["code"] == "cancelled"


async def _who_has(*sockets: Socket) -> list[Socket]:
    """The sockets, first the one with the priority request."""
    asked = [asyncio.create_task(socket.event("priority_session_request")) for socket in sockets]
    done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return sorted(sockets, key=lambda s: asked[sockets.index(s)] not in done)


async def _gone(world: World, mechanic_id: str) -> bool:
    return not [key async for key in world.redis.scan_iter(f"hub:*:conns:{mechanic_id}")]
