"""The customer's favourite mechanics."""

from starlette.responses import Response

from hub.api.operation import Ask, Operation, operation
from hub.api.web import answer, cursor_text
from hub.domain.errors import Refused
from hub.domain.ids import canonical
from hub.domain.model import Role
from hub.ports import Directory, Favorites
from hub.wire.favorites import (
    FavoriteBody,
    FavoriteList,
    FavoriteQuery,
    FavoriteStatus,
    FavoriteView,
    favorite_view,
)
from hub.wire.http import Page


class FavoritesApi:
    def __init__(self, *, favorites: Favorites, directory: Directory) -> None:
        self._favorites = favorites
        self._directory = directory

    def operations(self) -> list[Operation]:
        customer = frozenset({Role.CUSTOMER})
        one = "/api/favorites/{mechanic_id}"
        return [
            operation("GET", "/api/favorites", self.page, customer),
            operation("GET", "/api/favorites/status", self.status, customer),
            operation(
                "PUT", one, self.put, customer, answer=FavoriteView, also={201: FavoriteView},
                refuses=("not_found", "too_many_favorites"),
            ),
            operation("DELETE", one, self.remove, customer, status=204),
        ]  # fmt: skip

    async def page(self, ask: Ask[Page, None]) -> FavoriteList:
        """One's favourites in the order in which a sequence asks them."""
        limit, cursor = ask.page
        found = await self._favorites.page(
            ask.identity.user_id, limit + 1, after=cursor[0] if cursor is not None else 0
        )
        last = found[limit - 1] if len(found) > limit else None
        return FavoriteList(
            items=[favorite_view(favorite) for favorite in found[:limit]],
            next_cursor=cursor_text((last.rank, last.mechanic_id)) if last else None,
        )

    async def status(self, ask: Ask[FavoriteQuery, None]) -> FavoriteStatus:
        """Whether a mechanic is a favourite of one's own."""
        favorites = await self._directory.favorites(ask.identity.user_id)
        return FavoriteStatus(is_favorite=canonical(ask.query.mechanic_id) in favorites)

    async def put(self, ask: Ask[None, FavoriteBody]) -> Response:
        """Add a favourite (201) or move one: to the rank, the others shift. Without a rank a new one comes
        last, a known one stays."""
        mechanic_id = canonical(ask.path("mechanic_id"))
        if mechanic_id is None:
            raise Refused("not_found", "There is no such mechanic.")
        me = ask.identity
        favorite, new = await self._favorites.put(
            me.user_id, mechanic_id, ask.body.rank, name=me.name, email=me.email
        )
        return answer(favorite_view(favorite), 201 if new else 200)

    async def remove(self, ask: Ask[None, None]) -> Response:
        """Remove a favourite; one that is none already is removed, too."""
        mechanic_id = canonical(ask.path("mechanic_id"))
        if mechanic_id is not None:
            await self._favorites.remove(ask.identity.user_id, mechanic_id)
        return Response(status_code=204)
