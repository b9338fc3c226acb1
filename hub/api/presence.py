"""Presence, for anyone with a token; customer apps poll it."""

import hashlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.api.web import ANYONE, answer, cursor_text, guarded, page_of
from hub.domain.errors import Refused
from hub.domain.flags import FAVORITES_PRIORITY
from hub.domain.ids import canonical
from hub.domain.model import Status
from hub.identity import Identity
from hub.ports import Directory, PresenceStore
from hub.wire import codec
from hub.wire.server import PresenceUpdate
from hub.wire.views import OFFLINE, PresenceView, presence_view

_MAX_IDS = 500


class PresenceApi:
    def __init__(self, *, presence: PresenceStore, directory: Directory) -> None:
        self._presence = presence
        self._directory = directory

    def routes(self) -> list[Route]:
        return [
            guarded("/api/mechanics/{id}/status", self.status, ANYONE),
            guarded("/api/presence", self.many, ANYONE),
        ]

    async def status(self, request: Request, identity: Identity) -> Response:
        flag = await self._directory.flag(FAVORITES_PRIORITY)
        if not flag.is_enabled:
            raise Refused("feature_not_enabled", "Favourites priority is switched off.")
        views = await self._views([request.path_params["id"]])
        body = codec.encode_json(views[request.path_params["id"]])
        etag = f'"{hashlib.blake2b(body, digest_size=8).hexdigest()}"'
        headers = {"ETag": etag, "Cache-Control": "private, max-age=1"}
        if _matches(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/json")

    async def many(self, request: Request, identity: Identity) -> Response:
        status = request.query_params.get("status")
        if status is not None:
            return await self._online(request, status)
        asked = ",".join(request.query_params.getlist("ids"))
        ids = [part.strip() for part in asked.split(",") if part.strip()]
        if len(ids) > _MAX_IDS:
            raise Refused("invalid_request", f"Ask for at most {_MAX_IDS} ids.", field="ids")
        return answer({"presence": await self._views(ids)})

    async def _online(self, request: Request, status: str) -> Response:
        if status != Status.ONLINE:
            raise Refused("invalid_request", "Only status=online can be listed.", field="status")
        limit, cursor = page_of(request)
        found = await self._presence.online(limit + 1, after=cursor)
        page = found[:limit]
        views = await self._views([mechanic_id for mechanic_id, _ in page])
        last = page[-1] if len(found) > limit else None
        items = [
            PresenceUpdate(
                mechanic_id=mechanic_id, is_online=v.is_online, status=v.status, last_seen=v.last_seen
            )
            for mechanic_id, v in views.items()
        ]
        cursor_after = cursor_text((last[1], last[0])) if last else None
        return answer({"items": items, "next_cursor": cursor_after})

    async def _views(self, asked: list[str]) -> dict[str, PresenceView]:
        known = {mechanic_id: canonical(mechanic_id) for mechanic_id in asked}
        states = await self._presence.states([c for c in known.values() if c is not None])
        return {m: presence_view(states[c]) if c is not None else OFFLINE for m, c in known.items()}


def _matches(header: str | None, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in (header or "").split(",")]
    return etag in tags or "*" in tags
