"""Credits: never taken twice, never more than there are, and given back once."""

import asyncio
from collections.abc import Awaitable

import pytest
from msgspec.structs import replace

from hub.domain.errors import Refused, StoreFailed
from hub.domain.ids import new_id, new_session_id
from hub.domain.model import EventType, Session, SessionStatus
from persistence.postgres.ledger import PostgresLedger
from persistence.postgres.pool import Postgres
from tests.patience import until
from tests.postgres.databases import Connection
from tests.postgres.journal import Journal, accepted, booking, ended, event, step


@pytest.fixture
def connection(committed: Connection) -> Connection:
    """What it writes is seen by the pool."""
    return committed


@pytest.fixture
def ledger(postgres: Postgres) -> PostgresLedger:
    return PostgresLedger(postgres)


async def rows(connection: Connection, customer_id: str) -> list[tuple[str, int, bool]]:
    """(reason, credits, whether it names a session) in the order of writing."""
    found = await connection.fetch(
        "select reason, delta, session_id is not null from credit_ledger where customer_id = $1 order by id",
        customer_id,
    )
    return [(reason, delta, named) for reason, delta, named in found]


async def lowest(connection: Connection, customer_id: str) -> int:
    """The lowest balance that there ever was."""
    found = await connection.fetchval(
        """select min(balance) from (
             select sum(delta) over (order by id) as balance from credit_ledger where customer_id = $1
           ) as running""",
        customer_id,
    )
    return int(found)


async def aged(connection: Connection, debit_id: int | None, seconds: int = 61) -> None:
    await connection.execute(
        "update credit_ledger set created_at = now() - $2 * interval '1 second' where id = $1",
        debit_id, seconds,
    )  # fmt: skip


async def detail(refused: Awaitable[object]) -> str:
    with pytest.raises(Refused) as error:
        await refused
    assert error.value.code == "no_credit"
    return error.value.detail


async def abandoned(ledger: PostgresLedger, younger_than_s: float | None = None) -> list[int]:
    found = await ledger.abandoned(older_than_s=60, younger_than_s=younger_than_s, limit=10)
    return [debit.id for debit in found]


async def test_credits_are_given_taken_and_taken_back(ledger: PostgresLedger, connection: Connection) -> None:
    mia = new_id()
    assert await ledger.balance(mia) == 0
    assert await ledger.grant(mia, 5) == 5
    assert await ledger.debit(mia, new_session_id(mia), 3) is not None
    assert await ledger.grant(mia, -2) == 0
    assert await ledger.balance(mia) == 0
    assert await detail(ledger.grant(mia, -1)) == "This takes 1 credits; the customer has 0."
    assert await rows(connection, mia) == [("grant", 5, False), ("debit", -3, True), ("grant", -2, False)]


async def test_who_has_too_little_is_told_how_much(ledger: PostgresLedger, connection: Connection) -> None:
    mia, session = new_id(), new_session_id(new_id())
    said = await detail(ledger.debit(mia, session, 3, name="Mia Berg", email="mia@example.com"))
    assert said == "This takes 3 credits; you have 0."
    await ledger.grant(mia, 3)
    assert await ledger.debit(mia, session, 3, name="Mia Berg") is not None
    assert await rows(connection, mia) == [("grant", 3, False), ("debit", -3, True)]


async def test_a_first_debit_makes_the_customer_and_a_later_one_leaves_their_name(
    ledger: PostgresLedger, connection: Connection
) -> None:
    mia = new_id()
    await connection.execute("insert into customers (id, full_name) values ($1, 'Mia Berg')", mia)
    await ledger.grant(mia, 1)
    await ledger.debit(mia, new_session_id(mia), 1, name="Somebody", email="else@example.com")
    ben = new_id()
    await detail(ledger.debit(ben, new_session_id(ben), 1))
    found = await connection.fetch("select id::text, full_name, email from customers")
    assert [tuple(row) for row in found] == [(mia, "Mia Berg", None)]


async def test_parallel_debits_take_what_there_is_and_no_more(
    ledger: PostgresLedger, connection: Connection, database_url: str
) -> None:
    mia, other_node = new_id(), Postgres(database_url)
    await other_node.connect()
    nodes = [ledger, PostgresLedger(other_node)]
    await ledger.grant(mia, 7)
    answers = await asyncio.gather(
        *(nodes[n % 2].debit(mia, new_session_id(mia), 2) for n in range(50)), return_exceptions=True
    )
    debits = [answer for answer in answers if isinstance(answer, int)]
    refusals = [answer for answer in answers if isinstance(answer, Refused)]
    assert (len(debits), len(refusals)) == (3, 47)
    assert await ledger.balance(mia) == 1
    await asyncio.gather(
        *(nodes[n % 2].refund(debits[n % 3]) for n in range(12)),
        *(nodes[n % 2].debit(mia, new_session_id(mia), 3) for n in range(12)),
        return_exceptions=True,
    )
    await other_node.close()
    assert await lowest(connection, mia) >= 0
    reasons = [reason for reason, _, _ in await rows(connection, mia)]
    assert reasons.count("refund") == 3
    assert await ledger.balance(mia) == 7 - 3 * (reasons.count("debit") - 3)


