"""Memory is bounded by what is alive: a session that is over leaves nothing that stays."""

import asyncio

from hub.domain import commands as cmd
from hub.domain.ids import new_id
from hub.domain.model import FINISHED_KEYS_LIVE_MS
from persistence.redis import keys
from tests.dispatch.office import Office
from tests.patience import until
from tests.redis.bench import SHARDS, Bench

LIVES = 300
AT_ONCE = 30

CONSTANT = {make(shard) for shard in range(SHARDS) for make in (keys.epoch, keys.journal)}


async def live(office: Office, customer_id: str) -> None:
    """Booked, declined by one, accepted, started and ended."""
    mechanic_id = new_id()
    session = await office.book(customer_id)
    await office.execute(session.id, cmd.Decline(new_id()))
    await office.execute(session.id, cmd.Accept(mechanic_id=mechanic_id))
    await office.execute(session.id, cmd.Start(mechanic_id))
    await office.execute(session.id, cmd.End(mechanic_id))


async def expire(bench: Bench) -> None:
    """Lets the hour pass for every key that has one."""
    for key in set(await bench.raw.keys("*")) - CONSTANT:
        await bench.raw.pexpire(key, 1)


async def at_the_start(bench: Bench) -> bool:
    return bool(await bench.raw.dbsize() == len(CONSTANT))


async def test_three_hundred_lives_leave_only_what_expires(office: Office, bench: Bench) -> None:
    for shard in range(SHARDS):
        customer_id = next(c for c in iter(new_id, "") if bench.presence.shard(c) == shard)
        await live(office, customer_id)
    await expire(bench)

    await until(lambda: at_the_start(bench))

    for _ in range(LIVES // AT_ONCE):
        await asyncio.gather(*(live(office, new_id()) for _ in range(AT_ONCE)))

    left = set(await bench.raw.keys("*")) - CONSTANT
    assert len(left) == 2 * LIVES
    for key in left:
        assert key.split(":")[2] in ("session", "declined")
        assert 0 < await bench.raw.pttl(key) <= FINISHED_KEYS_LIVE_MS
    await expire(bench)
    await until(lambda: at_the_start(bench))
