"""The reports give what a person counts by hand, over both ages of tables, and read by index."""

import math
from typing import Any

import pytest
import pytest_asyncio

from tests.postgres.databases import Connection

pytestmark = pytest.mark.asyncio

ANA = "00000000-0000-0000-0000-0000000000a1"
BEN = "00000000-0000-0000-0000-0000000000a2"

PRIORITY_NAMES = (
    "priority_requests_by_favorite",
    "priority_success_by_mechanic",
    "priority_response_time",
    "priority_timeout_rate",
    "fallback_effectiveness",
    "notification_delay",
)
NAMES = (
    *PRIORITY_NAMES,
    "favorite_share",
    "revenue_by_routing",
    "repeat_customers",
    "sessions_by_type",
    "acceptance_time",
    "queue_bottlenecks",
)

# Everything is booked at 2026-03-02 10:00 UTC plus `booked` minutes by customer `c`; other numbers are
# seconds after the booking. Ana is asked in 1 to 5, Ben in 6; 7 asks nobody.
#   1 Ana accepts 30 s after notification      4 Ana declines, Ben accepts at 200
#   2 Ana accepts 90 s after notification      5 still offered to Ana
#   3 Ana lets it time out, nobody accepts     6 never notified, Ana accepts at 100
DATA = f"""
    insert into mechanics (id, first_name, last_name, status) values
        ('{ANA}', 'Ana', 'Diaz', 'approved'), ('{BEN}', 'Ben', 'Eck', 'approved');
    create temp table booking (
        n int, c int, booked int, plan text, payment text, status text, assignment text, routing text,
        preferred uuid, mechanic uuid, notified int, accepted int, ended int, reason text
    );
    insert into booking values
        (1, 1, 0, 'chat10', 'paid', 'completed', 'accepted', 'priority_broadcast',
            '{ANA}', '{ANA}', 1, 31, 900, null),
        (2, 1, 30, 'video15', 'paid', 'completed', 'accepted', 'priority_broadcast',
            '{ANA}', '{ANA}', 3, 93, 900, null),
        (3, 2, 60, 'chat10', 'credit', 'expired', 'expired', 'priority_broadcast',
            '{ANA}', null, 2, null, 7200, 'priority_timeout'),
        (4, 3, 60, 'chat10', 'credit', 'completed', 'accepted', 'favorites_sequence',
            '{ANA}', '{BEN}', 2, 200, 900, 'priority_declined'),
        (5, 4, 90, 'chat10', 'paid', 'pending', 'offered', 'priority_broadcast',
            '{ANA}', null, null, null, null, null),
        (6, 5, 90, 'free', 'free', 'cancelled', 'accepted', 'priority_broadcast',
            '{BEN}', '{ANA}', null, 100, 300, 'mechanic_offline'),
        (7, 6, 90, 'video15', 'paid', 'live', 'accepted', 'broadcast',
            null, '{BEN}', null, 400, null, null);
    insert into customers (id) select md5(c::text)::uuid from booking group by c;
    insert into sessions (id, customer_user_id, session_type, plan_code, payment, status, mechanic_id,
        ended_at, created_at)
        select md5('s' || n)::uuid, md5(c::text)::uuid, 'chat', plan, payment, status, mechanic,
            t + make_interval(secs => ended), t
        from (select *, timestamptz '2026-03-02 10:00Z' + make_interval(mins => booked) as t
            from booking) as b;
    insert into session_assignments (id, session_id, status, routing_type, preferred_mechanic_id, mechanic_id,
            priority_notified_at, accepted_at, fallback_reason, created_at)
        select md5('a' || n)::uuid, md5('s' || n)::uuid, assignment, routing, preferred, mechanic,
            t + make_interval(secs => notified), t + make_interval(secs => accepted), reason, t
        from (select *, timestamptz '2026-03-02 10:00Z' + make_interval(mins => booked) as t
            from booking) as b;
"""

# The older rows of 2026-03-01: Ben accepted in his window (60 s after notification), another after it had
# passed (11 minutes); a third was imported already and must not count again.
OLDER = f"""
    insert into session_requests (customer_id, session_type, plan_code, status, preferred_mechanic_id,
        mechanic_id,
            routing_type, created_at, priority_notified_at, accepted_at, metadata)
        select gen_random_uuid(), 'video', 'video15', 'accepted', '{BEN}', mechanic, 'priority_broadcast', t,
            t, t + took, metadata
        from (values
            (uuid '{BEN}', interval '60 s', '{{}}'::jsonb),
            ('{ANA}', '11 min', '{{"note": "late"}}'),
            ('{BEN}', '60 s', '{{"imported": {{"hub": "2026-01-01"}}}}')
        ) as row (mechanic, took, metadata), (values (timestamptz '2026-03-01 09:00Z')) as day (t);
"""


@pytest_asyncio.fixture
async def books(connection: Connection) -> Connection:
    await connection.execute(DATA)
    return connection


async def report(connection: Connection, name: str, day: str = "2026-03-02") -> list[tuple[Any, ...]]:
    rows = await connection.fetch(
        f"select * from analytics_{name}($1::text::timestamptz, $1::text::timestamptz + interval '1 day')",
        f"{day}Z",
    )
    return [
        tuple(str(value) if index == 0 and value else value for index, value in enumerate(row))
        for row in rows
    ]


