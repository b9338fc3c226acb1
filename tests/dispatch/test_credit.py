"""Booking with credits: they are taken before the session is made, and go back where it is not."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from hub.booking import BookingDesk, BookingRequest
from hub.domain import commands as cmd
from hub.domain.errors import ActiveSessionExists, Refused, StoreFailed, Unavailable
from hub.domain.ids import derived_session_id
from hub.domain.model import Payment, Plan, Session, SessionType
from hub.domain.records import BookingSnapshot
from persistence.redis.sessions import RedisSessions
from tests.dispatch.books import FakeLedger
from tests.dispatch.office import FakeDirectory, Office
from tests.domain.samples import CUSTOMER, ORPHAN_MS, draft, wish
from tests.patience import until
from tests.redis.bench import SHARDS, Bench

CHAT = SessionType.CHAT
PLANS = {
    "free": Plan(code="free", name="Free", session_type=CHAT, price_cents=0, credits=0),
    "chat10": Plan(code="chat10", name="Chat", session_type=CHAT, price_cents=999, credits=1),
    "cash": Plan(code="cash", name="Cash only", session_type=CHAT, price_cents=500, credits=0),
}


class Plans(FakeDirectory):
    async def plan(self, code: str) -> Plan | None:
        return PLANS.get(code)

    async def settings(self) -> Mapping[str, object]:
        return {}


class FakeRecord:
    def __init__(self) -> None:
        self.known: Session | None = None

    async def session(self, session_id: str) -> Session | None:
        return self.known


class Shop:
    """A desk that sells; `book` asks for a session that costs one credit."""

    def __init__(self, office: Office, ledger: FakeLedger) -> None:
        self.office = office
        self.record = FakeRecord()
        self.desk = BookingDesk(
            dispatcher=office.dispatcher,
            directory=Plans(),
            record=self.record,
            ledger=ledger,
            default_window_seconds=600,
        )

    async def book(self, key: str | None = None, plan: str = "chat10", payment: str = "credit") -> Session:
        request = BookingRequest(
            customer_id=CUSTOMER, actor_id=CUSTOMER, plan_code=plan, payment=Payment(payment)
        )
        return await self.desk.book(request, key)


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger(credits=1)


@pytest.fixture
def shop(office: Office, ledger: FakeLedger) -> Shop:
    return Shop(office, ledger)


async def active(bench: Bench) -> Session | None:
    return await bench.sessions.active_of(CUSTOMER)


async def test_a_booking_takes_its_credits_and_a_repeat_takes_none(
    shop: Shop, ledger: FakeLedger, bench: Bench
) -> None:
    session = await shop.book("k")
    assert session.payment == "credit"
    assert (ledger.credits, list(ledger.debits)) == (0, [session.id])
    assert (await shop.book("k")).id == session.id
    assert ledger.asked == 1
    assert await active(bench) == session


@pytest.mark.parametrize(
    ("plan", "payment", "recorded"),
    [
        ("free", "free", "free"),
        ("free", "credit", "free"),
        ("chat10", "paid", "paid"),
        ("cash", "paid", "paid"),
    ],
)
async def test_what_is_free_or_paid_does_not_touch_the_ledger(
    shop: Shop, ledger: FakeLedger, plan: str, payment: str, recorded: str
) -> None:
    assert (await shop.book("k", plan, payment)).payment == recorded
    assert ledger.asked == 0


async def test_what_is_not_sold_for_credits_is_not_booked(
    shop: Shop, ledger: FakeLedger, bench: Bench
) -> None:
    for plan, payment in (("cash", "credit"), ("cash", "free"), ("chat10", "free")):
        with pytest.raises(Refused) as refused:
            await shop.book(plan=plan, payment=payment)
        assert refused.value.code == "payment_required"
    assert ledger.asked == 0
    assert await active(bench) is None


async def test_too_few_credits_book_nothing(shop: Shop, ledger: FakeLedger, bench: Bench) -> None:
    ledger.credits = 0
    with pytest.raises(Refused) as refused:
        await shop.book()
    assert refused.value.code == "no_credit"
    assert await active(bench) is None


async def test_who_has_a_session_is_told_so_before_money_moves(shop: Shop, ledger: FakeLedger) -> None:
    await shop.office.book()
    with pytest.raises(ActiveSessionExists):
        await shop.book()
    assert ledger.asked == 0


class Interrupted(FakeLedger):
    """Something happens between the debit and the dispatch."""

    meanwhile: Any = None

    async def debit(self, *args: Any, **more: Any) -> int | None:
        try:
            return await super().debit(*args, **more)
        finally:
            await self.meanwhile()


async def test_a_session_that_came_meanwhile_is_the_reason_and_the_credits_stay(
    office: Office, bench: Bench
) -> None:
    for credits in (0, 1):
        ledger, other = Interrupted(credits), f"with {credits}"
        ledger.meanwhile = partial(office.try_book, key=other)
        with pytest.raises(ActiveSessionExists):
            await Shop(office, ledger).book()
        assert (ledger.credits, ledger.debits) == (credits, {})
        session = await active(bench)
        assert session is not None
        await office.execute(session.id, cmd.Cancel(CUSTOMER))


async def test_what_cannot_be_dispatched_is_given_back(office: Office) -> None:
    ledger = Interrupted(1)

    async def shut() -> None:
        office.gate.shut()

    ledger.meanwhile = shut
    with pytest.raises(Unavailable) as unavailable:
        await Shop(office, ledger).book("k")
    assert unavailable.value.code == "recovering"
    assert (ledger.credits, ledger.debits) == (1, {})


async def test_what_cannot_be_given_back_at_once_is_left_to_the_loop(office: Office) -> None:
    ledger = Interrupted(1)

    async def shut() -> None:
        office.gate.shut()
        ledger.away = True

    ledger.meanwhile = shut
    with pytest.raises(Unavailable) as unavailable:
        await Shop(office, ledger).book("k")
    assert unavailable.value.code == "recovering"
    assert len(ledger.debits) == 1


async def test_without_postgres_nothing_is_booked(shop: Shop, ledger: FakeLedger, bench: Bench) -> None:
    ledger.away = True
    with pytest.raises(StoreFailed):
        await shop.book("k")
    assert await active(bench) is None


class Stuck(RedisSessions):
    """Answers bookings no more once `stuck` is set."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.client, SHARDS)
        self.stuck = False
        self.reached = asyncio.Event()

    async def load_booking(
        self, customer_id: str, session_id: str, *, earlier_id: str | None = None
    ) -> BookingSnapshot:
        if self.stuck:
            self.reached.set()
            await asyncio.Event().wait()
        return await super().load_booking(customer_id, session_id, earlier_id=earlier_id)


