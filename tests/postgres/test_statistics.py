"""A mechanic's numbers are what a person counts by hand, and are read by index."""

import pytest

from hub.domain.ids import new_id
from hub.domain.statistics import (
    MechanicNumbers,
    PriorityNumbers,
    RepeatCustomers,
    ResponseSeconds,
    SessionNumbers,
)
from persistence.postgres.pool import Postgres
from persistence.postgres.query_files import load
from persistence.postgres.statistics import PostgresStatistics
from tests.postgres.databases import Connection

ANA = "00000000-0000-0000-0000-0000000000a1"
BEN = "00000000-0000-0000-0000-0000000000a2"


def timeout(mechanic_id: str) -> str:
    return f'{{"mechanic_id": "{mechanic_id}", "reason": "priority_timeout"}}'


# Session n was booked n days ago, less half a day, by customer c; m accepted it. Times of events are seconds
# after the booking.
#   1 Ana is notified at 2, accepts at 12 (10 s)
#   2 Ben is asked first and declines; Ana is notified at 6, accepts at 36 (30 s)
#   3 Ana is notified at 1, declines at 51 (50 s); then Ben is, and lets it pass
#   4 Ana is notified and lets it pass, then declines the broadcast; Ben accepts
#   5 Ana accepts before her notification is recorded
#   6 Ana accepts the broadcast and releases it; Ben accepts
#   7 Ana accepts the broadcast; it is cancelled
#   8 Ana is notified; it is cancelled before she answers
#   9 Ana is notified; an admin ends her turn, then accepts for her
#  10 Ana's turn ends before she was notified
HISTORY = f"""
    insert into mechanics (id, status) values ('{ANA}', 'approved'), ('{BEN}', 'approved');
    create temp table booking (n int, c int, plan text, payment text, status text, m uuid);
    insert into booking values
        (1, 1, 'chat10', 'paid', 'completed', '{ANA}'), (2, 1, 'video15', 'paid', 'completed', '{ANA}'),
        (3, 2, 'chat10', 'paid', 'expired', null), (4, 2, 'chat10', 'paid', 'completed', '{BEN}'),
        (5, 3, 'chat10', 'credit', 'live', '{ANA}'), (6, 3, 'free', 'free', 'completed', '{BEN}'),
        (7, 1, 'video15', 'paid', 'cancelled', '{ANA}'), (8, 4, 'free', 'free', 'cancelled', null),
        (9, 3, 'video15', 'paid', 'completed', '{ANA}'), (10, 5, 'free', 'free', 'expired', null);
    create temp table happened (n int, type text, actor uuid, seconds int, data jsonb);
    insert into happened values
        (1, 'notified', '{ANA}', 2, '{{}}'), (1, 'accepted', '{ANA}', 12, '{{"priority": true}}'),
        (1, 'started', '{ANA}', 60, '{{}}'),
        (2, 'notified', '{BEN}', 1, '{{}}'), (2, 'declined', '{BEN}', 5, '{{"priority": true}}'),
        (2, 'notified', '{ANA}', 6, '{{}}'), (2, 'accepted', '{ANA}', 36, '{{"priority": true}}'),
        (3, 'notified', '{ANA}', 1, '{{}}'), (3, 'declined', '{ANA}', 51, '{{"priority": true}}'),
        (3, 'notified', '{BEN}', 52, '{{}}'), (3, 'offer_expired', null, 99, '{timeout(BEN)}'),
        (4, 'notified', '{ANA}', 1, '{{}}'), (4, 'offer_expired', null, 300, '{timeout(ANA)}'),
        (4, 'declined', '{ANA}', 310, '{{"priority": false}}'),
        (4, 'accepted', '{BEN}', 320, '{{"priority": false}}'),
        (5, 'accepted', '{ANA}', 1, '{{"priority": true}}'),
        (6, 'accepted', '{ANA}', 9, '{{"priority": false}}'), (6, 'released', '{ANA}', 19, '{{}}'),
        (6, 'accepted', '{BEN}', 29, '{{"priority": false}}'),
        (7, 'accepted', '{ANA}', 9, '{{"priority": false}}'),
        (8, 'notified', '{ANA}', 1, '{{}}'), (8, 'cancelled', null, 9, '{{"mechanic_id": "{ANA}"}}'),
        (9, 'notified', '{ANA}', 1, '{{}}'),
        (9, 'offer_expired', '{BEN}', 5, '{{"mechanic_id": "{ANA}", "reason": "admin"}}'),
        (9, 'accepted', '{BEN}', 6, '{{"mechanic_id": "{ANA}", "priority": false}}'),
        (10, 'offer_expired', null, 2, '{{"mechanic_id": "{ANA}", "reason": "notify_failed"}}');
    insert into customers (id, full_name) select md5(c::text)::uuid, 'Customer ' || c from booking group by c;
    insert into sessions (id, customer_user_id, session_type, plan_code, payment, status, mechanic_id,
            created_at)
        select md5('s' || n)::uuid, md5(c::text)::uuid, 'chat', plan, payment, status, m,
            now() - make_interval(days => n, hours => -12)
        from booking;
    insert into session_assignments (id, session_id, status, mechanic_id, created_at)
        select md5('a' || n)::uuid, md5('s' || n)::uuid,
            case when m is null then 'expired' else 'accepted' end, m, created_at
        from booking join sessions on id = md5('s' || n)::uuid;
    insert into session_events (event_id, session_id, assignment_id, type, actor_id, at, version, data)
        select gen_random_uuid(), md5('s' || n)::uuid, md5('a' || n)::uuid, type, actor,
            created_at + make_interval(secs => seconds), 1, data
        from happened join sessions on id = md5('s' || n)::uuid;
"""


