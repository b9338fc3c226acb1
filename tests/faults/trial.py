"""A trial: a crowd uses a cluster, something is broken meanwhile, in the end everything is accounted for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.faults.checker import judge
from tests.faults.cluster import SECRET, Cluster
from tests.faults.crowd import Crowd, Network, Size
from tests.faults.evidence import gather_evidence
from tests.patience import until

_PATIENCE_S = 120.0


class Trial:
    def __init__(self, cluster: Cluster, crowd: Crowd) -> None:
        self.cluster = cluster
        self.crowd = crowd
        self._living = asyncio.create_task(crowd.live())

    async def under_way(self, bookings: int) -> None:
        """So many have been acknowledged since the beginning."""
        assert await self.reached(bookings), f"the crowd went home after {self.crowd.booked()} bookings"

    async def reached(self, bookings: int) -> bool:
        """As soon as so many have been acknowledged; False where the crowd goes home before."""

        async def decided() -> bool:
            return self._living.done() or self.crowd.booked() >= bookings

        await until(decided, _PATIENCE_S)
        return self.crowd.booked() >= bookings

    async def over(self) -> None:
        """Everyone has gone home, and everything is on record."""
        await self._living
        await self.cluster.drained()

    async def abandon(self) -> None:
        self._living.cancel()
        await asyncio.gather(self._living, return_exceptions=True)

    async def verdict(self) -> list[str]:
        """What is wrong."""
        cluster = self.cluster
        customers = [customer.id for customer in self.crowd.customers]
        evidence = await gather_evidence(cluster.postgres, cluster.redis, customers)
        return judge(self.crowd.history, evidence)


@contextlib.asynccontextmanager
async def gathered(cluster: Cluster, seed: int, size: Size) -> AsyncIterator[Trial]:
    """Whatever is broken within must be whole again at the end of the block."""
    crowd = Crowd(Network(urls=cluster.urls, http=cluster.http, secret=SECRET), seed, size)
    await crowd.register(cluster.postgres)
    held = Trial(cluster, crowd)
    try:
        yield held
        await held.over()
    finally:
        await held.abandon()


@contextlib.asynccontextmanager
async def trial(cluster: Cluster, seed: int, size: Size) -> AsyncIterator[Trial]:
    """Fails where anything is wrong in the end."""
    async with gathered(cluster, seed, size) as held:
        yield held
    wrong = await held.verdict()
    assert not wrong, f"seed {seed}:\n" + "\n".join(wrong[:20])
    complaints = cluster.complaints()
    assert not complaints, "\n".join(complaints)
