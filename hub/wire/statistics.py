"""Bodies of a mechanic's own statistics."""

from typing import Annotated

from msgspec import Meta, Struct

from hub.domain.statistics import MechanicNumbers


class StatsQuery(Struct, frozen=True, kw_only=True):
    """`days`: how far to look back; all time without."""

    days: Annotated[int, Meta(ge=1, le=3650)] | None = None


class Capacity(Struct, frozen=True, kw_only=True):
    """Sessions that a mechanic may hold at once (null: any number), and holds now."""

    limit: int | None
    held: int


class MechanicStats(MechanicNumbers, frozen=True, kw_only=True):
    """A mechanic's own numbers."""

    capacity: Capacity
