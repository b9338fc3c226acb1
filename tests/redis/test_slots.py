"""Ready for a cluster: every script's keys share one slot, and a script touches none that it did not name."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import pytest
import pytest_asyncio

from hub.domain import commands as cmd
from hub.domain.ids import crc16, new_id
from hub.domain.model import Status
from hub.domain.records import JournalEntry
from persistence.redis import scripts
from persistence.redis.inspection import RedisInspection
from persistence.redis.scripts import Script
from persistence.redis.survey import RedisSurvey
from tests.domain.samples import ANA, BEN, booked, online
from tests.patience import PATIENCE_S
from tests.redis.bench import EPOCH, SHARDS, Bench, book, execute

SLOTS = 16_384
SCRIPTS = {name: script for name, script in vars(scripts).items() if isinstance(script, Script)}
_BY_DIGEST = {script.digest: name for name, script in SCRIPTS.items()}
_KEYLESS = {"TIME"}


class Run(NamedTuple):
    """One execution of a script: the keys that it was given, and those of the commands that it called."""

    script: str
    declared: list[str]
    touched: list[str]


class Watch:
    """Everything that the server executes, as MONITOR shows it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._monitor = bench.raw.monitor()

    async def begin(self) -> None:
        await self._monitor.__aenter__()

    async def end(self) -> None:
        await self._monitor.__aexit__()

    async def runs(self) -> list[Run]:
        marker = new_id()
        await self._bench.raw.echo(marker)
        lines: list[tuple[str, list[str]]] = []
        async with asyncio.timeout(PATIENCE_S):
            while True:
                said = await self._monitor.next_command()
                words = said["command"].split(" ")
                if words == ["ECHO", marker]:
                    return list(_runs(lines))
                lines.append((said["client_type"], words))


def _runs(lines: list[tuple[str, list[str]]]) -> Iterator[Run]:
    run: Run | None = None
    for origin, words in lines:
        if origin == "lua":
            assert run is not None
            if words[0] not in _KEYLESS:
                run.touched.append(words[1])
            continue
        if run is not None:
            yield run
        run = None
        if words[0] == "EVALSHA":
            count = int(words[2])
            run = Run(_BY_DIGEST[words[1]], words[3 : 3 + count], [])
    if run is not None:
        yield run


@pytest_asyncio.fixture
async def watch(bench: Bench) -> AsyncIterator[Watch]:
    for script in SCRIPTS.values():
        assert await bench.raw.script_load(script.text) == script.digest
    watch = Watch(bench)
    await watch.begin()
    yield watch
    await watch.end()


def slot(key: str) -> int:
    """As the cluster specification says: of the part within the first braces, if any."""
    start = key.find("{")
    end = key.find("}", start + 1)
    tagged = start >= 0 and end > start + 1
    return crc16(key[start + 1 : end] if tagged else key) % SLOTS


async def everything_once(bench: Bench) -> None:
    """Calls every script, with people and sessions of several shards."""
    for _ in range(SHARDS * 4):
        customer = new_id()
        session = await book(bench, online(ANA), online(BEN), customer_id=customer, fingerprint="abc")
        await bench.sessions.load_booking(customer, session.id)
        await execute(
            bench,
            session,
            cmd.Decline(ANA),
            cmd.Accept(mechanic_id=BEN),
            cmd.Release(BEN),
            known=(online(BEN),),
        )
        await execute(bench, session, cmd.Cancel("admin"))
        lost = booked(online(ANA))
        await bench.sessions.restore(lost, lost.version)
        entry = JournalEntry(shard=bench.shard(lost), id="5-1", command_id="c", session=None, events=())
        await bench.journal.bury(entry, "refused")
        survey = RedisSurvey(bench.client, SHARDS)
        await survey.align(lost, EPOCH)
        await survey.release(customer, session.id)
        mechanic = new_id()
        for connection in ("c1", "c2", "c3"):
            await bench.presence.connect(
                mechanic, connection, "node", status=Status.ONLINE, mechanic=True, limit=2
            )
        await bench.presence.set_status(mechanic, Status.AWAY)
        await bench.presence.claim_work(mechanic, session.id, 1)
        await bench.presence.set_work(mechanic, session.id, held=True, live=True)
        for connection in ("c2", "c3"):
            await bench.presence.disconnect(mechanic, connection, "node", grace_ms=0)
        await bench.presence.end_grace(mechanic)
    stray = booked()
    await bench.raw.zadd(f"hub:{{{bench.shard(stray)}}}:deadlines", {f"orphan:{stray.id}": 1})
    for shard in range(SHARDS):
        due = await bench.sessions.due(shard, 100)
        for member, at in due.members:
            await bench.sessions.settle(shard, member, at)
    await bench.presence.renew_lease("node", 1_000)
    inspection = RedisInspection(bench.client, SHARDS)
    await inspection.overview(10)
    for shard in range(SHARDS):
        await inspection.retry(f"{shard}-1-1")


async def test_the_keys_of_every_script_share_a_slot(bench: Bench, watch: Watch) -> None:
    await everything_once(bench)
    runs = await watch.runs()

    assert {run.script for run in runs} == set(SCRIPTS)
    for run in runs:
        assert len({slot(key) for key in run.declared}) == 1, run
    assert len({slot(run.declared[0]) for run in runs}) == SHARDS + 1


async def test_no_script_touches_a_key_that_it_did_not_name(bench: Bench, watch: Watch) -> None:
    """But for sessions, with their decliners, whose ids it reads from its own shard: they share its slot."""
    await everything_once(bench)

    for run in await watch.runs():
        for key in set(run.touched) - set(run.declared):
            assert run.script in ("LOAD", "DUE", "RESTORE", "ALIGN", "GHOSTS"), run
            assert ":session:" in key or (run.script == "DUE" and ":declined:" in key), run
            assert slot(key) == slot(run.declared[0]), run


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_slot_is_the_shards(shard: int) -> None:
    assert slot(f"hub:{{{shard}}}:epoch") == slot(f"hub:{{{shard}}}:session:{new_id()}") == slot(str(shard))
