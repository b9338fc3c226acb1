"""A mechanic's own numbers."""

from msgspec.structs import asdict

from hub.api.operation import Ask, Operation, operation
from hub.desk import Desk
from hub.domain.model import Role
from hub.ports import Statistics
from hub.wire.statistics import Capacity, MechanicStats, StatsQuery


class StatisticsApi:
    """`capacity`: sessions that a mechanic may hold at once, 0: any number."""

    def __init__(self, *, statistics: Statistics, desk: Desk, capacity: int) -> None:
        self._statistics = statistics
        self._desk = desk
        self._limit = capacity or None

    def operations(self) -> list[Operation]:
        return [operation("GET", "/api/mechanic/stats", self.stats, frozenset({Role.MECHANIC}))]

    async def stats(self, ask: Ask[StatsQuery, None]) -> MechanicStats:
        """Who has one as a favourite, and how one answers; of the last `days` or of all time."""
        me = ask.identity.user_id
        numbers = await self._statistics.of_mechanic(me, ask.query.days)
        held = await self._desk.held_by(me)
        return MechanicStats(**asdict(numbers), capacity=Capacity(limit=self._limit, held=len(held)))
