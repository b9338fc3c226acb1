"""What every answer tells a browser not to do."""

import base64
import hashlib
import re

import httpx
import pytest

from hub.api.application import http_application
from hub.api.operation import Ask, operation
from hub.clock import StoreClock
from hub.identity import TokenVerifier
from tests.e2e.world import SECRET, World
from tests.security.test_access import OPERATIONS, ask

JUST_DATA = "default-src 'none'; frame-ancestors 'none'"
KEPT = {"/openapi.json", "/asyncapi.json", "/docs", "/api/mechanics/{id}/status"}
"""Those that a browser may keep, and asks about with an ETag."""


def is_safe(answer: httpx.Response) -> bool:
    headers = answer.headers
    return headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"


async def test_every_operation_answers_safely(world: World) -> None:
    for op in OPERATIONS:
        for token in (None, world.somebody("admin").token):
            answer = await ask(world, op, token)
            assert is_safe(answer), op
            if op.path != "/docs":
                assert answer.headers["content-security-policy"] == JUST_DATA, op
            keeps = op.path in KEPT and answer.status_code == 200
            assert (answer.headers["cache-control"] == "no-store") is not keeps, op
            assert "set-cookie" not in answer.headers
            assert "server" not in answer.headers


async def test_so_do_answers_to_what_is_no_operation(world: World) -> None:
    for method, path in (("GET", "/nowhere"), ("PATCH", "/api/plans"), ("OPTIONS", "/api/plans")):
        answer = await world.http.request(method, world.hub.urls[0] + path)
        assert is_safe(answer)
        assert answer.headers["content-security-policy"] == JUST_DATA


async def test_and_to_mistakes_of_our_own() -> None:
    async def stumble(ask: Ask[None, None]) -> None:
        raise RuntimeError("not meant to happen")

    broken = http_application(
        [operation("GET", "/", stumble, None)],
        verifier=TokenVerifier(secret=SECRET),
        clock=StoreClock(),
        origins=(),
    )
    transport = httpx.ASGITransport(app=broken, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as http:
        answer = await http.get("/")
    assert answer.status_code == 500
    assert is_safe(answer)
    assert "not meant" not in answer.text


async def test_the_page_runs_nothing_and_is_framed_by_nobody(world: World) -> None:
    page = await world.http.get(f"{world.hub.urls[0]}/docs")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_hsts_is_left_to_whoever_ends_tls(world: World, scheme: str) -> None:
    answer = await world.http.get(f"{world.hub.urls[0]}/docs", headers={"X-Forwarded-Proto": scheme})
    assert "strict-transport-security" not in answer.headers
