"""Recovery: where Redis may have lost data, the record and the nodes' memories restore it before it serves.

Each shard's epoch names a life of its data, and the data of each run of the server is examined before it is
trusted. An absent epoch, another one, or a run that nobody has examined means that something may be lost:
every node writes what it remembers to Postgres and says so; one of them, under a lock there, restores what
the record knows better and begins new lives last. What was decided in an earlier life cannot commit then.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager

from hub.dispatch import Gate
from hub.domain.errors import Unavailable
from hub.domain.model import Session
from hub.domain.records import Life
from hub.loops.kept import KeptTail
from hub.loops.memories import Memories
from hub.loops.restorer import Restorer
from hub.ports import JournalStore, LiveData, RecordWriter, SessionStore

logger = logging.getLogger("hub.loops.recovery")

_LOOK_S = 0.5
_LOOK_EVERY = 20
"""One look in so many goes through every shard."""
_AGAIN_S = 0.2
_LOOKS = 5
_ASK_S = 0.05
_SAY_EVERY = 100
_SAYING_S = 0.5
_LOCK = 0x6875_6252
"""The advisory lock's number: any that nobody else uses."""


class Recovery:
    """`others`: the nodes that lived when last heard of. `ask_others` has them notice a loss, `say` tells
    them that this node's memories are on record, and in which shards it was ahead, or (None) that it gets on
    with writing them; `wait_s` is how long those of whom nothing is heard are awaited."""

    def __init__(
        self,
        *,
        gate: Gate,
        live: LiveData,
        sessions: SessionStore,
        journal: JournalStore,
        record: RecordWriter,
        kept: KeptTail,
        others: Callable[[], Collection[str]],
        ask_others: Callable[[], Awaitable[None]],
        say: Callable[[list[int] | None], Awaitable[None]],
        announce_all: Callable[[], Awaitable[None]],
        announce: Callable[[Session], Awaitable[None]],
        wait_s: float,
        alarm: Callable[[str], None],
    ) -> None:
        self._gate = gate
        self._live = live
        self._record = record
        self._kept = kept
        self._memories = Memories(kept=kept, live=live, journal=journal, record=record, alarm=alarm)
        self._restorer = Restorer(live=live, sessions=sessions, record=record)
        self._others = others
        self._ask_others = ask_others
        self._say = say
        self._announce_all = announce_all
        self._announce = announce
        self._wait_s = wait_s
        self._known: list[str | None] | None = None
        self._mark: str | None = None
        self._served_at = 0
        self._glances = 0
        self._under_way = False
        self._awaited: set[str] = set()
        self._remembered: dict[str, frozenset[int]] = {}
        self._writing: dict[str, float] = {}
        self._said = -1

    async def run(self) -> None:
        waits = 0
        while True:
            try:
                if not await self._is_well():
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

    async def _is_well(self) -> bool:
        """Whether a glance shows nothing amiss; every now and then a whole look is due all the same."""
        self._glances = (self._glances + 1) % _LOOK_EVERY
        if not self._glances or not self._gate.is_open or self._gate.suspected.is_set():
            return False
        now, mark = await self._live.glance()
        if mark is None or mark != self._mark:
            return False
        self._served_at = now
        return True

    def remembered(self, node: str, ahead: Iterable[int] | None) -> None:
        """Another node has put its memories on record, and issues no command until all is restored; or it is
        still about it."""
        if ahead is None:
            self._writing[node] = asyncio.get_running_loop().time()
        else:
            self._remembered[node] = frozenset(ahead)

    async def step(self) -> None:
        """Look at the live data; recover where some may be lost."""
        life = await self._live.look()
        if life.whole and self._known in (None, life.epochs):
            self._open(life)
            return
        first = self._known is None
        self._shut(first)
        await self._live.landed()
        if not life.whole:
            async with self._saying_so():
                await self._memories.write()
            life = await self._until_whole(life)
        restored: list[Session] = []
        if self._kept.of_other_lives(life.epochs):
            async with self._turn():
                restored = await self._memories.bring(life)
        self._open(life)
        if not first:
            logger.warning("recovered")
            await self._announce_all()
        for session in restored:
            await self._announce(session)

    def _open(self, life: Life) -> None:
        self._known, self._mark, self._served_at = life.epochs, life.mark, life.now
        self._under_way = False
        self._live.trust(life.run)
        self._gate.open()

    def _shut(self, first: bool) -> None:
        self._gate.shut()
        if self._under_way:
            return
        self._under_way = True
        self._awaited = set(self._others())
        self._remembered.clear()
        self._writing.clear()
        self._said = -1
        if first:
            logger.info("loading_open_sessions")
        else:
            logger.error("recovering")

    async def _until_whole(self, life: Life) -> Life:
        """Whoever has the turn restores, the others say that they remember nothing more."""
        while not life.whole:
            ahead = self._kept.ahead(life.epochs, await self._live.last_entries())
            await self._say(sorted(ahead))
            async with self._record.advisory_lock(_LOCK) as held:
                if held and not (life := await self._live.look()).whole:
                    ahead = ahead.union(*await self._answers(life))
                    await self._restorer.restore(life, ahead, max(self._served_at, self._kept.newest()))
            life = await (self._live.look() if held else self._hold_back())
        return life

    async def _hold_back(self) -> Life:
        """While another restores: looking costs little, asking for the turn a connection."""
        for _ in range(_LOOKS):
            await asyncio.sleep(_AGAIN_S)
            life = await self._live.look()
            if life.whole:
                break
        return life

    async def _answers(self, life: Life) -> list[frozenset[int]]:
        """What the other living nodes say; dead ones do not keep everyone waiting for longer than a lease."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._wait_s
        # Whoever has just been started does not know who lived before, where the leases are lost, too.
        strangers = self._known is None and not all(life.epochs) and await self._restorer.something_to_lose()
        while strangers or self._missing():
            heard = max((self._writing.get(node, 0.0) for node in self._missing()), default=0.0)
            if loop.time() >= max(end, heard + self._wait_s):
                if missing := self._missing():
                    logger.warning("memories_missing", extra={"nodes": sorted(missing)})
                break
            await self._ask_others()
            await asyncio.sleep(_ASK_S)
        return list(self._remembered.values())

    def _missing(self) -> set[str]:
        self._awaited.update(self._others())
        return self._awaited - self._remembered.keys()

    @asynccontextmanager
    async def _saying_so(self) -> AsyncIterator[None]:
        """Tell the others that this node is at it, as long as it gets on: on a slow machine that may take
        longer than they would wait for a dead one."""

        async def speak() -> None:
            while True:
                if (progress := self._memories.progress) > self._said:
                    with contextlib.suppress(Unavailable):
                        await self._say(None)
                        self._said = progress
                await asyncio.sleep(_SAYING_S)

        speaking = asyncio.create_task(speak())
        try:
            yield
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One node after the other."""
        while True:
            async with self._record.advisory_lock(_LOCK) as held:
                if held:
                    yield
                    return
            await asyncio.sleep(_AGAIN_S)


async def _first(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
