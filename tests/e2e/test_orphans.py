"""Requests that nobody serves come to an end: by the clock, after a loss, and by hand from SQL."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.e2e.conftest import SHORT
from tests.e2e.world import Hub, World, world_of

ORPHAN_S = 3


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hasty(tmp_path_factory: Any) -> AsyncIterator[World]:
    """A hub that gives up on a request after a few seconds, and on an offer much later."""
    settings = {**SHORT, "HUB_ORPHAN_SECONDS": str(ORPHAN_S), "HUB_PRIORITY_WINDOW_SECONDS": "60"}
    hub = Hub(tmp_path_factory.mktemp("hasty") / "data", nodes=2, **settings)
    try:
        async with world_of(hub) as world:
            yield world
    finally:
        hub.stop()


async def expired(world: World, session_id: str) -> Any:
    """Its row, once it has expired."""
    return await world.row(
        "SELECT s.ended_at - s.created_at AS age, s.mechanic_id, a.status AS assignment,"
        " e.data->>'was' AS was"
        " FROM sessions s JOIN session_assignments a ON a.session_id = s.id"
        " JOIN session_events e ON e.session_id = s.id AND e.type = 'expired'"
        " WHERE s.id = $1 AND s.status = 'expired'",
        session_id,
    )


async def agree(world: World, session_id: str, status: str) -> None:
    """Redis and the record both have this status, in the same version."""

    async def same() -> bool:
        (key,) = [key async for key in world.redis.scan_iter(f"hub:*:session:{session_id}")]
        live = await world.redis.hgetall(key)
        row = await world.row("SELECT status, version FROM sessions WHERE id = $1", session_id)
        return bool(live["status"] == row["status"] == status and int(live["version"]) == row["version"])

    await world.eventually(same)


async def test_what_nobody_accepts_expires_and_everyone_who_was_told_hears_of_it(hasty: World) -> None:
    ana, mia = await hasty.mechanic(), hasty.customer()
    at_ana, at_mia = await ana.online(), await mia.online(node=1)
    booked = await mia.book()
    session_id = booked["session"]["id"]
    await at_ana.event("new_assignment")

    for socket in (at_mia, at_ana):
        told = await socket.event("assignment_expired")
        assert (told["session_id"], told["reason"]) == (session_id, "orphaned")
    row = await expired(hasty, session_id)
    assert row["age"].total_seconds() >= ORPHAN_S
    assert (row["assignment"], row["was"]) == ("expired", "pending")
    assert (await ana.get("/api/mechanic/queue"))["assignments"] == []
    assert (await mia.book())["session"]["id"] != session_id


async def test_what_is_accepted_but_never_started_expires_and_stays_accepted(hasty: World) -> None:
    ana, mia = await hasty.mechanic(), hasty.customer()
    at_ana = await ana.online()
    booked = await mia.book()
    await at_ana.request("accept", assignment_id=booked["assignment"]["id"])
    row = await expired(hasty, booked["session"]["id"])
    assert (row["assignment"], row["was"], str(row["mechanic_id"])) == ("accepted", "waiting", ana.id)
    assert (await ana.get("/api/mechanic/active-session"))["session"] is None
    await mia.book()


async def test_an_offer_ends_with_its_orphan_and_so_does_waiting_for_who_is_offline(hasty: World) -> None:
    ana, ben = await hasty.mechanic(), await hasty.mechanic("Ben Okafor")
    mia, zoe = hasty.customer(), hasty.customer("Zoe Falk")
    at_ana = await ana.online()
    offered = await mia.book(ana)
    queued = await zoe.book(ben, wait_if_offline=True)
    assert queued["assignment"]["status"] == "queued"
    assert (await at_ana.event("offer_ended"))["reason"] == "rescinded"
    for booked in (offered, queued):
        row = await expired(hasty, booked["session"]["id"])
        assert (row["assignment"], row["was"]) == ("expired", "pending")
    at_ben = await ben.online()
    assert not [a for a in at_ben.welcome["assignments"] if a["session"]["id"] == queued["session"]["id"]]


async def test_what_was_started_never_expires(hasty: World) -> None:
    ana, mia = await hasty.mechanic(), hasty.customer()
    at_ana = await ana.online()
    booked = await mia.book()
    await at_ana.request("accept", assignment_id=booked["assignment"]["id"])
    await ana.post(f"/api/mechanic/sessions/{booked['session']['id']}/start")
    await expired(hasty, (await hasty.customer().book())["session"]["id"])
    assert (await mia.get("/api/customer/active-session"))["session"]["status"] == "live"


async def test_what_was_restored_after_a_loss_expires_all_the_same(hasty: World) -> None:
    booked = await hasty.customer().book()
    session_id = booked["session"]["id"]
    await hasty.row("SELECT 1 FROM sessions WHERE id = $1", session_id)
    await hasty.redis.flushall()
    row = await expired(hasty, session_id)
    assert row["age"].total_seconds() >= ORPHAN_S


async def test_orphans_that_are_expired_by_hand_expire_everywhere(world: World) -> None:
    ana, ben, mia = await world.mechanic(), await world.mechanic("Ben Okafor"), world.customer()
    at_ana, at_mia = await ana.online(), await mia.online(node=1)
    booked = await mia.book()
    held = await world.customer().book()
    await at_ana.event("new_assignment", 2)
    await ben.post(f"/api/mechanic/assignments/{held['assignment']['id']}/accept")
    session_id = booked["session"]["id"]
    await world.row(
        "SELECT 1 FROM sessions WHERE id = $1 AND status = 'pending'"
        " AND EXISTS (SELECT FROM sessions WHERE id = $2 AND status = 'waiting')",
        session_id,
        held["session"]["id"],
    )

    assert await world.postgres.fetchval("SELECT expire_orphaned_sessions('0 seconds')") >= 2

    assert (await at_mia.event("assignment_expired"))["session_id"] == session_id
    await at_ana.event("assignment_expired", 2)
    told = {payload["session_id"] for payload in at_ana.named("assignment_expired")}
    assert told == {session_id, held["session"]["id"]}
    assert (await expired(world, session_id))["assignment"] == "expired"
    assert (await expired(world, held["session"]["id"]))["assignment"] == "accepted"
    await agree(world, session_id, "expired")
    await mia.book()


async def test_whoever_starts_a_session_while_it_is_expired_by_hand_wins_or_loses_everywhere(
    world: World,
) -> None:
    ana = await world.mechanic()
    for node in (0, 1):
        mia = world.customer()
        booked = await mia.book()
        session_id = booked["session"]["id"]
        await ana.post(f"/api/mechanic/assignments/{booked['assignment']['id']}/accept")
        await world.row("SELECT 1 FROM sessions WHERE id = $1 AND status = 'waiting'", session_id)
        started, _ = await asyncio.gather(
            ana.call("POST", f"/api/mechanic/sessions/{session_id}/start", node=node),
            world.postgres.fetchval("SELECT expire_orphaned_sessions('0 seconds')"),
        )
        assert (started.status_code, started.json().get("code")) in ((200, None), (409, "expired"))
        await agree(world, session_id, "live" if started.status_code == 200 else "expired")
