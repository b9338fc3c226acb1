"""Debits whose session never came to be are given back, and no others."""

import pytest
from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.ids import derived_session_id
from hub.domain.model import Session
from hub.loops.ranks import Ranks
from hub.loops.refunds import Refunds
from hub.ports import Ledger
from persistence.postgres.ledger import PostgresLedger
from persistence.postgres.pool import Postgres
from persistence.redis import keys
from tests.dispatch.books import FakeLedger
from tests.dispatch.office import Office
from tests.domain.samples import ANA, CUSTOMER, CUSTOMERS, ORPHAN_MS, draft, wish
from tests.postgres.databases import Connection
from tests.redis.bench import SHARDS, Bench


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger(credits=1_000)


class Teller:
    """The loop of one node, and what it said it mended."""

    def __init__(self, office: Office, ledger: Ledger, node: str = "n1", *others: str) -> None:
        self.ranks = Ranks(node, SHARDS)
        self.ranks.update([node, *others])
        self.mended: list[str] = []
        self.loop = Refunds(
            ledger=ledger,
            sessions=office.bench.sessions,
            journal=office.bench.journal,
            ranks=self.ranks,
            gate=office.gate,
            mended=self.mended.append,
            lag_ms=0,
        )


async def paid(office: Office, ledger: FakeLedger, payment: str = "credit") -> Session:
    """A session with its debit."""
    asked_for = replace(draft(), payment=payment)
    await ledger.debit(CUSTOMER, asked_for.id, 1)
    command = cmd.Book(draft=asked_for, wish=wish(), actor_id=CUSTOMER, orphan_ms=ORPHAN_MS)
    session, _ = await office.dispatcher.book(command)
    assert session is not None
    return session


async def written(bench: Bench) -> None:
    """As if the journal writer had been here."""
    for shard in range(SHARDS):
        await bench.raw.delete(keys.journal(shard))


async def test_a_debit_without_a_session_is_given_back_once(office: Office, ledger: FakeLedger) -> None:
    for customer in CUSTOMERS:
        await ledger.debit(customer, derived_session_id(customer, "lost"), 1)
    teller = Teller(office, ledger)
    assert await teller.loop.step() == 2
    assert await teller.loop.step() == 0
    assert (ledger.credits, ledger.debits) == (1_000, {})
    assert teller.mended == ["debit_abandoned"] * 2


async def test_however_many_there_are(office: Office, ledger: FakeLedger) -> None:
    for n in range(700):
        await ledger.debit(CUSTOMER, derived_session_id(CUSTOMER, str(n)), 1)
    assert await Teller(office, ledger).loop.step() == 700


async def test_each_debit_is_one_nodes(office: Office, ledger: FakeLedger) -> None:
    for n in range(20):
        customer = f"c0000000-0000-4000-8000-0000000000{n:02}"
        await ledger.debit(customer, derived_session_id(customer, "lost"), 1)
    tellers = [Teller(office, ledger, node, "n1", "n2", "n3") for node in ("n1", "n2", "n3")]
    shares = []
    for teller in tellers:
        mine = [s for s in ledger.debits if teller.ranks.of(office.bench.sessions.shard(s)) == 0]
        shares.append(await teller.loop.step())
        assert shares[-1] == len(mine)
    assert sum(shares) == 20


async def test_a_session_in_redis_keeps_its_debit_once_it_began_even_cancelled(
    office: Office, ledger: FakeLedger, bench: Bench
) -> None:
    session = await paid(office, ledger)
    teller = Teller(office, ledger)
    await written(bench)
    assert await teller.loop.step() == 0
    await office.execute(session.id, cmd.Accept(mechanic_id=ANA))
    await office.execute(session.id, cmd.Start(ANA))
    await office.execute(session.id, cmd.Cancel(CUSTOMER))
    await written(bench)
    assert await teller.loop.step() == 0
    assert teller.mended == []


@pytest.mark.parametrize("payment", ["free", "credit"])
async def test_one_that_was_not_paid_with_it_or_never_began_does_not(
    office: Office, ledger: FakeLedger, bench: Bench, payment: str
) -> None:
    session = await paid(office, ledger, payment)
    if payment == "credit":
        await office.execute(session.id, cmd.Cancel(CUSTOMER))
    await written(bench)
    assert await Teller(office, ledger).loop.step() == 1


async def test_nothing_is_decided_while_the_journal_waits(
    office: Office, ledger: FakeLedger, bench: Bench
) -> None:
    session = await paid(office, ledger)
    await bench.raw.delete(bench.key(session))
    teller = Teller(office, ledger)
    assert await teller.loop.step() == 0
    await written(bench)
    assert await teller.loop.step() == 1


async def test_the_ledger_in_postgres_is_asked_for_the_same(
    office: Office, postgres: Postgres, committed: Connection
) -> None:
    ledger, teller = PostgresLedger(postgres), Teller(office, PostgresLedger(postgres))
    for customer in CUSTOMERS:
        await ledger.grant(customer, 1)
        await ledger.debit(customer, derived_session_id(customer, "lost"), 1)
    assert await teller.loop.step() == 0, "too young"
    await committed.execute("update credit_ledger set created_at = now() - interval '61 seconds'")
    assert [await teller.loop.step(), await teller.loop.step()] == [2, 0]
    assert [await ledger.balance(customer) for customer in CUSTOMERS] == [1, 1]


async def test_what_the_record_refused_keeps_its_debit_until_a_person_has_decided(
    office: Office, ledger: FakeLedger, bench: Bench
) -> None:
    session = await paid(office, ledger)
    shard = bench.shard(session)
    (entry,) = await bench.entries(shard)
    await bench.journal.bury(entry, "23514: no")
    await written(bench)
    await bench.raw.delete(bench.key(session))
    teller = Teller(office, ledger)
    assert await teller.loop.step() == 0
    await bench.raw.delete(keys.journal_dead(shard))
    assert await teller.loop.step() == 0, "put back, it may be on its way to the record"
    assert await teller.loop.step() == 1


async def test_nothing_is_decided_while_data_is_lost(
    office: Office, ledger: FakeLedger, bench: Bench
) -> None:
    await paid(office, ledger)
    await bench.raw.flushall()
    teller = Teller(office, ledger)
    assert await teller.loop.step() == 0, "the gate is open still, but the epoch is gone"
    office.gate.shut()
    asked = ledger.asked
    assert await teller.loop.step() == 0
    assert ledger.asked == asked
