"""Without any fault the crowd is served, and the checker finds nothing."""

from tests.faults.cluster import Cluster
from tests.faults.crowd import Size
from tests.faults.trial import trial


async def test_a_day_without_faults(cluster: Cluster) -> None:
    async with trial(cluster, 1, Size(mechanics=20, customers=20, bookings=3)) as held:
        await held.under_way(60)
