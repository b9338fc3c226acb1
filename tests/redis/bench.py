"""What the tests of the Redis stores share: stores on a real server, and ways to look at what they did."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace
from redis.asyncio import Redis

from hub.domain import commands as cmd
from hub.domain.decide import decide
from hub.domain.ids import new_id
from hub.domain.model import Candidate, Session
from hub.domain.plan import Wish
from hub.domain.records import Outcome
from persistence.redis import keys
from persistence.redis.bus import RedisBus
from persistence.redis.client import RedisClient
from persistence.redis.journal import RedisJournal
from persistence.redis.live import RedisLive
from persistence.redis.presence import RedisPresence
from persistence.redis.sessions import RedisSessions
from tests.domain.samples import CUSTOMER, NOTIFY_MS, ORPHAN_MS, by_id, draft, wish
from tests.patience import PATIENCE_S, until

SHARDS = 4
EPOCH = "first-epoch"


class Bench(NamedTuple):
    """The stores on one client, and `raw`, a plain connection to look with."""

    url: str
    raw: Any  # redis-py leaves open whether an answer is text
    client: RedisClient
    sessions: RedisSessions
    live: RedisLive
    presence: RedisPresence
    journal: RedisJournal
    bus: RedisBus

    def shard(self, session: Session) -> int:
        return self.sessions.shard(session.id)

    def key(self, session: Session) -> str:
        return keys.session(self.shard(session), session.id)

    async def now(self) -> int:
        """The server's time, ms."""
        seconds, micros = await self.raw.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def next_ms(self) -> None:
        """Returns when the server's clock shows another millisecond."""
        start = await self.now()
        await until(lambda: self._later_than(start))

    async def entries(self, shard: int) -> list[Any]:
        return (await self.journal.read({shard: ""}, 10_000))[shard]

    async def _later_than(self, start: int) -> bool:
        return await self.now() > start


@asynccontextmanager
async def open_bench(url: str, wait: str = "") -> AsyncIterator[Bench]:
    raw = Redis.from_url(url, decode_responses=True, protocol=3)
    client = RedisClient(url, wait)
    yield Bench(
        url=url,
        raw=raw,
        client=client,
        sessions=RedisSessions(client, SHARDS),
        live=RedisLive(client, SHARDS),
        presence=RedisPresence(client, SHARDS),
        journal=RedisJournal(client, SHARDS),
        bus=RedisBus(client, SHARDS),
    )
    await client.close()
    await raw.aclose()


async def book(
    bench: Bench,
    *candidates: Candidate,
    customer_id: str = CUSTOMER,
    key: str = "first",
    asked: Wish | None = None,
    fingerprint: str | None = None,
) -> Session:
    """A session, booked with priority for the candidates (a sequence where they are several)."""
    asked = asked or wish(*candidates, sequence=len(candidates) > 1)
    asked_for = replace(draft(customer_id, key), fingerprint=fingerprint)
    snapshot = await bench.sessions.load_booking(customer_id, asked_for.id)
    command = cmd.Book(draft=asked_for, wish=asked, actor_id=customer_id, orphan_ms=ORPHAN_MS)
    decision = decide(
        None, command, snapshot.now, candidates=by_id(asked.candidates), notify_timeout_ms=NOTIFY_MS
    )
    outcome, _ = await bench.sessions.commit(snapshot, decision, command_id=new_id())
    assert outcome is Outcome.COMMITTED
    return decision.session


async def execute(
    bench: Bench, session: Session, *commands: cmd.Command, known: tuple[Candidate, ...] = ()
) -> Session:
    """The session after the commands were decided and committed one after the other."""
    for command in commands:
        snapshot = await bench.sessions.load(session.id)
        decision = decide(snapshot.session, command, snapshot.now, candidates=by_id(known))
        outcome, _ = await bench.sessions.commit(snapshot, decision, command_id=new_id())
        assert outcome is Outcome.COMMITTED
        session = decision.session
    return session


class Contents(NamedTuple):
    """Every key with its serialised value and absolute expiry, and how many hints were ever published."""

    keys: dict[bytes, tuple[bytes, int]]
    published: int


async def contents(url: str) -> Contents:
    raw: Any = Redis.from_url(url)
    async with raw:
        found: dict[bytes, tuple[bytes, int]] = {}
        for key in await raw.keys("*"):
            found[key] = (await raw.dump(key), await raw.pexpiretime(key))
        stats = await raw.info("commandstats")
        return Contents(found, stats.get("cmdstat_spublish", {}).get("calls", 0))


class Ear:
    """What is heard on the bus."""

    _END = "* end"

    def __init__(self, bus: RedisBus) -> None:
        self._bus = bus
        self._heard: asyncio.Queue[str] = asyncio.Queue()

    async def messages(self, shard: int) -> list[str]:
        """All that was published in the shard (and heard from others) since the last call."""
        await self._bus.publish(shard, self._END)
        found = []
        async with asyncio.timeout(PATIENCE_S):
            while (message := await self._heard.get()) != self._END:
                found.append(message)
        return found

    async def presence(self, shard: int) -> list[tuple[str, str]]:
        """(mechanic, status) of every change of presence since the last call."""
        hints = [msgspec.json.decode(m.removeprefix("* ")) for m in await self.messages(shard)]
        return [(h["presence"]["mechanic_id"], h["presence"]["status"]) for h in hints if "presence" in h]

    async def choices(self, shard: int) -> list[tuple[str, str]]:
        """(mechanic, status) of every choice since the last call."""
        hints = [msgspec.json.decode(m.removeprefix("* ")) for m in await self.messages(shard)]
        return [(h["chosen"]["mechanic_id"], h["chosen"]["status"]) for h in hints if "chosen" in h]


@asynccontextmanager
async def listening(bus: RedisBus) -> AsyncIterator[Ear]:
    ear = Ear(bus)
    subscribed = asyncio.Event()
    task = asyncio.create_task(bus.listen(ear._heard.put_nowait, on_subscribed=subscribed.set))
    async with asyncio.timeout(PATIENCE_S):
        await subscribed.wait()
    yield ear
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
