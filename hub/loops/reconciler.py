"""The reconciler: compares what Redis holds with what is on record, mends the difference, and says so."""

import asyncio
import logging
from collections.abc import Callable

from msgspec.structs import replace

from hub.dispatch import Dispatcher, Gate
from hub.domain import commands as cmd
from hub.domain.errors import HubError, Unavailable
from hub.domain.ids import new_id
from hub.domain.model import Session
from hub.loops.ranks import Ranks
from hub.loops.recovery import VERSION_GAP
from hub.ports import JournalStore, RecordWriter

logger = logging.getLogger("hub.loops.reconciler")

EVERY_S = 30.0
_ORPHANS_EVERY_S = 3600.0
_SETTLED_MS = 10_000
"""Younger rows may still be on their way through the journal."""


class Reconciler:
    """`mended` is told what was mended, for the metrics."""

    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        record: RecordWriter,
        journal: JournalStore,
        ranks: Ranks,
        gate: Gate,
        mended: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._dispatcher = dispatcher
        self._sessions = dispatcher.sessions
        self._record = record
        self._journal = journal
        self._ranks = ranks
        self._gate = gate
        self._mended = mended
        self._reported: asyncio.Queue[str] = asyncio.Queue(10_000)

    def orphan_reported(self, session_id: str) -> None:
        """Somebody expired this session in Postgres: the live state must follow."""
        try:
            self._reported.put_nowait(session_id)
        except asyncio.QueueFull:
            logger.warning("orphan_report_dropped", extra={"session": session_id})

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        next_look = loop.time() + EVERY_S
        next_orphans = loop.time() + _ORPHANS_EVERY_S
        while True:
            try:
                async with asyncio.timeout(max(0.0, next_look - loop.time())):
                    await self._expire(await self._reported.get())
                continue
            except TimeoutError:
                next_look = loop.time() + EVERY_S
            try:
                await self._gate.passed()
                await self.step()
                if loop.time() >= next_orphans and 0 in self._ranks.first():
                    next_orphans = loop.time() + _ORPHANS_EVERY_S
                    await self._record.expire_orphans()
            except Unavailable as error:
                logger.warning("reconciler_waits", extra={"detail": error.detail})
            except Exception:
                logger.exception("reconcile_failed")

    async def step(self) -> int:
        """Compare the shards at which this node is first; how much was mended."""
        waiting = await self._journal.lengths()
        mine = {shard for shard in self._ranks.first() if not waiting[shard]}
        now = (await self._sessions.load(new_id())).now
        recorded = [
            session
            for session in await self._record.active_sessions()
            if self._sessions.shard(session.id) in mine and session.updated_at < now - _SETTLED_MS
        ]
        live = await self._sessions.get([session.id for session in recorded])
        mended = 0
        for row, session in zip(recorded, live, strict=True):
            if session is None:
                mended += await self._restore(row, "session_missing")
            elif session.version < row.version:
                mended += await self._restore(row, "session_behind")
            elif session.version > row.version and session.updated_at < now - _SETTLED_MS:
                await self._journal.append(self._sessions.shard(session.id), session, new_id())
                self._note("row_behind", session)
                mended += 1
        return mended

    async def _restore(self, row: Session, what: str) -> int:
        """The record knows more than Redis: the session goes on from there, far from versions that somebody
        may still be deciding about."""
        later = replace(row, version=row.version + VERSION_GAP)
        restored = await self._sessions.restore(later, row.version)
        if restored:
            self._note(what, row)
        return int(restored)

    async def _expire(self, session_id: str) -> None:
        try:
            session = await self._dispatcher.execute(session_id, cmd.OrphanDue(forced=True))
            if session.active:
                await self._journal.append(self._sessions.shard(session_id), session, new_id())
        except HubError as error:
            logger.warning("orphan_not_expired", extra={"session": session_id, "detail": error.detail})

    def _note(self, what: str, session: Session) -> None:
        logger.warning("mended", extra={"what": what, "session": session.id, "version": session.version})
        self._mended(what)
