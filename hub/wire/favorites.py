"""Bodies of the customer's favourites."""

from typing import Annotated

from msgspec import Meta, Struct

from hub.domain.records import Favorite
from hub.wire.views import Timestamp, Uuid, rfc3339


class FavoriteBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`rank`: the place in the order; beyond the end is the end. The body may be left out."""

    rank: Annotated[int, Meta(ge=1, le=1000)] | None = None


class FavoriteView(Struct, frozen=True, kw_only=True):
    """`rank`: 1 is asked first."""

    mechanic_id: Uuid
    mechanic_name: str
    rank: int
    created_at: Timestamp


class FavoriteList(Struct, frozen=True, kw_only=True):
    """Favourites in the order in which they are asked."""

    items: list[FavoriteView]
    next_cursor: str | None


class FavoriteQuery(Struct, frozen=True, kw_only=True):
    mechanic_id: Annotated[str, Meta(min_length=1, max_length=200)]


class FavoriteStatus(Struct, frozen=True, kw_only=True, rename="camel"):
    """Whether a mechanic is a favourite of the customer's."""

    is_favorite: bool


def favorite_view(favorite: Favorite) -> FavoriteView:
    return FavoriteView(
        mechanic_id=favorite.mechanic_id,
        mechanic_name=favorite.mechanic_name,
        rank=favorite.rank,
        created_at=rfc3339(favorite.created_at),
    )
