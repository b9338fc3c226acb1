"""The reconciler, the kept tail and the journal's fate when stores disagree."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from hub.domain.errors import StoreFailed
from hub.domain.model import Session, SessionStatus
from hub.domain.records import JournalEntry
from hub.loops.kept import KeptTail
from hub.loops.presence_mirror import PresenceMirror
from hub.loops.ranks import Ranks
from hub.loops.reconciler import Reconciler
from persistence.redis import keys
from tests.dispatch.office import Office
from tests.domain.samples import ANA, BEN, draft
from tests.redis.bench import SHARDS, Bench

LONG_AGO_MS = 3_600_000


class FakeRecord:
    """Says what is on record; nothing is written in these tests."""

    def __init__(self, *active: Session) -> None:
        self.active = active
        self.mirrored: list[tuple[str, bool, int]] = []
        self.away = False

    async def active_sessions(self) -> Sequence[Session]:
        return self.active

    async def session(self, session_id: str) -> Session | None:
        raise NotImplementedError

    async def drain(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def write(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def mirror_presence(self, presence: Any) -> None:
        if self.away:
            raise StoreFailed("Postgres is away.", maybe_done=False)
        self.mirrored += list(presence)

    async def expire_orphans(self) -> int:
        raise NotImplementedError

    def advisory_lock(self, key: int) -> Any:
        raise NotImplementedError


def reconciler(office: Office, record: FakeRecord, mended: list[str]) -> Reconciler:
    return Reconciler(
        dispatcher=office.dispatcher,
        record=record,
        journal=office.bench.journal,
        ranks=Ranks("n1", SHARDS),
        gate=office.gate,
        mended=mended.append,
    )


async def written(bench: Bench) -> None:
    """As if the journal writer had been here."""
    for shard in range(SHARDS):
        await bench.raw.delete(keys.journal(shard))


async def old(bench: Bench, session: Session) -> Session:
    """The session as if nothing had happened to it for an hour."""
    then = await bench.now() - LONG_AGO_MS
    await bench.raw.hset(bench.key(session), "updated_at", str(then))
    return replace(session, updated_at=then)


async def test_what_agrees_is_left_alone(bench: Bench, office: Office) -> None:
    session = await old(bench, await office.book())
    await written(bench)
    mended: list[str] = []
    assert await reconciler(office, FakeRecord(session), mended).step() == 0
    assert mended == []


async def test_a_session_that_only_the_record_knows_goes_on(bench: Bench, office: Office) -> None:
    row = replace(draft(), version=3, open_at=1, orphan_at=await bench.now() + LONG_AGO_MS)
    mended: list[str] = []
    assert await reconciler(office, FakeRecord(row), mended).step() == 1
    (found,) = await bench.sessions.get([row.id])
    assert found is not None
    assert found.version == 1_003
    assert mended == ["session_missing"]


async def test_a_session_that_the_record_knows_better_goes_on_from_there(
    bench: Bench, office: Office
) -> None:
    session = await old(bench, await office.book())
    await written(bench)
    row = replace(session, version=session.version + 1, status=SessionStatus.WAITING)
    mended: list[str] = []
    assert await reconciler(office, FakeRecord(row), mended).step() == 1
    (found,) = await bench.sessions.get([row.id])
    assert found is not None
    assert (found.status, found.version) == (SessionStatus.WAITING, 1_002)
    assert mended == ["session_behind"]


async def test_a_row_that_is_behind_is_written_again(bench: Bench, office: Office) -> None:
    session = await old(bench, await office.book())
    await written(bench)
    mended: list[str] = []
    row = replace(session, version=0)
    assert await reconciler(office, FakeRecord(row), mended).step() == 1
    (entry,) = await bench.entries(bench.shard(session))
    assert entry.session == session
    assert mended == ["row_behind"]


async def test_while_the_journal_waits_nothing_is_mended(bench: Bench, office: Office) -> None:
    session = await old(bench, await office.book())
    mended: list[str] = []
    assert await reconciler(office, FakeRecord(replace(session, version=0)), mended).step() == 0


async def test_presence_is_mirrored_by_the_first_node_and_kept_while_the_record_is_away() -> None:
    record = FakeRecord()
    ranks = Ranks("n1", SHARDS)
    mirror = PresenceMirror(record=record, ranks=ranks, shards=SHARDS)
    mirror.note(ANA, True, 1)
    mirror.note(ANA, False, 2)
    mirror.note(BEN, True, 3)
    record.away = True
    with pytest.raises(StoreFailed):
        await mirror.step()
    mirror.note(BEN, False, 4)
    record.away = False
    await mirror.step()
    await mirror.step()
    assert sorted(record.mirrored) == [(ANA, False, 2), (BEN, False, 4)]


async def test_a_node_that_is_not_first_mirrors_nothing() -> None:
    record = FakeRecord()
    everyone = [Ranks(node, SHARDS) for node in ("n1", "n2", "n3")]
    for ranks in everyone:
        ranks.update(["n1", "n2", "n3"])
    for ranks in everyone:
        mirror = PresenceMirror(record=record, ranks=ranks, shards=SHARDS)
        mirror.note(ANA, True, 1)
        await mirror.step()
    assert record.mirrored == [(ANA, True, 1)]


def entry(shard: int, entry_id: str) -> JournalEntry:
    return JournalEntry(shard=shard, id=entry_id, command_id="c", session=None, events=())


def test_commits_are_kept_until_they_are_on_record() -> None:
    kept = KeptTail(2)
    for entry_id in ("9-0", "10-0", "10-2", "11-0"):
        kept.keep(entry(0, entry_id))
    kept.keep(entry(1, "5-0"))
    kept.keep(entry(1, ""))
    assert len(kept) == 5
    kept.recorded(0, "10-1")
    assert [(e.shard, e.id) for e in kept.all()] == [(0, "10-2"), (0, "11-0"), (1, "5-0")]
    kept.recorded(1, "6-0")
    kept.recorded(0, "11-0")
    assert len(kept) == 0
