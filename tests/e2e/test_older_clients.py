"""What earlier deployments left: endpoints that say where to go; bookings that are sessions like others."""

import asyncio
import json
import os
import sys
import uuid
from typing import Any

import pytest

from hub.domain.ids import assignment_of
from tests.e2e.world import Person, World

QUEUE = "/api/mechanic/queue"
ACCEPT = "/api/mechanic/assignments/{id}/accept"
ACCEPT_42 = "/api/mechanic/assignments/42%20%C3%A9/accept"
DECLINE_42 = "/api/mechanic/assignments/42%20%C3%A9/decline"

GONE = {
    "/api/mechanics/requests": QUEUE,
    "/api/mechanics/requests/history": QUEUE,
    "/api/requests": QUEUE,
    "/api/cron/expire-requests": QUEUE,
    "/api/mechanics/requests/42%20é/accept": ACCEPT_42,
    "/api/mechanics/requests/42%20é/cancel": DECLINE_42,
    "/api/mechanic/accept": ACCEPT,
}


@pytest.mark.parametrize(("path", "successor"), GONE.items())
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_earlier_endpoints_name_their_successors(
    world: World, method: str, path: str, successor: str
) -> None:
    answer = await world.http.request(method, world.hub.urls[0] + path, content=b"anything")
    assert answer.status_code == 410
    assert answer.headers["content-type"] == "application/problem+json"
    target = successor.replace("{id}", "%7Bid%7D")
    assert answer.headers["link"] == f'<{target}>; rel="successor-version"'
    problem = answer.json()
    assert (problem["code"], problem["status"]) == ("gone", 410)
    assert successor in problem["detail"]


async def imported(world: World, customer: Person, mechanic: Person) -> str:
    """The session of an older booking that the mechanic had accepted; its id is no id of the hub's."""
    row_id = str(uuid.uuid4())
    await world.postgres.execute(
        """
        insert into session_requests (
            id, customer_id, mechanic_id, preferred_mechanic_id, session_type, plan_code, status,
            routing_type, created_at, priority_notified_at, accepted_at, updated_at
        )
        select $1, $2, $3, $3, 'chat', 'chat10', 'accepted', 'priority_broadcast', t, t + interval '1 s',
            t + interval '31 s', t + interval '1 hour'
        from (values (timestamptz '2026-03-01 09:00Z')) as day (t)
        """,
        row_id,
        customer.id,
        mechanic.id,
    )
    done = await command(world, "import", "--json")
    assert done["imported"] >= 1
    assert done["conflicts"] == []
    return row_id


async def command(world: World, *arguments: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub", "legacy", *arguments,
        env={**os.environ, "HUB_POSTGRES_URL": world.hub.postgres_url},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(output)
    return found


async def test_an_older_booking_is_a_session_that_has_ended(world: World) -> None:
    mia, ana = world.customer(), await world.mechanic()
    session_id = await imported(world, mia, ana)
    for node in (0, 1):
        ended = await mia.post(f"/api/customer/sessions/{session_id}/end", node=node)
        assert (ended["session"]["status"], ended["session"]["payment"]) == ("completed", "paid")
        assert (ended["assignment"]["status"], ended["assignment"]["mechanic_id"]) == ("accepted", ana.id)
        assert ended["assignment"]["accepted_at"] == "2026-03-01T09:00:31.000Z"
    assert (await mia.get("/api/customer/active-session"))["session"] is None
    assert (await ana.get("/api/mechanic/active-session"))["session"] is None
    other = world.customer("Noah Lind")
    assert (await other.call("POST", f"/api/customer/sessions/{session_id}/end")).status_code == 404
    refused = await ana.call("POST", f"/api/mechanic/assignments/{assignment_of(session_id)}/accept")
    assert refused.status_code == 404
    await mia.book(ana)


async def test_its_history_is_told_and_counts(world: World) -> None:
    mia, ana = world.customer(), await world.mechanic()
    session_id = await imported(world, mia, ana)
    admin = world.somebody("admin")
    told = await admin.get(f"/api/admin/assignments/{assignment_of(session_id)}/timeline")
    kinds = [event["type"] for event in told["events"]]
    assert kinds == ["created", "offered", "notified", "accepted", "completed"]
    assert [(offer["mechanic_id"], offer["outcome"]) for offer in told["offers"]] == [(ana.id, "accepted")]
    again = await command(world, "import", "--json")
    assert (again["imported"], again["conflicts"]) == (0, [])
