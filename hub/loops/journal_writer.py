"""The journal writer: brings what was committed in Redis into Postgres.

Any node may write any shard: the cursor's row in Postgres is locked by whoever does, and others pass it by.
A node is woken by its own commits, and looks every two seconds where it is first, so that entries
of a node that died are written too, and what it wrote is trimmed.

While a store is away everything waits. A shard that the record refuses, or whose entries this node cannot
read, is set aside and tried again alone, less and less often, so that it keeps no other from being written.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from msgspec import Struct

from hub.domain.errors import StoreFailed, Unavailable
from hub.domain.records import JournalEntry
from hub.loops.bell import Bell
from hub.loops.ranks import Ranks
from hub.ports import JournalStore, LiveData, RecordWriter

logger = logging.getLogger("hub.loops.journal")

_POLL_S = 2.0
_PAGE = 500
_BACK_OFF_S = (0.05, 0.1, 0.5, 1.0, 2.0, 5.0)
_SKIPPED_S = 0.01
_EVERY_S = 0.02
"""What is committed meanwhile shares one transaction: at fifty commits a second one each took a third of a
node's time, and Postgres as much. Whoever comes after a pause does not wait."""
_HANDS = 2
"""Transactions at once where much waits, since one is read while Postgres is at the other: a fifth more rows
a second on two cores."""
_ALARM_AT = 6
_ALARM_EVERY = 10


class _Refusal(Struct):
    """How often a shard was refused in a row, and when (the loop's time) it is tried again."""

    failures: int
    again_at: float


class JournalWriter:
    def __init__(
        self,
        *,
        journal: JournalStore,
        live: LiveData,
        record: RecordWriter,
        ranks: Ranks,
        wrote: Callable[[int], None] = lambda entries: None,
        alarm: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._journal = journal
        self._live = live
        self._record = record
        self._ranks = ranks
        self._wrote = wrote
        self._alarm = alarm
        self._bell = Bell()
        self._dirty: set[int] = set()
        self._aside: dict[int, _Refusal] = {}
        self._next_at = 0.0

    def committed(self, entry: JournalEntry) -> None:
        """A commit of this node is in the journal."""
        self._mark((entry.shard,))
        self._bell.ring()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        next_poll = 0.0
        while True:
            next_look = min([next_poll, *(refusal.again_at for refusal in self._aside.values())])
            await self._bell.wait(min(next_look - loop.time(), _POLL_S))
            self._dirty.update(s for s, refusal in self._aside.items() if refusal.again_at <= loop.time())
            try:
                much = False
                while True:
                    if loop.time() >= next_poll:
                        next_poll = loop.time() + _POLL_S
                        waiting = await self._journal.waiting(self._ranks.first())
                        self._mark(waiting)
                        much = much or sum(waiting.values()) >= _PAGE
                    if not self._dirty:
                        break
                    await asyncio.sleep(self._next_at - loop.time())
                    self._next_at = loop.time() + _EVERY_S
                    # Nothing is written while another node is at it, and as much may be left then.
                    if (written := await self.step(_HANDS if much else 1)) and (much := written >= _PAGE):
                        self._next_at = 0.0
                failures = 0
            except Unavailable as error:
                failures += 1
                self._complain(failures, {"detail": error.detail})
                await asyncio.sleep(_back_off(failures))
                self._bell.ring()
            except Exception:
                logger.exception("journal_failed")
                self._alarm("journal_failed")
                await asyncio.sleep(1)

    async def step(self, hands: int = 1) -> int:
        """Write one page of every shard that has something, in so many transactions at once; how many entries
        were written.

        Raises `Unavailable` where a store is away; where the record refuses a shard, it is set aside."""
        suspects = self._dirty & self._aside.keys()
        shards = sorted(self._dirty - suspects)
        parts = await asyncio.gather(
            *(self._write(shards[hand::hands]) for hand in range(hands)), return_exceptions=True
        )
        written = 0
        for part in parts:
            if isinstance(part, BaseException):
                raise part
            written += part
        for shard in sorted(suspects):
            written += await self._write([shard])
        self._wrote(written)
        return written

    async def flush(self) -> None:
        """Write everything there is."""
        self._dirty.update(range(self._journal.shards))
        while self._dirty:
            await self.step()

    def _mark(self, shards: Iterable[int]) -> None:
        """They may have something; those set aside have their own time."""
        self._dirty.update(shard for shard in shards if shard not in self._aside)

    async def _write(self, shards: list[int]) -> int:
        """One page of each of these shards, in one transaction; each in its own where that is refused."""
        self._dirty.difference_update(shards)
        if not shards:
            return 0
        try:
            known = await self._live.epochs_of(shards)
            drained = await self._record.drain(
                list(known), self._read, epochs=known, now=self._epochs, bury=self._bury
            )
        except StoreFailed as failure:
            if failure.reason and len(shards) == 1:
                self._set_aside(shards[0], failure.reason)
                return 0
            self._dirty.update(shards)
            if failure.reason:
                return sum([await self._write([shard]) for shard in shards])
            raise
        except BaseException:
            self._dirty.update(shards)
            raise
        for shard in shards:
            self._aside.pop(shard, None)
        if drained.cursors:
            try:
                await self._journal.trim(dict(drained.cursors), known)
            except StoreFailed:
                self._dirty.update(drained.cursors)
        if drained.skipped:
            self._dirty.update(drained.skipped)
            if not drained.entries:
                await asyncio.sleep(_SKIPPED_S)
        return drained.entries

    def _set_aside(self, shard: int, reason: str) -> None:
        self._dirty.discard(shard)
        failures = self._aside[shard].failures + 1 if shard in self._aside else 1
        again_at = asyncio.get_running_loop().time() + _back_off(failures)
        self._aside[shard] = _Refusal(failures, again_at)
        self._complain(failures, {"shard": shard, "reason": reason})

    def _complain(self, failures: int, facts: dict[str, object]) -> None:
        """At the first failure in a row; a short while later, and then every now and again, with an alarm."""
        if failures == 1:
            logger.warning("journal_waits", extra=facts)
        if failures % _ALARM_EVERY == _ALARM_AT:
            logger.error("journal_stuck", extra={"failures": failures, **facts})
            self._alarm("journal_stuck")

    async def _read(self, cursors: dict[int, str]) -> dict[int, list[JournalEntry]]:
        found = await self._journal.read(cursors, _PAGE)
        self._dirty.update(shard for shard, entries in found.items() if len(entries) == _PAGE)
        return found

    async def _epochs(self) -> dict[int, str]:
        life = await self._live.look()
        return {shard: epoch for shard, epoch in enumerate(life.epochs) if epoch} if life.whole else {}

    async def _bury(self, entry: JournalEntry, error: str) -> None:
        logger.error("journal_entry_buried", extra={"shard": entry.shard, "entry": entry.id, "error": error})
        self._alarm("journal_entry_buried")
        await self._journal.bury(entry, error)


def _back_off(failures: int) -> float:
    return _BACK_OFF_S[min(failures, len(_BACK_OFF_S)) - 1]
