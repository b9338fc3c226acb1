"""What admins do and see: switches, single bookings and their past, the live state, what Postgres refused."""

from typing import Any

import pytest

from tests.e2e.world import Body, Person, World

FLAG = "/api/admin/flags/ENABLE_FAVORITES_PRIORITY"
SETTINGS = "/api/admin/settings"
NOWHERE = "00000000-0000-4000-8000-000000000000"
ADMIN_PATHS = [
    ("GET", "/api/admin/flags"), ("GET", FLAG), ("PUT", FLAG), ("GET", SETTINGS), ("PUT", SETTINGS),
    ("GET", "/api/admin/overview"), ("GET", "/api/admin/dead-letters"),
    ("POST", "/api/admin/dead-letters/0-1-1/retry"), ("GET", "/api/admin/analytics/favorite_share"),
    ("GET", f"/api/admin/assignments/{NOWHERE}/timeline"),
    ("POST", f"/api/admin/assignments/{NOWHERE}/broadcast"),
    ("POST", f"/api/admin/assignments/{NOWHERE}/assign"),
    ("POST", f"/api/admin/assignments/{NOWHERE}/cancel"),
]  # fmt: skip


def of(booked: Body, what: str) -> str:
    return f"/api/admin/assignments/{booked['assignment']['id']}/{what}"


async def problem(person: Person, method: str, path: str, body: Any = None) -> tuple[int, str, str | None]:
    answer = await person.call(method, path, body)
    found = answer.json()
    return answer.status_code, found["code"], found.get("field")


@pytest.mark.parametrize("role", ["customer", "mechanic", "service"])
async def test_nobody_else_may(world: World, role: str) -> None:
    person = world.somebody(role)
    for method, path in ADMIN_PATHS:
        assert (await person.call(method, path, {})).status_code == 403, path


# Switches


async def test_a_flag_changed_here_holds_there(world: World) -> None:
    ada, ana, mia = world.somebody("admin"), await world.mechanic(), world.customer()
    await ana.online()
    before = await ada.get(FLAG)
    try:
        answer = await ada.call("PUT", FLAG, {"is_enabled": False, "enabled_for_roles": None})

        assert answer.json() == before | {"is_enabled": False}
        assert await ada.get(FLAG) == before | {"is_enabled": False}
        assert before | {"is_enabled": False} in (await ada.get("/api/admin/flags"))["items"]

        async def told() -> bool:
            return not (await ada.get(FLAG, node=1))["is_enabled"]

        await world.eventually(told)
        assert (await mia.book(ana, node=1))["routing"]["reason"] == "flag_disabled"
    finally:
        await ada.call("PUT", FLAG, before_body(before))


def before_body(flag: Body) -> Body:
    return {name: flag[name] for name in ("is_enabled", "enabled_for_roles", "rollout_percentage")}


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (FLAG, {"enabled_for_roles": ["admin", "king"]}, (422, "invalid_request", "enabled_for_roles")),
        (FLAG, {"rollout_percentage": 101}, (422, "invalid_request", "rollout_percentage")),
        (FLAG, {"enabled": True}, (422, "invalid_request", "enabled")),
        ("/api/admin/flags/NOBODY", {"is_enabled": True}, (404, "not_found", None)),
        ("/api/admin/flags/%00", {"is_enabled": True}, (404, "not_found", None)),
        (SETTINGS, {"default_window_seconds": 0}, (422, "invalid_request", "default_window_seconds")),
        (SETTINGS, {"sequence_split": [0.5, True]}, (422, "invalid_request", "sequence_split")),
        (SETTINGS, {"sequence_split": [0.6, 0.6]}, (422, "invalid_request", "sequence_split")),
        (SETTINGS, {"offline_policy": "panic"}, (422, "invalid_request", "offline_policy")),
        (SETTINGS, {"window": 5}, (422, "invalid_request", "window")),
    ],
)
async def test_a_switch_takes_only_what_makes_sense(
    world: World, path: str, body: Body, expected: tuple[int, str, str | None]
) -> None:
    assert await problem(world.somebody("admin"), "PUT", path, body) == expected


async def test_a_setting_put_on_one_node_holds_for_bookings_on_the_other(world: World) -> None:
    ada, ana, mia = world.somebody("admin"), await world.mechanic(), world.customer()
    await ana.online()
    defaults = await ada.get(SETTINGS)
    try:
        answer = await ada.call("PUT", SETTINGS, {"default_window_seconds": 1200, "offline_policy": None})

        assert answer.json() == defaults | {"default_window_seconds": 1200}
        assert await ada.get(SETTINGS) == answer.json()

        async def told() -> bool:
            return bool(await ada.get(SETTINGS, node=1) == answer.json())

        await world.eventually(told)
        assert (await mia.book(ana, node=1))["assignment"]["priority_window_minutes"] == 20
    finally:
        await world.postgres.execute("DELETE FROM hub_settings")


