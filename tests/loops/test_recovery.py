"""Recovery names the new life of what was lost, so that others know what Redis may have forgotten."""

import pytest

from hub.domain.epoch import lost_since
from hub.domain.ids import new_id, new_session_id
from hub.domain.records import JournalEntry
from hub.loops.kept import KeptTail
from hub.loops.recovery import Recovery
from persistence.postgres.pool import Postgres
from persistence.postgres.record import PostgresRecord
from tests.dispatch.office import Office
from tests.domain.samples import ORPHAN_MS
from tests.postgres.journal import booking, ended
from tests.redis.bench import SHARDS

DAY_MS = 86_400_000


async def nobody() -> None:
    return


async def alone() -> bool:
    return False


async def refused(entry: JournalEntry, error: str) -> None:
    raise AssertionError(error)


@pytest.mark.parametrize(
    ("booked_ago_ms", "told"), [(None, False), (DAY_MS + 60_000, False), (DAY_MS - 60_000, True)]
)
async def test_an_epoch_tells_of_the_loss_where_there_was_something_to_lose(
    office: Office, postgres: Postgres, booked_ago_ms: int | None, told: bool
) -> None:
    bench, record = office.bench, PostgresRecord(postgres, orphan_ms=ORPHAN_MS)
    before = await bench.now()
    if booked_ago_ms is not None:
        customer, at = new_id(), before - booked_ago_ms
        session = ended(booking(customer, id=new_session_id(customer), created_at=at, updated_at=at))
        entry = JournalEntry(shard=0, id="1-1", command_id=new_id(), session=session, events=())
        await record.write([entry], bury=refused)
    await bench.raw.flushall()
    recovery = Recovery(
        gate=office.gate,
        sessions=bench.sessions,
        record=record,
        kept=KeptTail(SHARDS),
        announce_all=nobody,
        warn_others=alone,
    )
    await recovery.step()
    epochs = await bench.sessions.epochs()
    assert all(epochs)
    assert {lost_since(epoch or "", before - 1) for epoch in epochs} == {told}
    after = await bench.now()
    assert not any(lost_since(epoch or "", after) for epoch in epochs)
    assert office.gate.is_open
    await recovery.step()
    assert await bench.sessions.epochs() == epochs