async def test_the_same_booking_is_debited_once(ledger: PostgresLedger, connection: Connection) -> None:
    mia, session = new_id(), new_session_id(new_id())
    await ledger.grant(mia, 9)
    answers = await asyncio.gather(*(ledger.debit(mia, session, 3) for _ in range(10)))
    assert len([answer for answer in answers if answer is not None]) == 1
    assert await rows(connection, mia) == [("grant", 9, False), ("debit", -3, True)]
    await ledger.grant(mia, -6)
    assert await ledger.debit(mia, session, 3) is None, "a repeat is told so, not that the money is gone"


async def test_a_failed_attempt_frees_its_key_and_stays_in_the_history(
    ledger: PostgresLedger, connection: Connection
) -> None:
    mia, session = new_id(), new_session_id(new_id())
    await ledger.grant(mia, 3)
    first = await ledger.debit(mia, session, 3)
    assert first is not None
    assert [await ledger.refund(first), await ledger.refund(first)] == [True, False]
    assert await ledger.balance(mia) == 3
    second = await ledger.debit(mia, session, 3)
    assert second is not None
    assert not await ledger.refund(first), "a late refund must not give back the second debit"
    assert await rows(connection, mia) == [
        ("grant", 3, False), ("debit", -3, False), ("refund", 3, False), ("debit", -3, True),
    ]  # fmt: skip
    assert await ledger.refund(second)
    assert not await ledger.refund(second + 100)
    assert await ledger.balance(mia) == 3


async def test_a_late_refund_that_meets_the_second_debit_gives_nothing_back(
    ledger: PostgresLedger, connection: Connection
) -> None:
    mia, session = new_id(), new_session_id(new_id())
    await ledger.grant(mia, 3)
    first = await ledger.debit(mia, session, 3)
    assert first is not None
    await ledger.refund(first)
    async with connection.transaction():
        await connection.execute("update credit_ledger set session_id = null where session_id = $1", session)
        await connection.execute(
            "insert into credit_ledger (customer_id, session_id, delta, reason) values ($1, $2, -3, 'debit')",
            mia, session,
        )  # fmt: skip
        late = asyncio.create_task(ledger.refund(first))
        await until(lambda: connection.fetchval("select exists (select from pg_locks where not granted)"))
    assert await late is False
    assert await ledger.balance(mia) == 0


async def test_what_is_on_record_is_not_debited_again(ledger: PostgresLedger, journal: Journal) -> None:
    cancelled = ended(booking(payment="credit"))
    journal.add(cancelled)
    await ledger.grant(cancelled.customer_id, 3)
    await journal.drain()
    assert await ledger.debit(cancelled.customer_id, cancelled.id, 3) is None


async def paid_with_credits(ledger: PostgresLedger) -> tuple[Session, int]:
    session = booking(payment="credit")
    await ledger.grant(session.customer_id, 3)
    debit = await ledger.debit(session.customer_id, session.id, 3)
    assert debit is not None
    return session, debit


def started(session: Session, mechanic: str) -> Session:
    taken = accepted(session, mechanic)
    return step(taken, status=SessionStatus.LIVE, started_at=taken.updated_at + 1_000)


@pytest.mark.parametrize("status", [SessionStatus.CANCELLED, SessionStatus.EXPIRED])
async def test_a_session_that_ends_unbegun_gives_its_credits_back_once(
    ledger: PostgresLedger, journal: Journal, connection: Connection, mechanic: str, status: SessionStatus
) -> None:
    session, _ = await paid_with_credits(ledger)
    taken = accepted(session, mechanic)
    journal.add(session, event(session, EventType.CREATED))
    journal.add(taken, event(taken, EventType.ACCEPTED, mechanic, mechanic_id=mechanic))
    await journal.drain()
    assert await ledger.balance(session.customer_id) == 0
    over = ended(taken, status)
    entry = journal.add(over, event(over, EventType(status)))
    await journal.drain()
    assert await rows(connection, session.customer_id) == [
        ("grant", 3, False), ("debit", -3, True), ("refund", 3, True),
    ]  # fmt: skip
    assert (await journal.record.write([entry], bury=journal.bury)).rows == 0
    assert await ledger.balance(session.customer_id) == 3
    assert journal.buried == []