async def test_nonsense_stored_by_sql_is_ignored(world: World) -> None:
    ada = world.somebody("admin")
    defaults = await ada.get(SETTINGS)
    try:
        await world.postgres.execute(
            """INSERT INTO hub_settings (key, value) VALUES ('default_window_seconds', 'true'),
            ('sequence_split', '[0.9, 0.9]'), ('offline_policy', '"wait"')"""
        )

        async def read() -> bool:
            return bool((await ada.get(SETTINGS))["offline_policy"] == "wait")

        await world.eventually(read)
        assert await ada.get(SETTINGS) == defaults | {"offline_policy": "wait"}
    finally:
        await world.postgres.execute("DELETE FROM hub_settings")


# Single bookings


async def test_an_admin_opens_a_request_to_everyone(world: World) -> None:
    ada = world.somebody("admin")
    ana, ben, mia = await world.mechanic("Ana Silva"), await world.mechanic("Ben Okafor"), world.customer()
    at_ana, at_ben, at_mia = await ana.online(), await ben.online(node=1), await mia.online(node=1)
    booked = await mia.book(ana, priority_window_minutes=10)
    await at_mia.event("favorite_notified")

    opened = await ada.post(of(booked, "broadcast"), {"reason": "Ana called in sick"})

    assert (opened["assignment"]["status"], opened["assignment"]["fallback_reason"]) == ("open", "admin")
    assert (await at_ana.event("offer_ended"))["reason"] == "rescinded"
    assert (await at_ben.event("new_assignment"))["fallback_reason"] == "admin"
    assert (await at_mia.event("searching"))["reason"] == "admin"
    again = await ada.post(of(booked, "broadcast"))
    assert again["assignment"] == opened["assignment"], "open already: as it is"

    story = await ada.get(of(booked, "timeline"))
    (offer,) = story["offers"]
    assert (offer["mechanic_name"], offer["outcome"], offer["reason"]) == ("Ana Silva", "rescinded", "admin")
    assert offer["offered_at"] <= offer["notified_at"] <= offer["ended_at"]
    by_admin = [event for event in story["events"] if event["actor"] and event["actor"]["role"] == "admin"]
    assert [event["type"] for event in by_admin] == ["offer_expired", "broadcast"]
    assert by_admin[0]["actor"] == {"id": ada.id, "role": "admin", "name": "Admin"}
    assert by_admin[0]["data"]["note"] == "Ana called in sick"


async def test_an_admin_gives_a_request_to_another_mechanic(world: World) -> None:
    ada = world.somebody("admin")
    ana, ben, mia = await world.mechanic("Ana Silva"), await world.mechanic("Ben Okafor"), world.customer()
    at_ana, at_ben, at_mia = await ana.online(), await ben.online(node=1), await mia.online(node=1)
    booked = await mia.book(ana, priority_window_minutes=10)
    await at_ana.event("priority_session_request")

    assigned = await ada.post(of(booked, "assign"), {"mechanic_id": ben.id.upper()})

    assert (assigned["session"]["status"], assigned["session"]["mechanic_id"]) == ("waiting", ben.id)
    assert (await at_ana.event("offer_ended"))["reason"] == "rescinded"
    assert (await at_ana.event("assignment_accepted"))["mechanic_id"] == ben.id
    assert (await at_mia.event("assignment_accepted"))["mechanic_name"] == "Ben Okafor"
    mine = await at_ben.event("session_updated")
    assert (mine["session"]["id"], mine["session"]["mechanic_id"]) == (booked["session"]["id"], ben.id)
    assert (await ben.get("/api/mechanic/active-session"))["session"]["id"] == booked["session"]["id"]
    await at_mia.quiet()
    assert at_mia.named("session_updated") == []
    story = await ada.get(of(booked, "timeline"), node=1)
    assert [(o["mechanic_id"], o["outcome"]) for o in story["offers"]] == [(ana.id, "rescinded")]
    assert story["events"][-1]["actor"] == {"id": ada.id, "role": "admin", "name": "Admin"}
    assert story["events"][0]["actor"] == {"id": mia.id, "role": "customer", "name": "Mia Berg"}
    notified = next(event for event in story["events"] if event["type"] == "notified")
    assert notified["actor"] == {"id": ana.id, "role": "mechanic", "name": "Ana Silva"}

    assert await problem(ada, "POST", of(booked, "assign"), {"mechanic_id": ana.id}) == (409, "taken", None)
    again = await ada.post(of(booked, "assign"), {"mechanic_id": ben.id})
    assert again["assignment"] == assigned["assignment"]


