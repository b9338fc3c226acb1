"""Recovery over a real Valkey and a real Postgres: what was answered stands, whatever Redis forgot."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.epoch import VERSION_GAP, lost_since, new_epoch
from hub.domain.errors import Unavailable
from hub.domain.footprint import footprint
from hub.domain.ids import new_id, new_session_id, shard_of_user
from hub.domain.model import AssignmentStatus, RoutingType, Session, SessionStatus
from hub.domain.records import FORK, JournalEntry
from hub.loops.restorer import Restorer
from persistence.postgres.pool import Postgres
from persistence.redis import keys
from persistence.redis.inspection import RedisInspection
from tests.dispatch.office import assert_in_place
from tests.domain.samples import ANA, BEN, CUSTOMER, CUSTOMERS, MINUTE, ORPHAN_MS, online, wish
from tests.loops.restoring import Node, open_node, refused
from tests.patience import PATIENCE_S
from tests.postgres.databases import Connection
from tests.postgres.journal import booking, ended
from tests.redis.bench import SHARDS, Bench

DAY_MS = 86_400_000


@pytest_asyncio.fixture
async def nodes(committed: Connection) -> dict[str, Node]:
    await committed.execute(
        "insert into mechanics (id, status) values ($1, 'approved'), ($2, 'approved')", ANA, BEN
    )
    return {}


@pytest_asyncio.fixture
async def one(bench: Bench, postgres: Postgres, nodes: dict[str, Node]) -> AsyncIterator[Node]:
    """A node in a life that recovery began."""
    async with open_node(bench.url, "one", postgres, nodes) as node:
        await node.recovery.step()
        yield node


@pytest_asyncio.fixture
async def two(one: Node, postgres: Postgres, nodes: dict[str, Node]) -> AsyncIterator[Node]:
    async with open_node(one.bench.url, "two", postgres, nodes) as node:
        await node.recovery.step()
        yield node


async def together(*nodes: Node) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(node.recovery.step() for node in nodes))


async def alone(node: Node) -> None:
    """The others are suspended: nobody waits for them, and they hear nothing."""
    others = {name: each for name, each in node.nodes.items() if each is not node}
    for name in others:
        del node.nodes[name]
    await together(node)
    node.nodes.update(others)


class File:
    """All of the data as it was, to be brought back as another run of the server would."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._kept: dict[str, bytes] = {}

    async def keep(self) -> None:
        raw: Any = self._bench.client.redis
        self._kept = {}
        for key in await self._bench.raw.keys("*"):
            self._kept[key] = await raw.execute_command("DUMP", key, NEVER_DECODE=True)

    async def bring_back(self) -> None:
        await self._bench.raw.flushall()
        for key, value in self._kept.items():
            await self._bench.raw.restore(key, 0, value)
        # What was examined was another run.
        await self._bench.raw.set(keys.RUN, "the run that wrote the file")


# What a loss is called


@pytest.mark.parametrize(
    ("booked_ago_ms", "told"), [(None, False), (DAY_MS + 60_000, False), (DAY_MS - 60_000, True)]
)
async def test_an_epoch_tells_of_the_loss_where_there_was_something_to_lose(
    one: Node, booked_ago_ms: int | None, told: bool
) -> None:
    bench = one.bench
    before = await bench.now()
    if booked_ago_ms is not None:
        customer, at = new_id(), before - booked_ago_ms
        session = ended(booking(customer, id=new_session_id(customer), created_at=at, updated_at=at))
        entry = JournalEntry(shard=0, id="1-1", command_id=new_id(), session=session, events=())
        await one.record.write([entry], bury=refused)
    await bench.raw.flushall()

    await one.recovery.step()

    epochs = await bench.sessions.epochs()
    assert all(epochs)
    assert {lost_since(epoch or "", before - 1) for epoch in epochs} == {told}
    after = await bench.now()
    assert not any(lost_since(epoch or "", after) for epoch in epochs)
    assert one.office.gate.is_open
    await one.recovery.step()
    assert await bench.sessions.epochs() == epochs


