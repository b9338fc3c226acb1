"""What operators are told of Redis: counted exactly, listed newest or soonest first, put back whole."""

import pytest
from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.errors import Refused
from hub.domain.ids import new_id
from hub.domain.model import Event, EventType, Session, Status
from hub.domain.overview import PresenceCounts, SessionCounts
from hub.domain.records import FORK, JournalEntry
from persistence.redis import keys
from persistence.redis.inspection import RedisInspection
from tests.domain.samples import ANA, BEN, CAT, DAN, booked, online
from tests.redis.bench import EPOCH, SHARDS, Bench, book, execute


@pytest.fixture
def inspection(bench: Bench) -> RedisInspection:
    return RedisInspection(bench.client, SHARDS)


async def test_an_idle_hub_has_nothing_to_show(inspection: RedisInspection) -> None:
    state = await inspection.overview(10)

    assert state.nodes == ()
    assert state.presence == PresenceCounts(online=0, busy=0, away=0)
    assert state.sessions == SessionCounts(pending=0, waiting=0, live=0)
    assert (state.offers, state.offers_total, state.open, state.oldest_open_at) == ((), 0, 0, None)
    assert (state.deadlines, state.next_due, state.unrecorded, state.dead) == (0, None, 0, 0)


async def test_sessions_are_counted_in_every_stage(bench: Bench, inspection: RedisInspection) -> None:
    late = await book(bench, online(ANA), customer_id=new_id())
    soon = await book(bench, online(ANA), online(BEN), customer_id=new_id())
    first_open = await book(bench, customer_id=new_id())
    await book(bench, customer_id=new_id())
    waiting = await book(bench, customer_id=new_id())
    await execute(bench, waiting, cmd.Accept(mechanic_id=CAT))
    live = await book(bench, customer_id=new_id())
    await execute(bench, live, cmd.Accept(mechanic_id=DAN), cmd.Start(DAN))
    await bench.presence.set_work(DAN, live.id, held=True, live=True)

    state = await inspection.overview(10)

    assert state.sessions == SessionCounts(pending=4, waiting=1, live=1)
    assert [offer.id for offer in state.offers] == [soon.id, late.id], "what ends first comes first"
    assert [offer.id for offer in (await inspection.overview(1)).offers] == [soon.id]
    assert state.offers_total == 2
    assert (state.open, state.oldest_open_at) == (2, first_open.open_at)
    assert state.next_due == min(soon.notify_by or 0, late.notify_by or 0)
    assert state.unrecorded == 9

    await bench.presence.set_work(DAN, live.id, held=False, live=False)
    assert (await inspection.overview(10)).sessions.live == 0


async def test_people_are_counted_as_others_see_them(bench: Bench, inspection: RedisInspection) -> None:
    for mechanic_id, status in ((ANA, Status.ONLINE), (BEN, Status.BUSY), (CAT, Status.AWAY)):
        await bench.presence.connect(mechanic_id, new_id(), "node", status=status, mechanic=True, limit=5)
    await bench.presence.connect(DAN, new_id(), "node", status=Status.ONLINE, mechanic=True, limit=5)
    await bench.presence.set_work(DAN, new_id(), held=True, live=True)

    assert (await inspection.overview(1)).presence == PresenceCounts(online=1, busy=2, away=1)

    await bench.presence.set_status(BEN, Status.OFFLINE)
    await bench.presence.set_status(CAT, Status.ONLINE)
    assert (await inspection.overview(1)).presence == PresenceCounts(online=2, busy=1, away=0)


async def test_a_node_is_shown_before_it_describes_itself(bench: Bench, inspection: RedisInspection) -> None:
    lease = await bench.presence.renew_lease("new", 6_000)
    await bench.presence.renew_lease("old", 6_000)
    facts = {"host": "here", "pid": "7", "version": "1", "started_at": "1700000000000"}
    await bench.presence.describe_node("old", facts)
    await bench.presence.connect(ANA, "c1", "old", status=Status.ONLINE, mechanic=True, limit=5)

    nodes = {node.id: node for node in (await inspection.overview(1)).nodes}

    assert (nodes["old"].host, nodes["old"].pid, nodes["old"].connections) == ("here", 7, 1)
    assert (nodes["new"].host, nodes["new"].started_at, nodes["new"].connections) == (None, None, 0)
    assert nodes["new"].lease_expires_at == lease.now + 6_000


async def test_events_that_wait_are_found_among_many(bench: Bench, inspection: RedisInspection) -> None:
    session = await book(bench, customer_id=new_id())
    shard = bench.shard(session)
    for _ in range(1_200):
        await bench.raw.xadd(keys.journal(shard), {"events": "[]", "command": new_id()})
    await execute(bench, session, cmd.Accept(mechanic_id=ANA))

    found = await inspection.unrecorded(session.id, session.created_at)

    assert [event.type for event in found] == [EventType.CREATED, EventType.BROADCAST, EventType.ACCEPTED]


