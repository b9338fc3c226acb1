"""What all routes share: who asks, what came, how answers and refusals look."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.domain.errors import ActiveSessionExists, HubError, Refused, Unavailable
from hub.domain.model import Role
from hub.identity import Identity, TokenVerifier, bearer
from hub.wire import codec
from hub.wire.http import Problem
from hub.wire.views import assignment_view, session_view

logger = logging.getLogger("hub.api")

Handler = Callable[[Request, Identity], Awaitable[Response]]
Body = TypeVar("Body")

MAX_BODY = 65_536
MAX_PAGE = 200
ANYONE = frozenset(Role)


def guarded(path: str, handler: Handler, roles: frozenset[Role], method: str = "GET") -> Route:
    """A route for these roles; an admin may always."""

    async def endpoint(request: Request) -> Response:
        verifier: TokenVerifier = request.app.state.verifier
        token = bearer(request.headers.get("authorization"))
        if token is None:
            raise Refused("unauthorized", "A bearer token is needed.")
        identity = await verifier.verify(token)
        if identity.role not in roles and identity.role is not Role.ADMIN:
            raise Refused("forbidden", f"This is not for the role {identity.role}.")
        return await handler(request, identity)

    return Route(path, endpoint, methods=[method])


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(codec.encode_json(body), status, headers, media_type="application/json")


async def read_body(request: Request, decoder: "msgspec.json.Decoder[Body]", *, default: bytes = b"") -> Body:
    """The body as the decoder's type; an empty one counts as `default`."""
    announced = request.headers.get("content-length", "")
    if len(announced) > len(str(MAX_BODY)):
        raise Refused("too_large", f"A body may have {MAX_BODY} bytes.")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise Refused("too_large", f"A body may have {MAX_BODY} bytes.")
    return codec.decode_body(bytes(data) or default, decoder)


def page_of(request: Request, default: int = MAX_PAGE) -> tuple[int, tuple[int, str] | None]:
    """`limit` and `cursor` of a list."""
    text = request.query_params.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_PAGE):
        raise Refused("invalid_request", f"limit is a number from 1 to {MAX_PAGE}.", field="limit")
    cursor = request.query_params.get("cursor")
    if not cursor:
        return int(text), None
    at, _, name = cursor.partition(".")
    if not (at.isascii() and at.isdigit() and len(at) < 16 and name):
        raise Refused("invalid_request", "That is no cursor of this list.", field="cursor")
    return int(text), (int(at), name)


def cursor_text(cursor: tuple[int, str] | None) -> str | None:
    return None if cursor is None else f"{cursor[0]}.{cursor[1]}"


def problem(
    status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any
) -> Response:
    body = Problem(
        type=f"urn:hub:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        **more,
    )
    return Response(codec.encode_json(body), status, headers, media_type="application/problem+json")


async def on_hub_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HubError)
    headers: dict[str, str] = {}
    more: dict[str, Any] = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Refused):
        more["field"] = error.field
    if isinstance(error, ActiveSessionExists) and error.session is not None:
        more["session"] = session_view(error.session)
        more["assignment"] = assignment_view(error.session)
    return problem(error.http_status, error.code, error.detail, headers=headers, **more)


async def on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "malformed")
    headers = dict(error.headers) if error.headers else None
    return problem(error.status_code, code, str(error.detail), headers=headers)


async def on_hang_up(request: Request, error: Exception) -> Response:
    """The client went away in the middle of its request; nobody reads this."""
    return Response(status_code=400)


async def on_surprise(request: Request, error: Exception) -> Response:
    logger.error("request_failed", extra={"path": request.url.path}, exc_info=error)
    return problem(500, "internal", "Something went wrong here.")
