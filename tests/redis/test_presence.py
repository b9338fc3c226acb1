"""Connections as they come and go, and what others see of it."""

import asyncio

import pytest

from hub.domain.ids import new_id
from hub.domain.model import Status
from hub.domain.records import Arrival
from persistence.redis import keys
from tests.domain.samples import ANA, BEN, CUSTOMER
from tests.redis.bench import Bench, Ear

NODE = "node-1"
GRACE_MS = 15_000
ONE, TWO = "connection-one", "connection-two"


async def connect(
    bench: Bench,
    connection: str = ONE,
    *,
    mechanic_id: str = ANA,
    status: Status | None = Status.ONLINE,
    node: str = NODE,
    limit: int = 8,
    again: bool = False,
) -> Arrival:
    return await bench.presence.connect(
        mechanic_id, connection, node, status=status, mechanic=True, limit=limit, again=again
    )


async def disconnect(bench: Bench, connection: str = ONE, *, node: str = NODE) -> tuple[int, bool]:
    return await bench.presence.disconnect(ANA, connection, node, grace_ms=GRACE_MS)


async def grace_of(bench: Bench, user_id: str = ANA) -> float | None:
    found: float | None = await bench.raw.zscore(
        keys.deadlines(bench.presence.shard(user_id)), f"grace:{user_id}"
    )
    return found


async def seen(bench: Bench, mechanic_id: str = ANA) -> Status:
    return (await bench.presence.states([mechanic_id]))[mechanic_id].status


async def is_listed(bench: Bench) -> bool:
    return ANA in [mechanic for mechanic, _ in await bench.presence.online(100)]


# Coming


async def test_a_connection_is_known_to_its_user_and_its_node(bench: Bench) -> None:
    earliest = await bench.now()
    arrival = await connect(bench)
    latest = await bench.now()

    assert (arrival.status, arrival.yielded) == (Status.ONLINE, ())
    assert earliest <= arrival.now <= latest
    contact = (await bench.presence.contacts([ANA]))[ANA]
    (connection,) = contact.connections
    assert (connection.id, connection.node, connection.active_at) == (ONE, NODE, arrival.now)
    assert (contact.state.status, contact.state.last_seen) == (Status.ONLINE, arrival.now)
    assert await bench.presence.connections_of(NODE) == {ONE: ANA}


async def test_a_customer_has_connections_and_no_presence(bench: Bench) -> None:
    arrival = await bench.presence.connect(CUSTOMER, ONE, NODE, status=None, mechanic=False, limit=8)

    assert arrival.status == ""
    assert await bench.presence.connections_of(NODE) == {ONE: CUSTOMER}
    assert not await bench.raw.exists(keys.presence(bench.presence.shard(CUSTOMER), CUSTOMER))
    left = await bench.presence.disconnect(CUSTOMER, ONE, NODE, grace_ms=GRACE_MS)
    assert left == (0, False)
    assert await grace_of(bench, CUSTOMER) is None


async def test_a_mechanic_who_chooses_nothing_keeps_what_was_chosen(bench: Bench) -> None:
    await connect(bench, status=Status.AWAY)

    assert (await connect(bench, TWO, status=None)).status == Status.AWAY
    assert (await connect(bench, mechanic_id=new_id(), status=None)).status == Status.OFFLINE


async def test_what_is_chosen_is_told_to_every_node(bench: Bench, ear: Ear) -> None:
    """Also where others see no difference."""
    await connect(bench, status=Status.AWAY)
    await bench.presence.set_work(ANA, "session", held=True, live=True)
    await connect(bench, TWO, status=Status.ONLINE)
    await connect(bench, TWO, status=None)
    await bench.presence.set_status(ANA, Status.BUSY)

    shard = bench.presence.shard(ANA)
    assert await ear.choices(shard) == [(ANA, "away"), (ANA, "online"), (ANA, "busy")]
    assert await bench.presence.chosen([ANA, BEN]) == {ANA: Status.BUSY}


async def test_whoever_says_it_again_does_not_undo_a_later_choice(bench: Bench) -> None:
    await connect(bench)
    await bench.presence.set_status(ANA, Status.AWAY)

    assert (await connect(bench, status=Status.ONLINE, again=True)).status == Status.AWAY
    await bench.raw.flushall()
    assert (await connect(bench, status=Status.BUSY, again=True)).status == Status.BUSY
    assert (await connect(bench, TWO, status=Status.ONLINE, again=True)).status == Status.BUSY