async def test_requests_by_favorite(books: Connection) -> None:
    assert await report(books, "priority_requests_by_favorite") == [
        (ANA, "Ana Diaz", 5, 3, 2, 1),
        (BEN, "Ben Eck", 1, 1, 0, 0),
    ]


async def test_success_rate_needs_five_requests(books: Connection) -> None:
    assert await report(books, "priority_success_by_mechanic") == [(ANA, "Ana Diaz", 5, 2, 0.4)]


async def test_response_time(books: Connection) -> None:
    assert await report(books, "priority_response_time") == [
        (None, "all", 2, 60, 30, 90, 60),
        (ANA, "Ana Diaz", 2, 60, 30, 90, 60),
    ]


async def test_timeout_rate(books: Connection) -> None:
    assert [row[1:] for row in await report(books, "priority_timeout_rate")] == [(4, 1, 1 / 6)]


async def test_fallback_effectiveness(books: Connection) -> None:
    assert await report(books, "fallback_effectiveness") == [
        ("all", 3, 2, 2 / 3, 150),
        ("mechanic_offline", 1, 1, 1, 100),
        ("priority_declined", 1, 1, 1, 200),
        ("priority_timeout", 1, 0, 0, None),
    ]


async def test_favorite_share(books: Connection) -> None:
    assert [row[1:] for row in await report(books, "favorite_share")] == [(6, 6 / 7)]


async def test_notification_delay(books: Connection) -> None:
    [(notified, never, average, median, p95, longest)] = await report(books, "notification_delay")
    assert (notified, never, average, median, longest) == ("4", 2, 2, 2, 3)
    assert p95 == pytest.approx(2.85)


async def test_revenue_counts_what_is_served(books: Connection) -> None:
    assert await report(books, "revenue_by_routing") == [
        ("priority_broadcast", 5, 2, 2, 999 + 2999, 0),
        ("broadcast", 1, 1, 1, 2999, 0),
        ("favorites_sequence", 1, 1, 0, 0, 1),
    ]


async def test_repeat_customers(books: Connection) -> None:
    assert await report(books, "repeat_customers") == [
        (ANA, "Ana Diaz", 1, 1, 2, 999 + 2999),
        (BEN, "Ben Eck", 2, 0, 0, 0),
    ]


async def test_sessions_by_type(books: Connection) -> None:
    assert await report(books, "sessions_by_type") == [("2026-03-02", "chat", 7, 3, 1, 1)]


async def test_acceptance_time(books: Connection) -> None:
    rows = await report(books, "acceptance_time")
    assert [row[:4] for row in rows] == [
        ("broadcast", 1, 400, 400),
        ("favorites_sequence", 1, 200, 200),
        ("priority_broadcast", 3, pytest.approx((31 + 93 + 100) / 3), 93),
    ]


async def test_queue_bottlenecks(books: Connection) -> None:
    rows = await report(books, "queue_bottlenecks")
    # hour, requests, unanswered; under 1, 5, 15 minutes, over
    assert [(*row[:3], *row[5:]) for row in rows] == [
        ("10", 2, 0, 1, 1, 0, 0),
        ("11", 5, 2, 0, 2, 1, 2),
    ]
    assert rows[0][3] == (31 + 93) / 2


async def test_older_rows_count_until_they_are_imported(books: Connection) -> None:
    await books.execute(OLDER)
    assert await report(books, "priority_requests_by_favorite", "2026-03-01") == [
        (BEN, "Ben Eck", 2, 2, 1, 0)
    ]
    assert [row[1:] for row in await report(books, "priority_timeout_rate", "2026-03-01")] == [(2, 1, 0.5)]
    assert (await report(books, "fallback_effectiveness", "2026-03-01"))[1] == (
        "priority_timeout",
        1,
        1,
        1,
        660,
    )
    assert await report(books, "revenue_by_routing", "2026-03-01") == [
        ("priority_broadcast", 2, 2, 2, 5998, 0)
    ]
    assert await report(books, "sessions_by_type", "2026-03-01") == [("2026-03-01", "video", 2, 2, 0, 0)]


async def test_an_acceptance_before_its_booking_took_no_time(connection: Connection) -> None:
    await connection.execute(DATA)
    await connection.execute("delete from sessions")
    await connection.execute(OLDER)
    await connection.execute("update session_requests set accepted_at = created_at - interval '1 day'")
    (found,) = await report(connection, "acceptance_time", "2026-03-01")
    assert found == ("priority_broadcast", 2, 0, 0, 0, 0)
    (queued,) = await report(connection, "queue_bottlenecks", "2026-03-01")
    assert queued[3:6] == (0, 0, 2)


async def test_older_rows_with_infinite_times_count_as_unknown(connection: Connection) -> None:
    await connection.execute(DATA)
    await connection.execute(OLDER)
    await connection.execute(
        "update session_requests set accepted_at = 'infinity', priority_notified_at = '-infinity',"
        " updated_at = 'infinity'"
    )
    values = [
        value for name in NAMES for row in await report(connection, name, "2026-03-01") for value in row
    ]
    assert all(math.isfinite(value) for value in values if isinstance(value, float))


@pytest.mark.parametrize("name", NAMES)
async def test_a_period_ends_now_and_may_be_empty(connection: Connection, name: str) -> None:
    rows = await connection.fetch(f"select * from analytics_{name}(now() - interval '30 days')")
    assert len(rows) <= 1
