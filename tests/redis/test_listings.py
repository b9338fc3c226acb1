"""What the stores list: what is due, open, offered, declined; and how a lost session is entered again."""

import pytest
from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.errors import Recovering
from hub.domain.footprint import footprint
from hub.domain.ids import new_id, new_session_id
from hub.domain.model import Session, Wave
from hub.domain.records import Restoration
from persistence.redis import keys
from persistence.redis.codec import session_from
from tests.domain.samples import ANA, BEN, CUSTOMER, after, booked, offline, online, wish
from tests.redis.bench import SHARDS, Bench, book, contents, execute

FAR = 10_000_000


async def customers_of(shard: int, bench: Bench, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        customer_id = new_id()
        if bench.presence.shard(customer_id) == shard:
            found.append(customer_id)
    return found


async def set_deadline(bench: Bench, member: str, due: int, shard: int = 0) -> None:
    await bench.raw.zadd(keys.deadlines(shard), {member: due})


def as_recorded(session: Session) -> Restoration:
    return Restoration(session=session, recorded=session.version)


# What is due


async def test_nothing_is_due_where_nothing_is_set(bench: Bench) -> None:
    earliest = await bench.now()
    due = await bench.sessions.due(0, 10)

    assert earliest <= due.now <= await bench.now()
    assert (due.members, due.head) == ((), None)


async def test_what_is_due_is_listed_earliest_first_and_kept(bench: Bench) -> None:
    now = await bench.now()
    for member, at in (("grace:b", now - 5), ("grace:a", now), ("grace:c", now - 7), ("grace:d", now + FAR)):
        await set_deadline(bench, member, at)

    first = await bench.sessions.due(0, 10)
    again = await bench.sessions.due(0, 10)

    assert first.members == (("grace:c", now - 7), ("grace:b", now - 5), ("grace:a", now))
    assert first.head == now + FAR
    assert (again.members, again.head) == (first.members, first.head)


async def test_a_page_that_is_full_says_that_there_is_more(bench: Bench) -> None:
    for n in range(5):
        await set_deadline(bench, f"grace:{n}", 1_000 + n)

    due = await bench.sessions.due(0, 3)

    assert [member for member, _ in due.members] == ["grace:0", "grace:1", "grace:2"]
    assert due.head == due.now


async def test_deadlines_of_a_session_are_due_while_its_hash_is_there(bench: Bench) -> None:
    session = await book(bench, online(ANA))
    members = footprint(session).deadlines.keys()
    assert {member.partition(":")[0] for member in members} == {"orphan", "offer", "notify"}
    for member in members:
        await set_deadline(bench, member, 1_000, bench.shard(session))

    due = await bench.sessions.due(bench.shard(session), 10)

    assert dict(due.members) == dict.fromkeys(members, 1_000)
    assert due.known.keys() == members


async def test_what_is_due_comes_with_what_a_decision_needs(bench: Bench) -> None:
    session = await book(bench, online(ANA))
    shard = bench.shard(session)
    await bench.raw.sadd(keys.declined(shard, session.id), BEN)
    member = f"offer:{session.assignment_id}"
    await set_deadline(bench, member, 1_000, shard)
    await set_deadline(bench, f"grace:{ANA}", 1_000, shard)

    known = (await bench.sessions.due(shard, 10)).known

    loaded = await bench.sessions.load(session.id)
    assert known == {member: replace(loaded, now=known[member].now)}
    assert known[member].now <= loaded.now
    await bench.raw.hset(bench.key(session), "version", "no number")
    due = await bench.sessions.due(shard, 10)
    assert (member, 1_000) in due.members, "whoever applies it sees what is wrong with it"
    assert due.known == {}


async def test_deadlines_of_vanished_sessions_are_dropped_and_no_others(bench: Bench) -> None:
    gone = booked(online(ANA))
    shard = bench.shard(gone)
    for member in footprint(gone).deadlines:
        await set_deadline(bench, member, 1_000, shard)
    debt = f"work:{gone.id}:{ANA}"
    for member in (debt, f"grace:{ANA}"):
        await set_deadline(bench, member, 1_000, shard)
    await set_deadline(bench, f"orphan:{new_session_id(CUSTOMER)}", await bench.now() + FAR, shard)

    due = await bench.sessions.due(shard, 10)

    assert {member for member, _ in due.members} == {debt, f"grace:{ANA}"}
    assert await bench.raw.zcard(keys.deadlines(shard)) == 3


@pytest.mark.parametrize("digit", "0123456789abcdef")
async def test_an_assignment_is_traced_to_its_session_whatever_its_first_digit(
    bench: Bench, digit: str
) -> None:
    session = replace(booked(online(ANA)), id=digit + new_session_id(CUSTOMER)[1:])
    await bench.sessions.restore(session, session.version)
    await set_deadline(bench, f"offer:{session.assignment_id}", 1_000, bench.shard(session))

    due = await bench.sessions.due(bench.shard(session), 10)

    assert (f"offer:{session.assignment_id}", 1_000) in due.members


async def test_a_deadline_is_settled_where_it_is_as_it_was_seen(bench: Bench) -> None:
    await set_deadline(bench, "grace:a", 1_000)

    assert await bench.sessions.settle(0, "grace:a", 1_000)
    assert await bench.raw.zcard(keys.deadlines(0)) == 0
    assert not await bench.sessions.settle(0, "grace:a", 1_000)


async def test_a_deadline_is_put_off(bench: Bench) -> None:
    await set_deadline(bench, "grace:a", 1_000)

    assert await bench.sessions.settle(0, "grace:a", 1_000, 2_000)
    assert await bench.raw.zscore(keys.deadlines(0), "grace:a") == 2_000


@pytest.mark.parametrize("moved_to", [None, 3_000])
async def test_a_deadline_that_somebody_moved_is_left_alone(bench: Bench, moved_to: int | None) -> None:
    await set_deadline(bench, "grace:a", 2_000)

    assert not await bench.sessions.settle(0, "grace:a", 1_000, moved_to)
    assert await bench.raw.zscore(keys.deadlines(0), "grace:a") == 2_000
    assert not await bench.sessions.settle(0, "grace:unknown", 1_000, moved_to)
    assert await bench.raw.zcard(keys.deadlines(0)) == 1


# What is offered, open, declined, held


async def test_offers_are_listed_for_whose_turn_it_is(bench: Bench) -> None:
    people = [online(ANA), online(BEN)]
    first = await book(bench, *people, customer_id=new_id())
    second = await book(bench, people[0], customer_id=new_id())
    waiting = await book(bench, asked=wish(offline(ANA), wait=True), customer_id=new_id())
    everyones = await book(bench, customer_id=new_id())

    offered = await bench.sessions.offered_to(ANA)
    assert {s.id for s in offered} == {first.id, second.id, waiting.id}
    assert await bench.sessions.offered_to(BEN) == []
    now_bens = await execute(bench, first, cmd.Decline(ANA), known=tuple(people))
    assert {s.id for s in await bench.sessions.offered_to(ANA)} == {second.id, waiting.id}
    assert await bench.sessions.offered_to(BEN) == [now_bens]

    per_shard = [await bench.sessions.offered_now(shard) for shard in range(SHARDS)]
    assert {s.id for part in per_shard for s in part} == {first.id, second.id, waiting.id}
    assert all(bench.shard(s) == shard for shard, part in enumerate(per_shard) for s in part)
    assert everyones.offered_to is None


async def test_an_index_that_points_nowhere_is_passed_over(bench: Bench) -> None:
    session = await book(bench, online(ANA))
    await bench.raw.delete(bench.key(session))

    assert await bench.sessions.offered_to(ANA) == []
    assert await bench.sessions.offered_now(bench.shard(session)) == []
    assert await bench.sessions.active_of(CUSTOMER) is None
    await bench.raw.zadd(keys.open_requests(bench.shard(session)), {session.assignment_id: 1})
    assert await bench.sessions.open(10) == []


async def test_open_requests_are_paged_newest_first(bench: Bench) -> None:
    booked_now = [await book(bench, customer_id=new_id()) for _ in range(12)]
    await book(bench, online(ANA), customer_id=new_id())
    newest_first = sorted(booked_now, key=lambda s: (s.open_at or 0, s.assignment_id), reverse=True)

    pages = []
    before = None
    while page := await bench.sessions.open(5, before=before):
        pages.append(page)
        before = (page[-1].open_at or 0, page[-1].assignment_id)

    assert [len(page) for page in pages] == [5, 5, 2]
    assert [s.id for page in pages for s in page] == [s.id for s in newest_first]


async def test_requests_of_one_millisecond_are_all_paged(bench: Bench) -> None:
    people = await customers_of(0, bench, 9)
    sessions = [replace(booked(), id=new_session_id(c), customer_id=c, open_at=5) for c in people]
    for session in sessions:
        await bench.sessions.restore(session, session.version)

    seen: list[str] = []
    before = None
    while page := await bench.sessions.open(2, before=before):
        seen += [s.id for s in page]
        before = (page[-1].open_at or 0, page[-1].assignment_id)

    assert len(seen) == 9
    assert set(seen) == {s.id for s in sessions}


async def test_declines_are_known_by_mechanic(bench: Bench) -> None:
    first = await book(bench, customer_id=new_id())
    second = await book(bench, customer_id=new_id())
    await execute(bench, first, cmd.Decline(ANA))
    await execute(bench, second, cmd.Decline(BEN))

    assert await bench.sessions.declined_by(ANA, [first, second]) == {first.id}
    assert await bench.sessions.declined_by(BEN, [first, second]) == {second.id}
    assert await bench.sessions.declined_by(BEN, []) == set()


async def test_only_what_a_mechanic_still_holds_is_listed(bench: Bench) -> None:
    held = await book(bench, customer_id=new_id())
    released = await book(bench, customer_id=new_id())
    held = await execute(bench, held, cmd.Accept(mechanic_id=ANA))
    await execute(bench, released, cmd.Accept(mechanic_id=ANA), cmd.Release(ANA))
    for session_id in (held.id, released.id, new_session_id(CUSTOMER)):
        await bench.presence.set_work(ANA, session_id, held=True, live=False)

    assert await bench.sessions.held_by(ANA) == [held]
    assert await bench.sessions.held_by(BEN) == []


async def test_sessions_are_fetched_in_the_order_asked(bench: Bench) -> None:
    first = await book(bench, customer_id=new_id())
    second = await book(bench, customer_id=new_id())

    assert await bench.sessions.get([second.id, new_id(), first.id]) == [second, None, first]
    assert await bench.sessions.get([]) == []
    assert await bench.sessions.active_of(first.customer_id) == first


# Restoring


@pytest.mark.parametrize(
    "session",
    [
        booked(online(ANA), online(BEN), sequence=True),
        booked(offline(ANA), wait=True),
        booked(),
        after(booked(), cmd.Accept(mechanic_id=ANA)),
        after(booked(), cmd.Accept(mechanic_id=ANA), cmd.Start(ANA)),
    ],
    ids=["offered", "queued", "open", "accepted", "live"],
)
async def test_a_restored_session_stands_everywhere_it_must(bench: Bench, session: Session) -> None:
    assert await bench.sessions.restore(session, session.version)

    shard, marks = bench.shard(session), footprint(session)
    held = await bench.raw.hgetall(bench.key(session))
    assert session_from(held) == session
    assert await bench.raw.get(keys.active(shard, CUSTOMER)) == session.id
    deadlines = await bench.raw.zrange(keys.deadlines(shard), 0, -1, withscores=True)
    owed = {f"work:{session.id}:{marks.held_by}": session.updated_at} if marks.held_by else {}
    assert dict(deadlines) == marks.deadlines | owed
    assert await bench.raw.zscore(keys.open_requests(shard), session.assignment_id) == marks.open_at
    if marks.offered_to:
        assert await bench.raw.smembers(keys.offers(shard, marks.offered_to)) == {session.assignment_id}
    assert await bench.raw.keys("*:offers:*") == (
        [keys.offers(shard, marks.offered_to)] if marks.offered_to else []
    )


@pytest.mark.parametrize("older_by", [0, 1])
async def test_what_the_store_has_newer_stays(bench: Bench, older_by: int) -> None:
    session = replace(await book(bench, online(ANA)), version=5)
    await bench.sessions.restore(session, session.version)
    before = await contents(bench.url)

    older = replace(session, version=5 - older_by, notes="older")
    assert not await bench.sessions.restore(older, older.version)
    assert await contents(bench.url) == before


async def test_a_session_that_is_there_in_an_older_version_leaves_all_of_its_places(bench: Bench) -> None:
    session = await book(bench, online(ANA))
    later = replace(after(session, cmd.Accept(mechanic_id=ANA), cmd.Start(ANA)), version=1_003)

    assert await bench.sessions.restore(later, recorded=3)

    assert await bench.sessions.get([session.id]) == [later]
    deadlines = await bench.raw.zrange(keys.deadlines(bench.shard(session)), 0, -1)
    assert deadlines == [f"work:{session.id}:{ANA}"]
    assert await bench.sessions.offered_to(ANA) == []


async def test_of_two_sessions_that_a_customer_has_on_record_one_is_restored(bench: Bench) -> None:
    session = booked()
    other = replace(session, id=new_session_id(CUSTOMER))

    assert await bench.live.restore([as_recorded(session), as_recorded(other)]) == ["restored", "held"]

    assert await bench.sessions.get([session.id, other.id]) == [session, None]
    assert await bench.raw.get(keys.active(bench.shard(session), CUSTOMER)) == session.id


async def test_what_ended_since_makes_room_for_the_next(bench: Bench) -> None:
    session = await book(bench)
    await execute(bench, session, cmd.Decline(BEN))
    over = replace(after(session, cmd.Cancel("admin")), version=1_003)
    following = replace(booked(), id=new_session_id(CUSTOMER))

    assert await bench.live.restore([as_recorded(over)]) == ["restored"]
    assert await bench.live.restore([as_recorded(following)]) == ["restored"]

    shard = bench.shard(session)
    assert await bench.raw.get(keys.active(shard, CUSTOMER)) == following.id
    assert await bench.raw.pttl(bench.key(session)) > 0
    assert await bench.raw.pttl(keys.declined(shard, session.id)) > 0
    assert await bench.raw.pttl(bench.key(following)) == -1


@pytest.mark.parametrize("there", [0, 1, 3], ids=["none", "first", "all"])
async def test_sessions_that_are_much_alike_are_restored_each_as_it_is(bench: Bench, there: int) -> None:
    """Whatever became of the one of which the others are copies."""
    session = booked()
    notes = ("It smokes.", "It smokes.", None, "Twice.")
    customers = await customers_of(bench.shard(session), bench, 4)
    alike = [
        replace(
            session,
            id=new_session_id(who),
            customer_id=who,
            notes=what,
            is_urgent=what is None,
            waves=() if what else (Wave(ANA, 60_000),),
        )
        for who, what in zip(customers, notes, strict=True)
    ]
    assert await bench.live.restore([as_recorded(each) for each in alike[:there]]) == ["restored"] * there
    for each in alike[:there]:
        await bench.raw.hset(bench.key(each), "requested_brand", "its own")

    outcomes = await bench.live.restore([as_recorded(each) for each in alike])

    assert outcomes == ["newer"] * there + ["restored"] * (4 - there)
    assert await bench.sessions.get([each.id for each in alike[there:]]) == alike[there:]


async def test_what_is_left_of_a_hash_is_not_taken_for_a_session(bench: Bench) -> None:
    session = booked()
    await bench.raw.hset(bench.key(session), "notes", "half of one")

    assert await bench.sessions.restore(replace(session, notes=None), session.version)

    assert await bench.sessions.get([session.id]) == [replace(session, notes=None)]


async def test_who_held_an_older_version_is_looked_at_too(bench: Bench) -> None:
    session = await book(bench)
    held = await execute(bench, session, cmd.Accept(mechanic_id=ANA))
    await bench.raw.delete(keys.deadlines(bench.shard(session)))
    later = replace(after(session, cmd.Accept(mechanic_id=BEN)), version=held.version + 1_000)

    assert await bench.sessions.restore(later, recorded=held.version + 1)

    deadlines = await bench.raw.zrange(keys.deadlines(bench.shard(session)), 0, -1)
    assert {f"work:{session.id}:{ANA}", f"work:{session.id}:{BEN}"} <= set(deadlines)


async def test_a_restored_session_goes_on(bench: Bench) -> None:
    session = await book(bench, online(ANA))
    await execute(bench, session, cmd.Notified(f"phone-of-{ANA}", 5))
    assert await bench.sessions.restore(replace(session, version=1_001), recorded=3)

    accepted = await execute(bench, session, cmd.Accept(mechanic_id=ANA))

    assert accepted.version == 1_002
    assert await bench.sessions.offered_to(ANA) == []


async def test_epochs_are_read_and_set_by_shard(bench: Bench) -> None:
    await bench.raw.delete(keys.epoch(1))
    await bench.raw.set(keys.epoch(2), "second")

    epochs = await bench.sessions.epochs()

    assert (epochs[1], epochs[2]) == (None, "second")
    assert all(epochs[shard] for shard in (0, 3))


# Data lost


async def test_of_lost_data_nothing_is_said(bench: Bench) -> None:
    """Not even that there is nothing."""
    session = await book(bench, online(ANA))
    await bench.raw.flushall()
    sessions = bench.sessions
    for read in (
        lambda: sessions.get([session.id]),
        lambda: sessions.active_of(CUSTOMER),
        lambda: sessions.offered_to(ANA),
        lambda: sessions.held_by(ANA),
        lambda: sessions.open(10),
        lambda: sessions.declined_by(ANA, [session]),
    ):
        with pytest.raises(Recovering):
            await read()
