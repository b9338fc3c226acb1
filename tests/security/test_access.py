"""Every operation of the HTTP API and every message of the socket, asked for by whoever may not. Both come
from what the application says of itself, so that a new one cannot be forgotten."""

import asyncio
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from hub.sockets.requests import REQUESTS
from hub.wire import client
from tests.api.documents import document
from tests.e2e.world import Body, Person, World
from tests.security.tokens import worthless

ROLES = ("admin", "customer", "mechanic", "service")
SECRET_NOTES = "what nobody else may read"
SECRET_NAME = "Victoria Private"


class Op(NamedTuple):
    method: str
    path: str
    roles: frozenset[str] | None
    """None: anybody, without a token."""

    def with_ids(self, value: str) -> str:
        return re.sub(r"{\w+}", value, self.path)


def operations() -> Iterator[Op]:
    for path, methods in document("/openapi.json")["paths"].items():
        for method, each in methods.items():
            listed = [role for requirement in each["security"] for role in requirement["bearer"]]
            roles = frozenset(listed or ROLES) if each["security"] else None
            yield Op(method.upper(), path, roles)


OPERATIONS = list(operations())
GUARDED = [each for each in OPERATIONS if each.roles is not None]
PUBLIC = {
    "/api/plans", "/api/stripe/webhook", "/healthz", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json",
    "/docs",
}  # fmt: skip


async def ask(world: World, op: Op, token: str | None, value: str = "") -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    url = world.hub.urls[0] + op.with_ids(value or str(uuid.uuid4()))
    return await world.http.request(op.method, url, headers=headers, json={} if op.method != "GET" else None)


def test_what_needs_no_token_is_on_a_short_list() -> None:
    retired = {each["path"] for each in _retired()}
    assert {op.path for op in OPERATIONS if op.roles is None} == PUBLIC | retired


def _retired() -> Iterator[Body]:
    for path, methods in document("/openapi.json")["paths"].items():
        if any(each.get("deprecated") for each in methods.values()):
            yield {"path": path}


async def test_no_token_no_answer(world: World) -> None:
    for op in GUARDED:
        for headers in ({}, {"Authorization": "Basic YWRtaW46YWRtaW4="}, {"Authorization": "Bearer"}):
            url = world.hub.urls[0] + op.with_ids(str(uuid.uuid4()))
            answer = await world.http.request(op.method, url, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), op
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_nor_with_a_token_in_the_url(world: World) -> None:
    admin = world.somebody("admin")
    for op in GUARDED:
        for name in ("token", "access_token", "apikey"):
            url = f"{world.hub.urls[0]}{op.with_ids(str(uuid.uuid4()))}?{name}={admin.token}"
            assert (await world.http.request(op.method, url)).status_code == 401, op


async def test_worthless_tokens(world: World) -> None:
    for op in GUARDED:
        answers = await asyncio.gather(*(ask(world, op, token) for token in worthless().values()))
        for flaw, answer in zip(worthless(), answers, strict=True):
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), (op, flaw)


async def test_wrong_roles(world: World) -> None:
    people = {role: world.somebody(role) for role in ROLES}
    for op in GUARDED:
        for role in set(ROLES) - (op.roles or frozenset()):
            answer = await ask(world, op, people[role].token)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (op, role)


# Other people's objects


class Scene(NamedTuple):
    """What belongs to others: a request in its favourite's turn, and one each accepted, live, and over."""

    mechanic: Person
    customers: list[Person]
    requests: list[Body]

    @property
    def ids(self) -> list[str]:
        found = [self.mechanic.id, *(each.id for each in self.customers)]
        return found + [each[part]["id"] for each in self.requests for part in ("session", "assignment")]


async def others(world: World) -> Scene:
    vera = await world.mechanic("Vera Held")
    at_vera = await vera.online()
    customers = [world.customer(SECRET_NAME) for _ in range(4)]
    fields: Body = {"notes": SECRET_NOTES, "metadata": {"phone": SECRET_NOTES}, "priority_window_minutes": 60}
    requests = [await customer.book(vera, **fields) for customer in customers]
    for taken in requests[1:]:
        await at_vera.request("accept", assignment_id=taken["assignment"]["id"])
    await vera.post(f"/api/mechanic/sessions/{requests[2]['session']['id']}/start")
    await customers[3].post(f"/api/customer/sessions/{requests[3]['session']['id']}/end")
    await at_vera.request("ack", assignment_id=requests[0]["assignment"]["id"], stage="seen")
    for number, status in ((2, "live"), (3, "cancelled")):
        recorded = "SELECT 1 FROM sessions WHERE id = $1 AND status = $2"
        await world.row(recorded, requests[number]["session"]["id"], status)
    return Scene(vera, customers, requests)


_TABLES = (("sessions", "id"), ("session_assignments", "session_id"), ("session_events", "session_id"))
_ROWS = "SELECT to_jsonb(t)::text FROM {table} t WHERE {key} = ANY($1) ORDER BY 1"


