"""The short way: from a request whose path and method are those of an operation, to its answer.

Starlette tries one route after the other, and wraps each request in five layers that look after what may go
wrong. Here the path is looked up in a tree, and what goes wrong becomes an answer in one place. Everything
else, from preflights to unknown paths, goes the long way, through Starlette.
"""

import asyncio
from collections.abc import Iterable, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from hub.api.operation import Operation
from hub.api.secure import SECURE
from hub.api.web import HANDLERS
from hub.wire.http import AT_ONCE, HANG_UP

_SECURE = [(name.lower().encode(), value.encode()) for name, value in SECURE.items()]


class _Place:
    """A segment of paths: what follows it by name, what follows it whatever its name is, and what it ends."""

    __slots__ = ("any_name", "by_name", "operations", "parameter")

    def __init__(self) -> None:
        self.by_name: dict[str, _Place] = {}
        self.any_name: _Place | None = None
        self.parameter = ""
        self.operations: dict[str, Operation] = {}

    def enter(self, segments: list[str], methods: Mapping[str, Operation]) -> None:
        if not segments:
            self.operations |= methods
            return
        first, *rest = segments
        if not first.startswith("{"):
            self.by_name.setdefault(first, _Place()).enter(rest, methods)
            return
        if self.any_name is None:
            self.any_name = _Place()
        self.parameter = first.strip("{}")
        self.any_name.enter(rest, methods)

    def find(self, segments: list[str], at: int, parameters: dict[str, str]) -> "_Place | None":
        if at == len(segments):
            return self
        first = segments[at]
        named = self.by_name.get(first)
        if named is not None and (found := named.find(segments, at + 1, parameters)) is not None:
            return found
        if self.any_name is None or not first:
            return None
        parameters[self.parameter] = first
        return self.any_name.find(segments, at + 1, parameters)


class DirectApplication:
    """`long_way` has every operation, too. `cross_origin`: it minds the origins of browsers' requests."""

    def __init__(self, operations: Iterable[Operation], long_way: Starlette, *, cross_origin: bool) -> None:
        self._long_way = long_way
        self._cross_origin = cross_origin
        self._root = _Place()
        for each in operations:
            self._root.enter(each.path.split("/"), each.by_method())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._respond(scope, receive, send)
        except asyncio.CancelledError:
            # The server has to end, and maybe a store alone knows what became of it: no answer would be true.
            if (hang_up := scope.get("extensions", {}).get(HANG_UP)) is None:
                raise
            hang_up()

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        parameters: dict[str, str] = {}
        place = self._root.find(scope["path"].split("/"), 0, parameters) if scope["type"] == "http" else None
        operation = place.operations.get(scope["method"]) if place is not None else None
        from_page = self._cross_origin and any(name == b"origin" for name, _ in scope["headers"])
        if operation is None or from_page:
            await self._long_way(scope, receive, send)
            return
        scope["app"] = self._long_way
        scope["path_params"] = parameters
        request = Request(scope, receive, send)
        try:
            response = await operation(request)
        except Exception as error:
            handle = next(handle for kind, handle in HANDLERS.items() if isinstance(error, kind))
            response = await handle(request, error)
        given = {name for name, _ in response.raw_headers}
        headers = [*response.raw_headers, *(pair for pair in _SECURE if pair[0] not in given)]
        body = bytes(response.body)
        if (at_once := scope.get("extensions", {}).get(AT_ONCE)) is not None:
            await at_once(response.status_code, headers, body)
            return
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": body})
