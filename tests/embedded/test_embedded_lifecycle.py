"""What both embedded stores promise: one server a directory, its port and data kept, nothing left over."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from persistence.embedded import EmbeddedStoreError
from persistence.embedded.process import (
    Record,
    lock_is_free,
    port_is_free,
    processes_marked,
    read_record,
    wait_until,
)
from persistence.embedded.store import EmbeddedStore

if TYPE_CHECKING:
    from tests.embedded.conftest import Bench

# What another run of the hub does with a store, in a process of its own.
SUPERVISOR = """
import sys
from pathlib import Path
from persistence import embedded
store = getattr(embedded, sys.argv[1])(Path(sys.argv[2]))
store.start()
print(store.pid, flush=True)
sys.stdin.read()
"""


def supervise(store: EmbeddedStore) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, type(store).__name__, str(store.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_stop_leaves_no_process_and_the_next_start_has_the_port_and_the_data(bench: "Bench") -> None:
    store = bench.store()
    store.start()
    bench.write(store, "kept")
    port, family = store.port, processes_marked(store.marker)
    assert store.pid in {member.pid for member in family}

    store.stop()

    assert not any(member.running() for member in family)
    assert processes_marked(store.marker) == []
    assert not store.alive()
    assert port_is_free(port)

    again = bench.store()
    again.start()
    assert again.port == port
    assert bench.read(again) == "kept"


def test_a_running_store_is_started_once(bench: "Bench") -> None:
    first, second = bench.store(), bench.store()
    first.start()
    pid = first.pid

    first.start()
    second.start()

    assert first.pid == second.pid == pid
    assert first.url == second.url
    assert second.alive()

    second.stop()
    assert not first.alive()


def test_a_killed_store_comes_back_on_its_port_with_what_it_acknowledged(
    bench: "Bench", kill: Callable[[EmbeddedStore], None]
) -> None:
    store = bench.store()
    assert not store.restart_if_dead()
    store.start()
    assert not store.restart_if_dead()
    bench.write(store, "acknowledged")
    port, pid = store.port, store.pid

    kill(store)

    assert store.restart_if_dead()
    assert not store.restart_if_dead()
    assert (store.port, store.alive()) == (port, True)
    assert store.pid != pid
    assert bench.read(store) == "acknowledged"

    store.stop()
    assert not store.restart_if_dead()


def test_whoever_shares_a_killed_store_restarts_it_once(
    bench: "Bench", kill: Callable[[EmbeddedStore], None]
) -> None:
    first, second = bench.store(), bench.store()
    first.start()
    second.start()

    kill(first)

    assert first.restart_if_dead()
    assert not second.restart_if_dead()
    assert second.pid == first.pid


def test_a_useless_pid_file_is_no_obstacle(bench: "Bench") -> None:
    store = bench.store()
    bench.directory.mkdir(parents=True, exist_ok=True)
    pid_file = bench.directory / f"{store.name}.pid"
    for content in ("", "garbage\0", "1", f"{os.getpid()} another:life 7777\n"):
        pid_file.write_text(content)

        store.start()

        record = read_record(pid_file)
        assert record is not None
        assert (record.pid, record.port, record.running()) == (store.pid, store.port, True)
        store.stop()
        assert not pid_file.exists()


def test_a_server_whose_pid_file_was_lost_is_ended_before_another_starts(bench: "Bench") -> None:
    store = bench.store()
    store.start()
    bench.write(store, "kept")
    pid_file = bench.directory / f"{store.name}.pid"
    lost = read_record(pid_file)
    assert lost is not None
    pid_file.write_text("garbage")

    again = bench.store()
    again.start()

    assert not lost.running()
    assert bench.read(again) == "kept"


def test_concurrent_runs_share_one_server(new_bench: "Bench") -> None:
    runs = [supervise(new_bench.store()) for _ in range(2)]
    try:
        pids = {first_line(run) for run in runs}
    finally:
        for run in runs:
            run.communicate()

    store = new_bench.store()
    store.start()
    assert pids == {str(store.pid)}


def test_a_store_outlives_ctrl_c_and_the_death_of_its_supervisor(bench: "Bench") -> None:
    run = supervise(bench.store())
    pid = first_line(run)

    os.killpg(run.pid, signal.SIGINT)
    run.communicate()

    store = bench.store()
    assert store.alive()
    store.start()
    assert str(store.pid) == pid


def test_a_taken_port_is_replaced_unless_it_was_asked_for(bench: "Bench") -> None:
    store = bench.store()
    store.start()
    port = store.port
    store.stop()

    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        store.start()
        assert store.port != port

    asked = bench.store(port=port)
    with pytest.raises(EmbeddedStoreError, match=f"already runs on port {store.port}"):
        asked.start()
    store.stop()
    asked.start()
    assert asked.port == port


def test_it_listens_on_the_loopback_address_alone(bench: "Bench") -> None:
    store = bench.store()
    store.start()

    # The whole 127.0.0.0/8 network is local: only a server bound to every address answers on another of it.
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.2", store.port)) != 0
        assert client.connect_ex(("127.0.0.1", store.port)) == 0


def test_the_servers_port_and_pid_are_unknown_before_a_start(new_bench: "Bench") -> None:
    store = new_bench.store()
    with pytest.raises(EmbeddedStoreError, match="has not been started"):
        _ = store.url
    with pytest.raises(EmbeddedStoreError, match="has not been started"):
        _ = store.pid
    store.stop()
    assert not new_bench.directory.exists()


def test_inheritable_descriptors_of_the_supervisor_stay_with_it(bench: "Bench") -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        port = listener.getsockname()[1]
        bench.store().start()
    assert port_is_free(port)


def test_a_recycled_pid_is_not_mistaken_for_the_server() -> None:
    recycled = Record(os.getpid(), "another:life", 7777)
    assert not recycled.running()
    recycled.signal(signal.SIGKILL)


def test_the_lock_lasts_as_long_as_the_server(bench: "Bench", kill: Callable[[EmbeddedStore], None]) -> None:
    store = bench.store()
    store.start()
    lock = bench.directory / f"{store.name}.lock"
    assert not lock_is_free(lock)
    kill(store)
    assert wait_until(lambda: lock_is_free(lock), 5)