async def test_dead_letters_are_paged_newest_first(bench: Bench, inspection: RedisInspection) -> None:
    buried = [f"{at}-{number}" for at in (1_000, 2_000, 3_000) for number in (0, 1)]
    for number, entry_id in enumerate(buried):
        shard = number % SHARDS
        entry = JournalEntry(shard=shard, id=entry_id, command_id=new_id(), session=another(shard), events=())
        await bench.journal.bury(entry, "22P02: no")

    everything = await inspection.dead_letters(100)
    pages = []
    page = await inspection.dead_letters(2)
    while page:
        pages += page
        page = await inspection.dead_letters(2, before=(page[-1].at, page[-1].id))

    assert [letter.at for letter in everything] == [3_000, 3_000, 2_000, 2_000, 1_000, 1_000]
    assert pages == everything
    assert {letter.entry.id for letter in everything} == set(buried)
    assert everything[0].error == "22P02: no"


async def test_sessions_with_a_letter_are_known_however_many(bench: Bench) -> None:
    sessions = [another(0) for _ in range(501)] + [another(1)]
    for number, session in enumerate(sessions):
        shard = bench.shard(session)
        seen = Event(session_id=session.id, type=EventType.SEEN, at=1, version=1, actor_id=ANA)
        state, events = (None, (seen,)) if number % 2 else (session, ())
        entry = JournalEntry(shard=shard, id=f"1-{number}", command_id=new_id(), session=state, events=events)
        await bench.journal.bury(entry, "22P02: no")

    assert await bench.journal.refused() == {session.id for session in sessions}


@pytest.mark.parametrize("size", [1, 5, 100])
async def test_letters_of_one_moment_are_all_listed(
    bench: Bench, inspection: RedisInspection, size: int
) -> None:
    """Twelve of each shard: as text, 10 and 11 come before 2."""
    for shard in range(SHARDS):
        for number in range(12):
            entry = JournalEntry(
                shard=shard, id=f"1000-{number}", command_id=new_id(), session=another(shard), events=()
            )
            await bench.journal.bury(entry, "22P02: no")

    listed = []
    page = await inspection.dead_letters(size)
    while page:
        listed += [letter.id for letter in page]
        page = await inspection.dead_letters(size, before=(page[-1].at, page[-1].id))

    assert listed == [
        f"{shard}-1000-{number}" for number in range(11, -1, -1) for shard in range(SHARDS)[::-1]
    ]


async def test_what_was_refused_still_happened(bench: Bench, inspection: RedisInspection) -> None:
    session = await book(bench, customer_id=new_id())
    await execute(bench, session, cmd.Accept(mechanic_id=ANA))
    shard = bench.shard(session)
    for entry in await bench.entries(shard):
        await bench.journal.bury(entry, "23514: no" if entry.session and entry.session.version == 1 else FORK)
        await bench.journal.trim({shard: entry.id}, {shard: EPOCH})

    found = await inspection.unrecorded(session.id, session.created_at)

    assert [event.type for event in found] == [EventType.CREATED, EventType.BROADCAST], (
        "a fork is another past"
    )


async def test_a_fork_is_not_put_back(bench: Bench, inspection: RedisInspection) -> None:
    session = await book(bench, customer_id=new_id())
    (entry,) = await bench.entries(bench.shard(session))
    await bench.journal.bury(entry, FORK)
    (letter,) = await inspection.dead_letters(10)

    with pytest.raises(Refused) as refused:
        await inspection.retry(letter.id)

    assert refused.value.code == "invalid_state"
    assert await inspection.dead_letters(10) == [letter]


async def test_a_letter_goes_back_whole_and_once(bench: Bench, inspection: RedisInspection) -> None:
    session = await book(bench, customer_id=new_id())
    shard = bench.shard(session)
    (entry,) = await bench.entries(shard)
    await bench.journal.trim({shard: entry.id}, {shard: EPOCH})
    await bench.journal.bury(entry, "23514: no")
    (letter,) = await inspection.dead_letters(10)

    new = await inspection.retry(letter.id)

    assert await bench.entries(shard) == [replace(entry, id=new)]
    assert await inspection.dead_letters(10) == []
    assert await inspection.retry(letter.id) is None


@pytest.mark.parametrize("letter_id", ["", "x", "0-1", "9-1-1", "-1-1-1", "0-1-1 ", "99999999-1-1"])
async def test_what_is_no_letter_is_not_found(inspection: RedisInspection, letter_id: str) -> None:
    assert await inspection.retry(letter_id) is None


def another(shard: int) -> Session:
    return replace(booked(), id=f"{new_id()[:-4]}{shard:04x}")


async def test_letters_may_come_in_any_order_and_each_is_kept_once(bench: Bench) -> None:
    """Memories of an earlier life are older than what was refused since."""
    entries = [
        JournalEntry(shard=1, id=entry_id, command_id=command, session=None, events=())
        for entry_id, command in (("9-0", "late"), ("5-0", "early"), ("5-0", "of another life"), ("", "a"))
    ]
    for _ in range(2):
        for entry in entries:
            await bench.journal.bury(entry, FORK)

    letters = await RedisInspection(bench.client, SHARDS).dead_letters(10)

    assert sorted(letter.entry.command_id for letter in letters) == ["a", "early", "late", "of another life"]
