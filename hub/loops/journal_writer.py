"""The journal writer: brings what was committed in Redis into Postgres.

Any node may write any shard: the cursor's row in Postgres is locked by whoever does, and others pass it by.
A node is woken by its own commits, and looks once a second at the shards where it is first, so that entries
of a node that died are written too.
"""

import asyncio
import logging
import random
from collections.abc import Callable

from hub.domain.errors import StoreFailed, Unavailable
from hub.domain.records import JournalEntry
from hub.loops.bell import Bell
from hub.loops.ranks import Ranks
from hub.ports import JournalStore, RecordWriter, SessionStore

logger = logging.getLogger("hub.loops.journal")

_POLL_S = 1.0
_PAGE = 500
_BACK_OFF_S = (0.05, 0.1, 0.5, 1.0, 2.0, 5.0)
_SKIPPED_S = 0.01
_ALARM_EVERY = 10
_TOGETHER = 3


class JournalWriter:
    def __init__(
        self,
        *,
        journal: JournalStore,
        sessions: SessionStore,
        record: RecordWriter,
        ranks: Ranks,
        wrote: Callable[[int], None] = lambda entries: None,
        alarm: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._journal = journal
        self._sessions = sessions
        self._record = record
        self._ranks = ranks
        self._wrote = wrote
        self._alarm = alarm
        self._bell = Bell()
        self._dirty: set[int] = set()
        self._one_by_one = False

    def committed(self, entry: JournalEntry) -> None:
        """A commit of this node is in the journal."""
        self._dirty.add(entry.shard)
        self._bell.ring()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        next_poll = 0.0
        while True:
            await self._bell.wait(min(next_poll - loop.time(), _POLL_S))
            if loop.time() >= next_poll:
                self._dirty.update(self._ranks.first())
                next_poll = loop.time() + _POLL_S
            try:
                while self._dirty:
                    await self.step()
                failures = 0
                self._one_by_one = False
            except Unavailable as error:
                if failures == 0:
                    logger.warning("journal_waits", extra={"detail": error.detail})
                await asyncio.sleep(_BACK_OFF_S[min(failures, len(_BACK_OFF_S) - 1)])
                failures += 1
                # One shard that cannot be written must not keep the others from it.
                self._one_by_one = failures >= _TOGETHER
                if failures % _ALARM_EVERY == 0:
                    logger.error("journal_stuck", extra={"failures": failures, "detail": error.detail})
                    self._alarm("journal_stuck")
                self._bell.ring()
            except Exception:
                logger.exception("journal_failed")
                self._alarm("journal_failed")
                await asyncio.sleep(1)

    async def step(self) -> int:
        """Write one page of every shard that has something; how many entries were written."""
        shards = [random.choice(sorted(self._dirty))] if self._one_by_one else sorted(self._dirty)
        self._dirty.difference_update(shards)
        try:
            epochs = await self._sessions.epochs()
            known = {shard: epoch for shard in shards if (epoch := epochs[shard])}
            drained = await self._record.drain(list(known), self._read, epochs=known, bury=self._bury)
        except BaseException:
            self._dirty.update(shards)
            raise
        if drained.cursors:
            try:
                await self._journal.trim(dict(drained.cursors), known)
            except StoreFailed:
                self._dirty.update(drained.cursors)
        if drained.skipped:
            self._dirty.update(drained.skipped)
            if not drained.cursors:
                await asyncio.sleep(_SKIPPED_S)
        self._wrote(drained.entries)
        return drained.entries

    async def flush(self) -> None:
        """Write everything there is."""
        self._dirty.update(range(self._journal.shards))
        while self._dirty:
            await self.step()

    async def _read(self, cursors: dict[int, str]) -> dict[int, list[JournalEntry]]:
        found = await self._journal.read(cursors, _PAGE)
        self._dirty.update(shard for shard, entries in found.items() if len(entries) == _PAGE)
        return found

    async def _bury(self, entry: JournalEntry, error: str) -> None:
        logger.error("journal_entry_buried", extra={"shard": entry.shard, "entry": entry.id, "error": error})
        self._alarm("journal_entry_buried")
        await self._journal.bury(entry, error)
