"""The OpenAPI document of this hub, made from the same operations as its routes."""

import inspect
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from types import UnionType
from typing import Any, get_args

from hub.api.operation import ANYONE, Operation
from hub.api.web import UNLIMITED
from hub.domain.errors import Refused, Unavailable
from hub.domain.model import Role
from hub.wire.http import PROBLEM_JSON, Problem
from hub.wire.schemas import Json, own_doc, schemas_of

STATUS_OF = {**Refused.STATUS, **Unavailable.STATUS, "internal": 500}
"""Every code with its status."""

_ABOUT = """\
Bookings, presence and assignments. Events come on the socket, described by `/asyncapi.json`.

A refusal is `application/problem+json` with a stable `code`. What was answered with 503 did not happen and
will not: repeat it after `Retry-After` seconds. Where there is nothing at all, the answer is 404 `not_found`;
to a wrong method it is 405 `method_not_allowed`. In bodies `null` means absent; unknown fields, NUL and lone
surrogates are refused. Times are RFC 3339 in UTC with milliseconds.

An admin may call every operation, as themself."""

_ADMIN_TAG = {"name": "admin", "description": "What admins alone may do."}


def openapi(operations: Iterable[Operation], version: str) -> Json:
    """OpenAPI 3.1."""
    operations = list(operations)
    schemas = _Schemas(operations)
    paths: defaultdict[str, Json] = defaultdict(dict)
    for each, name in zip(operations, _operation_ids(operations), strict=True):
        paths[each.path][each.method.lower()] = _operation(each, name, schemas)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Dispatch hub",
            "version": version,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "The hub that serves this document."}],
        "tags": list({tag["name"]: tag for tag in map(_tag, operations)}.values()),
        "paths": dict(paths),
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A token with `sub` (a UUID), `exp` and a role.",
                }
            },
        },
    }


