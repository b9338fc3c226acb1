"""What the record gives back: sessions to restore, locks, and the mirror of presence."""

from typing import Any

import pytest
from msgspec.structs import replace

from hub.domain.ids import new_id, new_session_id
from hub.domain.model import (
    AssignmentStatus,
    Fallback,
    RoutingType,
    SessionStatus,
    Wave,
)
from persistence.postgres.record import PostgresRecord
from tests.postgres.databases import Connection
from tests.postgres.journal import NOW, Journal, accepted, booking, ended


@pytest.fixture
def connection(committed: Connection) -> Connection:
    """What it writes is seen by the pool."""
    return committed


async def test_a_session_comes_back_as_it_was(
    journal: Journal, record: PostgresRecord, connection: Connection, mechanic: str
) -> None:
    opened = booking(
        notes="Ünï ☃",
        is_urgent=True,
        request_type="brand_specialist",
        requested_brand="VW",
        workshop_id=new_id(),
        preferred_mechanic_id=mechanic,
        preferred_mechanic_name="Mia Kraft",
        priority_notified_at=NOW + 10,
        fallback_reason=Fallback.PRIORITY_TIMEOUT,
        fallback_at=NOW + 600_000,
        open_at=NOW + 600_000,
        routing_type=RoutingType.PRIORITY,
    )
    offered = booking(
        assignment_status=AssignmentStatus.OFFERED,
        routing_type=RoutingType.PRIORITY,
        preferred_mechanic_id=mechanic,
        preferred_mechanic_name="Mia Kraft",
        priority_window_minutes=7,
        waves=(Wave(mechanic, 420_000),),
        expires_at=NOW + 420_000,
        open_at=None,
    )
    queued = replace(
        offered,
        id=new_session_id(offered.customer_id),
        customer_id=new_id(),
        assignment_status=AssignmentStatus.QUEUED,
        wait_if_offline=True,
    )
    taken = replace(accepted(booking(), mechanic), mechanic_name="Mia Kraft")
    done = ended(booking())
    for session in (opened, offered, queued, taken, done):
        journal.add(session)
    await journal.drain()
    for session in (opened, offered, queued, taken, done):
        assert await record.session(session.id) == session
    active = {kept.session.id async for page in record.active_pages() for kept in page}
    assert active == {opened.id, offered.id, queued.id, taken.id}
    assert await record.session(new_id()) is None
    assert await record.session("nonsense") is None
    await connection.execute("delete from mechanics")
    orphaned = await record.session(offered.id)
    assert orphaned is not None
    assert (orphaned.assignment_status, orphaned.offered_to) == (AssignmentStatus.OPEN, None)
    assert (orphaned.open_at, orphaned.expires_at) == (NOW, None)


async def test_orphans_expire_and_a_later_version_still_holds(
    journal: Journal, record: PostgresRecord, connection: Connection
) -> None:
    stuck = booking()
    journal.add(stuck)
    await journal.drain()
    assert await record.expire_orphans() == 1
    assert await record.expire_orphans() == 0
    journal.add(ended(stuck, SessionStatus.EXPIRED))
    await journal.drain()
    row = await connection.fetchrow("select status, version from sessions")
    assert tuple(row or ()) == ("expired", 2)


async def test_one_has_the_lock(record: PostgresRecord) -> None:
    async with record.advisory_lock(77) as mine:
        assert mine
        async with record.advisory_lock(77) as theirs:
            assert not theirs
        async with record.advisory_lock(78) as other:
            assert other


async def test_a_killed_holder_gives_up_its_lock(record: PostgresRecord, connection: Connection) -> None:
    async with record.advisory_lock(77) as mine:
        assert mine
        await connection.fetch(
            "select pg_terminate_backend(pid, 5000) from pg_locks where locktype = 'advisory' and objid = 77"
        )
        async with record.advisory_lock(77) as theirs:
            assert theirs


async def test_presence_is_mirrored_and_never_set_back(
    record: PostgresRecord, connection: Connection, mechanic: str
) -> None:
    async def state() -> tuple[Any, ...]:
        row = await connection.fetchrow(
            "select is_online, (extract(epoch from last_seen_at) * 1000)::bigint from mechanics"
        )
        return tuple(row or ())

    await record.mirror_presence([(mechanic, True, NOW), (mechanic, False, NOW - 1), (new_id(), True, NOW)])
    assert await state() == (True, NOW)
    await record.mirror_presence([(mechanic, False, NOW - 1)])
    assert await state() == (True, NOW)
    await record.mirror_presence([(mechanic, False, NOW + 1)])
    assert await state() == (False, NOW + 1)
    await record.mirror_presence([])
