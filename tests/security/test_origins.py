"""Browsers may use the hub from listed origins alone, compared as they are."""

from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from hub.settings import SettingsError, read_settings
from tests.e2e.world import World
from tests.security.conftest import LISTED

FOREIGN = [
    "https://evil.example",
    "null",
    "NULL",
    "",
    "https://APP.example.com",
    "http://app.example.com",
    "https://app.example.com:443",
    "https://app.example.com:8443",
    "https://app.example.com.evil.example",
    "https://evil-app.example.com",
    "https://app.example.com@evil.example",
    "https://app.example.com/",
    "https://app.example.com, https://evil.example",
    "file://",
]


async def refused(world: World, *origins: str, **headers: str) -> int:
    with pytest.raises(InvalidStatus) as caught:
        await world.socket(additional_headers=[*(("Origin", each) for each in origins), *headers.items()])
    return caught.value.response.status_code


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_socket_is_not_opened_from_elsewhere(world: World, origin: str) -> None:
    assert await refused(world, origin) == 403


async def test_two_origins_are_none_of_both(world: World) -> None:
    assert await refused(world, LISTED, "https://evil.example") == 400
    assert await refused(world, "https://evil.example", LISTED) == 400


@pytest.mark.parametrize("scheme", ["ftp", "evil", "httpss"])
async def test_the_hub_s_own_origin_is_of_the_web(world: World, scheme: str) -> None:
    host = world.hub.urls[0].removeprefix("http://")
    assert await refused(world, f"{scheme}://{host}") == 403


@pytest.mark.parametrize("origin", [LISTED, None, "own"])
async def test_a_socket_is_opened_from_listed_origins_and_by_apps(world: World, origin: Any) -> None:
    if origin == "own":
        origin = world.hub.urls[0]
    socket = await world.socket(origin=origin)
    await socket.send({"type": "hello", "token": world.customer().token})
    await socket.other("welcome")


@pytest.mark.parametrize("origin", FOREIGN)
async def test_an_answer_is_not_for_pages_from_elsewhere(world: World, origin: str) -> None:
    url = f"{world.hub.urls[0]}/api/customer/active-session"
    asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    asked["Access-Control-Request-Headers"] = "authorization"
    preflight = await world.http.request("OPTIONS", url, headers=asked)
    answer = await world.customer().call("GET", "/api/customer/active-session", Origin=origin)
    for each in (preflight, answer):
        assert "access-control-allow-origin" not in each.headers
    assert origin == "" or preflight.status_code == 400


async def test_a_listed_page_may_ask_and_read_refusals_too(world: World) -> None:
    url = f"{world.hub.urls[0]}/api/intake/start"
    asked = {"Origin": LISTED, "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "authorization,content-type,idempotency-key"
    preflight = await world.http.request("OPTIONS", url, headers=asked)
    refusal = await world.http.post(url, headers={"Origin": LISTED})
    assert (preflight.status_code, refusal.status_code) == (200, 401)
    for each in (preflight, refusal):
        assert each.headers["access-control-allow-origin"] == LISTED
        assert "access-control-allow-credentials" not in each.headers


@pytest.mark.parametrize(
    "value",
    ["*", "null", "app.example.com", "https://*.example.com", "https://app.example.com/", LISTED.upper(),
     "https://app.example.com:443", "http://app.example.com:80", f"{LISTED},https://user@x.example"],
)  # fmt: skip
def test_what_no_browser_sends_cannot_be_listed(value: str) -> None:
    with pytest.raises(SettingsError, match="HUB_ALLOWED_ORIGINS"):
        read_settings({"HUB_ALLOWED_ORIGINS": value})


def test_pages_and_apps_can() -> None:
    listed = f"{LISTED}, http://localhost:5173,capacitor://localhost"
    found = read_settings({"HUB_ALLOWED_ORIGINS": listed}).allowed_origins
    assert found == (LISTED, "http://localhost:5173", "capacitor://localhost")
