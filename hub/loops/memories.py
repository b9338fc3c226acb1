"""A node's memories: its commits that were not on record when Redis lost data.

They are written to the record before anything is restored from it. A node that was not there in time (it was
suspended, or cut off) brings them in later: what nobody has gone on from is restored after all; what
contradicts the life that others went on with is kept among the dead letters, with an alarm.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from msgspec.structs import replace

from hub.domain.epoch import VERSION_GAP
from hub.domain.errors import StoreFailed
from hub.domain.model import Session, SessionStatus
from hub.domain.records import FORK, JournalEntry, Life, Restoration, Restored, latest
from hub.loops.kept import KeptTail
from hub.ports import JournalStore, LiveData, RecordWriter

_AGAIN, _AGAIN_S = 20, 0.1
_PAGE = 250
"""Sessions in one transaction: others wait for their turn."""

_REFUSED = "refused"

_WENT_ON = frozenset({Restored.MOVED, Restored.HELD})

logger = logging.getLogger("hub.loops.memories")


class Memories:
    def __init__(
        self,
        *,
        kept: KeptTail,
        live: LiveData,
        journal: JournalStore,
        record: RecordWriter,
        alarm: Callable[[str], None],
    ) -> None:
        self._kept = kept
        self._live = live
        self._journal = journal
        self._record = record
        self._alarm = alarm
        self._written: set[tuple[int, str, str]] = set()
        self.progress = 0
        """Grows with every entry put on record, and every try to."""

    async def write(self) -> None:
        """Put all of them on record. Some may have to wait for what another node remembers: that a customer
        ended one session before they booked the next. What is left when nothing has moved for a while, and
        what comes after others went on, is left for `bring`."""
        left = self._kept.all()
        self._written.intersection_update(map(_place, left))
        tries = 0
        while tries < _AGAIN:
            before = len(left)
            left = await self._write(left, of_this_life=True)
            if not left:
                return
            tries = tries + 1 if len(left) == before else 0
            self.progress += 1
            await asyncio.sleep(_AGAIN_S)
        logger.warning(
            "memories_not_written", extra={"sessions": sorted({entry.session_id for entry in left})}
        )

    async def bring(self, life: Life) -> list[Session]:
        """Bring in those of earlier lives; the sessions that were restored by that."""
        entries = self._kept.of_other_lives(life.epochs)
        if not entries:
            return []
        outcomes = await self._restore(latest(entries))
        restored = [session for session, outcome in outcomes if outcome is Restored.RESTORED]
        passed = {s.id: _promised(s, outcome) for s, outcome in outcomes if outcome in _WENT_ON}
        contradicted = [e for e in entries if e.session is not None and passed.get(e.session.id)]
        for entry in contradicted:
            await self._bury(entry, FORK)
            self._alarm("memory_contradicted")
        for entry in await self._write(
            [e for e in entries if e.session is None or e.session.id not in passed]
        ):
            await self._bury(entry, _REFUSED)
        self._kept.drop(entries)
        logger.info(
            "memories_brought",
            extra={"entries": len(entries), "restored": len(restored), "contradicted": len(contradicted)},
        )
        return restored

    async def _restore(self, sessions: Mapping[str, tuple[Session, str]]) -> list[tuple[Session, Restored]]:
        """What became of each session that is not over on record."""
        rows = await self._record.sessions(list(sessions))
        found = dict(zip(sessions, await self._live.found(list(sessions)), strict=True))
        wanted = [
            Restoration(session=_anew(session), recorded=session.version, command_id=command_id)
            for session, command_id in sessions.values()
            if found[session.id] is not None or not _passed(session, rows.get(session.id))
        ]
        return list(zip([each.session for each in wanted], await self._live.restore(wanted), strict=True))

    async def _write(
        self, entries: Sequence[JournalEntry], *, of_this_life: bool = False
    ) -> list[JournalEntry]:
        """Those that have to wait or are refused: one session's must not keep those of the others from the
        record."""
        left: list[JournalEntry] = []
        progress = self.progress
        over = {id for id, (session, _) in latest(entries).items() if not session.active}
        # What is over makes room for its customer's next session.
        entries = sorted(
            (entry for entry in entries if _place(entry) not in self._written),
            key=lambda entry: (entry.session_id not in over, entry.session_id),
        )
        groups = [list(group) for _, group in groupby(entries, key=attrgetter("session_id"))]
        parts = [groups[start : start + _PAGE] for start in range(0, len(groups), _PAGE)][::-1]
        while parts:
            part = parts.pop()
            together = [entry for group in part for entry in group]
            try:
                result = await self._record.write(together, bury=self._bury, of_this_life=of_this_life)
                timely = [entry for entry in together if (entry.shard, entry.epoch) not in result.late]
                written = [_place(entry) for entry in timely if entry.session_id not in result.waiting]
                left += [entry for entry in timely if entry.session_id in result.waiting]
                self._written.update(written)
                self.progress += len(written)
            except StoreFailed as failure:
                if failure.maybe_done:
                    raise
                if len(part) > 1:
                    parts += [part[len(part) // 2 :], part[: len(part) // 2]]
                else:
                    left += part[0]
        if self.progress > progress:
            logger.info("memories_written", extra={"entries": self.progress - progress})
        return left

    async def _bury(self, entry: JournalEntry, error: str) -> None:
        logger.error("memory_refused", extra={"shard": entry.shard, "entry": entry.id, "error": error})
        self._alarm("journal_entry_buried")
        await self._journal.bury(entry, error)


def _promised(session: Session, outcome: Restored) -> bool:
    """Whether anybody was told what no longer holds. Of a request that nobody had answered, and that others
    went on with or its customer made again, it is not known that anything is missing."""
    return outcome is Restored.HELD or session.status is not SessionStatus.PENDING


def _place(entry: JournalEntry) -> tuple[int, str, str]:
    return entry.shard, entry.epoch, entry.id


def _passed(session: Session, row: Session | None) -> bool:
    """The record shows that it is over, or went further: that the store has nothing of it is no loss."""
    if row is None:
        return False
    return row.version > session.version or (row.version == session.version and not row.active)


def _anew(session: Session) -> Session:
    """As it goes on: by which connection it was offered is for those to say who have one."""
    return replace(
        session,
        version=session.version + VERSION_GAP,
        target_node=None,
        target_connection=None,
        notify_by=None,
    )
