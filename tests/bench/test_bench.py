"""The benchmark itself: accounts, medians and tables are right, and a small work runs from end to end."""

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hub.sockets.frames import frame
from tests.bench import plots, table, wire
from tests.bench.accounts import Account, cpu_seconds, family, resident_bytes, stat_fields
from tests.bench.counter import counter
from tests.bench.figures import HUB, Figures, percentile
from tests.bench.targets import TARGETS
from tests.bench.wire import Crowd, Joining, Listener, client_frame
from tests.bench.works import broadcast, growth, idle, machine, presence, targeted

# A child that starts a child, and both work until they have used this much CPU; then they say so and wait.
_WORK_S = 0.3
_FAMILY = f"""
import os, sys, time
child = os.fork()
while time.process_time() < {_WORK_S}:
    pass
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def working_family() -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", _FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.communicate()


def test_accounts_are_of_the_whole_family(working_family: "subprocess.Popen[str]") -> None:
    account = Account([working_family.pid])
    assert working_family.stdout is not None
    done = {int(working_family.stdout.readline()) for _ in range(2)}
    assert set(family([working_family.pid])) == done
    assert cpu_seconds([working_family.pid]) >= 2 * _WORK_S - 0.05
    assert account.spent().server <= cpu_seconds([working_family.pid])
    assert resident_bytes([working_family.pid]) > resident_bytes([max(done)]) > 0


@pytest.mark.parametrize("runs", [1, 5, 9])
def test_the_idle_sockets_of_all_servers_fit_together(runs: int) -> None:
    sockets = idle.sockets_more(20_000, runs)
    assert 0 < sockets * (runs + 1) * (len(broadcast.ALL) + 1) <= 20_000


def test_what_has_gone_has_spent_nothing_more() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert cpu_seconds([process.pid]) == 0


def test_own_work_is_the_load_generators() -> None:
    account = Account([])
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    spent = account.spent()
    assert spent.server == 0
    assert spent.generator >= 0.1
    assert 0 < spent.generator_share <= 1.1


def test_names_of_commands_do_not_shift_fields() -> None:
    assert stat_fields("12 (a) b (c) S 1 2 3")[:2] == ["S", "1"]


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([4, 1, 3, 2], 0.5) == 3
    assert percentile(range(100), 0.99) == 99
    assert percentile([7], 0.99) == 7


def _figures() -> Figures:
    figures = Figures()
    for hub, nchan in ((2.0, 4.0), (8.0, 16.0), (3.0, 5.0)):
        figures.add(broadcast.NAME, "1,000 sockets", HUB, broadcast.CPU, hub)
        figures.add(broadcast.NAME, "1,000 sockets", "nchan", broadcast.CPU, nchan)
    figures.missing("C floor", "there is no C compiler (`cc`)")
    return figures


def test_the_table_shows_medians_ratios_and_who_is_missing() -> None:
    text = table.render(_figures(), {"kernel": "Linux"})
    assert "| hub | 3.00 |" in text
    assert "| nchan | 5.00 (1.67×) |" in text  # noqa: RUF001
    assert "- Missing: C floor: there is no C compiler (`cc`)." in text
    assert "- kernel: Linux" in text


def test_targets_are_met_not_met_or_not_measured() -> None:
    text = table.render(_figures(), {})
    assert "| broadcast, CPU a frame beside nchan | ≤ 1 × | 0.6 × | yes |  | 1,000 sockets |" in text  # noqa: RUF001
    assert "| … beside the C floor | ≤ 1.5 × | not measured |" in text  # noqa: RUF001
    figures = _figures()
    figures.add(presence.NAME, "", HUB, presence.RATE, 60.0)
    figures.add(presence.NAME, "", "Starlette", presence.RATE, 100.0)
    assert "| ≥ 0.7 × | 0.6 × | **no** |" in table.render(figures, {})  # noqa: RUF001


def test_every_target_can_be_asked_of_nothing() -> None:
    text = table.render(Figures(), {})
    assert text.count("| not measured |") == len(TARGETS)


def test_a_floor_is_made_of_the_same_runs_parts() -> None:
    figures = _figures()
    figures.add(targeted.NAME, "200/s, 9 sockets", HUB, targeted.P50, 7.0)
    assert "| booking to frame, p50 | ≤ 2 ms | 7 ms | **no** |  | 200/s, 9 sockets |" in table.render(
        figures, {}
    )
    figures.add(targeted.NAME, "200/s, 9 sockets", "Starlette", targeted.P50, 1.0)
    for name, took in (("redis-py, one read", 0.5), ("redis-py, one synced write", 1.25)):
        figures.add(machine.NAME, "clients", name, machine.P50, took)
    assert "| 7 ms | **no** | 2.75 ms |" in table.render(figures, {})


def test_figures_are_written_with_their_runs(tmp_path: Path) -> None:
    _figures().write(tmp_path / "figures.json", {"kernel": "Linux"})
    document = msgspec.json.decode((tmp_path / "figures.json").read_bytes())
    assert document["figures"][0]["values"] == [2.0, 8.0, 3.0]
    assert document["figures"][0]["median"] == 3.0
    assert document["missing"] == [{"contender": "C floor", "reason": "there is no C compiler (`cc`)"}]


def test_a_document_keeps_what_is_around_the_markers(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.write(document, "new")
    assert document.read_text() == f"before\n{table.BEGIN}\n\nnew\n\n{table.END}\nafter\n"
    document.write_text("no markers")
    with pytest.raises(ValueError, match="has no"):
        table.write(document, "new")


def test_curves_go_from_small_to_large() -> None:
    figures = Figures()
    for size, cost in (("1,000", 5.0), ("100", 4.0)):
        figures.add(growth.NAME, f"{size} {growth.SOCKETS}", HUB, growth.LIFE, cost)
    assert plots.curve(figures.all(), growth.LIFE.name, growth.SOCKETS) == [(100, 4.0), (1000, 5.0)]


@pytest.mark.parametrize("size", [0, 5, 125, 126, 300, 70_000])
async def test_frames_are_found_however_they_are_cut(size: int) -> None:
    crowd = Crowd(("127.0.0.1", 1))
    heard: list[bytes] = []
    crowd.on_frame = lambda listener, payload: heard.append(payload)
    payload = os.urandom(size).replace(b"2", b"3")
    length = (
        bytes((size,))
        if size < 126
        else b"\x7e" + size.to_bytes(2)
        if size < 65_536
        else b"\x7f" + size.to_bytes(8)
    )
    stream = b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + (b"\x82" + length + payload) * 3
    for cut in (1, 7, 4096):
        heard.clear()
        listener = Listener(crowd, 0, Joining(path="/"))
        for at in range(0, len(stream), cut):
            listener.data_received(stream[at : at + cut])
        assert heard == [payload] * 3


async def test_the_counter_counts_messages_and_answers_pings() -> None:
    sizes, socket_done, said = (5, 0, 300, 60_000), asyncio.Event(), asyncio.Queue[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        await socket_done.wait()
        writer.write(frame(b"p", binary=False).replace(b"\x81", b"\x89", 1))
        for size in sizes:
            writer.write(frame(b"x" * size, binary=True))
        said.put_nowait(await reader.readexactly(7))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    crowd = Crowd(server.sockets[0].getsockname())
    await crowd.join([Joining(path="/")] * 3)
    with counter(crowd) as counted:
        coming = counted.expect(3 * len(sizes), 20) if counted else crowd.expect(3 * len(sizes))
        socket_done.set()
        assert await coming in (3 * len(sizes), None)
        assert [await said.get() for _ in range(3)] == [client_frame(b"p", 10)] * 3
    await crowd.leave()
    server.close()
    await server.wait_closed()


async def test_a_crowd_that_does_not_fit_leaves_no_socket_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_AGAIN_S", 0)
    places, gone = itertools.count(), asyncio.Queue[None]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if next(places) < 3:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                await reader.read()
            gone.put_nowait(None)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    crowd = Crowd(server.sockets[0].getsockname())
    with pytest.raises(ConnectionError, match="lost before it was in"):
        await crowd.join([Joining(path="/")] * 5)
    async with asyncio.timeout(10):
        for _ in range(3):
            await gone.get()
    server.close()
    await server.wait_closed()


def test_clients_mask_their_frames() -> None:
    assert client_frame(b"ab") == b"\x81\x82\0\0\0\0ab"
    assert client_frame(b"x" * 300)[:4] == b"\x81\xfe\x01\x2c"


def test_a_small_work_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.bench",
            "presence",
            "--quick",
            "--json",
            str(tmp_path / "figures.json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| presence polls beside a bare Starlette route |" in done.stdout
    document = msgspec.json.decode((tmp_path / "figures.json").read_bytes())
    measured = {(f["contender"], f["metric"]["name"]): f["median"] for f in document["figures"]}
    assert measured[HUB, presence.RATE.name] > 0
    assert measured["Starlette", presence.RATE.name] > 0
    assert "processor" in document["environment"]
