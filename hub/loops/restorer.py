"""The restorer: brings the live data in line with the record where some of it was lost, and begins new lives.

What was lost is found by what is known to have been there: an epoch that is absent or is not the one that the
record knows, or a journal whose last entry is older than one that the record or a node has. In such a shard
every session of which the record has a later version is restored from it, ended ones included, and every
active one that is missing. It gets a version far behind anything that could still be on its way.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from msgspec.structs import replace

from hub.domain.epoch import VERSION_GAP, new_epoch, renewed
from hub.domain.model import KEY_LIVES_MS
from hub.domain.records import Kept, Life, Restoration, Restored
from hub.loops.kept import order
from hub.ports import LiveData, RecordWriter, SessionStore

logger = logging.getLogger("hub.loops.restorer")

_TOGETHER = 150
"""Sessions of one shard that are worth a call."""
_UNDER_WAY = 8


class Restorer:
    def __init__(self, *, live: LiveData, sessions: SessionStore, record: RecordWriter) -> None:
        self._live = live
        self._sessions = sessions
        self._record = record

    async def something_to_lose(self) -> bool:
        """Whether anything was ever written to the record out of the live data."""
        return any(last for _, last in (await self._record.cursors()).values())

    async def restore(self, life: Life, ahead: Collection[int], served_at: int) -> None:
        """`ahead`: shards of which a node knew more than there is. `served_at`: when the store is last known
        to have served, ms.

        The record begins the new lives before it is read, and takes no more memories of earlier ones: what
        came too late must not be half there, on record and not in what was restored from it."""
        cursors = await self._record.cursors()
        lost = _lost(life.epochs, await self._live.last_entries(), cursors) | set(ahead)
        began = life.now if await self._record.booked_since(life.now - KEY_LIVES_MS) else None
        epochs = {
            shard: new_epoch(began) if shard in lost or epoch is None else renewed(epoch)
            for shard, epoch in enumerate(life.epochs)
        }
        await self._record.begin(epochs)
        restored = 0
        if lost:
            known = [order(last)[0] for _, last in cursors.values() if last]
            outage = _outage(life.now, [served_at, *known])
            restored += await self._correct(lost, outage)
            restored += await self._refill(lost, outage)
        await self._live.begin(life.run, epochs)
        logger.info("restored", extra={"sessions": restored, "shards": len(lost)})

    async def _correct(self, lost: Collection[int], outage: int) -> int:
        """What is there in an older version than on record."""
        restored = 0
        async for page in self._live.sessions():
            there = {sid: version for sid, version in page.items() if self._sessions.shard(sid) in lost}
            on_record = await self._record.versions(list(there)) if there else {}
            behind = [sid for sid, version in on_record.items() if version > there[sid]]
            if behind:
                rows = await self._record.kept(behind)
                wanted = [_restoration(row, outage) for row in rows.values()]
                restored += _count(await self._live.restore(wanted))
        return restored

    async def _refill(self, lost: Collection[int], outage: int) -> int:
        """What is active on record, gathered by shard: many in one call cost the store a fraction."""
        restored = 0
        gathered: defaultdict[int, list[Restoration]] = defaultdict(list)
        under_way: set[asyncio.Task[list[Restored]]] = set()

        async def enter(shard: int) -> None:
            nonlocal restored, under_way
            under_way.add(asyncio.create_task(self._live.restore(gathered.pop(shard))))
            await asyncio.sleep(0)
            if len(under_way) >= _UNDER_WAY:
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                restored += sum(_count(task.result()) for task in done)

        try:
            async for page in self._record.active_pages():
                for row in page:
                    if (shard := self._sessions.shard(row.session.id)) in lost:
                        gathered[shard].append(_restoration(row, outage))
                for shard in [shard for shard, some in gathered.items() if len(some) >= _TOGETHER]:
                    await enter(shard)
            for shard in list(gathered):
                await enter(shard)
            restored += sum(map(_count, await asyncio.gather(*under_way)))
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        return restored


def _lost(
    epochs: Sequence[str | None], last_entries: Sequence[str], cursors: Mapping[int, tuple[str, str]]
) -> set[int]:
    """The shards that are known to have lost something."""
    lost: set[int] = set()
    for shard, (epoch, last) in enumerate(zip(epochs, last_entries, strict=True)):
        known_epoch, cursor = cursors.get(shard, (epoch, ""))
        if not epoch or epoch != known_epoch or order(last or "0") < order(cursor or "0"):
            lost.add(shard)
    return lost


def _outage(now: int, known_to_serve: Sequence[int]) -> int:
    """For how long nobody was served, as far as anybody knows."""
    last = max(known_to_serve)
    return max(0, now - last) if last else 0


def _restoration(row: Kept, outage: int) -> Restoration:
    """The session as it goes on: what was left of its times is left still."""
    session = row.session
    offered = session.expires_at is not None and session.active
    return Restoration(
        session=replace(
            session,
            version=session.version + VERSION_GAP,
            expires_at=session.expires_at + outage if session.expires_at is not None else None,
            orphan_at=session.orphan_at + outage,
        ),
        recorded=session.version,
        command_id=row.command_id,
        journal=offered,
    )


def _count(outcomes: Sequence[Restored]) -> int:
    return outcomes.count(Restored.RESTORED)