async def test_a_run_that_lost_nothing_begins_new_lives_and_keeps_all(one: Node) -> None:
    session = await one.office.book()
    await one.recorded()
    declined = await one.office.book(CUSTOMERS[1])
    before = await one.bench.sessions.epochs()
    lost_at = await one.bench.now()
    shard = one.bench.shard(session)
    await one.bench.raw.set(keys.epoch(shard), new_epoch(lost_at))
    await one.record.begin({shard: (await one.bench.sessions.epochs())[shard] or ""})
    await one.bench.raw.set(keys.RUN, "another")

    await one.recovery.step()

    after = await one.bench.sessions.epochs()
    assert not set(before) & set(after)
    assert lost_since(after[shard] or "", lost_at - 1)
    assert {lost_since(e or "", 0) for s, e in enumerate(after) if s != shard} == {False}
    await assert_in_place(one.bench, session)
    await assert_in_place(one.bench, declined)


# An older file


async def test_what_ended_since_an_older_file_was_written_is_over(one: Node) -> None:
    file = File(one.bench)
    session = await one.office.book(asked=wish(online(ANA)))
    await one.recorded()
    await file.keep()
    cancelled = await one.office.execute(session.id, cmd.Cancel(CUSTOMER))
    await one.recorded()
    again = await one.office.book(key="second")
    await one.recorded()

    await file.bring_back()
    await one.recovery.step()

    over = await one.found(session)
    assert (over.status, over.version) == (SessionStatus.CANCELLED, cancelled.version + VERSION_GAP)
    shard = one.bench.shard(session)
    deadlines = await one.bench.raw.zrange(keys.deadlines(shard), 0, -1)
    assert [m for m in deadlines if session.id in m or session.assignment_id in m] == []
    assert await one.bench.raw.exists(keys.offers(shard, ANA)) == 0
    assert await one.bench.raw.get(keys.active(shard, CUSTOMER)) == again.id
    assert await one.bench.raw.pttl(one.bench.key(session)) > 0
    assert (await one.found(again)).version == again.version + VERSION_GAP


async def test_a_restored_session_is_no_newer_than_what_it_was_restored_from(one: Node) -> None:
    """Though its version is; a late memory tells the record that it is over."""
    session = await one.office.book()
    await one.recorded()
    await one.bench.raw.flushall()
    await one.recovery.step()
    assert (await one.found(session)).version == session.version + VERSION_GAP
    over = JournalEntry(
        shard=one.bench.shard(session),
        id="1-1",
        command_id=new_id(),
        session=replace(session, version=session.version + 1, status=SessionStatus.CANCELLED, open_at=None),
        events=(),
    )
    await one.record.write([over], bury=refused)
    await one.bench.raw.delete(keys.epoch(over.shard))

    await one.recovery.step()

    assert (await one.found(session)).status is SessionStatus.CANCELLED


@pytest.mark.parametrize("recorded", [True, False], ids=["on-record", "in-memory"])
async def test_an_accept_since_an_older_file_was_written_stands(one: Node, recorded: bool) -> None:
    file = File(one.bench)
    session = await one.office.book()
    await one.recorded()
    await file.keep()
    accepted = await one.office.execute(session.id, cmd.Accept(mechanic_id=ANA))
    if recorded:
        await one.recorded()

    await file.bring_back()
    await one.recovery.step()

    now = await one.found(session)
    assert (now.mechanic_id, now.version) == (ANA, accepted.version + VERSION_GAP)
    assert (
        await one.bench.raw.zscore(keys.open_requests(one.bench.shard(session)), session.assignment_id)
        is None
    )
    with pytest.raises(Exception, match="taken"):
        await one.office.execute(session.id, cmd.Accept(mechanic_id=BEN))


async def test_a_node_that_was_just_started_knows_an_older_file_by_the_record(
    one: Node, postgres: Postgres
) -> None:
    file = File(one.bench)
    session = await one.office.book()
    await one.recorded()
    await file.keep()
    await one.office.execute(session.id, cmd.Accept(mechanic_id=ANA))
    await one.recorded()
    await file.bring_back()

    async with open_node(one.bench.url, "fresh", postgres, {}) as fresh:
        await together(fresh)

    assert (await one.found(session)).mechanic_id == ANA


async def test_a_shard_that_a_node_was_ahead_of_tells_of_the_loss(one: Node) -> None:
    """A booking that was never recorded: nothing but the node's memory shows that the file is older."""
    file = File(one.bench)
    await file.keep()
    before = await one.bench.now()
    session = await one.office.book()
    await file.bring_back()

    await one.recovery.step()

    epochs = await one.bench.sessions.epochs()
    assert lost_since(epochs[one.bench.shard(session)] or "", before - 1)
    assert (await one.found(session)).version == session.version + VERSION_GAP


