"""The specifications of the hub, and a page made of them that reads well without any network."""

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache, cached_property
from itertools import groupby
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape
from starlette.responses import Response

from hub import __version__
from hub.api.openapi import STATUS_OF, openapi
from hub.api.operation import Ask, Operation, operation
from hub.api.web import conditional
from hub.wire.asyncapi import asyncapi
from hub.wire.schemas import Json

_JSON = "application/json"
_HTML = "text/html; charset=utf-8"


class DocsApi:
    """`documented` is every other operation of the application; those of this class come on top."""

    def __init__(self, documented: Sequence[Operation]) -> None:
        self._documented = documented

    def operations(self) -> list[Operation]:
        return [
            _document("/openapi.json", self.openapi, _JSON, dict[str, Any]),
            _document("/asyncapi.json", self.asyncapi, _JSON, dict[str, Any]),
            _document("/docs", self.page, _HTML, str),
        ]

    async def openapi(self, ask: Ask[None, None]) -> Response:
        """This document: all operations over HTTP."""
        return _kept(ask, msgspec.json.encode(self._openapi), _JSON)

    async def asyncapi(self, ask: Ask[None, None]) -> Response:
        """All messages on the socket, with examples and close codes."""
        return _kept(ask, msgspec.json.encode(_asyncapi()), _JSON)

    async def page(self, ask: Ask[None, None]) -> Response:
        """Both documents as one page."""
        answer = _kept(ask, self._page, _HTML)
        answer.headers["Content-Security-Policy"] = _policy()
        return answer

    @cached_property
    def _openapi(self) -> Json:
        return openapi([*self._documented, *self.operations()], __version__)

    @cached_property
    def _page(self) -> bytes:
        return render(self._openapi, _asyncapi()).encode()


def _document(path: str, handler: Any, media_type: str, kind: Any) -> Operation:
    return operation(
        "GET", path, handler, None, answer=kind, media_type=media_type, conditional=True, stores=False
    )


def _kept(ask: Ask[None, None], body: bytes, media_type: str) -> Response:
    """Whoever has it asks whether it is still the same, so that an upgrade shows at once."""
    return conditional(ask.request, body, media_type, cache_control="no-cache")


@cache
def _asyncapi() -> Json:
    return asyncapi(__version__)


# The page


def render(http: Json, socket: Json) -> str:
    """One HTML page without scripts that asks for nothing else."""
    messages = socket["components"]["messages"]
    by_tag = groupby(messages.items(), lambda item: str(item[1]["tags"][0]["name"]))
    return (
        _templates()
        .get_template("docs.html")
        .render(
            http=http,
            socket=socket,
            channel=socket["channels"]["socket"],
            groups=_groups(http),
            messages={tag: dict(members) for tag, members in by_tag},
            schemas=dict(
                sorted({**socket["components"]["schemas"], **http["components"]["schemas"]}.items())
            ),
            statuses=_statuses(),
            style=Markup(_style()),
        )
    )


def _groups(http: Json) -> list[tuple[Json, list[Json]]]:
    """The tags, each with its operations; what is deprecated comes last."""
    entries = [
        {**each, "path": path, "method": method}
        for path, methods in http["paths"].items()
        for method, each in methods.items()
    ]
    groups = [(tag, [entry for entry in entries if tag["name"] in entry["tags"]]) for tag in http["tags"]]
    return sorted(groups, key=lambda group: all("deprecated" in entry for entry in group[1]))


def _statuses() -> list[tuple[int, list[str]]]:
    codes = sorted(STATUS_OF.items(), key=lambda item: item[1])
    return [(status, [code for code, _ in group]) for status, group in groupby(codes, lambda item: item[1])]


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("hub.api"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": _prose, "inline": _inline, "ref": _ref, "pretty": _pretty, "path": _path}
    return environment


@cache
def _style() -> str:
    return _templates().get_template("docs.css").render()


@cache
def _policy() -> str:
    """Nothing but the page's own style, named by its hash."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _inline(text: str) -> Markup:
    """Text with `code` in it."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _prose(text: str) -> Markup:
    """Paragraphs."""
    return Markup("").join(Markup("<p>{}</p>").format(_inline(part)) for part in text.split("\n\n") if part)


def _ref(schema: Json) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _path(text: str) -> Markup:
    """A path that may be broken at its slashes."""
    return Markup("/<wbr>").join(text.split("/"))


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
