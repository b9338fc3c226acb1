"""Recovery: when Redis has lost data, the record and the nodes' memories restore it before anyone is served.

Each shard's epoch is a random name in Redis. One that is absent or not the one this node knew means loss:
every node writes what it still remembers to Postgres; one of them, under a lock there, restores what is open
and sets the new epochs last.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from hub.dispatch import Gate
from hub.domain.epoch import new_epoch
from hub.domain.errors import Unavailable
from hub.domain.ids import new_id
from hub.domain.model import KEY_LIVES_MS
from hub.domain.records import JournalEntry
from hub.loops.kept import KeptTail
from hub.ports import RecordWriter, SessionStore

logger = logging.getLogger("hub.loops.recovery")

VERSION_GAP = 1_000
"""Nothing that was decided before the loss may commit after it, so restored versions leave it far behind."""

_LOOK_S = 1.0
_AGAIN_S = 0.1
_SAY_EVERY = 100
_MEMORIES_S = 1.5
"""In this time every other node has noticed, too, and has written what it remembers."""
_LOCK = 0x6875_6252
"""The advisory lock's number: any that nobody else uses."""


class Recovery:
    def __init__(
        self,
        *,
        gate: Gate,
        sessions: SessionStore,
        record: RecordWriter,
        kept: KeptTail,
        announce_all: Callable[[], Awaitable[None]],
        warn_others: Callable[[], Awaitable[bool]],
    ) -> None:
        self._gate = gate
        self._sessions = sessions
        self._record = record
        self._kept = kept
        self._announce_all = announce_all
        self._warn_others = warn_others
        self._known: list[str] | None = None
        self._run: str | None = None
        self._said = False

    async def run(self) -> None:
        waits = 0
        while True:
            try:
                await self.step()
                waits = 0
                await _first(self._gate.suspected, _LOOK_S)
            except Unavailable as error:
                if waits % _SAY_EVERY == 0:
                    logger.warning("recovery_waits", extra={"detail": error.detail})
                waits += 1
                await asyncio.sleep(_AGAIN_S)
            except Exception:
                logger.exception("recovery_failed")
                await asyncio.sleep(1)

    async def step(self) -> None:
        """Compare the epochs and the server's run with those known; recover where they differ."""
        epochs = await self._sessions.epochs()
        run = await self._sessions.run_id()
        present = [epoch for epoch in epochs if epoch]
        whole = present == epochs and self._known in (None, present)
        if whole and self._run in (None, run):
            self._known, self._run = present, run
            self._gate.open()
            return
        self._gate.shut()
        first = self._known is None
        self._say_once(first, "server started anew" if whole else "data lost")
        if len(self._kept):
            await self._write_memories()
        if whole:
            await self._in_turn(self._restore_newer)
        while not all(epochs := await self._sessions.epochs()):
            await self._in_turn(self._restore_lost)
        self._known, self._run = [epoch for epoch in epochs if epoch], run
        self._gate.open()
        self._said = False
        if not first:
            logger.warning("recovered")
            await self._announce_all()

    def _say_once(self, first: bool, why: str) -> None:
        """However many attempts it takes."""
        if self._said:
            return
        self._said = True
        if first:
            logger.info("loading_open_sessions")
        else:
            logger.error("recovering", extra={"why": why})

    async def _in_turn(self, work: Callable[[], Awaitable[None]]) -> None:
        """One node after the other; the later ones find nothing left to do."""
        while True:
            async with self._record.advisory_lock(_LOCK) as held:
                if held:
                    await work()
                    return
            await asyncio.sleep(_AGAIN_S)

    async def _restore_lost(self) -> None:
        absent = [shard for shard, epoch in enumerate(await self._sessions.epochs()) if not epoch]
        if not absent:
            return
        if self._known is not None and await self._warn_others():
            await asyncio.sleep(_MEMORIES_S)
        await self._restore(set(absent))
        now = (await self._sessions.load(new_id())).now
        lately = await self._record.booked_since(now - KEY_LIVES_MS)
        for shard in absent:
            await self._sessions.set_epoch(shard, new_epoch(now if lately else None))

    async def _restore_newer(self) -> None:
        """The server was started anew: what the record knows better, it may have lost."""
        await self._restore(set(range(self._sessions.shards)))

    async def _restore(self, shards: set[int]) -> None:
        restored = 0
        for session in await self._record.active_sessions():
            if self._sessions.shard(session.id) in shards:
                later = replace(session, version=session.version + VERSION_GAP)
                restored += await self._sessions.restore(later, session.version)
        logger.info("restored", extra={"sessions": restored, "shards": len(shards)})

    async def _write_memories(self) -> None:
        async def bury(entry: JournalEntry, error: str) -> None:
            logger.error("memory_refused", extra={"shard": entry.shard, "entry": entry.id, "error": error})

        written = await self._record.write(self._kept.all(), bury=bury)
        logger.info("memories_written", extra={"entries": written.entries})


async def _first(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
