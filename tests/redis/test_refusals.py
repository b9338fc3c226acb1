"""A commit that is refused leaves no trace: not a key, not an expiry, not a message."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.decide import decide
from hub.domain.errors import StoreFailed
from hub.domain.ids import new_id, new_session_id
from hub.domain.records import Outcome
from persistence.redis import keys
from persistence.redis.sessions import COMMIT_WITHIN_MS
from tests.domain.samples import ANA, CUSTOMER
from tests.redis.bench import SHARDS, Bench, book, contents
from tests.redis.scenes import CHANGES, KINDS, Prepare, Scene, accepting, booking

HINTS = ['* {"due":1}', "node-1 {}"]
OWED = [("work:some:debt", 5)]


class Attempt(NamedTuple):
    """A scene as it is sent, and what the store must say."""

    scene: Scene
    outcome: Outcome
    command_id: str = "this-command"
    journal_max: int = 0


Obstacle = Callable[[Bench, Scene], Awaitable[Attempt]]


async def commit(
    bench: Bench, scene: Scene, command_id: str = "this-command", journal_max: int = 0
) -> Outcome:
    outcome, _ = await bench.sessions.commit(
        scene.snapshot,
        scene.decision,
        command_id=command_id,
        journal_max=journal_max,
        hints=HINTS,
        owed=OWED,
    )
    return outcome


async def epoch_absent(bench: Bench, scene: Scene) -> Attempt:
    await bench.raw.delete(keys.epoch(bench.shard(scene.decision.session)))
    return Attempt(scene, Outcome.EPOCH)


async def epoch_changed(bench: Bench, scene: Scene) -> Attempt:
    await bench.raw.set(keys.epoch(bench.shard(scene.decision.session)), "another")
    return Attempt(scene, Outcome.EPOCH)


async def epoch_never_seen(bench: Bench, scene: Scene) -> Attempt:
    """Decided while the data was lost, sent when it was back."""
    return Attempt(_with(scene, epoch=""), Outcome.EPOCH)


async def too_late(bench: Bench, scene: Scene) -> Attempt:
    return Attempt(_with(scene, now=scene.snapshot.now - COMMIT_WITHIN_MS - 1), Outcome.STALE)


async def somebody_was_first(bench: Bench, scene: Scene) -> Attempt:
    snapshot = await bench.sessions.load(scene.decision.session.id)
    if snapshot.session is None:
        first = scene.decision
    else:
        first = decide(snapshot.session, cmd.Cancel("admin"), snapshot.now)
    await bench.sessions.commit(scene.snapshot, first, command_id="first")
    return Attempt(scene, Outcome.CONFLICT)


async def version_ahead(bench: Bench, scene: Scene) -> Attempt:
    """Decided on a version that the store does not have: it was restored from an older state."""
    before = scene.snapshot.session or scene.decision.session
    return Attempt(_with(scene, session=replace(before, version=before.version + 1)), Outcome.CONFLICT)


async def session_gone(bench: Bench, scene: Scene) -> Attempt:
    if scene.snapshot.session is None:
        return await version_ahead(bench, scene)
    await bench.raw.delete(bench.key(scene.snapshot.session))
    return Attempt(scene, Outcome.CONFLICT)


async def journal_full(bench: Bench, scene: Scene) -> Attempt:
    journal = keys.journal(bench.shard(scene.decision.session))
    await bench.raw.xadd(journal, {"waiting": "entry"})
    return Attempt(scene, Outcome.FULL, journal_max=await bench.raw.xlen(journal))


OBSTACLES: tuple[Obstacle, ...] = (
    epoch_absent,
    epoch_changed,
    epoch_never_seen,
    too_late,
    somebody_was_first,
    version_ahead,
    session_gone,
    journal_full,
)


@pytest.mark.parametrize("prepare", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda obstacle: obstacle.__name__)
async def test_a_refusal_leaves_no_trace(bench: Bench, prepare: Prepare, obstacle: Obstacle) -> None:
    attempt = await obstacle(bench, await prepare(bench))
    before = await contents(bench.url)

    outcome = await commit(bench, attempt.scene, attempt.command_id, attempt.journal_max)

    assert outcome is attempt.outcome
    assert await contents(bench.url) == before


@pytest.mark.parametrize("prepare", CHANGES, ids=lambda kind: kind.__name__)
async def test_a_repeated_command_is_reported_and_not_done_again(bench: Bench, prepare: Prepare) -> None:
    scene = await prepare(bench)
    assert await commit(bench, scene) is Outcome.COMMITTED
    before = await contents(bench.url)

    assert await commit(bench, scene) is Outcome.REPEATED
    assert await commit(bench, _with(scene, now=scene.snapshot.now - 60_000)) is Outcome.REPEATED
    assert await commit(bench, scene, journal_max=1) is Outcome.REPEATED
    assert await contents(bench.url) == before


async def test_a_repetition_is_known_after_others_have_moved_the_session_on(bench: Bench) -> None:
    scene = await accepting(bench)
    await commit(bench, scene)
    snapshot = await bench.sessions.load(scene.decision.session.id)
    await bench.sessions.commit(
        snapshot, decide(snapshot.session, cmd.Start(ANA), snapshot.now), command_id="the-next"
    )
    before = await contents(bench.url)

    assert await commit(bench, scene) is Outcome.REPEATED
    assert await contents(bench.url) == before


async def test_of_a_repetition_in_lost_data_nothing_is_known(bench: Bench) -> None:
    scene = await accepting(bench)
    await commit(bench, scene)
    await epoch_changed(bench, scene)
    before = await contents(bench.url)

    assert await commit(bench, scene) is Outcome.EPOCH
    assert await contents(bench.url) == before


@pytest.mark.parametrize("prepare", KINDS, ids=lambda kind: kind.__name__)
async def test_a_commit_that_is_slow_but_in_time_happens(bench: Bench, prepare: Prepare) -> None:
    """Half of the time that it has is left."""
    scene = await prepare(bench)

    assert await commit(bench, _with(scene, now=scene.snapshot.now - COMMIT_WITHIN_MS // 2)) is (
        Outcome.COMMITTED
    )


async def test_one_active_session_a_customer(bench: Bench) -> None:
    scene = await booking(bench)
    other = await book(bench, key="other")
    before = await contents(bench.url)

    outcome, held = await bench.sessions.commit(scene.snapshot, scene.decision, command_id=new_id())

    assert (outcome, held) == (Outcome.HELD, other.id)
    assert await contents(bench.url) == before


async def test_the_claim_of_a_session_that_vanished_is_taken_over(bench: Bench) -> None:
    scene = await booking(bench)
    claim = keys.active(bench.shard(scene.decision.session), CUSTOMER)
    ghost = new_session_id(CUSTOMER)
    await bench.raw.set(claim, ghost)
    assert await commit(bench, scene) is Outcome.HELD

    snapshot = await bench.sessions.load_booking(CUSTOMER, scene.decision.session.id)
    assert (snapshot.held_id, snapshot.held) == (ghost, None)
    assert await commit(bench, Scene(snapshot, scene.decision)) is Outcome.COMMITTED
    assert await bench.raw.get(claim) == scene.decision.session.id


async def test_the_claim_of_a_session_that_is_over_is_taken_over(bench: Bench) -> None:
    scene = await booking(bench)
    claim = keys.active(bench.shard(scene.decision.session), CUSTOMER)
    over = await book(bench, key="over")
    snapshot = await bench.sessions.load(over.id)
    await bench.sessions.commit(
        snapshot, decide(over, cmd.Cancel("admin"), snapshot.now), command_id="cancel"
    )
    await bench.raw.set(claim, over.id)

    found = await bench.sessions.load_booking(CUSTOMER, scene.decision.session.id)
    assert await commit(bench, Scene(found, scene.decision)) is Outcome.COMMITTED
    assert await bench.raw.get(claim) == scene.decision.session.id


async def test_a_ghost_that_was_replaced_meanwhile_is_no_ghost(bench: Bench) -> None:
    scene = await booking(bench)
    claim = keys.active(bench.shard(scene.decision.session), CUSTOMER)
    await bench.raw.set(claim, new_session_id(CUSTOMER))
    haunted = await bench.sessions.load_booking(CUSTOMER, scene.decision.session.id)
    other = new_session_id(CUSTOMER)
    await bench.raw.set(claim, other)
    before = await contents(bench.url)

    outcome, held = await bench.sessions.commit(haunted, scene.decision, command_id=new_id())

    assert (outcome, held) == (Outcome.HELD, other)
    assert await contents(bench.url) == before


@pytest.mark.parametrize("prepare", KINDS, ids=lambda kind: kind.__name__)
async def test_a_full_memory_refuses_the_whole(bench: Bench, prepare: Prepare) -> None:
    scene = await prepare(bench)
    before = await contents(bench.url)
    await bench.raw.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(StoreFailed) as refused:
            await commit(bench, scene)
        assert not refused.value.maybe_done
        assert await contents(bench.url) == before
    finally:
        await bench.raw.config_set("maxmemory", "0")

    assert await commit(bench, scene) is Outcome.COMMITTED


async def test_an_epoch_guards_its_own_shard(bench: Bench) -> None:
    scene = await booking(bench)
    mine = bench.shard(scene.decision.session)
    for shard in set(range(SHARDS)) - {mine}:
        await bench.raw.delete(keys.epoch(shard))

    assert await commit(bench, scene) is Outcome.COMMITTED


def _with(scene: Scene, **values: object) -> Scene:
    return Scene(replace(scene.snapshot, **values), scene.decision)
