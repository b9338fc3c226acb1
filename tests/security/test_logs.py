"""What people send is in no log: no token, no query string, no e-mail, no header, whatever goes wrong."""

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hub import logs
from tests.e2e.world import SECRET, Hub, Person, World
from tests.security.bare import TEXT, UPGRADE, Wire, frame
from tests.security.conftest import LISTED
from tests.security.tokens import signed

PATIENCE_S = 20.0
CANARY = "canary"
EMAIL = "canary.bird@example.com"


class Talkative:
    """A fourth node, over the stores of the others."""

    def __init__(self, hub: Hub, log: Path) -> None:
        self.log = log
        environment = {
            **os.environ,
            "HUB_REDIS_URL": hub.redis_url,
            "HUB_POSTGRES_URL": hub.postgres_url,
            "HUB_JWT_SECRET": SECRET,
            "HUB_ALLOWED_ORIGINS": LISTED,
            "HUB_LOG_FORMAT": "json",
            "HUB_DRAIN_SECONDS": "0",
        }
        with log.open("wb") as out:
            command = [sys.executable, "-m", "tests.security.talkative"]
            self.process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    async def url(self) -> str:
        end = time.monotonic() + PATIENCE_S
        while not (found := [each for each in self.log.read_text().splitlines() if '"listening"' in each]):
            assert time.monotonic() < end, self.log.read_text()
            await asyncio.sleep(0.01)
        return f"http://127.0.0.1:{json.loads(found[0])['port']}"


@pytest.fixture
def talkative(fortress: Hub, tmp_path: Path) -> Iterator[Talkative]:
    node = Talkative(fortress, tmp_path / "node.log")
    yield node
    node.process.terminate()
    assert node.process.wait(PATIENCE_S) == 0


async def test_the_most_talkative_node_tells_nothing_of_anybody(world: World, talkative: Talkative) -> None:
    url = await talkative.url()

    async def ready() -> bool:
        return (await world.http.get(f"{url}/readyz")).status_code == 200

    await world.eventually(ready)
    world.hub.urls.append(url)
    try:
        await over_http(world, url)
        await over_sockets(world)
        await broken_by_postgres(world)
    finally:
        world.hub.urls.remove(url)
    lines = talkative.lines()
    assert {"hub.postgres", "uvicorn.error"} <= {line["logger"] for line in lines}
    text = talkative.log.read_text()
    assert CANARY not in text.lower()
    assert EMAIL not in text
    assert "eyJ" not in text
    assert SECRET not in text
    assert all(line["level"] not in ("error", "critical") for line in lines), lines[-1]


def bird(world: World, role: str) -> Person:
    person = world.somebody(role)
    person.token = signed(sub=person.id, role=role, name="Canary Bird", email=EMAIL)
    return person


async def over_http(world: World, url: str) -> None:
    mia = bird(world, "customer")
    private = {"Cookie": f"session={CANARY}", "X-Api-Key": CANARY, "Referer": f"https://x.example/?{CANARY}"}
    for method, path, body in (
        ("GET", "/api/plans", None),
        ("GET", "/api/customer/active-session", None),
        ("GET", "/nowhere", None),
        ("POST", "/api/intake/start", {"plan_code": "free", "notes": f"{CANARY} {EMAIL}"}),
        ("POST", "/api/intake/start", {"plan_code": CANARY, EMAIL: EMAIL}),
        ("PATCH", "/api/intake/start", {}),
        ("GET", "/api/mechanic/queue", None),
        ("POST", "/api/stripe/webhook", {"id": CANARY}),
    ):
        asked = f"{path}?token={mia.token}&email={EMAIL}&{CANARY}"
        await mia.call(method, asked, body, node=3, **{k.replace("-", "_"): v for k, v in private.items()})
        await world.http.request(
            method, url + asked, headers={"Authorization": f"Bearer {CANARY}.{CANARY}.x"}
        )
    session = (await mia.get("/api/customer/active-session", node=3))["session"]
    await mia.post(f"/api/customer/sessions/{session['id']}/end", node=3)
    for said in (
        f"GET /?{CANARY} HTTP/9\r\n\r\n",
        f"GET /{CANARY}?{CANARY} HTTP/1.1\r\nX : {CANARY}\r\n\r\n",
        f"GET /?{CANARY} HTTP/1.1\r\nCookie: {CANARY * 9_000}\r\n\r\n",
        f"POST /?{CANARY} HTTP/1.1\r\nContent-Length: 9\r\nTransfer-Encoding: {CANARY}\r\n\r\n",
    ):
        await whisper(url, said.encode())