@pytest.mark.parametrize("chosen", [Status.AWAY, Status.OFFLINE])
async def test_after_a_grace_period_in_error_the_choice_is_back(bench: Bench, chosen: Status) -> None:
    """The node was suspended, and buried; its connections are there still."""
    await connect(bench, status=Status.ONLINE)
    if chosen is Status.OFFLINE:
        await bench.presence.set_status(ANA, chosen)
    await disconnect(bench)
    if chosen is not Status.OFFLINE:
        assert await bench.presence.end_grace(ANA)
    assert await _seen(bench) is Status.OFFLINE

    await connect(bench, status=Status.AWAY, again=True)

    assert await _seen(bench) is chosen


async def _seen(bench: Bench) -> Status:
    return (await bench.presence.states([ANA]))[ANA].status


async def test_a_sign_of_life_moves_the_activity_and_not_the_birth(bench: Bench) -> None:
    await connect(bench)
    key = keys.conns(bench.presence.shard(ANA), ANA)
    _, _, born = (await bench.raw.hget(key, ONE)).split()
    await bench.next_ms()

    again = await connect(bench, status=None)

    assert await bench.raw.hget(key, ONE) == f"{NODE} {again.now} {born}"
    assert again.now > int(born)


async def test_the_oldest_connections_yield(bench: Bench) -> None:
    for n in range(3):
        await connect(bench, f"c{n}", node=f"node-{n}", limit=3)
        await bench.next_ms()
    await connect(bench, "c0", node="node-0", status=None, limit=3)

    arrival = await connect(bench, "c3", node="node-3", limit=3)

    assert arrival.yielded == (("c0", "node-0"),)
    assert await _connections(bench) == {"c1", "c2", "c3"}
    arrival = await connect(bench, "c4", node="node-4", limit=1)
    assert arrival.yielded == (("c1", "node-1"), ("c2", "node-2"), ("c3", "node-3"))
    assert await _connections(bench) == {"c4"}


async def test_one_that_yielded_and_then_goes_changes_nothing(bench: Bench) -> None:
    await connect(bench, ONE, limit=1)
    await connect(bench, TWO, limit=1)

    assert await disconnect(bench, ONE) == (1, True)
    assert await _connections(bench) == {TWO}
    assert await grace_of(bench) is None


# Going


async def test_the_last_connection_starts_the_grace_period(bench: Bench) -> None:
    await connect(bench, ONE)
    await connect(bench, TWO)

    assert await disconnect(bench, ONE) == (1, True)
    assert await grace_of(bench) is None
    earliest = await bench.now() + GRACE_MS
    assert await disconnect(bench, TWO) == (0, True)

    grace = await grace_of(bench)
    assert grace is not None
    assert earliest <= grace <= await bench.now() + GRACE_MS
    assert await bench.presence.connections_of(NODE) == {}
    assert await seen(bench) is Status.ONLINE


async def test_who_comes_back_in_time_was_never_away(bench: Bench, ear: Ear) -> None:
    await connect(bench, ONE)
    await disconnect(bench, ONE)
    await ear.messages(bench.presence.shard(ANA))

    await connect(bench, TWO, status=None)

    assert await grace_of(bench) is None
    assert not await bench.presence.end_grace(ANA)
    assert await seen(bench) is Status.ONLINE
    assert await ear.messages(bench.presence.shard(ANA)) == []


async def test_a_late_goodbye_cannot_erase_a_newer_connection(bench: Bench) -> None:
    await connect(bench, ONE)
    await disconnect(bench, ONE)
    await connect(bench, TWO, node="node-2")

    assert await disconnect(bench, ONE) == (1, True)
    assert await _connections(bench) == {TWO}
    assert await grace_of(bench) is None
    assert await bench.presence.connections_of("node-2") == {TWO: ANA}


async def test_a_repeated_goodbye_does_not_prolong_the_grace_period(bench: Bench) -> None:
    await connect(bench)
    await disconnect(bench)
    grace = await grace_of(bench)
    await bench.next_ms()

    assert await disconnect(bench) == (0, True)
    assert await grace_of(bench) == grace


async def test_after_the_grace_period_a_mechanic_is_offline(bench: Bench, ear: Ear) -> None:
    shard = bench.presence.shard(ANA)
    await connect(bench)
    await disconnect(bench)
    grace = await grace_of(bench)
    await ear.messages(shard)

    assert await bench.presence.end_grace(ANA)

    assert await seen(bench) is Status.OFFLINE
    assert not await is_listed(bench)
    assert await ear.presence(shard) == [(ANA, "offline")]
    assert await grace_of(bench) == grace
    assert await bench.presence.end_grace(ANA)
    assert await ear.messages(shard) == []