async def kept(world: World, scene: Scene) -> Any:
    """All that the stores hold of the scene."""
    live: dict[Any, Any] = {}
    for request in scene.requests:
        for key in await world.redis.keys(f"hub:*{request['session']['id']}"):
            kind = await world.redis.type(key)
            live[key] = await (world.redis.hgetall(key) if kind == "hash" else world.redis.get(key))
    for customer in scene.customers:
        for key in await world.redis.keys(f"hub:*:active:{customer.id}"):
            live[key] = await world.redis.get(key)
    ids = [request["session"]["id"] for request in scene.requests]
    rows = [
        await world.postgres.fetch(
            f"SELECT to_jsonb(t)::text FROM {table} t WHERE {key} = ANY($1) ORDER BY 1", ids
        )
        for table, key in (
            ("sessions", "id"),
            ("session_assignments", "session_id"),
            ("session_events", "session_id"),
        )
    ]
    return live, rows


def shows(text: str) -> bool:
    return SECRET_NOTES in text or SECRET_NAME in text


NOT_THEIRS = {"priority_window", "taken", "invalid_state", "cancelled"}
"""Every mechanic may know that there is such a request, and that it is not theirs."""
OF_MECHANICS = {"/api/favorites/{mechanic_id}", "/api/mechanics/{id}/status"}
"""Customers may know mechanics."""


@pytest.mark.parametrize("role", ["customer", "mechanic", "service"])
async def test_nobody_reads_or_changes_what_is_another_s(world: World, role: str) -> None:
    scene = await others(world)
    eve = await world.mechanic("Eve Other") if role == "mechanic" else world.somebody(role)
    before = await kept(world, scene)
    assert len(before[0]) >= 6
    for op in GUARDED:
        assert op.roles is not None
        if role not in op.roles or op.path == "/api/intake/start":
            continue
        for value in scene.ids:
            answer = await ask(world, op, eve.token, value)
            assert not shows(answer.text), op
            if "{" not in op.path or (op.path in OF_MECHANICS and value == scene.mechanic.id):
                continue
            if op.path in OF_MECHANICS:
                assert answer.status_code in (200, 204, 404), op
                continue
            code = answer.json()["code"]
            known = op.path.startswith("/api/mechanic/assignments/") and code in NOT_THEIRS
            assert answer.status_code == 404 or known, (op, answer.text)
    assert await kept(world, scene) == before


async def test_nobody_books_for_another(world: World) -> None:
    victim, eve = world.customer(), world.customer()
    body = {"plan_code": "free", "customer_id": victim.id}
    assert (await eve.call("POST", "/api/intake/start", body)).json()["code"] == "forbidden"
    for person in (victim, eve):
        assert (await person.get("/api/customer/active-session"))["session"] is None


async def test_a_key_of_another_opens_nothing(world: World) -> None:
    """The same Idempotency-Key of two customers is two keys."""
    victim, eve = world.customer(SECRET_NAME), world.customer()
    first = await victim.post("/api/intake/start", {"plan_code": "free"}, Idempotency_Key="same")
    second = await eve.post("/api/intake/start", {"plan_code": "free"}, Idempotency_Key="same")
    assert first["session"]["id"] != second["session"]["id"]
    assert second["session"]["customer_id"] == eve.id


# The socket


def message(kind: type[client.ClientMessage], value: str) -> Body:
    """One of each kind, about this id."""
    made: Body = {"kind": kind.__struct_config__.tag}
    for name in kind.__struct_fields__:
        match name:
            case "assignment_id":
                made[name] = value
            case "mechanic_ids":
                made[name] = [value]
            case "stage":
                made[name] = "seen"
            case "status":
                made[name] = "online"
            case "token":
                made[name] = "not a token"
    msgspec.convert({"type": made["kind"], "id": 1} | {k: v for k, v in made.items() if k != "kind"}, kind)
    return made


@pytest.mark.parametrize("role", ["customer", "mechanic", "admin"])
async def test_no_message_reads_or_changes_what_is_another_s(world: World, role: str) -> None:
    scene = await others(world)
    before = await kept(world, scene)
    for kind in REQUESTS:
        eve = await world.mechanic("Eve Other") if role == "mechanic" else world.somebody(role)
        at_eve = await eve.online(node=1)
        for value in scene.ids:
            asked = message(kind, value)
            reply = await at_eve.request(**asked)
            if "assignment_id" in asked:
                expected = {"not_found", *NOT_THEIRS} if role == "mechanic" else {"forbidden"}
                # One that comes too late is nobody's any more, and fine.
                assert (kind is client.Ack and reply["ok"]) or reply["error"]["code"] in expected, (
                    kind,
                    reply,
                )
            assert not shows(json.dumps(reply)), asked
        await at_eve.quiet()
        assert not shows(json.dumps([at_eve.welcome, at_eve.events]))
    assert await kept(world, scene) == before


async def test_presence_tells_a_customer_nothing_but_presence(world: World) -> None:
    scene = await others(world)
    at_eve = await world.customer().online()
    found = (await at_eve.request("watch", mechanic_ids=scene.ids))["presence"]
    assert {name for state in found.values() for name in state} == {"is_online", "status", "last_seen"}
    assert {value for value, state in found.items() if state["is_online"]} == {scene.mechanic.id}
