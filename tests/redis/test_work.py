"""What mechanics hold, how many sessions they may, and what a live one does to their presence."""

import asyncio

import pytest

from hub.domain.ids import new_id
from hub.domain.model import Status
from persistence.redis import keys
from tests.domain.samples import ANA
from tests.redis.bench import Bench, open_bench

CLAIM_CHECKED_AFTER_MS = 5_000


async def online(bench: Bench, status: Status = Status.ONLINE) -> None:
    await bench.presence.connect(ANA, "c1", "node", status=status, mechanic=True, limit=8)


async def seen(bench: Bench) -> Status:
    return (await bench.presence.states([ANA]))[ANA].status


async def work(bench: Bench) -> set[str]:
    found: set[str] = await bench.raw.smembers(keys.work(bench.presence.shard(ANA), ANA))
    return found


@pytest.mark.parametrize("chosen", [Status.ONLINE, Status.AWAY])
async def test_live_is_busy_and_the_end_restores_the_choice(bench: Bench, chosen: Status) -> None:
    await online(bench, chosen)

    await bench.presence.set_work(ANA, "first", held=True, live=True)
    await bench.presence.set_work(ANA, "second", held=True, live=True)
    assert await seen(bench) is Status.BUSY
    assert await bench.presence.online(10) == []
    await bench.presence.set_work(ANA, "first", held=False, live=False)
    assert await seen(bench) is Status.BUSY
    await bench.presence.set_work(ANA, "second", held=False, live=False)

    assert await seen(bench) is chosen
    assert bool(await bench.presence.online(10)) is (chosen is Status.ONLINE)
    assert await work(bench) == set()


@pytest.mark.parametrize("chosen", [Status.OFFLINE, Status.BUSY])
async def test_who_chose_to_be_gone_or_busy_stays_so(bench: Bench, chosen: Status) -> None:
    await online(bench, chosen)

    await bench.presence.set_work(ANA, "first", held=True, live=True)
    assert await seen(bench) is chosen
    await bench.presence.set_work(ANA, "first", held=False, live=False)
    assert await seen(bench) is chosen


async def test_a_choice_made_while_live_counts_afterwards(bench: Bench) -> None:
    await online(bench)
    await bench.presence.set_work(ANA, "first", held=True, live=True)

    assert await bench.presence.set_status(ANA, Status.AWAY) is Status.BUSY
    await bench.presence.set_work(ANA, "first", held=False, live=False)

    assert await seen(bench) is Status.AWAY


async def test_who_arrives_with_a_live_session_is_busy(bench: Bench) -> None:
    await bench.presence.set_work(ANA, "first", held=True, live=True)
    assert await seen(bench) is Status.OFFLINE
    assert not await bench.raw.exists(keys.presence(bench.presence.shard(ANA), ANA))

    arrival = await bench.presence.connect(ANA, "c1", "node", status=Status.ONLINE, mechanic=True, limit=8)

    assert arrival.status == Status.BUSY
    assert await bench.presence.online(10) == []


async def test_held_is_not_live(bench: Bench) -> None:
    await online(bench)
    await bench.presence.set_work(ANA, "first", held=True, live=True)

    await bench.presence.set_work(ANA, "first", held=True, live=False)

    assert await work(bench) == {"first"}
    assert await seen(bench) is Status.ONLINE


async def test_writing_the_same_twice_changes_nothing(bench: Bench) -> None:
    for _ in range(2):
        await bench.presence.set_work(ANA, "first", held=True, live=True)
    assert await work(bench) == {"first"}
    for _ in range(2):
        await bench.presence.set_work(ANA, "first", held=False, live=False)

    shard = bench.presence.shard(ANA)
    assert not await bench.raw.exists(keys.work(shard, ANA), keys.live(shard, ANA))


@pytest.mark.parametrize("capacity", [1, 3])
async def test_of_fifty_claims_at_once_as_many_hold_as_there_are_places(bench: Bench, capacity: int) -> None:
    sessions = [new_id() for _ in range(50)]
    async with open_bench(bench.url) as other:
        claims = await asyncio.gather(
            *(
                (bench, other)[n % 2].presence.claim_work(ANA, session_id, capacity)
                for n, session_id in enumerate(sessions)
            )
        )

    won = {session_id for session_id, claimed in zip(sessions, claims, strict=True) if claimed}
    assert len(won) == capacity
    assert await work(bench) == won


async def test_a_place_that_was_taken_is_ones_own_when_asked_again(bench: Bench) -> None:
    assert await bench.presence.claim_work(ANA, "first", 1)
    assert not await bench.presence.claim_work(ANA, "second", 1)
    assert await bench.presence.claim_work(ANA, "first", 1)
    await bench.presence.set_work(ANA, "first", held=False, live=False)
    assert await bench.presence.claim_work(ANA, "second", 1)


async def test_a_claim_is_checked_after_a_while(bench: Bench) -> None:
    shard = bench.presence.shard(ANA)
    earliest = await bench.now() + CLAIM_CHECKED_AFTER_MS

    await bench.presence.claim_work(ANA, "first", 1)
    latest = await bench.now() + CLAIM_CHECKED_AFTER_MS
    await bench.presence.claim_work(ANA, "second", 1)

    deadlines = await bench.raw.zrange(keys.deadlines(shard), 0, -1, withscores=True)
    ((member, due),) = deadlines
    assert member == f"work:first:{ANA}"
    assert earliest <= due <= latest