async def test_the_journal_of_an_older_file_is_no_fork_and_later_entries_are_read(
    one: Node, committed: Connection
) -> None:
    file = File(one.bench)
    session = await one.office.book()
    await file.keep()
    await one.office.execute(session.id, cmd.Accept(mechanic_id=ANA))
    await one.recorded()

    await file.bring_back()
    await one.recovery.step()
    started = await one.office.execute(session.id, cmd.Start(ANA))
    await one.recorded()

    assert one.alarms == []
    row = await committed.fetchrow("select status, version from sessions where id = $1", session.id)
    assert row is not None
    assert (row["status"], row["version"]) == ("live", started.version)


async def test_a_run_that_nobody_has_examined_is_neither_read_nor_written(one: Node) -> None:
    session = await one.office.book()
    await one.recorded()
    one.bench.live.trust("the run before")

    with pytest.raises(Unavailable, match="started anew"):
        await one.office.execute(session.id, cmd.Accept(mechanic_id=BEN))
    for read in (one.bench.sessions.get([session.id]), one.bench.sessions.load(session.id)):
        with pytest.raises(Unavailable, match="started anew"):
            await read

    assert one.office.gate.suspected.is_set()
    await one.recovery.step()
    assert await one.found(session) == session
    assert (await one.office.execute(session.id, cmd.Accept(mechanic_id=ANA))).mechanic_id == ANA


async def test_what_was_decided_in_an_earlier_life_cannot_commit(one: Node) -> None:
    file = File(one.bench)
    session = await one.office.book()
    await one.recorded()
    await file.keep()
    snapshot = await one.bench.sessions.load(session.id)
    await file.bring_back()
    await one.recovery.step()

    fresh = await one.bench.sessions.load(session.id)
    assert snapshot.session is not None
    assert fresh.epoch != snapshot.epoch


async def test_a_fork_is_kept_with_an_alarm(one: Node) -> None:
    """Two commands made the same version, in two pasts of one session."""
    session = await one.office.book()
    await one.recorded()
    other = JournalEntry(
        shard=one.bench.shard(session),
        id="1-1",
        command_id=new_id(),
        session=replace(session, notes="another past"),
        events=(),
    )
    await one.bench.raw.xadd(
        keys.journal(other.shard),
        {"events": "[]", "command": other.command_id, "session": msgspec.json.encode(other.session)},
    )

    await one.writer.flush()

    assert one.alarms == ["journal_entry_buried"]
    letters = await RedisInspection(one.bench.client, SHARDS).dead_letters(10)
    assert [(letter.error, letter.entry.command_id) for letter in letters] == [(FORK, other.command_id)]
    row = await one.record.session(session.id)
    assert row is not None
    assert row.notes == session.notes


# Times


async def test_what_was_left_of_a_window_is_left_after_an_outage(one: Node) -> None:
    """Seven of ten minutes were left when Redis was last heard of; it is back after five."""
    customer, now = new_id(), await one.bench.now()
    served_at = now - 5 * MINUTE
    session = replace(
        booking(customer, id=new_session_id(customer), created_at=served_at - 3 * MINUTE),
        assignment_status=AssignmentStatus.OFFERED,
        routing_type=RoutingType.PRIORITY,
        preferred_mechanic_id=ANA,
        expires_at=served_at + 7 * MINUTE,
        open_at=None,
    )
    entry = JournalEntry(shard=0, id="", command_id=new_id(), session=session, events=())
    await one.record.write([entry], bury=refused)
    await one.bench.raw.flushall()
    life = await one.bench.live.look()

    restorer = Restorer(live=one.bench.live, sessions=one.bench.sessions, record=one.record)
    await restorer.restore(life, set(), served_at)

    restored = await one.found(session)
    assert restored.expires_at == life.now + 7 * MINUTE
    assert restored.orphan_at == session.created_at + ORPHAN_MS + life.now - served_at
    due = await one.bench.raw.zrange(keys.deadlines(one.bench.shard(session)), 0, -1, withscores=True)
    assert dict(due) == footprint(restored).deadlines
    await one.recorded()
    row = await one.record.session(session.id)
    assert row is not None
    assert (row.version, row.expires_at) == (restored.version, restored.expires_at)


