"""What a commit that happens writes, and that it writes nothing else."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.decide import Decision, decide
from hub.domain.footprint import footprint
from hub.domain.ids import new_id
from hub.domain.model import FINISHED_KEYS_LIVE_MS, EventType, Session
from hub.domain.records import BookingSnapshot, Outcome
from persistence.redis import keys
from persistence.redis.codec import fields_of
from tests.domain.samples import ANA, BEN, CUSTOMER, MECHANICS, draft, online
from tests.redis.bench import EPOCH, Bench, Ear, book, contents, execute
from tests.redis.scenes import CHANGES, Prepare, accepting, booking, finishing, history
from tests.redis.strategies import sessions


async def places(bench: Bench, session: Session) -> dict[str, object]:
    """Everywhere that the session stands besides its own hash."""
    shard = bench.shard(session)
    return {
        "active": await bench.raw.get(keys.active(shard, session.customer_id)),
        "open": await bench.raw.zscore(keys.open_requests(shard), session.assignment_id),
        "offers": [m for m in MECHANICS if await bench.raw.exists(keys.offers(shard, m))],
        "deadlines": dict(await bench.raw.zrange(keys.deadlines(shard), 0, -1, withscores=True)),
    }


def expected_places(session: Session) -> dict[str, object]:
    marks = footprint(session)
    return {
        "active": session.id if marks.claim else None,
        "open": marks.open_at,
        "offers": [marks.offered_to] if marks.offered_to else [],
        "deadlines": marks.deadlines,
    }


async def fields(bench: Bench, session: Session) -> dict[str, str]:
    found = await bench.raw.hgetall(bench.key(session))
    for beside in ("commands", "asides"):
        found.pop(beside, None)
    return dict(found)


@pytest.mark.parametrize("prepare", CHANGES, ids=lambda kind: kind.__name__)
async def test_the_hash_and_every_index_follow_the_decision(bench: Bench, prepare: Prepare) -> None:
    scene = await prepare(bench)

    outcome, _ = await bench.sessions.commit(scene.snapshot, scene.decision, command_id=new_id())

    session = scene.decision.session
    assert outcome is Outcome.COMMITTED
    assert await fields(bench, session) == fields_of(session)
    assert await places(bench, session) == expected_places(session)
    assert (await bench.sessions.load(session.id)).session == session


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=sessions(active=True), second=sessions(version=2))
async def test_between_any_two_states_only_the_difference_is_written(
    bench: Bench, first: Session, second: Session
) -> None:
    await bench.raw.flushall()
    await bench.raw.set(keys.epoch(bench.shard(first)), EPOCH)
    for session in (first, second):
        snapshot = await bench.sessions.load(session.id)
        decision = Decision(session=session, changed=True)
        outcome, _ = await bench.sessions.commit(snapshot, decision, command_id=new_id())

        assert outcome is Outcome.COMMITTED
        assert await fields(bench, session) == fields_of(session)
        assert await places(bench, session) == expected_places(session)
        assert (await bench.sessions.load(session.id)).session == session


@pytest.mark.parametrize("prepare", CHANGES, ids=lambda kind: kind.__name__)
async def test_the_journal_holds_state_and_events(bench: Bench, prepare: Prepare) -> None:
    scene = await prepare(bench)
    session = scene.decision.session
    shard = bench.shard(session)
    earlier = await bench.entries(shard)

    _, entry_id = await bench.sessions.commit(scene.snapshot, scene.decision, command_id="mine")

    *others, entry = await bench.entries(shard)
    assert others == earlier
    assert (entry.id, entry.shard, entry.command_id) == (entry_id, shard, "mine")
    assert entry.session == session
    assert entry.events == scene.decision.events


async def test_hints_go_out_on_the_bus_of_the_shard_in_their_order(bench: Bench, ear: Ear) -> None:
    scene = await booking(bench)
    hints = ["node-7 {}", '* {"due":12}']

    await bench.sessions.commit(scene.snapshot, scene.decision, command_id=new_id(), hints=hints)

    assert await ear.messages(bench.shard(scene.decision.session)) == hints


async def test_debts_to_other_shards_are_deadlines(bench: Bench) -> None:
    scene = await accepting(bench)
    session = scene.decision.session
    debt = f"work:{session.id}:{ANA}"

    await bench.sessions.commit(
        scene.snapshot, scene.decision, command_id=new_id(), owed=[(debt, scene.snapshot.now + 1000)]
    )

    deadlines = (await places(bench, session))["deadlines"]
    assert deadlines == {**footprint(session).deadlines, debt: scene.snapshot.now + 1000}


async def test_the_last_eight_commands_are_remembered(bench: Bench) -> None:
    session = await book(bench, online(ANA))
    ids = [new_id() for _ in range(10)]
    for command_id in ids:
        snapshot = await bench.sessions.load(session.id)
        assert snapshot.session is not None
        bumped = replace(snapshot.session, version=snapshot.session.version + 1)
        await bench.sessions.commit(snapshot, Decision(session=bumped, changed=True), command_id=command_id)

    assert await bench.raw.hget(bench.key(session), "commands") == " ".join(reversed(ids[2:]))
    before = await contents(bench.url)
    snapshot = await bench.sessions.load(session.id)
    assert snapshot.session is not None
    decision = decide(snapshot.session, cmd.Cancel("admin"), snapshot.now)
    for command_id in ids[2:]:
        outcome, _ = await bench.sessions.commit(snapshot, decision, command_id=command_id)
        assert outcome is Outcome.REPEATED
    assert await contents(bench.url) == before
    outcome, _ = await bench.sessions.commit(snapshot, decision, command_id=ids[1])
    assert outcome is Outcome.COMMITTED


async def test_history_takes_no_version_and_pushes_no_command_out(bench: Bench) -> None:
    scene = await history(bench)
    session = scene.decision.session
    commands = await bench.raw.hget(bench.key(session), "commands")

    for n in range(20):
        event = replace(scene.decision.events[0], actor_id=f"mechanic-{n}")
        decision = replace(scene.decision, events=(event,), declined_by=f"mechanic-{n}")
        outcome, _ = await bench.sessions.commit(scene.snapshot, decision, command_id=new_id())
        assert outcome is Outcome.COMMITTED

    assert await fields(bench, session) == fields_of(session)
    assert await bench.raw.hget(bench.key(session), "commands") == commands
    assert await places(bench, session) == expected_places(session)
    snapshot = await bench.sessions.load(session.id)
    assert snapshot.declined == {f"mechanic-{n}" for n in range(20)}
    entries = (await bench.entries(bench.shard(session)))[1:]
    assert [entry.session for entry in entries] == [None] * 20
    assert [entry.events[0].type for entry in entries] == [EventType.DECLINED] * 20


async def test_a_finished_session_leaves_within_the_hour(bench: Bench) -> None:
    scene = await finishing(bench)
    session = scene.decision.session
    shard = bench.shard(session)
    earliest = await bench.now() + FINISHED_KEYS_LIVE_MS

    await bench.sessions.commit(scene.snapshot, scene.decision, command_id=new_id())

    latest = await bench.now() + FINISHED_KEYS_LIVE_MS
    for key in (bench.key(session), keys.declined(shard, session.id)):
        assert earliest <= await bench.raw.pexpiretime(key) <= latest
    assert await places(bench, session) == {"active": None, "open": None, "offers": [], "deadlines": {}}
    assert (await bench.sessions.load(session.id)).session == session


async def test_what_is_not_finished_does_not_expire(bench: Bench) -> None:
    session = await book(bench, online(ANA), fingerprint="abc")
    session = await execute(bench, session, cmd.Decline(ANA), cmd.Accept(mechanic_id=BEN), cmd.Start(BEN))

    assert await bench.raw.ttl(bench.key(session)) == -1
    assert await bench.raw.ttl(keys.declined(bench.shard(session), session.id)) == -1


async def test_a_claim_that_is_anothers_by_now_is_left_to_them(bench: Bench) -> None:
    scene = await finishing(bench)
    claim = keys.active(bench.shard(scene.decision.session), CUSTOMER)
    await bench.raw.set(claim, "a later session")

    await bench.sessions.commit(scene.snapshot, scene.decision, command_id=new_id())

    assert await bench.raw.get(claim) == "a later session"


async def test_a_booking_is_remembered_for_a_day(bench: Bench) -> None:
    earliest = await bench.now() + 86_400_000
    session = await book(bench, fingerprint="abc")
    latest = await bench.now() + 86_400_000

    key = keys.idempotency(bench.shard(session), session.id)
    assert await bench.raw.get(key) == "abc"
    assert earliest <= await bench.raw.pexpiretime(key) <= latest
    await execute(bench, session, cmd.Cancel("admin"))
    await bench.raw.delete(bench.key(session))
    snapshot = await bench.sessions.load_booking(CUSTOMER, session.id)
    assert (snapshot.session, snapshot.fingerprint, snapshot.held_id) == (None, "abc", None)


async def test_a_booking_without_a_key_is_not_remembered(bench: Bench) -> None:
    session = await book(bench)

    assert not await bench.raw.exists(keys.idempotency(bench.shard(session), session.id))


async def test_load_tells_the_stores_time_and_epoch(bench: Bench) -> None:
    earliest = await bench.now()
    nothing = await bench.sessions.load(draft().id)
    assert earliest <= nothing.now <= await bench.now()
    assert (nothing.epoch, nothing.session, nothing.declined) == (EPOCH, None, frozenset())

    await bench.raw.delete(keys.epoch(bench.sessions.shard(draft().id)))
    assert (await bench.sessions.load(draft().id)).epoch == ""


async def test_load_for_a_booking_tells_what_the_customer_has(bench: Bench) -> None:
    session = await book(bench, online(ANA), fingerprint="abc")

    same = await bench.sessions.load_booking(CUSTOMER, session.id)
    assert isinstance(same, BookingSnapshot)
    assert (same.session, same.held_id, same.held, same.fingerprint) == (session, session.id, session, "abc")
    other = await bench.sessions.load_booking(CUSTOMER, draft(key="other").id)
    assert (other.session, other.held_id, other.held, other.fingerprint) == (None, session.id, session, None)


async def test_every_event_of_the_journal_is_readable_text(bench: Bench) -> None:
    session = await book(bench, online(ANA))

    ((_, entry),) = await bench.raw.xrange(keys.journal(bench.shard(session)))
    assert entry.keys() == {"events", "session", "command"}
    assert msgspec.json.decode(entry["session"])["id"] == session.id
    assert [event["type"] for event in msgspec.json.decode(entry["events"])] == ["created", "offered"]