async def test_an_admin_gives_a_request_to_its_favourite(world: World) -> None:
    ada, ana, mia = world.somebody("admin"), await world.mechanic(), world.customer()
    at_ana = await ana.online()
    booked = await mia.book(ana, priority_window_minutes=10)
    await at_ana.event("priority_session_request")

    await ada.post(of(booked, "assign"), {"mechanic_id": ana.id})

    assert (await at_ana.event("session_updated"))["session"]["mechanic_id"] == ana.id
    assert at_ana.named("offer_ended") == []
    (offer,) = (await ada.get(of(booked, "timeline")))["offers"]
    assert (offer["outcome"], offer["response_ms"]) == ("accepted", None)


async def test_an_admin_cancels(world: World) -> None:
    ada, ana, mia = world.somebody("admin"), await world.mechanic(), world.customer()
    at_ana, at_mia = await ana.online(), await mia.online()
    booked = await mia.book(ana, priority_window_minutes=10)
    await at_ana.event("priority_session_request")

    cancelled = await ada.post(of(booked, "cancel"), {"reason": "duplicate"})

    assert cancelled["session"]["status"] == "cancelled"
    assert (await at_ana.event("offer_ended"))["reason"] == "rescinded"
    assert (await at_mia.event("assignment_cancelled"))["reason"] == "duplicate"
    story = await ada.get(of(booked, "timeline"))
    assert (story["offers"][0]["outcome"], story["offers"][0]["reason"]) == ("rescinded", "duplicate")
    assert story["events"][-1]["actor"]["name"] == "Admin"
    again = [await problem(ada, "POST", of(booked, what), {}) for what in ("cancel", "broadcast")]
    assert again == [(409, "cancelled", None)] * 2


async def test_what_cannot_be_done_to_a_booking(world: World) -> None:
    ada, mia = world.somebody("admin"), world.customer()
    pia, booked = await world.mechanic("Pia New", "pending"), await mia.book()
    unknown = (422, "invalid_request", "mechanic_id")

    assert await problem(ada, "POST", of(booked, "assign"), {"mechanic_id": NOWHERE}) == unknown
    assert await problem(ada, "POST", of(booked, "assign"), {"mechanic_id": "x"}) == unknown
    assert await problem(ada, "POST", of(booked, "assign"), {"mechanic_id": pia.id}) == (
        403, "mechanic_not_approved", None,
    )  # fmt: skip
    for wrong in (NOWHERE, "x", booked["session"]["id"]):
        path = f"/api/admin/assignments/{wrong}"
        assert await problem(ada, "GET", f"{path}/timeline") == (404, "not_found", None)
        assert await problem(ada, "POST", f"{path}/cancel") == (404, "not_found", None)


async def test_a_booking_that_is_only_on_record_any_more(world: World) -> None:
    """An hour after its end a session has left Redis."""
    ada, mia = world.somebody("admin"), world.customer()
    booked = await mia.book()
    session_id = booked["session"]["id"]
    await mia.post(f"/api/customer/sessions/{session_id}/end")
    await world.row("SELECT FROM sessions WHERE id = $1 AND status = 'cancelled'", session_id)
    (key,) = [name async for name in world.redis.scan_iter(f"*:session:{session_id}")]
    await world.redis.delete(key)

    story = await ada.get(of(booked, "timeline"))

    assert [event["type"] for event in story["events"]] == ["created", "broadcast", "cancelled"]
    assert story["session"]["status"] == "cancelled"
    assert await problem(ada, "POST", of(booked, "cancel")) == (409, "cancelled", None)


# The live state