async def over_sockets(world: World) -> None:
    ana = await world.mechanic("Canary Bird")
    ana.token = signed(sub=ana.id, role="mechanic", email=EMAIL)
    url = world.hub.urls[3]
    query = UPGRADE.replace(b"/ws", f"/ws?token={ana.token}&{CANARY}".encode())
    private = f"Authorization: Bearer {ana.token}\r\nCookie: {CANARY}\r\n".encode()
    for said in (
        query + private + f"Origin: https://{CANARY}.example\r\n\r\n".encode(),
        query.replace(b"/ws?", b"/elsewhere?") + private + b"\r\n",
        query.replace(b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Key: canary") + private + b"\r\n",
        query + private + b"Content-Length: 6\r\n\r\ncanary",
        query + private + f"X: {CANARY * 2_000}\r\n\r\n".encode(),
    ):
        await whisper(url, said)
    for data in (b"canary", b'{"type": "hello", "token": "canary.canary.canary"}', b"\xffcanary"):
        wire = await Wire.to(url)
        await wire.send(query + private + b"\r\n")
        await wire.head()
        await wire.send(frame(TEXT, data) + frame(0x3, b"canary"))
        await wire.ended()
        await wire.hang_up()
    at_ana = await ana.online(node=3)
    await at_ana.request("refresh", token=ana.token)
    await at_ana.request("refresh", token=f"{CANARY}.{CANARY}.{CANARY}")
    await at_ana.request("decline", assignment_id=CANARY, reason=EMAIL)
    await at_ana.send({"type": CANARY, CANARY: EMAIL})
    await at_ana.quiet()


async def broken_by_postgres(world: World) -> None:
    """A trigger whose refusal quotes the row, as those of constraints do."""
    mia, ana = bird(world, "customer"), await world.mechanic()
    await world.postgres.execute(
        f"""
        CREATE FUNCTION complain() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          RAISE EXCEPTION 'value {EMAIL} is no good'
          USING DETAIL = 'Failing row contains ({CANARY}, {EMAIL}).', ERRCODE = '23514'; END $$;
        CREATE TRIGGER complain BEFORE INSERT ON customer_favorites
          FOR EACH ROW EXECUTE FUNCTION complain();
        """
    )
    try:
        answer = await mia.call("PUT", f"/api/favorites/{ana.id}", {}, node=3)
        assert answer.status_code == 503
        assert CANARY not in answer.text.lower()
    finally:
        await world.postgres.execute("DROP FUNCTION complain CASCADE")


async def whisper(url: str, said: bytes) -> None:
    wire = await Wire.to(url)
    await wire.send(said)
    await wire.ended()
    await wire.hang_up()


# What a traceback would quote

TOKEN = signed()
PRIVATE = [
    ("a token", TOKEN, TOKEN),
    ("a header", "Authorization: bearer abc.def-ghi", "abc.def-ghi"),
    ("a header, in a dump", "{'authorization': 'Bearer opaque123'}", "opaque123"),
    ("an e-mail", "no such customer: mia@example.com!", "mia@example.com"),
    ("an e-mail of anybody", "José <josé.ñ+tag@mail.example.co.uk>", "josé"),
    ("a URL's password", "cannot reach postgresql://hub:hunter2@db:5432/hub", "hunter2"),
    ("a query", "GET /ws?token=abc&x=y HTTP/1.1", "token=abc"),
    ("a query of a URL", "GET https://hub.example/a/b?apikey=abc", "apikey=abc"),
]


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize(
    ("text", "private"), [case[1:] for case in PRIVATE], ids=[case[0] for case in PRIVATE]
)
@pytest.mark.parametrize("place", ["event", "field", "argument", "error"])
def test_what_slips_into_a_record_is_taken_out(log_format: str, text: str, private: str, place: str) -> None:
    line = logged(log_format, text, place)
    assert private not in line
    assert "kept" in line


def test_rows_that_postgres_quotes_are_taken_out() -> None:
    error = asyncpg.UniqueViolationError("duplicate key")
    error.detail = "Key (name)=(Canary Bird) already exists."
    try:
        raise RuntimeError("kept") from error
    except RuntimeError:
        line = written("json", lambda log: log.exception("failed"))
    assert "Canary" not in line
    assert "duplicate key" in line


def test_what_is_no_secret_stays() -> None:
    text = "deadline_failed: what? 3@4 /healthz hub:{3}:bus"
    assert text in logged("json", text, "event")


def logged(log_format: str, text: str, place: str) -> str:
    def say(log: logging.Logger) -> None:
        match place:
            case "event":
                log.warning(f"kept {text}")
            case "field":
                log.warning("kept", extra={"detail": text})
            case "argument":
                log.warning("kept %s %r", 1, {"x": text})
            case "error":
                try:
                    raise ValueError(f"kept {text}")
                except ValueError:
                    log.exception("failed")

    return written(log_format, say)


def written(log_format: str, say: Any) -> str:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logs.JsonFormatter() if log_format == "json" else logs.ConsoleFormatter())
    log = logging.Logger("test")
    log.addHandler(handler)
    say(log)
    return out.getvalue()
