"""The mender: does what a verdict on drift asks for, says what it mended, and remembers the latest of it."""

import logging
from collections import deque
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from hub.dispatch import Dispatcher
from hub.domain import commands as cmd
from hub.domain.decide import decide
from hub.domain.epoch import VERSION_GAP
from hub.domain.errors import Refused
from hub.domain.ids import new_id
from hub.domain.model import Session, SessionStatus
from hub.domain.records import JournalEntry
from hub.loops.drift import Verdict
from hub.ports import RecordWriter

logger = logging.getLogger("hub.loops.mender")

_REMEMBERED = 50
_RESTATED = 10_000
_ANY = 2**53 - 1
"""A version higher than any: what is there is no session."""


class Mend(Struct, frozen=True, kw_only=True):
    """Something that was mended: what, of which session (in which version) or mechanic, when (store's ms)."""

    what: str
    subject: str
    version: int
    at: int


class Mender:
    """`told` hears what was mended, for the metrics."""

    def __init__(self, *, dispatcher: Dispatcher, record: RecordWriter, told: Callable[[str], None]) -> None:
        self._dispatcher = dispatcher
        self._sessions = dispatcher.sessions
        self._record = record
        self._told = told
        self._recent: deque[Mend] = deque(maxlen=_REMEMBERED)
        self._restated: dict[str, int] = {}
        self.count = 0

    @property
    def recent(self) -> tuple[Mend, ...]:
        """Oldest first."""
        return tuple(self._recent)

    def note(self, what: str, subject: str, version: int, now: int) -> None:
        logger.warning("mended", extra={"what": what, "subject": subject, "version": version})
        self._recent.append(Mend(what=what, subject=subject, version=version, at=now))
        self.count += 1
        self._told(what)

    async def session(self, verdict: Verdict, session: Session, row: Session | None, now: int) -> None:
        """A session that Redis has, and its row."""
        if verdict is Verdict.SESSION_BEHIND and row is not None:
            done = await self._restore(row, row.version)
        elif verdict is Verdict.ORPHAN_UNHEARD:
            done = await self.expire(session.id)
        else:
            done = await self._restate(session)
        if done:
            self.note(verdict, session.id, session.version, now)

    async def row(self, verdict: Verdict, row: Session, now: int) -> None:
        """An active row whose session Redis does not have, or only rubble of it."""
        if verdict is Verdict.SESSION_LOST:
            await self._close(row, now)
        elif not await self._restore(row, _ANY if verdict is Verdict.SESSION_BROKEN else row.version):
            return
        self.note(verdict, row.id, row.version, now)
        if verdict is not Verdict.SESSION_LOST and row.offered_to is not None:
            # The record does not know by which connection; whoever has one is told again.
            await self._dispatcher.mechanic_moved(row.offered_to)

    async def expire(self, session_id: str) -> bool:
        """Somebody expired its row: the session follows, unless it has gone on meanwhile; whether it did."""
        try:
            session = await self._dispatcher.execute(session_id, cmd.OrphanDue(forced=True))
        except Refused:
            return False
        return session.status is SessionStatus.EXPIRED

    async def _restore(self, row: Session, over: int) -> bool:
        """The session goes on from its row, far from versions that somebody may still be deciding about."""
        return await self._sessions.restore(replace(row, version=row.version + VERSION_GAP), over)

    async def _restate(self, session: Session) -> bool:
        """Not twice: where the record cannot hold what the session has, that would never end."""
        if self._restated.get(session.id) == session.version:
            logger.error("cannot_mend", extra={"session": session.id, "version": session.version})
            return False
        done = await self._dispatcher.restate(session.id)
        if done:
            if len(self._restated) >= _RESTATED:
                self._restated.clear()
            self._restated[session.id] = session.version + 1
        return done

    async def _close(self, row: Session, now: int) -> None:
        """Nothing is known of it any more but that it cannot be active."""
        begun = row.status in (SessionStatus.LIVE, SessionStatus.SCHEDULED)
        command = cmd.Cancel(reason="lost") if begun else cmd.OrphanDue(forced=True)
        decision = decide(replace(row, version=row.version + VERSION_GAP), command, now)
        entry = JournalEntry(
            shard=self._sessions.shard(row.id),
            id="",
            command_id=new_id(),
            session=decision.session,
            events=decision.events,
        )
        await self._record.write([entry], bury=_refused)


async def _refused(entry: JournalEntry, error: str) -> None:
    logger.error("mend_refused", extra={"shard": entry.shard, "error": error})