async def test_a_node_knows_when_it_was_last_served(one: Node) -> None:
    session = await one.office.book(asked=wish(online(ANA)))
    await one.recorded()
    await one.recovery.step()
    last, moment = await one.bench.now(), 50
    async with asyncio.timeout(PATIENCE_S):
        while await one.bench.now() < last + moment:
            await one.bench.next_ms()
    await one.bench.raw.flushall()

    await one.recovery.step()

    assert session.expires_at is not None
    shift = ((await one.found(session)).expires_at or 0) - session.expires_at
    assert moment <= shift <= await one.bench.now() - last + moment


# Memories


async def test_whoever_restores_waits_for_what_the_others_remember(one: Node, two: Node) -> None:
    session = await two.office.book()
    await one.bench.raw.flushall()

    restoring = asyncio.create_task(one.recovery.step())
    async with asyncio.timeout(PATIENCE_S):
        await two.asked.wait()
    assert not any(await one.bench.sessions.epochs())
    await together(two)
    await restoring

    for node in (one, two):
        assert node.office.gate.is_open
        assert len(node.kept) == 0
    assert (await one.found(session)).version == session.version + VERSION_GAP


async def test_who_is_slow_to_write_what_they_remember_is_waited_for(
    one: Node, two: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = [await two.office.book(customer) for customer in CUSTOMERS[:4]]
    await one.bench.raw.flushall()
    monkeypatch.setattr("hub.loops.recovery._SAYING_S", 0.01)
    monkeypatch.setattr("hub.loops.memories._PAGE", 1)
    write = two.record.write

    async def slowly(*arguments: Any, **options: Any) -> Any:
        await two.asked_times(10)
        return await write(*arguments, **options)

    monkeypatch.setattr(two.record, "write", slowly)
    await together(one, two)
    for session in sessions:
        assert (await one.found(session)).version == session.version + VERSION_GAP
    assert two.announced == [], "nothing came late"


async def test_who_does_not_get_on_with_it_is_waited_for_no_longer_than_the_dead(
    one: Node, two: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two.office.book()
    await one.bench.raw.flushall()
    monkeypatch.setattr("hub.loops.recovery._SAYING_S", 0.01)

    async def never(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(two.record, "write", never)
    stuck = asyncio.create_task(two.recovery.step())
    await together(one)
    assert one.office.gate.is_open
    assert not stuck.done()
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)


async def test_what_is_written_too_late_is_not_half_there(
    one: Node, two: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node is given up while it writes that the favourite has declined; then they accept."""
    session = await one.office.book(asked=wish(online(ANA)))
    await one.recorded()
    await two.office.execute(session.id, cmd.Decline(ANA))
    await one.bench.raw.flushall()
    write, over = two.record.write, asyncio.Event()

    async def late(*arguments: Any, **options: Any) -> Any:
        await over.wait()
        return await write(*arguments, **options)

    monkeypatch.setattr(two.record, "write", late)
    slow = asyncio.create_task(two.recovery.step())
    await together(one)
    await one.office.execute(session.id, cmd.Accept(mechanic_id=ANA))
    over.set()
    await slow
    await one.recorded()

    events = (await one.record.events(session.id)).values()
    assert [event.type for event in events if event.type in ("declined", "accepted")] == ["accepted"]
    assert two.alarms == [], "nobody was promised anything"


async def test_what_a_later_file_still_has_of_a_restored_session_is_no_contradiction(one: Node) -> None:
    session = await one.office.book()
    await one.recorded()
    await one.bench.raw.flushall()
    await together(one)
    accepted = await one.office.execute(session.id, cmd.Accept(mechanic_id=ANA))
    await one.bench.raw.set(keys.RUN, "another")

    await together(one)

    assert (await one.found(session)).version == accepted.version
    assert len(one.kept) == 0
    assert one.alarms == []


async def test_what_one_node_remembers_waits_for_what_another_does(one: Node, two: Node) -> None:
    """A customer ended one session by one of them, and booked the next by the other."""
    first = await one.office.book()
    await one.recorded()
    await two.office.execute(first.id, cmd.End(CUSTOMER))
    second = await one.office.book(key="second")
    await one.bench.raw.flushall()

    await together(one, two)

    assert (await one.found(second)).version == second.version + VERSION_GAP
    ended = await one.record.session(first.id)
    assert ended is not None
    assert not ended.active
    assert (one.alarms, two.alarms) == ([], [])
    assert (one.announced, two.announced) == ([], []), "nothing came late"


async def test_nobody_waits_for_the_dead_for_longer_than_a_lease(one: Node, two: Node) -> None:
    await one.bench.raw.flushall()

    await together(one)

    assert all(await one.bench.sessions.epochs())


async def test_a_booking_that_only_a_suspended_node_knew_is_restored_when_it_wakes(
    one: Node, two: Node
) -> None:
    session = await two.office.book(asked=wish(online(ANA)))
    await one.bench.raw.flushall()
    await alone(one)
    assert await one.bench.sessions.get([session.id]) == [None]

    await together(two)

    restored = await one.found(session)
    assert restored.version == session.version + VERSION_GAP
    assert await one.bench.raw.get(keys.active(one.bench.shard(session), CUSTOMER)) == session.id
    assert [each.id for each in two.announced] == [session.id]
    row = await one.record.session(session.id)
    assert row is not None
    assert row.version == session.version
    assert len(two.kept) == 0
    assert two.alarms == []


async def test_an_accept_that_only_a_suspended_node_knew_stands_while_nobody_went_on(
    one: Node, two: Node
) -> None:
    session = await one.office.book()
    await one.recorded()
    accepted = await two.office.execute(session.id, cmd.Accept(mechanic_id=ANA))
    await one.bench.raw.flushall()
    await alone(one)
    assert (await one.found(session)).mechanic_id is None

    await together(two)

    now = await one.found(session)
    assert (now.mechanic_id, now.version) == (ANA, accepted.version + VERSION_GAP)
    assert (
        await one.bench.raw.zscore(keys.open_requests(one.bench.shard(session)), session.assignment_id)
        is None
    )


async def test_what_is_drained_while_others_restore_says_nothing_of_the_earlier_life(
    one: Node, two: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is restored into its journal comes later than all that was committed in it."""
    file, live = File(one.bench), one.bench.live
    offered = await one.office.book(asked=wish(online(ANA)))
    shard = one.bench.shard(offered)
    session = await one.office.book(
        next(customer for customer in iter(new_id, "") if shard_of_user(customer, SHARDS) == shard)
    )
    await one.recorded()
    await file.keep()
    await one.office.execute(offered.id, cmd.Notified(f"phone-of-{ANA}", offered.created_at))
    await one.recorded()
    accepted = await two.office.execute(session.id, cmd.Accept(mechanic_id=BEN))
    await file.bring_back()
    begin = live.begin

    async def drained_before(run: str, epochs: Mapping[int, str]) -> None:
        await two.writer.flush()
        for number, (epoch, cursor) in (await two.record.cursors()).items():
            two.kept.recorded(number, epoch, cursor or "0")
        await begin(run, epochs)

    monkeypatch.setattr(live, "begin", drained_before)
    await alone(one)
    await together(two)

    now = await one.found(session)
    assert (now.mechanic_id, now.version) == (BEN, accepted.version + VERSION_GAP)
    assert "accepted" in {event.type for event in (await one.record.events(session.id)).values()}


async def test_where_others_went_on_the_memory_is_kept_with_an_alarm(one: Node, two: Node) -> None:
    session = await one.office.book()
    await one.recorded()
    await two.office.execute(session.id, cmd.Accept(mechanic_id=ANA))
    await one.bench.raw.flushall()
    await alone(one)
    theirs = await one.office.execute(session.id, cmd.Accept(mechanic_id=BEN))
    await one.recorded()

    await together(two)

    assert await one.found(session) == theirs
    assert "memory_contradicted" in two.alarms
    letters = await RedisInspection(one.bench.client, SHARDS).dead_letters(10)
    assert [
        (letter.error, letter.entry.session and letter.entry.session.mechanic_id) for letter in letters
    ] == [(FORK, ANA)]
    row = await one.record.session(session.id)
    assert row is not None
    assert row.mechanic_id == BEN


async def test_a_booking_that_was_repeated_meanwhile_is_no_contradiction(one: Node, two: Node) -> None:
    """Its customer asked again with the same key, and was served by another node."""
    session = await two.office.book(asked=wish(online(ANA)))
    await two.office.execute(session.id, cmd.Notified(f"phone-of-{ANA}", session.created_at))
    await one.bench.raw.flushall()
    await alone(one)
    again = await one.office.book()
    accepted = await one.office.execute(again.id, cmd.Accept(mechanic_id=BEN))
    assert again.id == session.id
    await one.recorded()

    await together(two)

    assert await one.found(session) == accepted
    assert two.alarms == []
    assert await RedisInspection(one.bench.client, SHARDS).dead_letters(10) == []


async def test_a_customer_who_booked_anew_keeps_the_new_session(one: Node, two: Node) -> None:
    forgotten = await two.office.book()
    await one.bench.raw.flushall()
    await alone(one)
    new = await one.office.book(key="second")

    await together(two)

    assert await one.bench.sessions.get([forgotten.id]) == [None]
    assert "memory_contradicted" in two.alarms
    await one.recorded()
    row = await one.record.session(new.id)
    assert row is not None
    assert two.office.gate.is_open


async def test_a_node_that_slept_through_an_end_ends_it_when_it_wakes(one: Node, two: Node) -> None:
    session = await one.office.book()
    await one.recorded()
    await two.office.execute(session.id, cmd.Cancel(CUSTOMER))
    await one.bench.raw.flushall()
    await alone(one)

    await together(two)

    assert (await one.found(session)).status is SessionStatus.CANCELLED
    assert await one.bench.raw.get(keys.active(one.bench.shard(session), CUSTOMER)) is None


async def test_memories_of_one_customer_do_not_wait_for_each_other_forever(one: Node, two: Node) -> None:
    """One node remembers the end of a session, the other the next booking; the first one never comes."""
    session = await one.office.book()
    await one.recorded()
    await two.office.execute(session.id, cmd.Cancel(CUSTOMER))
    await one.office.book(key="second")
    await one.bench.raw.flushall()

    await alone(one)

    assert one.office.gate.is_open
    assert "memory_contradicted" in one.alarms


async def test_a_reply_that_is_on_its_way_when_the_loss_shows_is_remembered(one: Node) -> None:
    booking_now = asyncio.create_task(one.office.try_book())
    entries = 0
    while not entries and not booking_now.done():
        entries = sum([await one.bench.raw.xlen(keys.journal(shard)) for shard in range(SHARDS)])
    await one.bench.raw.flushall()

    await one.recovery.step()

    session, _ = await booking_now
    assert session is not None
    assert (await one.found(session)).id == session.id


# Many


async def test_three_thousand_sessions_are_restored_in_every_place(one: Node) -> None:
    wanted: dict[str, Session] = {}
    entries = []
    for n in range(3_000):
        customer = new_id()
        session = booking(customer, id=new_session_id(customer), version=1 + n % 3)
        if n % 5 == 0:
            session = replace(
                session,
                status=SessionStatus.LIVE,
                assignment_status=AssignmentStatus.ACCEPTED,
                mechanic_id=ANA,
                accepted_at=session.created_at,
                started_at=session.created_at,
                open_at=None,
            )
        if n % 7 == 0:
            session = ended(session)
        else:
            wanted[session.id] = session
        shard = one.bench.shard(session)
        entries.append(JournalEntry(shard=shard, id="", command_id=new_id(), session=session, events=()))
    await one.record.write(entries, bury=refused)
    await one.bench.raw.flushall()

    await one.recovery.step()

    found = await one.bench.sessions.get(list(wanted))
    for session, restored in zip(wanted.values(), found, strict=True):
        assert restored is not None
        assert (restored.version, restored.status) == (session.version + VERSION_GAP, session.status)
        assert restored.customer_name == session.customer_name
        marks, shard = footprint(restored), one.bench.shard(restored)
        assert await one.bench.raw.get(keys.active(shard, restored.customer_id)) == restored.id
        places = await one.bench.raw.zscore(keys.open_requests(shard), restored.assignment_id)
        assert places == marks.open_at
        for member, due in marks.deadlines.items():
            assert await one.bench.raw.zscore(keys.deadlines(shard), member) == due
    sessions = [key async for key in one.bench.raw.scan_iter("hub:*:session:*", count=1_000)]
    assert len(sessions) == len(wanted)
