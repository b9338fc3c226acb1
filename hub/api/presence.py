"""Presence, for anyone with a token; customer apps poll it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache

from starlette.responses import Response

from hub.api.operation import ANYONE, Ask, Operation, operation
from hub.api.web import conditional, cursor_text, etag_of
from hub.domain.errors import Refused
from hub.domain.flags import FAVORITES_PRIORITY
from hub.domain.ids import canonical
from hub.domain.model import PresenceState
from hub.ports import Directory, PresenceStore
from hub.wire import codec
from hub.wire.http import OnlineList, PresenceAnswer, PresenceQuery
from hub.wire.server import PresenceUpdate
from hub.wire.views import OFFLINE, PresenceView, presence_view

_MAX_IDS = 500

States = Callable[[Sequence[str]], Awaitable[Mapping[str, PresenceState]]]

_UNKNOWN = PresenceState()


@lru_cache(maxsize=4096)
def _shown(state: PresenceState) -> tuple[bytes, str]:
    """The answer's body and its ETag: made once for all who ask until it changes."""
    body = codec.encode_json(presence_view(state))
    return body, etag_of(body)


class PresenceApi:
    """`states` gives the presence of some mechanics."""

    def __init__(self, *, presence: PresenceStore, states: States, directory: Directory) -> None:
        self._presence = presence
        self._states = states
        self._directory = directory

    def operations(self) -> list[Operation]:
        return [
            operation(
                "GET", "/api/mechanics/{id}/status", self.status, ANYONE,
                answer=PresenceView, conditional=True, refuses=("feature_not_enabled",),
            ),
            operation("GET", "/api/presence", self.many, ANYONE),
        ]  # fmt: skip

    async def status(self, ask: Ask[None, None]) -> Response:
        """One mechanic's presence, with an ETag to poll by; an unknown one is offline."""
        flag = await self._directory.flag(FAVORITES_PRIORITY)
        if not flag.is_enabled:
            raise Refused("feature_not_enabled", "Favourites priority is switched off.")
        asked = ask.path("id")
        mechanic_id = canonical(asked)
        state = (await self._states([mechanic_id]))[mechanic_id] if mechanic_id else _UNKNOWN
        body, etag = _shown(state)
        return conditional(
            ask.request, body, "application/json", etag=etag, cache_control="private, max-age=1"
        )

    async def many(self, ask: Ask[PresenceQuery, None]) -> PresenceAnswer | OnlineList:
        """The presence of up to 500 mechanics, or everyone who is online, longest first."""
        if (ask.query.ids is None) is (ask.query.status is None):
            raise Refused("invalid_request", "Ask for ids, or by status.", field="ids")
        if ask.query.ids is None:
            return await self._online(*ask.page)
        ids = [part.strip() for part in ask.query.ids.split(",") if part.strip()]
        if len(ids) > _MAX_IDS:
            raise Refused("invalid_request", f"Ask for at most {_MAX_IDS} ids.", field="ids")
        return PresenceAnswer(presence=await self._views(ids))

    async def _online(self, limit: int, cursor: tuple[int, str] | None) -> OnlineList:
        found = await self._presence.online(limit + 1, after=cursor)
        page = found[:limit]
        views = await self._views([mechanic_id for mechanic_id, _ in page])
        last = page[-1] if len(found) > limit else None
        return OnlineList(
            items=[
                PresenceUpdate(
                    mechanic_id=mechanic_id, is_online=v.is_online, status=v.status, last_seen=v.last_seen
                )
                for mechanic_id, v in views.items()
            ],
            next_cursor=cursor_text((last[1], last[0])) if last else None,
        )

    async def _views(self, asked: list[str]) -> dict[str, PresenceView]:
        known = {mechanic_id: canonical(mechanic_id) for mechanic_id in asked}
        states = await self._states([c for c in known.values() if c is not None])
        return {m: presence_view(states[c]) if c is not None else OFFLINE for m, c in known.items()}