async def test_the_overview_counts_what_goes_on(world: World) -> None:
    ada, mia, leo = world.somebody("admin"), world.customer(), world.customer("Leo Roth")
    ana, ben = await world.mechanic("Ana Silva"), await world.mechanic("Ben Okafor")
    await ana.online()
    await ben.online(status="away")
    before = await ada.get("/api/admin/overview")
    booked = await mia.book(ana, priority_window_minutes=10)
    await leo.book()

    now = await ada.get("/api/admin/overview", node=1)

    assert len(now["nodes"]) == 2
    assert {node["pid"] for node in now["nodes"]} == set(world.hub.pids)
    assert sum(node["connections"] for node in now["nodes"]) >= 2
    assert all(0 < node["lease_expires_in_ms"] <= 6_000 for node in now["nodes"])
    assert now["presence"]["away"] >= 1
    assert now["sessions"]["pending"] - before["sessions"]["pending"] == 2
    assert now["open"]["count"] - before["open"]["count"] == 1
    offer = next(o for o in now["offers"]["items"] if o["session_id"] == booked["session"]["id"])
    assert (offer["customer_name"], offer["mechanic_name"], offer["wave"]) == ("Mia Berg", "Ana Silva", 0)
    assert 0 < offer["expires_in_ms"] <= 600_000
    assert now["deadlines"]["count"] >= 3
    assert now["journal"]["max"] == 1_000_000
    assert now["stripe"] == {"unhandled": 0, "needs_attention": 0}
    assert "ENABLE_FAVORITES_PRIORITY" in {flag["flag_key"] for flag in now["flags"]}


async def test_every_report_is_there(world: World) -> None:
    ada = world.somebody("admin")
    answer = await ada.get("/api/admin/analytics/queue_bottlenecks?days=7")

    assert (answer["name"], answer["days"]) == ("queue_bottlenecks", 7)
    assert sum(row["requests"] for row in answer["rows"]) > 0
    assert (await ada.get("/api/admin/analytics/sessions_by_type"))["days"] == 30
    assert await problem(ada, "GET", "/api/admin/analytics/secrets") == (404, "not_found", None)
    for days in ("0", "3651", "x", "1.5"):
        path = f"/api/admin/analytics/favorite_share?days={days}"
        assert await problem(ada, "GET", path) == (422, "invalid_request", "days")


# What Postgres refused


async def test_a_row_that_postgres_refuses_is_kept_and_given_again(world: World) -> None:
    ada, mia = world.somebody("admin"), world.customer()
    await world.postgres.execute(
        "ALTER TABLE sessions ADD CONSTRAINT polite CHECK (notes IS DISTINCT FROM 'rude') NOT VALID"
    )
    try:
        booked = await mia.book(notes="rude")
        session_id = booked["session"]["id"]
        letter = await world.eventually(lambda: letter_of(ada, session_id))
        assert letter["error"].startswith("23514")
        assert letter["session"]["notes"] == "rude"
        assert [event["type"] for event in letter["events"]] == ["created", "broadcast"]
        assert (await ada.get("/api/admin/overview"))["journal"]["dead"] == 1

        again = await ada.post(f"/api/admin/dead-letters/{letter['id']}/retry")

        assert again["id"] == letter["id"]
        second = await world.eventually(lambda: letter_of(ada, session_id))
        assert second["entry"] == again["entry"], "refused again, so buried again"
        assert second["id"] != letter["id"]
    finally:
        await world.postgres.execute("ALTER TABLE sessions DROP CONSTRAINT polite")
    await ada.post(f"/api/admin/dead-letters/{second['id']}/retry")

    await world.row("SELECT FROM sessions WHERE id = $1 AND notes = 'rude'", session_id)
    assert await letter_of(ada, session_id) is None
    gone = await problem(ada, "POST", f"/api/admin/dead-letters/{second['id']}/retry")
    assert gone == (404, "not_found", None)


async def letter_of(admin: Person, session_id: str) -> Body | None:
    found = (await admin.get("/api/admin/dead-letters"))["items"]
    return next((letter for letter in found if letter["session_id"] == session_id), None)


async def test_who_has_a_session_hears_of_its_end_wherever_they_are(world: World) -> None:
    """One was never asked, the other came to another node after accepting."""
    ada, ben = world.somebody("admin"), await world.mechanic("Ben Okafor")
    at_ben = await ben.online(node=1)
    given = await world.customer().book()
    await ada.post(of(given, "assign"), {"mechanic_id": ben.id})
    await at_ben.event("session_updated")
    await ada.post(of(given, "cancel"))
    closed = await at_ben.event("assignment_cancelled")
    assert closed["assignment_id"] == given["assignment"]["id"]

    ana, mia = await world.mechanic("Ana Silva"), world.customer()
    first = await ana.online(node=0)
    taken = await mia.book(ana)
    await first.request("accept", assignment_id=taken["assignment"]["id"])
    await first.close()
    second = await ana.online(node=1)
    await mia.post(f"/api/customer/sessions/{taken['session']['id']}/end")
    closed = await second.event("assignment_cancelled")
    assert closed["assignment_id"] == taken["assignment"]["id"]
