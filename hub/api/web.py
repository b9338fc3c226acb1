"""What all routes share: who asks, what came, how answers and refusals look."""

import hashlib
import logging
from collections.abc import Awaitable, Callable
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import structs
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hub.api.secure import SECURE
from hub.domain.errors import ActiveSessionExists, HubError, Refused, Unavailable
from hub.domain.model import Role
from hub.identity import Identity, TokenVerifier, bearer
from hub.limiter import Allowances
from hub.ports import Clock
from hub.wire import codec, http

logger = logging.getLogger("hub.api")

MAX_BODY = 65_536
UNLIMITED = frozenset({Role.SERVICE, Role.ADMIN})
"""They ask for many people."""
_TOO_FAST_S = 1


async def identify(request: Request, roles: frozenset[Role]) -> Identity:
    """Who asks; raises `Refused` where the token is not valid or of another role. An admin may always."""
    verifier: TokenVerifier = request.app.state.verifier
    token = bearer(_authorization(request))
    if token is None:
        raise Refused("unauthorized", "A bearer token is needed.")
    identity = await verifier.verify(token)
    allowances: Allowances = request.app.state.allowances
    if identity.role not in UNLIMITED and not allowances.of(identity.user_id).take():
        raise Refused("too_fast", "Too many requests.")
    if identity.role not in roles and identity.role is not Role.ADMIN:
        raise Refused("forbidden", f"This is not for the role {identity.role}.")
    return identity


def _authorization(request: Request) -> str | None:
    """Without `request.headers`, which most requests do not need otherwise."""
    for name, value in request.scope["headers"]:
        if name == b"authorization":
            return str(value, "latin-1")
    return None


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(codec.encode_json(body), status, headers, media_type="application/json")


def etag_of(body: bytes) -> str:
    return f'"{hashlib.blake2b(body, digest_size=8).hexdigest()}"'


def conditional(
    request: Request, body: bytes, media_type: str, *, etag: str | None = None, cache_control: str
) -> Response:
    """The body with an ETag, or 304 where whoever asks has it already."""
    etag = etag or etag_of(body)
    headers = {"ETag": etag, "Cache-Control": cache_control}
    if asked := request.headers.get("if-none-match"):
        tags = [tag.strip().removeprefix("W/") for tag in asked.split(",")]
        if etag in tags or "*" in tags:
            return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


async def read_body(request: Request, kind: Any) -> Any:
    """The body as this type; none at all counts as an empty object."""
    return codec.decode_body(await read_bytes(request, MAX_BODY) or b"{}", body_decoder(kind))


async def read_bytes(request: Request, limit: int) -> bytes:
    """The body as it came; raises `Refused` (too_large)."""
    announced = request.headers.get("content-length", "")
    if len(announced) > len(str(limit)):
        raise Refused("too_large", f"A body may have {limit} bytes.")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise Refused("too_large", f"A body may have {limit} bytes.")
    return bytes(data)


@cache
def body_decoder(kind: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind)


def cursor_of(text: str | None) -> tuple[int, str] | None:
    """The place in a list that a client got as `next_cursor`."""
    if not text:
        return None
    at, _, name = text.partition(".")
    if not (at.isascii() and at.isdigit() and len(at) < 16 and name):
        raise Refused("invalid_request", "That is no cursor of this list.", field="cursor")
    return int(at), name


def cursor_text(cursor: tuple[int, str] | None) -> str | None:
    return None if cursor is None else f"{cursor[0]}.{cursor[1]}"


def problem(
    status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any
) -> Response:
    body = codec.encode_json(http.problem(status, code, detail, **more))
    return Response(body, status, headers, media_type=http.PROBLEM_JSON)


async def on_hub_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HubError)
    headers: dict[str, str] = {}
    more: dict[str, Any] = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    if error.http_status == HTTPStatus.TOO_MANY_REQUESTS:
        headers["Retry-After"] = str(_TOO_FAST_S)
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Refused):
        more["field"] = error.field
    if isinstance(error, ActiveSessionExists) and error.session is not None:
        clock: Clock = request.app.state.clock
        more |= structs.asdict(http.request_answer(error.session, clock.now()))
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
    return problem(500, "internal", "Something went wrong here.", headers=SECURE)


HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    HubError: on_hub_error,
    HTTPException: on_http_error,
    ClientDisconnect: on_hang_up,
    Exception: on_surprise,
}
"""What is answered to what was raised: the first kind that it is of."""
