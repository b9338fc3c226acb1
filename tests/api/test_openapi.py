"""The documents say what the application does: every route, every code, and a page that needs no network."""

import re
from collections import Counter
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
import pytest_asyncio
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.applications import Starlette
from starlette.routing import Route

from hub.api.openapi import STATUS_OF
from hub.app import Node
from tests.api.documents import idle_node

RETIRED = {
    ("/api/mechanics/requests", "get"),
    ("/api/mechanics/requests/history", "get"),
    ("/api/requests", "get"),
    ("/api/cron/expire-requests", "post"),
    ("/api/mechanics/requests/{id}/accept", "post"),
    ("/api/mechanic/accept", "post"),
    ("/api/mechanics/requests/{id}/cancel", "post"),
}
NOT_OF_AN_OPERATION = {"method_not_allowed": "of a path", "draining": "of upgrades"}


@pytest.fixture(scope="module")
def node() -> Node:
    return idle_node()


@pytest_asyncio.fixture
async def http(node: Node) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=node.http)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as http:
        yield http


@pytest_asyncio.fixture
async def document(http: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await http.get("/openapi.json")).json()
    return found


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for methods in document["paths"].values() for each in methods.values()]


def references(part: Any) -> list[str]:
    """The names of all schemas that it refers to."""
    match part:
        case {"$ref": str(path)}:
            return [path.rpartition("/")[2]]
        case dict():
            return [name for each in part.values() for name in references(each)]
        case list():
            return [name for each in part for name in references(each)]
    return []


def codes_of(operation: dict[str, Any]) -> set[str]:
    problems = [
        answer["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]["code"]["enum"]
        for answer in operation["responses"].values()
        if "application/problem+json" in answer.get("content", {})
    ]
    return {code for codes in problems for code in codes}


async def test_the_document_is_openapi(document: dict[str, Any]) -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


async def test_every_route_is_in_it_and_nothing_else(node: Node, document: dict[str, Any]) -> None:
    routes = {
        (route.path, method.lower())
        for route in node.http._long_way.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert described <= routes
    assert {path for path, _ in routes - described} == {path for path, _ in RETIRED}


async def test_every_operation_is_reached_the_short_way(
    node: Node, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = Starlette()
    nowhere.state = node.http._long_way.state
    monkeypatch.setattr(node.http, "_long_way", nowhere)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(node.http), base_url="http://hub") as client:
        for path, methods in document["paths"].items():
            for method in methods:
                answer = await client.request(method, re.sub(r"\{\w+\}", "x", path))
                assert answer.status_code not in (404, 405), f"{method} {path}"
                assert answer.headers["x-content-type-options"] == "nosniff"


async def test_what_is_retired_is_described_as_its_clients_called_it(document: dict[str, Any]) -> None:
    deprecated = {
        (path, method)
        for path, methods in document["paths"].items()
        for method, each in methods.items()
        if "deprecated" in each
    }
    assert deprecated == RETIRED


async def test_operations_have_names_of_their_own_and_say_what_they_do(document: dict[str, Any]) -> None:
    names = Counter(each["operationId"] for each in operations(document))
    assert [name for name, times in names.items() if times > 1] == []
    assert {"customer_book", "mechanic_accept", "presence_status"} <= names.keys()
    assert [each["operationId"] for each in operations(document) if not each["summary"]] == []


async def test_every_code_may_come_somewhere(document: dict[str, Any]) -> None:
    described = {code for each in operations(document) for code in codes_of(each)}
    assert described | NOT_OF_AN_OPERATION.keys() == STATUS_OF.keys()
    assert described.isdisjoint(NOT_OF_AN_OPERATION)


async def test_what_an_operation_takes_says_what_it_refuses(document: dict[str, Any]) -> None:
    booking = document["paths"]["/api/intake/start"]["post"]
    assert {"forbidden", "malformed", "too_large", "journal_full", "recovering"} <= codes_of(booking)
    assert [each["bearer"] for each in booking["security"]] == [["admin"], ["customer"], ["service"]]
    key = next(each for each in booking["parameters"] if each["name"] == "Idempotency-Key")
    assert key["schema"] == {"type": "string", "maxLength": 255}
    plans = document["paths"]["/api/plans"]["get"]
    assert codes_of(plans) == {"internal", "unavailable"}
    assert plans["security"] == []
    status = document["paths"]["/api/mechanics/{id}/status"]["get"]
    assert status["responses"]["304"]["headers"].keys() == {"ETag", "Cache-Control"}
    assert "content" not in status["responses"]["304"]


async def test_only_what_may_be_unknown_is_not_found(document: dict[str, Any]) -> None:
    never = {
        (method, path)
        for path, methods in document["paths"].items()
        for method, each in methods.items()
        if "{" in path and not each.get("deprecated") and "not_found" not in codes_of(each)
    }
    assert never == {("get", "/api/mechanics/{id}/status"), ("delete", "/api/favorites/{mechanic_id}")}


async def test_answers_have_all_their_fields(document: dict[str, Any]) -> None:
    """But a problem, which has those of its code."""
    schemas = document["components"]["schemas"]
    pending = [
        reference
        for each in operations(document)
        for answer in each["responses"].values()
        for reference in references(answer.get("content", {}).get("application/json", {}))
    ]
    answered: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in answered:
            answered.add(name)
            pending += references(schemas[name])
    assert {"FlagList", "RunTimeSettings", "ActiveSession", "SessionView"} <= answered
    optional = {
        name: schemas[name]["properties"].keys() - schemas[name]["required"]
        for name in answered
        if "properties" in schemas[name]
    }
    assert {name: fields for name, fields in optional.items() if fields} == {}


async def test_times_and_ids_are_told_from_other_text(document: dict[str, Any]) -> None:
    session = document["components"]["schemas"]["SessionView"]["properties"]
    assert session["id"] == {"type": "string", "format": "uuid"}
    assert session["started_at"]["anyOf"][0] == {"type": "string", "format": "date-time"}


@pytest.mark.parametrize("path", ["/openapi.json", "/asyncapi.json", "/docs"])
async def test_who_has_a_document_gets_it_only_once(http: httpx.AsyncClient, path: str) -> None:
    first = await http.get(path)
    assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
    again = await http.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


class Page(HTMLParser):
    """What a page links to, loads and runs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            match (tag, name):
                case (_, "id"):
                    self.ids.append(value or "")
                case ("a", "href"):
                    self.links.append(value or "")
                case (_, "src" | "href" | "srcset" | "data" | "action"):
                    self.loads.append(value or "")
                case (_, name) if name.startswith("on") or name == "style":
                    self.loads.append(f"{name}={value}")


async def test_the_page_needs_nothing_else(http: httpx.AsyncClient) -> None:
    answer = await http.get("/docs")
    page = Page(answer.text)
    assert page.loads == ["data:,"]
    assert "script" not in page.tags
    assert not re.search(r"url\(|@import", answer.text)
    assert "default-src 'none'; style-src 'sha256-" in answer.headers["content-security-policy"]


async def test_the_page_shows_everything_and_every_link_in_it_leads_somewhere(
    http: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    page = Page((await http.get("/docs")).text)
    assert [name for name, times in Counter(page.ids).items() if times > 1] == []
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert {link for link in page.links if not link.startswith("#")} == {"/openapi.json", "/asyncapi.json"}
    socket = (await http.get("/asyncapi.json")).json()
    assert {f"message-{name}" for name in socket["components"]["messages"]} <= set(page.ids)
    assert document["components"]["schemas"].keys() <= set(page.ids)
    current = {each["operationId"] for each in operations(document) if not each.get("deprecated")}
    assert current <= set(page.ids)
