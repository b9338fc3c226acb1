"""A long run: crowd after crowd uses the hub while something breaks, and is judged when it is whole again."""

import asyncio
import contextlib
import logging
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import click
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from hub.client import HubHttp
from tests.faults.cluster import Cluster, open_cluster
from tests.faults.crowd import GONE, Customer, Size
from tests.faults.faults import FAULTS
from tests.faults.trial import Trial, gathered
from tests.patience import until

CROWD = Size(mechanics=25, customers=100, bookings=4)
_RECOVERY_S = 120.0
_AT_MOST = 3
"""Times that a fault is made under one crowd."""


class Tally(Struct):
    """What was counted under one kind of fault. `other`: everything else that the checker found wrong."""

    times: int = 0
    operations: int = 0
    lost: int = 0
    doubled: int = 0
    other: int = 0
    recovery_s: float = 0.0

    @property
    def wrong(self) -> int:
        return self.lost + self.doubled + self.other

    def add(self, more: "Tally") -> None:
        self.times += more.times
        self.operations += more.operations
        self.lost += more.lost
        self.doubled += more.doubled
        self.other += more.other
        self.recovery_s = max(self.recovery_s, more.recovery_s)


class Soak:
    def __init__(self, cluster: Cluster, size: Size = CROWD) -> None:
        self._cluster = cluster
        self._size = size
        self.tallies: dict[str, Tally] = defaultdict(Tally)

    async def round(self, seed: int, fault: str) -> list[str]:
        """One crowd, under one kind of fault made up to three times; what is wrong afterwards."""
        dice = random.Random(seed)
        tally = Tally()
        async with gathered(self._cluster, seed, self._size) as held:
            whole = self._size.customers * self._size.bookings
            for share in sorted(dice.uniform(0.05, 0.8) for _ in range(dice.randint(1, _AT_MOST))):
                if not await held.reached(round(share * whole)):
                    break
                await FAULTS[fault](self._cluster, dice)
                tally.times += 1
                tally.recovery_s = max(tally.recovery_s, await self._recovery(held))
        wrong = [*await held.verdict(), *self._cluster.complaints()]
        tally.operations = sum(o.outcome == "done" for o in held.crowd.history.operations)
        tally.lost = sum(sentence.startswith("lost") for sentence in wrong)
        tally.doubled = sum(sentence.startswith("double accept") for sentence in wrong)
        tally.other = len(wrong) - tally.lost - tally.doubled
        self.tallies[fault].add(tally)
        await self._cluster.forget({o.subject for o in held.crowd.history.operations})
        return wrong

    async def _recovery(self, held: Trial) -> float:
        """Seconds until every node has answered somebody's question about their session."""
        start = time.monotonic()
        await asyncio.gather(
            *(self._answered(node.url, held.crowd.customers[0]) for node in self._cluster.nodes)
        )
        return time.monotonic() - start

    async def _answered(self, url: str, customer: Customer) -> None:
        hub = HubHttp(customer.http, url, customer.token)

        async def answers() -> bool:
            with contextlib.suppress(*GONE):
                await hub.active_session()
                return True
            return False

        await until(answers, _RECOVERY_S)


async def rounds(minutes: float, seed: int) -> AsyncIterator[tuple[int, str]]:
    """Seeds and faults until the time is up, each fault as often as any other; at least one round."""
    end = time.monotonic() + minutes * 60
    while True:
        for fault in random.Random(seed).sample(list(FAULTS), len(FAULTS)):
            yield seed, fault
            seed += 1
            if time.monotonic() >= end:
                return


def table(tallies: dict[str, Tally]) -> Table:
    found = Table("fault", "times", "operations", "lost", "double accepts", "other", "worst recovery")
    for column in found.columns:
        column.no_wrap = True
        column.justify = "left" if column is found.columns[0] else "right"
    whole = Tally()
    for fault, tally in [*sorted(tallies.items()), ("all", whole)]:
        if tally is not whole:
            whole.add(tally)
        numbers = (tally.times, tally.operations, tally.lost, tally.doubled, tally.other)
        found.add_row(fault, *(f"{number:,}" for number in numbers), f"{tally.recovery_s:.2f} s")
    return found


async def soak(minutes: float, seed: int, only: str | None, console: Console) -> bool:
    """Whether nothing was wrong."""
    with tempfile.TemporaryDirectory(prefix="hub-soak-") as directory:
        async with open_cluster(Path(directory)) as cluster:
            run = Soak(cluster)
            async for number, fault in rounds(minutes, seed):
                wrong = await run.round(number, only or fault)
                operations = sum(tally.operations for tally in run.tallies.values())
                console.print(
                    f"seed {number}  {only or fault}: {len(wrong)} wrong; {operations:,} operations so far"
                )
                for sentence in wrong[:20]:
                    console.print(f"  {sentence}", markup=False)
                await cluster.heal()
            console.print(table(run.tallies))
            return not any(tally.wrong for tally in run.tallies.values())


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("minutes", type=click.FloatRange(min=0))
@click.option(
    "--seed", default=1, show_default=True, help="Of the first round; each has one more than the last."
)
@click.option("--fault", type=click.Choice(list(FAULTS)), help="Only this one.")
def main(minutes: float, seed: int, fault: str | None) -> None:
    """Break the hub at load for so many MINUTES, and account for everything that was acknowledged.

    A round that found something wrong is had again by its seed and its fault."""
    # It tells of every word that a crowd says into a line that was cut.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    console = Console(highlight=False, width=max(Console().width, 100))
    sys.exit(0 if asyncio.run(soak(minutes, seed, fault, console)) else 1)


if __name__ == "__main__":
    main()
