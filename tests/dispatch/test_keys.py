"""A client's Idempotency-Key names one booking for a day, and another one later."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from hub.booking import BookingRequest
from hub.domain import commands as cmd
from hub.domain.epoch import new_epoch
from hub.domain.errors import Recovering
from hub.domain.model import KEY_LIVES_MS, Payment, Role, Session
from hub.domain.records import BookingSnapshot
from persistence.redis import keys
from persistence.redis.sessions import RedisSessions
from tests.dispatch.books import FakeLedger
from tests.dispatch.office import Office
from tests.dispatch.test_credit import FakeRecord, Shop
from tests.domain.samples import CUSTOMER, STRANGER
from tests.redis.bench import SHARDS, Bench

HOUR_MS = 3_600_000


class Calendar:
    """A clock that stands still until somebody moves it."""

    def __init__(self) -> None:
        self.at = 20_000 * KEY_LIVES_MS + 1

    def now(self) -> int:
        return self.at

    def learn(self, store_ms: int) -> None:
        """The store's time is another one here."""


class Archive(FakeRecord):
    """Remembers every session that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, Session] = {}
        self.asked: list[str] = []

    async def session(self, session_id: str) -> Session | None:
        self.asked.append(session_id)
        return self.rows.get(session_id)


class Nap(RedisSessions):
    """Something happens after a node has looked for what was booked under a key, before it books."""

    def __init__(self, bench: Bench, meanwhile: Callable[[], Awaitable[None]]) -> None:
        super().__init__(bench.client, SHARDS)
        self._meanwhile = meanwhile

    async def load_booking(
        self, customer_id: str, session_id: str, *, earlier_id: str | None = None
    ) -> BookingSnapshot:
        found = await super().load_booking(customer_id, session_id, earlier_id=earlier_id)
        await self._meanwhile()
        return found


@dataclass
class Counter:
    """Where a customer books with the key `k`; the record is written by hand."""

    office: Office
    bench: Bench
    calendar: Calendar
    archive: Archive
    ledger: FakeLedger
    shop: Shop

    async def book(self, plan: str = "free", payment: Payment = Payment.FREE) -> Session:
        request = BookingRequest(customer_id=CUSTOMER, actor_id=CUSTOMER, plan_code=plan, payment=payment)
        return await self.shop.desk.book_for_a_day(request, "k")

    async def end(self, session: Session) -> Session:
        over = await self.office.execute(session.id, cmd.Cancel(CUSTOMER))
        self.archive.rows[over.id] = over
        return over

    async def lose_everything(self, ago_ms: int = 0) -> None:
        lost_at = await self.bench.now() - ago_ms
        await self.bench.raw.flushall()
        for shard in range(SHARDS):
            await self.bench.raw.set(keys.epoch(shard), new_epoch(lost_at))


@pytest.fixture
def counter(office: Office, bench: Bench) -> Counter:
    calendar, archive, ledger = Calendar(), Archive(), FakeLedger(credits=5)
    office.dispatcher.clock = calendar
    shop = Shop(office, ledger)
    shop.desk._record = archive
    return Counter(office, bench, calendar, archive, ledger, shop)


async def test_whoever_repeats_a_booking_gets_the_first_one(counter: Counter) -> None:
    request = BookingRequest(customer_id=CUSTOMER, actor_id=CUSTOMER, plan_code="free")
    repeat = replace(request, actor_id=STRANGER, actor_role=Role.SERVICE)
    desk = counter.shop.desk
    assert await desk.book(repeat, "k") == await desk.book(request, "k")


async def test_a_key_finds_its_booking_across_midnight_and_no_other_later(
    counter: Counter, bench: Bench
) -> None:
    first = await counter.end(await counter.book())
    shard = bench.shard(first)
    assert await counter.book() == first

    counter.calendar.at += KEY_LIVES_MS
    assert await counter.book() == first
    assert counter.archive.asked == []
    assert await bench.raw.delete(keys.session(shard, first.id)) == 1
    assert await counter.book() == first
    assert counter.archive.asked == [first.id]

    assert await bench.raw.delete(keys.idempotency(shard, first.id)) == 1
    second = await counter.end(await counter.book())
    assert second.id != first.id
    counter.calendar.at += 2 * KEY_LIVES_MS
    assert (await counter.book()).id not in (first.id, second.id)
    assert counter.archive.asked == [first.id], "nobody asks the record where nothing was lost"


@pytest.mark.parametrize(("plan", "payment"), [("free", Payment.FREE), ("chat10", Payment.CREDIT)])
@pytest.mark.parametrize("days", [0, 1])
async def test_what_a_loss_made_redis_forget_the_record_knows(
    counter: Counter, plan: str, payment: Payment, days: int
) -> None:
    first = await counter.end(await counter.book(plan, payment))
    asked = counter.ledger.asked
    await counter.lose_everything()
    counter.calendar.at += days * KEY_LIVES_MS
    assert await counter.book(plan, payment) == first
    assert counter.ledger.asked == asked
    assert len(counter.office.commits) == 2


async def test_a_loss_between_the_look_and_the_booking_is_noticed(counter: Counter, bench: Bench) -> None:
    others: list[Session] = []

    async def meanwhile() -> None:
        counter.office.dispatcher.sessions = bench.sessions
        others.append(await counter.end(await counter.book()))
        await counter.lose_everything()

    counter.office.dispatcher.sessions = Nap(bench, meanwhile)
    with pytest.raises(Recovering):
        await counter.book()
    assert [await counter.book()] == others


async def test_what_was_restored_is_answered_as_it_is_now(counter: Counter, bench: Bench) -> None:
    first = await counter.book()
    counter.archive.rows[first.id] = first
    await counter.lose_everything()
    assert await bench.sessions.restore(replace(first, version=1_001, fingerprint=None), 1)
    assert (await counter.book()).version == 1_001


async def test_a_booking_of_yesterday_is_not_todays_for_ever(counter: Counter) -> None:
    first = await counter.end(await counter.book())
    counter.archive.rows[first.id] = replace(first, created_at=first.created_at - KEY_LIVES_MS - 1)
    await counter.lose_everything()
    counter.calendar.at += KEY_LIVES_MS
    assert (await counter.book()).id != first.id


async def test_a_loss_is_forgotten_after_a_day(counter: Counter) -> None:
    await counter.lose_everything(ago_ms=KEY_LIVES_MS - HOUR_MS)
    first = await counter.end(await counter.book())
    assert len(counter.archive.asked) == 2
    await counter.lose_everything(ago_ms=KEY_LIVES_MS + HOUR_MS)
    await counter.book()
    assert first.id in counter.archive.rows
    assert len(counter.archive.asked) == 2
