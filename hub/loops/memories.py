"""A node's memories: its commits that were not on record when Redis lost data.

They are written to the record before anything is restored from it. A node that was not there in time (it was
suspended, or cut off) brings them in later: what nobody has gone on from is restored after all; what
contradicts the life that others went on with is kept among the dead letters, with an alarm.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import groupby

from msgspec.structs import replace

from hub.domain.epoch import VERSION_GAP
from hub.domain.errors import StoreFailed
from hub.domain.model import Session, SessionStatus
from hub.domain.records import FORK, JournalEntry, Life, Restoration, Restored
from hub.loops.kept import KeptTail
from hub.ports import JournalStore, LiveData, RecordWriter

_AGAIN, _AGAIN_S = 20, 0.1

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
        self._written: set[tuple[int, str]] = set()

    async def write(self) -> None:
        """Put all of them on record. Some may have to wait for what another node remembers: that a customer
        ended one session before they booked the next. What is left after a while is left for `bring`."""
        self._written.clear()
        left = await self._write(self._kept.all())
        for _ in range(_AGAIN):
            if not left:
                return
            await asyncio.sleep(_AGAIN_S)
            left = await self._write(left)
        logger.warning(
            "memories_not_written", extra={"sessions": sorted({_subject(entry) for entry in left})}
        )

    async def bring(self, life: Life) -> list[Session]:
        """Bring in those of earlier lives; the sessions that were restored by that."""
        entries = self._kept.of_other_lives(life.epochs)
        if not entries:
            return []
        outcomes = await self._restore(_latest(entries))
        restored = [session for session, outcome in outcomes if outcome is Restored.RESTORED]
        passed = {s.id: _promised(s, outcome) for s, outcome in outcomes if outcome in _WENT_ON}
        contradicted = [e for e in entries if e.session is not None and passed.get(e.session.id)]
        for entry in contradicted:
            await self._bury(entry, FORK)
            self._alarm("memory_contradicted")
        await self._write([e for e in entries if e.session is None or e.session.id not in passed])
        self._kept.drop(entries)
        logger.info(
            "memories_brought",
            extra={"entries": len(entries), "restored": len(restored), "contradicted": len(contradicted)},
        )
        return restored

    async def _restore(self, latest: Sequence[JournalEntry]) -> list[tuple[Session, Restored]]:
        """What became of each session that is not over on record."""
        sessions = {entry.session.id: entry.session for entry in latest if entry.session is not None}
        rows = await self._record.sessions(list(sessions))
        found = dict(zip(sessions, await self._live.found(list(sessions)), strict=True))
        wanted = [
            Restoration(
                session=_anew(session),
                recorded=session.version,
                command_id=entry.command_id,
                known=found[session.id],
            )
            for entry in latest
            if (session := entry.session) is not None
            and (found[session.id] is not None or not _passed(session, rows.get(session.id)))
        ]
        return list(zip([each.session for each in wanted], await self._live.restore(wanted), strict=True))

    async def _write(self, entries: Sequence[JournalEntry]) -> list[JournalEntry]:
        """Those that the record refuses: one session's must not keep those of the others from it."""
        refused: list[JournalEntry] = []
        entries = [entry for entry in entries if (entry.shard, entry.id) not in self._written]
        parts = [[list(group) for _, group in groupby(sorted(entries, key=_subject), key=_subject)]]
        while parts:
            part = parts.pop()
            together = [entry for group in part for entry in group]
            try:
                await self._record.write(together, bury=self._bury)
                self._written.update((entry.shard, entry.id) for entry in together)
            except StoreFailed as failure:
                if failure.maybe_done:
                    raise
                if len(part) > 1:
                    parts += [part[len(part) // 2 :], part[: len(part) // 2]]
                else:
                    refused += part[0]
        logger.info("memories_written", extra={"entries": len(entries) - len(refused)})
        return refused

    async def _bury(self, entry: JournalEntry, error: str) -> None:
        logger.error("memory_refused", extra={"shard": entry.shard, "entry": entry.id, "error": error})
        self._alarm("journal_entry_buried")
        await self._journal.bury(entry, error)


def _promised(session: Session, outcome: Restored) -> bool:
    """Whether anybody was told what no longer holds. Of a request that nobody had answered, and that others
    went on with or its customer made again, it is not known that anything is missing."""
    return outcome is Restored.HELD or session.status is not SessionStatus.PENDING


def _subject(entry: JournalEntry) -> str:
    return entry.session.id if entry.session is not None else entry.events[0].session_id


def _latest(entries: Sequence[JournalEntry]) -> list[JournalEntry]:
    """Of each session the entry with its last version."""
    latest: dict[str, JournalEntry] = {}
    for entry in entries:
        if (session := entry.session) is not None:
            known = latest.get(session.id)
            if known is None or known.session is None or known.session.version < session.version:
                latest[session.id] = entry
    return list(latest.values())


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
