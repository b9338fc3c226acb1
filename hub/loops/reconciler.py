"""The reconciler: compares what Redis holds with what is on record, mends the difference, and says so.

Each round looks from both sides, page by page: at active rows, for sessions that Redis lost; and at all of
Redis, for places that do not follow from their session (claims, deadlines, indexes), for rows that are wrong,
and for what is left of sessions that are gone. A round that meets more than its share goes on in the next.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from msgspec import Struct

from hub.dispatch import Dispatcher, Gate
from hub.domain.errors import HubError, Unavailable
from hub.domain.footprint import footprint
from hub.domain.ids import new_id
from hub.domain.model import Session
from hub.domain.records import Places
from hub.loops import drift
from hub.loops.drift import Verdict
from hub.loops.mender import Mend, Mender
from hub.loops.ranks import Ranks
from hub.ports import JournalStore, RecordWriter, Survey

logger = logging.getLogger("hub.loops.reconciler")

EVERY_S = 30.0
_ORPHANS_EVERY_S = 3600.0
_PAGE = 500
_SHARE = 20_000
"""Sessions a round compares from each side."""
_STEPS = 1_000
"""Steps through Redis a round takes, however little they find."""
_BREATH_S = 0.02
_BEFORE_ALL = "00000000-0000-0000-0000-000000000000"


class Look(Struct, frozen=True):
    """What a round goes by. `settled`: what changed before is on record, in the `shards` that are drained."""

    now: int
    settled: int
    epochs: list[str | None]
    shards: frozenset[int]
    behind: frozenset[int]


class Reconciler:
    """`mended` is told what was mended, for the metrics. What changed within `settled_ms` is left alone."""

    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        record: RecordWriter,
        journal: JournalStore,
        survey: Survey,
        ranks: Ranks,
        gate: Gate,
        mended: Callable[[str], None] = lambda what: None,
        settled_ms: int = drift.SETTLED_MS,
    ) -> None:
        self._dispatcher = dispatcher
        self._sessions = dispatcher.sessions
        self._record = record
        self._journal = journal
        self._survey = survey
        self._ranks = ranks
        self._gate = gate
        self._mender = Mender(dispatcher=dispatcher, record=record, told=mended)
        self._settled_ms = settled_ms
        self._customer = _BEFORE_ALL
        self._cursor = "0"
        self._connected: set[str] = set()
        self._noted = False
        self._reported: asyncio.Queue[str] = asyncio.Queue(10_000)

    @property
    def recent(self) -> tuple[Mend, ...]:
        """What this node mended last, oldest first."""
        return self._mender.recent

    def orphan_reported(self, session_id: str) -> None:
        """Somebody expired this session in Postgres: the live state must follow."""
        try:
            self._reported.put_nowait(session_id)
        except asyncio.QueueFull:
            logger.warning("orphan_report_dropped", extra={"session": session_id})

    async def run(self) -> None:
        await asyncio.gather(self._hear(), self._rounds())

    async def _hear(self) -> None:
        while True:
            session_id = await self._reported.get()
            try:
                await self._gate.passed()
                await self._mender.expire(session_id)
            except HubError as error:
                logger.warning("orphan_not_expired", extra={"session": session_id, "detail": error.detail})
            except Exception:
                logger.exception("orphan_failed")

    async def _rounds(self) -> None:
        loop = asyncio.get_running_loop()
        next_orphans = loop.time() + _ORPHANS_EVERY_S
        while True:
            await self._note_orphan_age()
            await asyncio.sleep(EVERY_S)
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

    async def _note_orphan_age(self) -> None:
        """Once, as soon as the record is there."""
        if not self._noted:
            try:
                await self._record.note_orphan_age()
                self._noted = True
            except Unavailable as error:
                logger.warning("orphan_age_not_noted", extra={"detail": error.detail})
            except Exception:
                logger.exception("orphan_age_failed")

    async def step(self) -> int:
        """One round over the shards at which this node is first; how much was mended."""
        before = self._mender.count
        look = await self._look()
        if await self._still(look):
            await self._unblock(look)
            await self._walk_rows(look)
            await self._walk_places(look)
        return self._mender.count - before

    async def _look(self) -> Look:
        now = (await self._sessions.load(new_id())).now
        mine = frozenset(self._ranks.first())
        behind = mine & drift.behind(await self._journal.oldest(), now)
        return Look(now, now - self._settled_ms, await self._sessions.epochs(), mine - behind, behind)

    async def _still(self, look: Look) -> bool:
        """Whether nothing has been lost since the look: what is missing then is recovery's to restore."""
        return self._gate.is_open and all(look.epochs) and await self._sessions.epochs() == look.epochs

    def _mine(self, look: Look, session_ids: Iterable[str]) -> list[str]:
        return [sid for sid in session_ids if self._sessions.shard(sid) in look.shards]

    # From the record's side

    async def _unblock(self, look: Look) -> None:
        """A booking whose customer has another active row cannot be written, nor what comes after it."""
        for shard in look.behind:
            entries = (await self._journal.read({shard: ""}, _PAGE))[shard]
            waiting = {entry.session.id: entry.session for entry in entries if entry.session is not None}
            rows = await self._record.active_of([session.customer_id for session in waiting.values()])
            absent = await self._survey.absent([row.id for row in rows if row.id not in waiting])
            for row in rows:
                if row.id in absent and await self._still(look):
                    await self._mender.row(Verdict.SESSION_LOST, row, look.now)

    async def _walk_rows(self, look: Look) -> None:
        for _ in range(_SHARE // _PAGE):
            page = await self._record.active_after(self._customer, _PAGE)
            # Before the checks: what fails in one page must not keep the next round from the others.
            self._customer = page[-1].customer_id if len(page) == _PAGE else _BEFORE_ALL
            await self._check_rows(look, [row for row in page if self._mine(look, [row.id])])
            if self._customer == _BEFORE_ALL or not self._gate.is_open:
                return
            await asyncio.sleep(_BREATH_S)

    async def _check_rows(self, look: Look, rows: list[Session]) -> None:
        absent = await self._survey.absent([row.id for row in rows])
        missing = [row for row in rows if row.id in absent]
        if not missing or not await self._still(look):
            return
        claims = await self._survey.claims([row.customer_id for row in missing])
        ghosts = await self._survey.absent(list(claims.values()))
        for row in missing:
            holder = claims.get(row.customer_id)
            other = holder is not None and holder != row.id and holder not in ghosts
            if verdict := drift.of_row(row, holder, other, look.settled):
                await self._mender.row(verdict, row, look.now)

    # From Redis' side

    async def _walk_places(self, look: Look) -> None:
        compared = 0
        for _ in range(_STEPS):
            self._cursor, places = await self._survey.walk(self._cursor)
            self._connected.update(places.connected)
            await self._check_sessions(look, self._mine(look, places.sessions))
            await self._check_leftovers(look, places)
            await self._check_people(look, places)
            compared += len(places.sessions)
            if self._cursor == "0":
                await self._check_presence(look)
            if self._cursor == "0" or compared >= _SHARE or not self._gate.is_open:
                return
            await asyncio.sleep(_BREATH_S if places.sessions else 0)

    async def _check_sessions(self, look: Look, session_ids: list[str]) -> None:
        if not session_ids:
            return
        looked = await self._survey.sessions(session_ids)
        found = looked.found
        rows = await self._record.sessions(session_ids)
        if not await self._still(look):
            return
        for session_id in looked.broken & rows.keys():
            if rows[session_id].active:
                await self._mender.row(Verdict.SESSION_BROKEN, rows[session_id], look.now)
        await self._align(look, list(found.values()))
        for session in found.values():
            if verdict := drift.of_session(session, rows.get(session.id), look.settled):
                await self._mender.session(verdict, session, rows.get(session.id), look.now)

    async def _align(self, look: Look, sessions: list[Session]) -> None:
        """Put every session where it must stand, in its own shard and in its mechanic's."""
        epochs = (look.epochs[self._sessions.shard(session.id)] or "" for session in sessions)
        wrong = await asyncio.gather(*map(self._survey.align, sessions, epochs))
        for session, places in zip(sessions, wrong, strict=True):
            for what in places:
                self._mender.note(what, session.id, session.version, look.now)
        held = {session.id: session.held_by for session in sessions if session.held_by}
        work = await self._survey.work(list({*held.values()}))
        for session in sessions:
            if (mechanic_id := held.get(session.id)) is None:
                continue
            noted, live = work[mechanic_id]
            if session.id in noted and (session.id in live) == footprint(session).live:
                continue
            if not await self._survey.owed(mechanic_id, session.id):
                await self._dispatcher.align_work(session.id, mechanic_id)
                self._mender.note("work_missing", session.id, session.version, look.now)

    async def _check_leftovers(self, look: Look, places: Places) -> None:
        """What names sessions that do not exist."""
        for ghost in await self._survey.drop_ghosts(places, look.shards):
            self._mender.note(ghost.what, ghost.session_id, 0, look.now)
        claims = await self._survey.claims(places.claims)
        mine = {customer: sid for customer, sid in claims.items() if self._mine(look, [sid])}
        absent = await self._survey.absent(list(mine.values()))
        rows = await self._record.sessions(list(absent)) if absent else {}
        for customer_id, session_id in mine.items():
            # An active one is restored from its row.
            known = rows.get(session_id)
            if session_id not in absent or (known is not None and known.active):
                continue
            if await self._survey.release(customer_id, session_id):
                self._mender.note("claim_left", session_id, 0, look.now)

    async def _check_people(self, look: Look, places: Places) -> None:
        for mechanic_id, (noted, live) in (await self._survey.work(places.work)).items():
            for session_id in self._mine(look, noted | live):
                looked = await self._survey.sessions([session_id])
                session = looked.found.get(session_id)
                held = session is not None and session.held_by == mechanic_id
                if held or session_id in looked.newer:
                    continue
                if not await self._survey.owed(mechanic_id, session_id):
                    await self._dispatcher.align_work(session_id, mechanic_id)
                    version = session.version if session else 0
                    self._mender.note("work_left", session_id, version, look.now)

    async def _check_presence(self, look: Look) -> None:
        """At the end of a walk, of those who look present whose connections were not met on it: to ask after
        everybody's would be most of what idle sockets cost."""
        connected, self._connected = self._connected, set()
        doubtful = await self._survey.present(look.shards) - connected
        for mechanic_id in await self._survey.abandoned(list(doubtful)):
            await self._survey.end_grace(mechanic_id, look.now)
            self._mender.note("grace_missing", mechanic_id, 0, look.now)
