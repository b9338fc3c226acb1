"""The embedded Valkey: as durable as the hub needs, and ended even when it hangs."""

import os
import signal
from collections.abc import Callable
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
        settings = client.config_get("appendonly", "appendfsync", "save", "maxmemory-policy")
    assert settings == {
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
    }


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
