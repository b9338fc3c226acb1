"""A commit whose reply is lost is answered once it is known what became of it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hub.domain.errors import Refused, StoreFailed
from hub.domain.ids import new_id, new_session_id
from persistence.postgres.ledger import PostgresLedger
from persistence.postgres.pool import Postgres
from tests.line import Line
from tests.postgres.databases import Connection


@pytest_asyncio.fixture
async def line(database_url: str) -> AsyncIterator[Line]:
    line = Line(database_url, b"COMMIT;")
    await line.open()
    yield line
    await line.close()


@pytest_asyncio.fixture
async def ledger(line: Line) -> AsyncIterator[PostgresLedger]:
    """At the far end of the line."""
    postgres = Postgres(line.url)
    await postgres.connect()
    yield PostgresLedger(postgres)
    await postgres.close()


async def test_what_postgres_refuses_is_for_the_log(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StoreFailed) as failure:
        await postgres.fetch("select 1 from no_such_table")
    assert "no_such_table" not in failure.value.detail
    assert "no_such_table" in str(vars(caplog.records[-1])["error"])


async def test_what_happened_is_answered_as_done(
    ledger: PostgresLedger, line: Line, committed: Connection
) -> None:
    mia = new_id()
    session = new_session_id(mia)
    line.cuts = ["reply", "reply"]
    assert await ledger.grant(mia, 3) == 3
    debit = await ledger.debit(mia, session, 2)
    assert line.cuts == []
    rows = await committed.fetch("select id, delta from credit_ledger order by id")
    assert [row["delta"] for row in rows] == [3, -2]
    assert debit == rows[1]["id"]


async def test_what_is_answered_as_failed_did_not_happen(
    ledger: PostgresLedger, line: Line, committed: Connection
) -> None:
    mia = new_id()
    line.cuts = ["request"]
    with pytest.raises(StoreFailed):
        await ledger.grant(mia, 3)
    assert line.cuts == []
    assert await committed.fetchval("select count(*) from credit_ledger") == 0
    assert await ledger.grant(mia, 3) == 3
    with pytest.raises(Refused):
        await ledger.grant(mia, -4)
