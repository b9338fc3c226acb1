"""The embedded Valkey: as durable as the hub needs, and ended even when it hangs."""

import os
import signal
import sys
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from persistence.embedded import EmbeddedStoreError
from persistence.embedded.process import processes_marked
from persistence.embedded.store import EmbeddedStore

if TYPE_CHECKING:
    from tests.embedded.conftest import ValkeyBench


def test_it_keeps_and_never_evicts(valkey_bench: "ValkeyBench") -> None:
    store = valkey_bench.store()
    store.start()
    assert store.url == f"redis://127.0.0.1:{store.port}/0"
    with redis.Redis.from_url(store.url, decode_responses=True) as client:
        settings = client.config_get(
            "appendonly", "appendfsync", "auto-aof-rewrite-min-size", "save", "maxmemory-policy"
        )
    assert settings == {
        "appendonly": "yes",
        "appendfsync": "always",
        "auto-aof-rewrite-min-size": str(256 << 20),
        "save": "",
        "maxmemory-policy": "noeviction",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="libraries are preloaded on Linux only")
def test_it_has_the_better_allocator_where_there_is_one(
    valkey_bench: "ValkeyBench", monkeypatch: pytest.MonkeyPatch
) -> None:
    # Comes with every glibc, and the server does not ask for it itself.
    monkeypatch.setenv("LD_PRELOAD", "libanl.so.1")
    store = valkey_bench.store()
    store.start()
    mapped = Path(f"/proc/{store.pid}/maps").read_text()
    assert "/libanl" in mapped
    assert ("/libjemalloc" in mapped) == (find_library("jemalloc") is not None)


def test_a_server_that_hangs_is_stopped(valkey_bench: "ValkeyBench") -> None:
    store = valkey_bench.store()
    store.start()
    (hung,) = processes_marked(store.marker)
    os.kill(store.pid, signal.SIGSTOP)

    store.stop()

    assert not hung.running()


def test_a_failed_start_says_why(valkey_bench: "ValkeyBench", kill: Callable[[EmbeddedStore], None]) -> None:
    store = valkey_bench.store()
    store.start()
    kill(store)
    manifest = next((store.data / "appendonlydir").glob("*.manifest"))
    manifest.write_text("no manifest\n")

    with pytest.raises(EmbeddedStoreError, match=r"(?s)valkey did not start in .*manifest"):
        store.start()

    assert not store.alive()