async def test_memories_written_after_a_loss_refund_too(ledger: PostgresLedger, journal: Journal) -> None:
    session, _ = await paid_with_credits(ledger)
    entries = [journal.add(session), journal.add(ended(session))]
    await journal.record.write(entries, bury=journal.bury)
    await journal.drain()
    assert await ledger.balance(session.customer_id) == 3


async def test_a_session_that_began_costs_what_it_cost(
    ledger: PostgresLedger, journal: Journal, mechanic: str
) -> None:
    for status in (SessionStatus.CANCELLED, SessionStatus.EXPIRED, SessionStatus.COMPLETED):
        session, _ = await paid_with_credits(ledger)
        live = started(session, mechanic)
        for version in (session, live, ended(live, status)):
            journal.add(version)
        await journal.drain()
        assert await ledger.balance(session.customer_id) == 0


async def test_an_old_end_does_not_refund_what_went_on(
    ledger: PostgresLedger, journal: Journal, mechanic: str
) -> None:
    """A version that a loss of data left behind comes late."""
    session, _ = await paid_with_credits(ledger)
    live = started(replace(session, version=1_001), mechanic)
    journal.add(live)
    await journal.drain()
    await journal.record.write([journal.add(ended(session))], bury=journal.bury)
    assert await ledger.balance(session.customer_id) == 0


async def test_nothing_comes_back_to_who_paid_nothing(ledger: PostgresLedger, journal: Journal) -> None:
    for payment in ("free", "paid", "credit"):
        session = booking(payment=payment)
        journal.add(ended(session))
        await journal.drain()
        assert await ledger.balance(session.customer_id) == 0


async def test_only_old_debits_without_a_session_are_abandoned(
    ledger: PostgresLedger, journal: Journal, connection: Connection, mechanic: str
) -> None:
    kept = [await paid_with_credits(ledger) for _ in range(3)]
    running, began, refunded = (session for session, _ in kept)
    journal.add(running)
    journal.add(ended(started(began, mechanic)))
    await journal.drain()
    await ledger.refund(kept[2][1])
    assert await ledger.balance(refunded.customer_id) == 3
    lost, free_instead, ended_in_sql = [await paid_with_credits(ledger) for _ in range(3)]
    journal.add(booking(free_instead[0].customer_id, id=free_instead[0].id, payment="free"))
    journal.add(ended_in_sql[0])
    await journal.drain()
    await connection.execute("update sessions set status = 'expired' where id = $1", ended_in_sql[0].id)
    _, young = await paid_with_credits(ledger)
    for _, debit in (*kept, lost, free_instead, ended_in_sql):
        await aged(connection, debit)
    expected = [lost[1], free_instead[1], ended_in_sql[1]]
    assert await abandoned(ledger) == expected
    first = await ledger.abandoned(older_than_s=60, younger_than_s=None, limit=1)
    rest = await ledger.abandoned(older_than_s=60, younger_than_s=None, limit=9, after=first[0].id)
    assert [d.session_id for d in (*first, *rest)] == [lost[0].id, free_instead[0].id, ended_in_sql[0].id]
    await aged(connection, lost[1], 100_000)
    assert await abandoned(ledger, 86_400) == expected[1:]
    await aged(connection, young)
    assert await abandoned(ledger) == [*expected, young]


async def test_rows_of_ended_sessions_may_go_and_their_history_keeps_the_debit(
    ledger: PostgresLedger, journal: Journal, connection: Connection, mechanic: str
) -> None:
    session, debit = await paid_with_credits(ledger)
    live = started(session, mechanic)
    journal.add(session, event(session, EventType.CREATED))
    journal.add(live, event(live, EventType.STARTED, mechanic))
    journal.add(ended(live, SessionStatus.COMPLETED))
    await journal.drain()
    await aged(connection, debit)
    await connection.execute("delete from sessions where id = $1", session.id)
    assert await abandoned(ledger) == []


async def test_a_repeated_key_hides_a_debit_that_was_given_back(
    ledger: PostgresLedger, connection: Connection
) -> None:
    session, debit = await paid_with_credits(ledger)
    await ledger.refund(debit)
    again = await ledger.debit(session.customer_id, session.id, 3)
    for each in (debit, again):
        await aged(connection, each)
    assert await abandoned(ledger) == [again]


async def test_without_postgres_nothing_is_answered(database_url: str) -> None:
    away = Postgres("postgresql://nobody@127.0.0.1:1/none")
    await away.connect()
    with pytest.raises(StoreFailed):
        await PostgresLedger(away).debit(new_id(), new_id(), 1)
    await away.close()
