"""The sweeper: applies deadlines when they are due.

It removes no deadline on its own: the commit that applies an effect does. So it may die anywhere, and two
nodes may sweep the same deadline: one commit wins. It sleeps exactly until the earliest deadline of its
shards; node rank k waits k x 50 ms longer, so that nodes do not herd and a dead first node costs 50 ms.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hub.dispatch import Dispatcher
from hub.domain import commands as cmd
from hub.domain.errors import HubError, Refused, Unavailable
from hub.domain.footprint import footprint
from hub.domain.ids import session_of, shard_of_session, shard_of_user
from hub.domain.records import Due, Snapshot
from hub.loops.bell import Bell
from hub.loops.ranks import Ranks
from hub.ports import Clock

logger = logging.getLogger("hub.loops.sweeper")

CAP_MS = 1_000
"""The longest sleep: a deadline whose hint was lost is found within this."""

STAGGER_MS = 50
_PAGE = 32
"""Of each shard: what is read of their sessions with them must not be out of date when their turn comes."""
_AT_ONCE = 16
"""As many as keep a node busy; what they do in one step of the event loop, everybody else waits for."""
_WORST_DELAY_MS = 60_000

_COMMANDS: dict[str, Callable[[], cmd.Command]] = {
    "offer": cmd.OfferDue,
    "notify": cmd.NotifyDue,
    "orphan": cmd.OrphanDue,
}


class Sweeper:
    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        ranks: Ranks,
        clock: Clock,
        late: Callable[[int], None] = lambda ms: None,
        alarm: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._dispatcher = dispatcher
        self._sessions = dispatcher.sessions
        self._presence = dispatcher.presence
        self._ranks = ranks
        self._clock = clock
        self._late = late
        self._alarm = alarm
        self._bell = Bell()
        self._heads: list[int | None] = [None] * self._sessions.shards
        self._looked: list[int] = [0] * self._sessions.shards
        self._failures: dict[str, int] = {}
        self._special: dict[str, Callable[[str, int], Awaitable[None]]] = {
            "grace": self._end_grace,
            "work": self._align_work,
        }

    def wake(self, due: int) -> None:
        """A deadline that comes before the next regular look was set somewhere."""
        if due < self._next_look():
            self._heads = [due if head is None else min(head, due) for head in self._heads]
            self._bell.ring()

    async def run(self) -> None:
        while True:
            await self._bell.wait((self._next_look() - self._clock.now()) / 1000)
            await self._dispatcher.gate.passed()
            try:
                await self.step()
            except Unavailable:
                await asyncio.sleep(0.1)
            except Exception:
                logger.exception("sweep_failed")
                await asyncio.sleep(1)

    async def step(self) -> int:
        """Apply what is due in the shards whose time has come; how many deadlines were applied."""
        now = self._clock.now()
        shards = await self._worth_a_look(now)
        found = await asyncio.gather(*(self._sessions.due(shard, _PAGE) for shard in shards))
        for shard, due in zip(shards, found, strict=True):
            self._clock.learn(due.now)
            self._looked[shard] = due.now
            self._heads[shard] = due.head
        return await self._apply(dict(zip(shards, found, strict=True)))

    async def _worth_a_look(self, now: int) -> list[int]:
        """Shards whose time has come and where something is due: known to be, or after a cheap look at them,
        since most of the time nothing is."""
        shards = [shard for shard in range(self._sessions.shards) if self._time_for(shard) <= now]
        known = [s for s in shards if (head := self._heads[s]) is not None and head <= now]
        unknown = [shard for shard in shards if shard not in known]
        for shard, head in zip(unknown, await self._sessions.heads(unknown), strict=True):
            self._looked[shard], self._heads[shard] = now, head
            if head is not None and head <= now:
                known.append(shard)
        return known

    async def _apply(self, found: dict[int, Due]) -> int:
        """By a few hands that take one deadline after the other, whatever their shards: so that many at once
        leave the event loop time for others. Where a store fails, that shard's are left for the next look."""
        waiting = ((shard, member, at) for shard, due in found.items() for member, at in due.members)
        failures: dict[int, Unavailable] = {}

        async def hand() -> int:
            applied = 0
            for shard, member, at in waiting:
                if shard in failures:
                    continue
                try:
                    applied += await self._apply_one(shard, member, at, found[shard])
                except Unavailable as failure:
                    failures[shard] = failure
                    self._looked[shard] = 0
            return applied

        hands = min(_AT_ONCE, sum(len(due.members) for due in found.values()))
        applied = sum(await asyncio.gather(*(hand() for _ in range(hands))))
        for failure in failures.values():
            raise failure
        return applied

    async def _apply_one(self, shard: int, member: str, at: int, due: Due) -> bool:
        kind, _, rest = member.partition(":")
        self._late(due.now - at)
        try:
            if kind in self._special:
                await self._special[kind](rest, at)
            elif kind in _COMMANDS:
                await self._expire(shard, kind, rest, member, at, due.known.get(member))
            else:
                await self._sessions.settle(shard, member, at)
        except Unavailable:
            raise
        except Exception as error:
            await self._postpone(shard, member, at, due.now, error)
            return False
        self._failures.pop(member, None)
        return True

    async def _expire(
        self, shard: int, kind: str, subject: str, member: str, at: int, known: Snapshot | None
    ) -> None:
        session_id = subject if kind == "orphan" else session_of(subject)
        try:
            session = await self._dispatcher.execute(session_id, _COMMANDS[kind](), known)
        except Refused:
            session = None
        due = footprint(session).deadlines.get(member)
        if due != at or session is None:
            await self._sessions.settle(shard, member, at, due)

    async def _end_grace(self, mechanic_id: str, at: int) -> None:
        if await self._presence.end_grace(mechanic_id):
            await self._dispatcher.mechanic_left(mechanic_id)
        shard = shard_of_user(mechanic_id, self._sessions.shards)
        await self._sessions.settle(shard, f"grace:{mechanic_id}", at)

    async def _align_work(self, subject: str, at: int) -> None:
        session_id, _, mechanic_id = subject.partition(":")
        await self._dispatcher.align_work(session_id, mechanic_id)
        for shard in {
            shard_of_session(session_id, self._sessions.shards),
            shard_of_user(mechanic_id, self._sessions.shards),
        }:
            await self._sessions.settle(shard, f"work:{subject}", at)

    async def _postpone(self, shard: int, member: str, at: int, now: int, error: Exception) -> None:
        """A deadline that cannot be applied must not stop those behind it, nor be forgotten."""
        failures = self._failures[member] = self._failures.get(member, 0) + 1
        delay = min(_WORST_DELAY_MS, 500 * 2 ** min(failures, 10))
        logger.error(
            "deadline_failed",
            extra={"member": member, "failures": failures, "retry_ms": delay},
            exc_info=None if isinstance(error, HubError) else error,
        )
        self._alarm("deadline_failed")
        await self._sessions.settle(shard, member, at, now + delay)

    def _time_for(self, shard: int) -> int:
        """When to look at a shard next, by the store's clock."""
        look = self._looked[shard] + CAP_MS
        head = self._heads[shard]
        if head is not None:
            look = min(look, max(head, self._looked[shard]))
        return look + self._ranks.of(shard) * STAGGER_MS

    def _next_look(self) -> int:
        return min(self._time_for(shard) for shard in range(self._sessions.shards))
