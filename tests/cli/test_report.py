"""`hub report` says what a person understands, within 80 columns; or what a program does."""

import asyncio
import json
import os
import sys
from pathlib import Path

from hub.domain.reports import REPORTS
from tests.postgres.databases import Connection
from tests.postgres.test_analytics import BOOKING


async def report(folder: Path, url: str, *arguments: str) -> tuple[int | None, str]:
    """Exit code, and everything that was printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub", "report", *arguments,
        env={**os.environ, "HUB_POSTGRES_URL": url, "COLUMNS": "80"}, cwd=folder,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_every_report_is_a_table(tmp_path: Path, database_url: str, committed: Connection) -> None:
    await committed.execute(BOOKING)

    code, printed = await report(tmp_path, database_url)

    assert code == 0
    assert max(map(len, printed.splitlines())) <= 80
    assert "The last 30 days" in printed
    assert "Requests by favourite" in printed
    assert "Ana Diaz" in printed
    assert "29.99" in printed
    assert "priority broadcast" in printed
    assert "100%" in printed
    assert "_" not in printed, "names are for people"


async def test_where_there_was_nothing_it_says_so(tmp_path: Path, database_url: str) -> None:
    code, printed = await report(tmp_path, database_url, "--days", "1")

    assert code == 0
    assert "The last day" in printed
    assert printed.count("nothing in this time") == len(REPORTS)


async def test_as_json_for_programs(tmp_path: Path, database_url: str, committed: Connection) -> None:
    await committed.execute(BOOKING)

    code, printed = await report(tmp_path, database_url, "--json", "--days", "7")

    assert code == 0
    found = json.loads(printed)
    assert tuple(found) == REPORTS
    assert found["favorite_share"] == [{"bookings": 1, "favorite_bookings": 1, "favorite_share": 1.0}]


async def test_what_it_cannot_do(tmp_path: Path, database_url: str) -> None:
    assert (await report(tmp_path, database_url, "--days", "0"))[0] == 2
    assert (await report(tmp_path, ""))[0] == 2
    code, printed = await report(tmp_path, "postgresql://nobody@127.0.0.1:1/none")
    assert (code, "Traceback" in printed) == (1, False)
