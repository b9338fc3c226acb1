"""The embedded Postgres: its cluster, whom it runs as, and what a killed one leaves behind."""

import asyncio
import os
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from persistence.embedded import EmbeddedPostgres, EmbeddedStoreError
from persistence.embedded.process import Record, processes_marked, wait_until
from persistence.embedded.store import EmbeddedStore

if TYPE_CHECKING:
    from tests.embedded.conftest import PostgresBench


def test_the_cluster_is_durable_utf8_and_utc(
    postgres_bench: "PostgresBench", run_sql: Callable[..., Any]
) -> None:
    store = postgres_bench.store()
    store.start()
    assert store.url == f"postgresql://postgres@127.0.0.1:{store.port}/hub"
    wanted = {
        "fsync": "on",
        "synchronous_commit": "on",
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
        "max_connections": "200",
        "unix_socket_directories": "",
    }
    assert {name: run_sql(store.url, f"SHOW {name}") for name in wanted} == wanted
    assert (
        run_sql(store.url, "SELECT upper('čaj') || '-' || split_part(version(), '.', 1)")
        == "ČAJ-PostgreSQL 18"
    )


def test_a_dropped_database_is_created_again(
    postgres_bench: "PostgresBench", run_sql: Callable[..., Any]
) -> None:
    store = postgres_bench.store()
    store.start()
    run_sql(store.url.replace("/hub", "/postgres"), "DROP DATABASE hub", "SELECT 1")

    store.start()

    assert run_sql(store.url, "SELECT current_database()") == "hub"


def test_it_needs_neither_root_nor_the_developers_environment(
    new_postgres_bench: "PostgresBench", monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"HOME": "", "PGDATA": "/nowhere", "PGPORT": "1", "LC_ALL": "xx_XX.utf8"}.items():
        monkeypatch.setenv(name, value)
    closed = new_postgres_bench.directory.parent
    closed.mkdir(mode=0o700)
    store = new_postgres_bench.store()

    store.start()

    # Postgres insists on being the owner of its data.
    assert store.data.stat().st_uid != 0
    assert closed.stat().st_mode & 0o777 == 0o700
    assert closed.stat().st_uid == os.geteuid()


def test_a_postmaster_pid_that_names_another_process_is_no_obstacle(
    postgres_bench: "PostgresBench", kill: Callable[[EmbeddedStore], None]
) -> None:
    store = postgres_bench.store()
    store.start()
    postgres_bench.write(store, "kept")
    kill(store)
    lock = store.data / "postmaster.pid"
    lines = lock.read_text().splitlines(keepends=True)
    lock.write_text("".join([f"{os.getpid()}\n", *lines[1:]]))

    assert store.restart_if_dead()

    assert postgres_bench.read(store) == "kept"


def test_a_query_that_outlives_its_killed_server_does_not_keep_it_from_restarting(
    postgres_bench: "PostgresBench", kill: Callable[[EmbeddedStore], None], run_sql: Callable[..., Any]
) -> None:
    store = postgres_bench.store()
    store.start()
    backends = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %'"

    async def abandon_a_busy_query() -> Record:
        connection = await asyncpg.connect(store.url)
        busy = await connection.fetchval("SELECT pg_backend_pid()")
        # It waits for nothing, so that it never notices the death of its postmaster.
        query = asyncio.ensure_future(connection.execute("DO 'BEGIN LOOP END LOOP; END'"))
        started = asyncio.to_thread(wait_until, lambda: run_sql(store.url, backends) == 1, 5)
        assert await started
        kill(store)
        (record,) = [record for record in processes_marked(store.marker) if record.pid == busy]
        assert await asyncio.to_thread(store.restart_if_dead)
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await query
        return record

    assert not asyncio.run(abandon_a_busy_query()).running()
    store.stop()
    assert processes_marked(store.marker) == []


def test_a_half_made_cluster_of_a_killed_run_is_removed(new_postgres_bench: "PostgresBench") -> None:
    draft = new_postgres_bench.directory / "initdb-left"
    (draft / "base").mkdir(parents=True)

    new_postgres_bench.store().start()

    assert not draft.exists()


def test_a_copy_of_the_directory_is_a_cluster_of_its_own(
    postgres_bench: "PostgresBench", new_postgres_bench: "PostgresBench"
) -> None:
    original, copy = postgres_bench.store(), new_postgres_bench.store()
    original.start()
    postgres_bench.write(original, "original")
    original.stop()
    # Made by root, the copy is root's, and not yet that of whom the server runs as.
    shutil.copytree(original.data, copy.data)

    original.start()
    copy.start()
    new_postgres_bench.write(copy, "copy")

    assert postgres_bench.read(original) == "original"
    assert new_postgres_bench.read(copy) == "copy"


def test_a_failed_start_says_why(new_postgres_bench: "PostgresBench") -> None:
    store: EmbeddedPostgres = new_postgres_bench.store()
    store.data.mkdir(mode=0o700, parents=True)

    with pytest.raises(EmbeddedStoreError, match=r"(?s)postgres did not start in .*postgresql\.conf"):
        store.start()

    assert not store.alive()