async def test_a_booking_that_is_cut_off_in_between_leaves_its_debit_to_the_loop(bench: Bench) -> None:
    """Whether the session comes about is not known then: nothing may be given back at once."""
    ledger, sessions = Interrupted(1), Stuck(bench)

    async def stick() -> None:
        sessions.stuck = True

    ledger.meanwhile = stick
    booking = asyncio.create_task(Shop(Office(bench, sessions=sessions), ledger).book("k"))
    await sessions.reached.wait()
    booking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await booking
    assert len(ledger.debits) == 1
    assert await active(bench) is None


async def test_repeats_at_once_get_the_first_ones_answer(
    office: Office, other_office: Office, ledger: FakeLedger
) -> None:
    shops = [Shop(office, ledger), Shop(other_office, ledger)]
    sessions = await asyncio.gather(*(shops[n % 2].book("k") for n in range(10)))
    assert len({session.id for session in sessions}) == 1
    assert (ledger.credits, len(ledger.debits)) == (0, 1)


async def test_a_repeat_waits_for_a_slower_first_one(
    office: Office, ledger: FakeLedger, bench: Bench
) -> None:
    slow, release = Interrupted(1), asyncio.Event()
    slow.meanwhile = release.wait
    first = asyncio.create_task(Shop(office, slow).book("k"))
    await until(lambda: _async(bool(slow.debits)))
    slow.meanwhile = _nothing
    repeat = asyncio.create_task(Shop(office, slow).book("k"))
    await until(lambda: _async(slow.asked == 2))
    release.set()
    assert await first == await repeat


async def test_a_repeat_of_what_died_is_put_off_and_one_on_record_is_found(
    shop: Shop, ledger: FakeLedger, bench: Bench
) -> None:
    ledger.debits[derived_session_id(CUSTOMER, "k")] = 1
    with pytest.raises(Unavailable) as unavailable:
        await shop.book("k")
    assert unavailable.value.code == "unavailable"
    assert await active(bench) is None
    shop.record.known = draft(key="k")
    assert await shop.book("k") == draft(key="k")
    assert ledger.credits == 1


async def test_a_debit_that_is_too_old_books_nothing(office: Office, bench: Bench) -> None:
    late = cmd.Book(
        draft=draft(),
        wish=wish(),
        actor_id=CUSTOMER,
        orphan_ms=ORPHAN_MS,
        not_after=await bench.now() - 1,
    )
    with pytest.raises(Unavailable):
        await office.dispatcher.book(late)
    assert await active(bench) is None
    session = await office.book()
    found, new = await office.dispatcher.book(late)
    assert (found, new) == (session, False), "a repeat is answered however late"


class Later(RedisSessions):
    """The store, some time later."""

    ahead_ms = 0

    async def load_booking(
        self, customer_id: str, session_id: str, *, earlier_id: str | None = None
    ) -> BookingSnapshot:
        found = await super().load_booking(customer_id, session_id, earlier_id=earlier_id)
        return replace(found, now=found.now + self.ahead_ms)


@pytest.mark.parametrize(("suspended_ms", "booked"), [(29_000, True), (32_000, False)])
async def test_a_node_that_slept_long_after_its_debit_does_not_book(
    bench: Bench, suspended_ms: int, booked: bool
) -> None:
    ledger, sessions = Interrupted(1), Later(bench.client, SHARDS)

    async def sleep() -> None:
        sessions.ahead_ms = suspended_ms

    ledger.meanwhile = sleep
    booking = Shop(Office(bench, sessions=sessions), ledger).book("k")
    if booked:
        await booking
    else:
        with pytest.raises(Unavailable):
            await booking
    assert bool(await active(bench)) is bool(ledger.debits) is booked


async def _nothing() -> None:
    return


async def _async(value: bool) -> bool:
    return value
