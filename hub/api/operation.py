"""Operations of the HTTP API: the path, who may call it, what goes in and what comes out.

The routes and the OpenAPI document are made from the same list, and the types from the handlers' annotations,
so that neither says what the other does not.
"""

import inspect
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar, get_args, get_type_hints

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.api.web import answer, cursor_of, identify, read_body, read_bytes
from hub.domain.errors import Refused
from hub.domain.model import Role
from hub.identity import Identity
from hub.wire import codec
from hub.wire.http import Page

Query = TypeVar("Query")
Body = TypeVar("Body")

ANYONE = frozenset(Role)
ADMINS: frozenset[Role] = frozenset()
"""Nobody else: an admin may always."""
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Header(Struct, frozen=True, kw_only=True):
    """A header that an operation reads of its request."""

    name: str
    about: str
    required: bool = False
    max_length: int | None = None


class Ask(Generic[Query, Body]):
    """One call of an operation: who asks, the query and the body as the handler's annotation has them."""

    __slots__ = ("_identity", "body", "query", "request")

    def __init__(self, request: Request, identity: Identity | None, query: Query, body: Body) -> None:
        self.request = request
        self.query = query
        self.body = body
        self._identity = identity

    @property
    def identity(self) -> Identity:
        assert self._identity is not None, "this operation asks for no token"
        return self._identity

    def path(self, name: str) -> str:
        found: str = self.request.path_params[name]
        return found

    def header(self, header: Header) -> str | None:
        """What came under this header; nothing in it counts as none. Raises `Refused`."""
        text = self.request.headers.get(header.name) or None
        if text is not None and header.max_length is not None and len(text) > header.max_length:
            raise Refused("invalid_request", f"{header.name} is too long.", field=header.name)
        return text

    @property
    def page(self) -> tuple[int, tuple[int, str] | None]:
        """Limit and cursor of a list."""
        assert isinstance(self.query, Page)
        return self.query.limit, cursor_of(self.query.cursor)


Handler = Callable[[Ask[Any, Any]], Awaitable[Any]]


class Operation(Struct, frozen=True, kw_only=True):
    """`roles` None: no token is asked for; an admin may always. `body`, `query` and `answer` are types (None:
    nothing). `refuses` are the codes that this operation adds to those every one of its kind has.

    `any_method`: it answers to every one of them alike; `method` is the one that clients use.
    `also`: further statuses that it answers with, each with its type. `conditional`: there is an ETag,
    and 304 for whoever has it. `stores` False: it answers from this node alone. `raw`: the handler takes the
    body as it came, at most so many bytes."""

    method: str
    path: str
    handler: Handler
    roles: frozenset[Role] | None
    any_method: bool = False
    status: int = 200
    query: Any = None
    body: Any = None
    raw: int | None = None
    answer: Any = None
    also: Mapping[int, Any] = {}
    media_type: str = "application/json"
    headers: tuple[Header, ...] = ()
    conditional: bool = False
    stores: bool = True
    refuses: tuple[str, ...] = ()
    deprecated: bool = False
    summary: str = ""

    async def __call__(self, request: Request) -> Response:
        identity = await identify(request, self.roles) if self.roles is not None else None
        query = codec.convert_query(_parameters(request), self.query) if self.query else None
        body = await self._read(request) if self.body else None
        result = await self.handler(Ask(request, identity, query, body))
        return result if isinstance(result, Response) else answer(result, self.status)

    def by_method(self) -> "dict[str, Operation]":
        return dict.fromkeys(_METHODS if self.any_method else (self.method,), self)

    async def _read(self, request: Request) -> Any:
        if self.raw is not None:
            return await read_bytes(request, self.raw)
        return await read_body(request, self.body)


def operation(
    method: str,
    path: str,
    handler: Callable[[Any], Awaitable[Any]],
    roles: frozenset[Role] | None,
    *,
    any_method: bool = False,
    status: int = 200,
    body: Any = None,
    raw: int | None = None,
    answer: Any = None,
    also: Mapping[int, Any] | None = None,
    media_type: str = "application/json",
    headers: Iterable[Header] = (),
    conditional: bool = False,
    stores: bool = True,
    refuses: Iterable[str] = (),
    deprecated: bool = False,
) -> Operation:
    """An operation by its handler: `async def h(self, ask: Ask[QueryType, BodyType]) -> AnswerType`.

    The handler's docstring is the operation's description. One that answers a `Response` of its own names the
    type of what is in it as `answer`; one that takes the body as `bytes` (`raw`), what is in those as `body`.
    """
    hints = get_type_hints(handler)
    query, taken = (None if part is type(None) else part for part in get_args(hints["ask"]))
    returned = hints["return"]
    return Operation(
        method=method,
        path=path,
        handler=handler,
        roles=roles,
        any_method=any_method,
        status=status,
        query=query,
        body=body if taken is bytes else taken,
        raw=raw,
        answer=answer if returned in (Response, type(None)) else returned,
        also=also or {},
        media_type=media_type,
        headers=tuple(headers),
        conditional=conditional,
        stores=stores,
        refuses=tuple(refuses),
        deprecated=deprecated,
        summary=inspect.getdoc(handler) or "",
    )


def routes(operations: Iterable[Operation]) -> list[Route]:
    """One route a path, so that a wrong method is told all the right ones."""
    by_path: dict[str, dict[str, Operation]] = defaultdict(dict)
    for each in operations:
        by_path[each.path] |= each.by_method()
    return [_route(path, methods) for path, methods in by_path.items()]


def _route(path: str, methods: dict[str, Operation]) -> Route:
    async def endpoint(request: Request) -> Response:
        return await methods["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, endpoint, methods=list(methods))


def _parameters(request: Request) -> dict[str, str]:
    """A parameter that comes more than once is a list."""
    parameters = request.query_params
    return {name: ",".join(parameters.getlist(name)) for name in parameters}