@pytest.fixture
def statistics(postgres: Postgres) -> PostgresStatistics:
    return PostgresStatistics(postgres)


async def test_every_number(statistics: PostgresStatistics, committed: Connection) -> None:
    await committed.execute(HISTORY)
    numbers = await statistics.of_mechanic(ANA, None)
    assert numbers.priority == PriorityNumbers(
        offers=7,  # 1, 2, 3, 4, 5, 8, 9
        accepted=3,  # 1, 2, 5
        declined=1,  # 3
        expired=1,  # 4; an admin ended 9
        accept_rate=3 / 7,
        response_seconds=ResponseSeconds(average=30, median=30, min=10, max=50),
    )
    assert numbers.sessions == SessionNumbers(accepted=5, completed=3)
    # Customer 1: 1 and 2, not the cancelled 7; customer 3: 5, by credit, and 9.
    assert numbers.repeat_customers == RepeatCustomers(customers=2, sessions=4, value_cents=999 + 2999 + 2999)
    ben = await statistics.of_mechanic(BEN, None)
    assert (ben.priority.offers, ben.priority.declined, ben.priority.expired) == (2, 1, 1)
    assert ben.sessions == SessionNumbers(accepted=2, completed=2)
    assert ben.repeat_customers == RepeatCustomers(customers=0, sessions=0, value_cents=0)


async def test_a_period_looks_back_from_now(statistics: PostgresStatistics, committed: Connection) -> None:
    await committed.execute(HISTORY)
    await committed.execute(
        "update sessions set created_at = created_at - interval '1 year' where version < 0"
    )
    lately = await statistics.of_mechanic(ANA, 3)
    assert (lately.priority.offers, lately.priority.accepted, lately.priority.declined) == (3, 2, 1)
    assert lately.sessions == SessionNumbers(accepted=2, completed=2)
    assert lately.repeat_customers == RepeatCustomers(customers=1, sessions=2, value_cents=999 + 2999)


async def test_who_is_new_has_no_rates(statistics: PostgresStatistics) -> None:
    assert await statistics.of_mechanic(new_id(), 30) == MechanicNumbers(
        favorited_by=0,
        favorited_by_customers=[],
        priority=PriorityNumbers(
            offers=0, accepted=0, declined=0, expired=0, accept_rate=None, response_seconds=None
        ),
        sessions=SessionNumbers(accepted=0, completed=0),
        repeat_customers=RepeatCustomers(customers=0, sessions=0, value_cents=0),
    )


async def test_who_has_one_as_a_favourite(statistics: PostgresStatistics, committed: Connection) -> None:
    await committed.execute("insert into mechanics (id) values ($1)", ANA)
    await committed.execute(
        "insert into customers (id, full_name)"
        " select md5(n::text)::uuid, case when n % 50 > 1 then 'C' || n when n % 50 = 1 then ' ' end"
        " from generate_series(1, 250) as n"
    )
    await committed.execute(
        "insert into customer_favorites (customer_id, mechanic_id, created_at)"
        " select md5(n::text)::uuid, $1, now() + make_interval(mins => n) from generate_series(1, 250) as n",
        ANA,
    )
    numbers = await statistics.of_mechanic(ANA, 1)
    assert numbers.favorited_by == 250
    named = [f"C{n}" for n in range(250, 0, -1) if n % 50 > 1]
    assert numbers.favorited_by_customers == named[:200]


CROWD = """
    insert into customers (id) select md5(g::text)::uuid from generate_series(0, 999) g;
    insert into mechanics (id, status) select md5('m' || g)::uuid, 'approved' from generate_series(0, 199) g;
    create temp table old as
        select g, md5('s' || g)::uuid as id, md5((g % 1000)::text)::uuid as customer,
            md5('m' || g % 200)::uuid as mechanic, now() - interval '400 days' * (1 - g / 34000.0) as t
        from generate_series(1, 34000) g;
    insert into sessions (id, customer_user_id, session_type, plan_code, status, mechanic_id, created_at)
        select id, customer, 'chat', 'chat10', 'completed', mechanic, t from old;
    insert into session_assignments (id, session_id, status, mechanic_id, created_at)
        select md5('a' || g)::uuid, id, 'accepted', mechanic, t from old;
    insert into session_requests (customer_id, mechanic_id, session_type, plan_code, status, created_at)
        select customer, mechanic, 'chat', 'chat10', 'accepted', t from old;
    insert into customer_favorites (customer_id, mechanic_id) select distinct customer, mechanic from old;
    insert into session_events (event_id, session_id, assignment_id, type, actor_id, at, version, data)
        select gen_random_uuid(), id, id, type, case when type <> 'offer_expired' then mechanic end, t, 1,
            jsonb_build_object('priority', true, 'mechanic_id', mechanic)
        from old, unnest('{notified,offer_expired,accepted}'::text[]) as type;
    analyze;
"""


async def test_it_is_read_by_index(committed: Connection) -> None:
    await committed.execute(CROWD)
    mechanic_id = await committed.fetchval("select mechanic::text from old limit 1")
    plans: dict[str, str] = {}
    for name, argument in (("favorites", 200), ("priority", None), ("priority", 30), ("sessions", None)):
        lines = await committed.fetch(f"explain {load('statistics')[name]}", mechanic_id, argument)
        plans[name] = "\n".join(line for (line,) in lines)
        for table in ("session", "customer_favorites"):
            assert f"Seq Scan on {table}" not in plans[name]
    assert "session_events_actor_idx" in plans["priority"]
    assert "session_events_session_idx" in plans["priority"]
    assert "customer_favorites_mechanic_idx" in plans["favorites"]
    assert "session_requests_mechanic_idx" in plans["sessions"]
