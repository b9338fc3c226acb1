"""The journal: how fast Postgres gets what was committed, and how long after the commit a row is there."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator

import asyncpg

from tests.bench.accounts import Account
from tests.bench.backlog import HOUR_MS, Backlog
from tests.bench.bare_rows import TABLES, BareRows
from tests.bench.figures import HUB, Metric, percentile
from tests.bench.lab import Lab
from tests.bench.servers.hub import Hub
from tests.bench.wire import steadily
from tests.bench.works.targeted import Customers

NAME = "journal"
BARE = "Postgres, by COPY"
ROWS = Metric("rows", "/s", 0, lower_is_better=False)
CPU = Metric("hub's CPU a row", "µs", 1)
STORES = Metric("stores' CPU a row", "µs", 1)

LAG = "journal lag"
P50 = Metric("commit to row, p50", "ms", 1)
P99 = Metric("commit to row, p99", "ms", 1)
SHARE = Metric("load generator", "% of a core", 0)

_MECHANICS = 500
_LOOK_S = 0.002
_LOOK_BACK = 100
_LITTLE_S = 0.2


async def measure(lab: Lab) -> None:
    async with lab.hub(mechanics=range(_MECHANICS)) as hub:
        backlog = Backlog(hub.valkey.url, await hub.shards())
        bare = await BareRows.open(hub.embedded_postgres.url)
        for run in range(lab.runs):
            lab.say(f"{NAME}, run {run + 1}")
            setting = await _throughput(lab, hub, backlog)
            lab.figures.add(NAME, setting, BARE, ROWS, await bare.write())
        await bare.close()
        await backlog.close()
    async with lab.hub(mechanics=range(_MECHANICS)) as hub:
        customers = Customers(hub)
        await customers.open_lines()
        for run in range(lab.runs):
            lab.say(f"{LAG}, run {run + 1}")
            await _lag(lab, hub, customers)


async def _throughput(lab: Lab, hub: Hub, backlog: Backlog) -> str:
    """Entries pile up while nobody may move the cursors, then all are written."""
    bookings = lab.pick(quick=3_000, full=20_000)
    setting = f"{bookings:,} bookings piled up"
    before = await _rows(hub)
    async with _cursors_held(hub):
        later = await backlog.now() + HOUR_MS
        await backlog.offers(bookings, lambda n: later, lambda n: n % _MECHANICS)
    account = Account(hub.pids, hub.store_pids)
    async with asyncio.timeout(120):
        while await hub.waiting_rows():  # noqa: ASYNC110  # it happens in other processes
            await asyncio.sleep(_LOOK_S)
    spent = account.spent()
    rows = await _rows(hub) - before
    for metric, value in (
        (ROWS, rows / spent.wall),
        (CPU, spent.server / rows * 1e6),
        (STORES, spent.stores / rows * 1e6),
    ):
        lab.figures.add(NAME, setting, HUB, metric, value)
    return setting


@contextlib.asynccontextmanager
async def _cursors_held(hub: Hub) -> AsyncIterator[None]:
    await hub.drained()
    connection = await asyncpg.connect(hub.embedded_postgres.url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM journal_cursor ORDER BY shard FOR UPDATE")
            yield
    finally:
        await connection.close()


async def _rows(hub: Hub) -> int:
    return sum([await hub.postgres.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES])


async def _lag(lab: Lab, hub: Hub, customers: Customers) -> None:
    rate = lab.pick(quick=200, full=500)
    count = int(rate * lab.pick(quick=1.5, full=4.0))
    await hub.drained()
    lags: list[float] = []
    account = Account(hub.pids, hub.store_pids)
    watching = asyncio.ensure_future(_watch(hub, count, lags))
    requests = []
    for number, moment in enumerate(steadily(rate, count)):
        if (pause := moment - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        requests.append(asyncio.ensure_future(customers.book(number % _MECHANICS)))
    await asyncio.gather(*requests)
    async with asyncio.timeout(30):
        await watching
    spent = account.spent()
    await customers.leave()
    for metric, value in (
        (P50, percentile(lags, 0.5)),
        (P99, percentile(lags, 0.99)),
        (SHARE, spent.generator_share * 100),
    ):
        lab.figures.add(LAG, f"{rate} bookings/s", HUB, metric, value)


async def _watch(hub: Hub, count: int, lags: list[float]) -> None:
    """Looks for new rows again and again; a lag is from the commit, by the clock of Redis, until the look
    that finds the row has its answer, ms."""
    begin = time.time()
    seen: set[str] = set()
    async with hub.postgres.acquire() as connection:
        # With statistics of an empty table every look would read all of it, at the writer's expense.
        await connection.execute("SET enable_seqscan = off")
        look = await connection.prepare(
            "SELECT id::text, extract(epoch FROM created_at)::float8 FROM sessions"
            " WHERE created_at > to_timestamp($1::float8)"
        )
        latest = begin
        for turn in itertools.count():
            # Rows of different shards come out of order: mostly by little, so that most looks are cheap.
            since = begin if turn % _LOOK_BACK == 0 else max(begin, latest - _LITTLE_S)
            for session_id, created in await look.fetch(since):
                if session_id not in seen:
                    seen.add(session_id)
                    lags.append((time.time() - created) * 1000)
                    latest = max(latest, created)
            if len(seen) == count:
                return
            await asyncio.sleep(_LOOK_S)