async def test_nobody_who_is_there_is_put_offline(bench: Bench) -> None:
    await connect(bench)

    assert not await bench.presence.end_grace(ANA)
    assert await seen(bench) is Status.ONLINE


# What others see


@pytest.mark.parametrize("status", Status)
async def test_a_chosen_status_is_seen(bench: Bench, status: Status) -> None:
    await connect(bench)

    assert await bench.presence.set_status(ANA, status) is status
    assert await seen(bench) is status
    assert await is_listed(bench) is (status is Status.ONLINE)


async def test_only_what_others_can_see_is_announced(bench: Bench, ear: Ear) -> None:
    shard = bench.presence.shard(ANA)
    await connect(bench, ONE)
    assert await ear.presence(shard) == [(ANA, "online")]

    await connect(bench, TWO)
    await connect(bench, TWO, status=None)
    await bench.presence.set_status(ANA, Status.ONLINE)
    await disconnect(bench, ONE)
    await bench.presence.set_work(ANA, "session", held=True, live=False)
    await bench.presence.claim_work(ANA, "other", 5)
    assert await ear.messages(shard) == []

    await bench.presence.set_status(ANA, Status.AWAY)
    await bench.presence.set_work(ANA, "session", held=True, live=True)
    await bench.presence.set_status(ANA, Status.ONLINE)
    await bench.presence.set_work(ANA, "session", held=False, live=False)
    assert await ear.presence(shard) == [(ANA, "away"), (ANA, "busy"), (ANA, "online")]


async def test_since_moves_with_what_is_seen(bench: Bench) -> None:
    await connect(bench)
    key = keys.presence(bench.presence.shard(ANA), ANA)
    since = await bench.raw.hget(key, "since")
    await bench.next_ms()

    await bench.presence.set_status(ANA, Status.ONLINE)
    assert await bench.raw.hget(key, "since") == since
    await bench.presence.set_status(ANA, Status.AWAY)
    assert int(await bench.raw.hget(key, "since")) > int(since)


async def test_who_is_online_is_listed_longest_first(bench: Bench) -> None:
    people = [new_id() for _ in range(12)]
    since = {}
    for mechanic_id in people:
        await connect(bench, mechanic_id=mechanic_id)
        shard = bench.presence.shard(mechanic_id)
        since[mechanic_id] = int(await bench.raw.zscore(keys.online(shard), mechanic_id))
    await connect(bench, mechanic_id=people[0])

    expected = sorted(since.items(), key=lambda item: (item[1], item[0]))
    pages = []
    after = None
    while page := await bench.presence.online(5, after=after):
        pages.append(page)
        after = (page[-1][1], page[-1][0])
    assert [len(page) for page in pages] == [5, 5, 2]
    assert [entry for page in pages for entry in page] == expected


async def test_the_unknown_are_offline(bench: Bench) -> None:
    stranger = new_id()
    states = await bench.presence.states([stranger])
    contacts = await bench.presence.contacts([stranger])

    assert (states[stranger].status, states[stranger].last_seen) == (Status.OFFLINE, None)
    assert contacts[stranger].connections == ()
    assert await bench.presence.states([]) == {}


async def test_many_connections_at_once_leave_one_truth(bench: Bench) -> None:
    names = [f"c{n}" for n in range(40)]
    await asyncio.gather(*(connect(bench, name, limit=100) for name in names))
    await asyncio.gather(*(disconnect(bench, name) for name in names[1:]), connect(bench, "late", limit=100))

    assert await _connections(bench) == {"c0", "late"}
    assert await grace_of(bench) is None
    assert await bench.presence.connections_of(NODE) == {"c0": ANA, "late": ANA}


async def _connections(bench: Bench) -> set[str]:
    contact = (await bench.presence.contacts([ANA]))[ANA]
    return {connection.id for connection in contact.connections}


async def test_who_yielded_without_hearing_of_it_does_not_push_others_out(bench: Bench) -> None:
    await connect(bench, ONE)
    await connect(bench, TWO, limit=1)
    again = await bench.presence.connect(ANA, ONE, NODE, status=None, mechanic=True, limit=1, again=True)
    assert (again.yielded, again.connections) == (((ONE, NODE),), 1)
    known = await bench.presence.connect(ANA, TWO, NODE, status=None, mechanic=True, limit=1, again=True)
    assert (known.yielded, known.status) == ((), Status.ONLINE)


async def test_after_a_loss_everyone_comes_again(bench: Bench) -> None:
    for connection in (ONE, TWO):
        arrival = await bench.presence.connect(
            ANA, connection, NODE, status=Status.AWAY, mechanic=True, limit=2, again=True
        )
        assert arrival.yielded == ()
    assert arrival.connections == 2
