"""A node's copy of presence: never older than a moment, never against what was heard."""

import asyncio
from collections.abc import Sequence

from hub.domain.model import PresenceState, Status
from hub.ports import PresenceStore
from hub.sockets.presence_copy import KEPT_S, PresenceCopy
from hub.wire.hints import PresenceChange
from persistence.redis.presence import RedisPresence
from tests.domain.samples import ANA, BEN
from tests.redis.bench import SHARDS, Bench


class SlowPresence(RedisPresence):
    """Counts questions, and answers them when it is allowed to."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.client, SHARDS)
        self.asked: list[str] = []
        self.reads = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def states(self, mechanic_ids: Sequence[str]) -> dict[str, PresenceState]:
        self.asked += mechanic_ids
        self.reads.set()
        found = await super().states(mechanic_ids)
        await self.may_answer.wait()
        return found


class Copy(PresenceCopy):
    def __init__(self, presence: PresenceStore) -> None:
        self.time = 0.0
        self.hearing = True
        super().__init__(presence, hears=lambda: self.hearing, now=lambda: self.time)

    async def status(self, mechanic_id: str) -> Status:
        return (await self.states([mechanic_id]))[mechanic_id].status


async def appear(bench: Bench, mechanic_id: str, status: Status) -> None:
    await bench.presence.connect(mechanic_id, "phone", "node", status=status, mechanic=True, limit=5)


async def test_what_was_read_is_kept_for_a_moment(bench: Bench) -> None:
    presence = SlowPresence(bench)
    copy = Copy(presence)
    await appear(bench, ANA, Status.ONLINE)
    assert [await copy.status(ANA) for _ in range(3)] == [Status.ONLINE] * 3
    assert presence.asked == [ANA]
    await bench.presence.set_status(ANA, Status.AWAY)  # and nobody hears of it
    copy.time += KEPT_S - 0.001
    assert await copy.status(ANA) is Status.ONLINE
    copy.time += 0.002
    assert await copy.status(ANA) is Status.AWAY
    assert {m: s.status for m, s in (await copy.states([ANA, BEN])).items()} == {
        ANA: Status.AWAY,
        BEN: Status.OFFLINE,
    }
    assert presence.asked == [ANA, ANA, BEN]


async def test_what_was_heard_counts_at_once(bench: Bench) -> None:
    copy = Copy(SlowPresence(bench))
    assert await copy.status(ANA) is Status.OFFLINE
    copy.note(PresenceChange(mechanic_id=ANA, status=Status.BUSY, last_seen=7))
    assert await copy.states([ANA]) == {ANA: PresenceState(status=Status.BUSY, last_seen=7)}


async def test_what_was_heard_while_it_was_read_is_newer(bench: Bench) -> None:
    presence = SlowPresence(bench)
    copy = Copy(presence)
    presence.may_answer.clear()
    asking = asyncio.create_task(copy.status(ANA))
    await presence.reads.wait()
    copy.note(PresenceChange(mechanic_id=ANA, status=Status.ONLINE))
    presence.may_answer.set()
    assert await asking is Status.ONLINE
    assert await copy.status(ANA) is Status.ONLINE


async def test_a_deaf_node_asks_every_time(bench: Bench) -> None:
    presence = SlowPresence(bench)
    copy = Copy(presence)
    await copy.status(ANA)
    copy.hearing = False
    await appear(bench, ANA, Status.ONLINE)
    assert await copy.status(ANA) is Status.ONLINE
    assert presence.asked == [ANA, ANA]
