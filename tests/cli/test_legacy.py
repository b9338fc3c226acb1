"""`hub legacy` as an operator types it: what it prints, and its exit codes."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.postgres.databases import Connection

ROW = (
    "insert into session_requests (id, customer_id, session_type, plan_code) values ($1, $1, 'chat', 'free')"
)
ID = "00000000-0000-4000-8000-00000000beef"


class Shell:
    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url

    async def hub(self, *arguments: str) -> tuple[int | None, str]:
        """Exit code, and everything that was printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hub", "legacy", *arguments,
            env={**os.environ, "HUB_POSTGRES_URL": self._url}, cwd=self._folder,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        return process.returncode, output.decode()


@pytest.fixture
def shell(tmp_path: Path, database_url: str) -> Shell:
    return Shell(tmp_path, database_url)


async def test_import_and_archive(shell: Shell, committed: Connection, tmp_path: Path) -> None:
    await committed.execute(ROW, ID)
    assert await shell.hub("import", "--dry-run") == (0, "1 to import, 0 skipped, 0 conflicts\n")
    code, said = await shell.hub("archive")
    assert (code, "hub legacy import" in said) == (1, True)
    assert await shell.hub("import") == (0, "1 imported, 0 skipped, 0 conflicts\n")
    assert await shell.hub("import", "--json") == (0, '{"imported":0,"skipped":1,"conflicts":[]}\n')
    name = f"session_requests-{datetime.now(UTC):%Y-%m-%d}.jsonl"
    code, said = await shell.hub("archive")
    assert (code, said) == (0, f"1 rows in {name}; the table is session_requests_archived now\n")
    assert ID in (tmp_path / name).read_text()
    assert await shell.hub("archive") == (0, "archived before\n")


async def test_conflicts_are_named(shell: Shell, committed: Connection) -> None:
    await committed.execute(ROW, ID)
    await committed.execute("insert into customers (id) values ($1)", ID)
    await committed.execute(
        "insert into sessions (id, customer_user_id, session_type, plan_code) values ($1, $1, 'chat', 'x')",
        ID,
    )
    code, said = await shell.hub("import")
    assert code == 1
    assert said == f"0 imported, 0 skipped, 1 conflicts\n{ID}: another booking has this id\n"


async def test_failure_and_misuse(tmp_path: Path, empty_url: str) -> None:
    code, said = await Shell(tmp_path, empty_url).hub("import")
    assert (code, said) == (1, "Error: There is no table session_requests. Run `hub migrate up` first.\n")
    code, said = await Shell(tmp_path, "postgresql://127.0.0.1:1/nobody").hub("archive")
    assert (code, said.startswith("Error: Postgres does not answer")) == (1, True)
    code, said = await Shell(tmp_path, "").hub("import")
    assert (code, "HUB_POSTGRES_URL is not set" in said) == (2, True)