class _Schemas:
    """The schemas of all types; those of queries become parameters instead of components."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._kinds: list[Any] = [Problem]
        queries = [each.query for each in operations if each.query is not None]
        for each in operations:
            wanted = (each.body, each.answer, *each.also.values())
            self._kinds += [part for kind in wanted if kind is not None for part in _parts(kind)]
        self._schemas, self.components = schemas_of([*self._kinds, *queries])
        self._queries = {kind.__name__: self.components.pop(kind.__name__) for kind in {*queries}}

    def of(self, kind: Any) -> Json:
        schemas = [self._schemas[self._kinds.index(part)] for part in _parts(kind)]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}

    def of_query(self, kind: Any) -> Json:
        schema: Json = self._queries[kind.__name__]
        return schema


def _parts(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def _operation(each: Operation, name: str, schemas: _Schemas) -> Json:
    summary, _, more = each.summary.partition("\n\n")
    query = own_doc(each.query) if each.query is not None else ""
    described: Json = {
        "operationId": name,
        "tags": [_tag(each)["name"]],
        "summary": " ".join(summary.split()),
        "description": "\n\n".join(part for part in (more, query) if part),
        "parameters": [*_path(each), *_query(each, schemas), *_headers(each)],
        "requestBody": _body(each, schemas),
        "responses": {**_answers(each, schemas), **_refusals(each, schemas)},
        "deprecated": each.deprecated,
    }
    return {**{key: part for key, part in described.items() if part}, "security": _security(each)}


def _tag(each: Operation) -> Json:
    """Operations are grouped by the module that declares them, those of admins apart."""
    if each.roles is not None and each.roles <= {Role.ADMIN}:
        return _ADMIN_TAG
    about = inspect.getdoc(sys.modules[each.handler.__module__]) or ""
    return {"name": each.handler.__module__.rpartition(".")[2], "description": about.partition("\n")[0]}


def _operation_ids(operations: Sequence[Operation]) -> list[str]:
    """`customer_book`; where one handler serves several routes, with the route."""
    names = [f"{_tag(each)['name']}_{getattr(each.handler, '__name__', '')}" for each in operations]
    times = Counter(names)
    return [
        name if times[name] == 1 else "_".join([name, each.method.lower(), *re.findall(r"\w+", each.path)])
        for name, each in zip(names, operations, strict=True)
    ]


def _security(each: Operation) -> list[Json]:
    """One requirement for each role: any of them will do."""
    if each.roles is None:
        return []
    if each.roles == ANYONE:
        return [{"bearer": []}]
    return [{"bearer": [role]} for role in sorted(each.roles | {Role.ADMIN})]


# What goes in


def _path(each: Operation) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)", each.path)
    ]


def _query(each: Operation, schemas: _Schemas) -> list[Json]:
    if each.query is None:
        return []
    query = schemas.of_query(each.query)
    return [
        {"name": name, "in": "query", "required": name in query["required"], "schema": _of_text(schema)}
        for name, schema in query["properties"].items()
    ]


def _of_text(schema: Json) -> Json:
    """The schema of a parameter, which is there or is not, but never null."""
    alternatives = [part for part in schema.get("anyOf", []) if part != {"type": "null"}]
    return alternatives[0] if len(alternatives) == 1 else schema


def _headers(each: Operation) -> list[Json]:
    declared = [
        {
            "name": header.name,
            "in": "header",
            "required": header.required,
            "description": header.about,
            "schema": {"type": "string"} | ({"maxLength": header.max_length} if header.max_length else {}),
        }
        for header in each.headers
    ]
    if each.conditional:
        about = "ETags of answers that one has: 304 where it is still the same."
        condition = {"name": "If-None-Match", "in": "header", "description": about}
        declared.append({**condition, "required": False, "schema": {"type": "string"}})
    return declared


def _body(each: Operation, schemas: _Schemas) -> Json | None:
    if each.body is None:
        return None
    required = bool(schemas.components[each.body.__name__]["required"])
    return {"required": required, "content": {"application/json": {"schema": schemas.of(each.body)}}}


# What comes out


def _answers(each: Operation, schemas: _Schemas) -> Json:
    answers: Json = {}
    for status, kind in {each.status: each.answer, **each.also}.items():
        answers[str(status)] = {"description": HTTPStatus(status).phrase}
        if kind is not None:
            answers[str(status)]["content"] = {each.media_type: {"schema": schemas.of(kind)}}
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            answers[str(status)]["headers"] = {"Retry-After": _RETRY_AFTER}
    if each.conditional:
        answers[str(each.status)]["headers"] = _VALIDATORS
        answers["304"] = {"description": "It is still the same.", "headers": _VALIDATORS}
    return answers


def _refusals(each: Operation, schemas: _Schemas) -> Json:
    by_status: defaultdict[int, list[str]] = defaultdict(list)
    for code in dict.fromkeys((*_usual(each), *each.refuses)):
        by_status[STATUS_OF[code]].append(code)
    return {str(status): _refusal(status, codes, schemas) for status, codes in sorted(by_status.items())}


def _usual(each: Operation) -> list[str]:
    """The codes that follow from what an operation takes and needs."""
    checked = each.query is not None or any(header.max_length for header in each.headers)
    there_is = {
        "malformed": each.body is not None,
        "unauthorized": each.roles is not None,
        "token_expired": each.roles is not None,
        "forbidden": each.roles is not None and each.roles != ANYONE,
        "too_fast": bool(each.roles and each.roles - UNLIMITED),
        "too_large": each.body is not None,
        "invalid_request": each.body is not None or checked,
        "internal": each.stores,
        "unavailable": each.stores,
        "recovering": each.stores and each.method != "GET",
    }
    return [code for code, holds in there_is.items() if holds]


def _refusal(status: int, codes: list[str], schemas: _Schemas) -> Json:
    narrowed = {"properties": {"status": {"const": status}, "code": {"type": "string", "enum": codes}}}
    described: Json = {
        "description": ", ".join(f"`{code}`" for code in codes),
        "content": {PROBLEM_JSON: {"schema": {"allOf": [schemas.of(Problem), narrowed]}}},
    }
    if headers := _REFUSAL_HEADERS.get(status):
        described["headers"] = headers
    return described


def _header(about: str, kind: str = "string") -> Json:
    return {"description": about, "required": True, "schema": {"type": kind}}


_RETRY_AFTER = _header("Seconds after which to try again.", "integer")
_VALIDATORS = {
    "ETag": _header("Names this answer."),
    "Cache-Control": _header("Who may keep this answer, and for how long."),
}
_REFUSAL_HEADERS = {
    401: {"WWW-Authenticate": _header("How to say who asks: `Bearer`.")},
    410: {"Link": _header('What took its place: `<path>; rel="successor-version"`.')},
    429: {"Retry-After": _RETRY_AFTER},
    503: {"Retry-After": _RETRY_AFTER},
}
