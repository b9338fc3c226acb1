"""Looking through Redis and putting places right: never against what was decided meanwhile."""

import pytest
from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.ids import new_id
from hub.domain.records import Places
from persistence.redis import keys
from persistence.redis.survey import RedisSurvey
from tests.domain.samples import ANA, CUSTOMER, draft, online
from tests.redis.bench import EPOCH, SHARDS, Bench, book, contents, execute


@pytest.fixture
def survey(bench: Bench) -> RedisSurvey:
    return RedisSurvey(bench.client, SHARDS)


async def test_a_session_that_has_moved_on_is_left_alone(bench: Bench, survey: RedisSurvey) -> None:
    offered = await book(bench, online(ANA))
    await execute(bench, offered, cmd.Cancel())
    before = await contents(bench.url)
    assert await survey.align(offered, EPOCH) == []
    assert (await contents(bench.url)).keys == before.keys


async def test_nothing_is_put_right_in_another_epoch(bench: Bench, survey: RedisSurvey) -> None:
    session = await book(bench)
    await bench.raw.delete(keys.open_requests(bench.shard(session)))
    assert await survey.align(session, "another") == []
    assert await survey.align(session, EPOCH) == ["open_missing"]
    assert await survey.align(session, EPOCH) == []


async def test_a_deadline_that_is_due_stays_where_it_was_put_off_to(
    bench: Bench, survey: RedisSurvey
) -> None:
    session = await book(bench)
    await bench.raw.hset(bench.key(session), "orphan_at", "1")
    (due,) = await bench.sessions.get([session.id])
    assert due is not None
    later = await bench.now() + 60_000
    await bench.raw.zadd(keys.deadlines(bench.shard(session)), {f"orphan:{session.id}": later})
    assert await survey.align(due, EPOCH) == []


async def test_a_claim_goes_to_an_active_session_only_where_no_other_has_it(
    bench: Bench, survey: RedisSurvey
) -> None:
    first = await book(bench)
    claim = keys.active(bench.shard(first), CUSTOMER)
    await bench.raw.delete(claim)
    second = await book(bench, key="second")
    assert await survey.align(first, EPOCH) == []
    assert await bench.raw.get(claim) == second.id
    await bench.raw.delete(bench.key(second))
    assert await survey.align(first, EPOCH) == ["claim_missing"]


async def test_a_session_is_not_restored_beside_another_of_its_customer(bench: Bench) -> None:
    present = await book(bench, key="second")
    row = replace(draft(), version=7, orphan_at=present.orphan_at, open_at=1)
    assert not await bench.sessions.restore(row, 7)
    assert await bench.sessions.get([row.id]) == [None]
    await bench.raw.delete(bench.key(present))
    assert await bench.sessions.restore(row, 7)
    assert await bench.raw.get(keys.active(bench.shard(row), CUSTOMER)) == row.id


async def test_only_what_does_not_exist_is_dropped(bench: Bench, survey: RedisSurvey) -> None:
    session = await book(bench, online(ANA))
    shard = bench.shard(session)
    places = Places(open=(shard,), offers=((shard, ANA),))
    assert await survey.drop_ghosts(places, frozenset({shard})) == []
    assert not await survey.release(CUSTOMER, session.id)
    await bench.raw.delete(bench.key(session))
    assert await survey.drop_ghosts(places, frozenset()) == []
    (ghost,) = await survey.drop_ghosts(places, frozenset({shard}))
    assert (ghost.what, ghost.session_id) == ("offer_left", session.id)
    assert not await survey.release(CUSTOMER, new_id())
    assert await survey.release(CUSTOMER, session.id)
    assert await bench.raw.get(keys.active(shard, CUSTOMER)) is None


async def test_a_walk_finds_every_session_once_or_more(bench: Bench, survey: RedisSurvey) -> None:
    booked = {(await book(bench, customer_id=new_id())).id for _ in range(300)}
    cursor, found, customers = "0", set[str](), set[str]()
    while True:
        cursor, places = await survey.walk(cursor)
        found.update(places.sessions)
        customers.update(places.claims)
        if cursor == "0":
            break
    assert found == booked
    assert set((await survey.claims(list(customers))).values()) == booked
