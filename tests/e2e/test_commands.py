"""The command line as it is typed: what it prints, how it exits, what it leaves behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jwt
import psutil
import pytest
from click.testing import CliRunner

from hub.cli import main
from tests.e2e.world import PATIENCE_S, SECRET, Hub, World, world_of


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    return subprocess.run(
        [sys.executable, "-m", "hub", *arguments],
        env=bare | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def family(hub: Hub) -> list[psutil.Process]:
    """Everything that belongs to a hub: its own processes and the stores on its directory."""
    marks = (str(hub.data_dir), hub.urls[0])
    mine = psutil.Process(hub.process.pid).children(recursive=True) if hub.process.poll() is None else []
    stores = [
        p
        for p in psutil.process_iter(["cmdline"])
        if any(m in " ".join(p.info["cmdline"] or []) for m in marks)
    ]
    return [*mine, *stores]


def end(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Wait for them; those that are still there."""
    return psutil.wait_procs(processes, timeout=PATIENCE_S)[1]


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_that_was_started(tmp_path: Path, sig: signal.Signals) -> None:
    hub = Hub(tmp_path / "data", nodes=2)
    everything = family(hub)
    assert len(everything) >= 4
    os.killpg(hub.process.pid, sig)
    assert hub.stop() == 0
    assert end(everything) == []
    assert "Traceback" not in hub.log.read_text()


def test_with_sockets_connected_it_ends_in_time_and_says_so_to_them(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "data")

    async def stay() -> tuple[int, int | None]:
        async with world_of(hub) as world:
            socket = await (await world.mechanic()).online()
            hub.process.send_signal(signal.SIGTERM)
            notice = await socket.other("going_away")
            return notice["reconnect_ms"], await socket.closed()

    with asyncio.Runner() as runner:
        reconnect_ms, code = runner.run(stay())
    assert reconnect_ms > 0
    assert code == 1012
    assert hub.stop() == 0


def test_a_second_signal_does_not_wait_for_sockets(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "data", nodes=2)
    everything = family(hub)

    async def stay() -> int | None:
        async with world_of(hub) as world:
            socket = await (await world.mechanic()).online(node=1)
            hub.process.send_signal(signal.SIGINT)
            await socket.other("going_away")
            hub.process.send_signal(signal.SIGINT)
            return await socket.closed()

    with asyncio.Runner() as runner:
        assert runner.run(stay()) == 1012
    assert hub.stop() == 0
    assert end(everything) == []
    log = hub.log.read_text()
    assert "drain_cut_short" in log
    assert "Traceback" not in log


def test_what_was_stored_is_there_in_the_next_run_unless_fresh(tmp_path: Path) -> None:
    data = tmp_path / "data"

    def mechanics(hub: Hub, add: bool) -> int:
        async def count() -> int:
            async with world_of(hub) as world:
                if add:
                    await world.mechanic("Zoe Zander")
                query = "SELECT count(*) FROM mechanics WHERE first_name = 'Zoe'"
                return int(await world.postgres.fetchval(query))

        try:
            with asyncio.Runner() as runner:
                return runner.run(count())
        finally:
            assert hub.stop() == 0

    assert mechanics(Hub(data), add=True) == 1
    assert mechanics(Hub(data), add=False) == 1
    assert mechanics(Hub(data, HUB_FRESH="1"), add=False) == 0


def test_a_killed_run_leaves_nothing_that_the_next_one_trips_over(tmp_path: Path) -> None:
    first = Hub(tmp_path / "data")
    nodes = [psutil.Process(pid) for pid in first.pids]
    first.process.kill()
    first.stop()
    assert end(nodes) == []

    second = Hub(tmp_path / "data")
    assert second.redis_url == first.redis_url
    assert second.postgres_url == first.postgres_url
    everything = family(second)
    assert second.stop() == 0
    assert end(everything) == []


def test_fresh_does_not_touch_what_another_run_uses(hub: Hub) -> None:
    result = run("dev", "--port", "0", "--fresh", "--data-dir", str(hub.data_dir))
    assert result.returncode == 1
    assert "stop it first" in result.stderr
    assert run("migrate", "verify", HUB_POSTGRES_URL=hub.postgres_url).returncode == 0


def test_store_addresses_that_make_no_sense_are_named() -> None:
    for name in ("HUB_REDIS_URL", "HUB_POSTGRES_URL"):
        good = {"HUB_REDIS_URL": "redis://x", "HUB_POSTGRES_URL": "postgresql://x", "HUB_JWT_SECRET": "x"}
        result = run("serve", **(good | {name: "nope"}))
        assert result.returncode == 2
        assert name in result.stderr


def test_a_simulation_without_a_hub_says_so(hub: Hub) -> None:
    here = {"HUB_POSTGRES_URL": hub.postgres_url, "HUB_JWT_SECRET": SECRET}
    result = run("simulate", "--url", "http://127.0.0.1:9", **here)
    assert result.returncode == 1
    assert "No hub answers" in result.stderr


def test_serve_names_what_is_missing() -> None:
    result = run("serve")
    assert result.returncode == 2
    assert "HUB_REDIS_URL, HUB_POSTGRES_URL, HUB_JWT_SECRET or HUB_JWKS_URL" in result.stderr


@pytest.mark.parametrize("name", ["HUB_SHARDS", "HUB_PING_INTERVAL_SECONDS"])
def test_settings_that_make_no_sense_are_named(name: str) -> None:
    result = run("serve", **{name: "many"})
    assert result.returncode == 2
    assert name in result.stderr


def test_a_node_that_disagrees_about_shards_does_not_start(hub: Hub) -> None:
    result = run(
        "serve", "--port", "0",
        HUB_REDIS_URL=hub.redis_url, HUB_POSTGRES_URL=hub.postgres_url, HUB_JWT_SECRET=SECRET, HUB_SHARDS="4",
    )  # fmt: skip
    assert result.returncode == 1
    assert "16 shards" in result.stderr


async def test_several_workers_share_a_port_and_end_together(hub: Hub, world: World, tmp_path: Path) -> None:
    settings = {
        "HUB_REDIS_URL": hub.redis_url,
        "HUB_POSTGRES_URL": hub.postgres_url,
        "HUB_JWT_SECRET": SECRET,
    }
    log = tmp_path / "log"
    with log.open("w") as file:
        server = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hub", "serve", "--workers", "2", "--port", "0",
            env={**os.environ, **settings, "HUB_LOG_FORMAT": "json"},
            stderr=file,
        )  # fmt: skip

    async def port() -> int | None:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return next((line["port"] for line in lines if line["event"] == "listening"), None)

    url = f"http://127.0.0.1:{await world.eventually(port)}"
    seen = set()

    async def both() -> bool:
        try:
            answer = await world.http.get(f"{url}/readyz", headers={"Connection": "close"})
        except OSError:
            return False
        if answer.status_code == 200:
            seen.add(answer.json()["node"])
        return len(seen) == 2

    try:
        await world.eventually(both)
        workers = psutil.Process(server.pid).children()
    finally:
        server.terminate()
    assert await asyncio.wait_for(server.wait(), PATIENCE_S) == 0
    assert end(workers) == []


def test_a_taken_port_is_named(hub: Hub, tmp_path: Path) -> None:
    port = hub.urls[0].rpartition(":")[2]
    result = run("dev", "--port", port, "--data-dir", str(tmp_path / "data"))
    assert result.returncode == 1
    assert f"127.0.0.1:{port}" in result.stderr
    assert not (tmp_path / "data").exists()


def test_token_prints_one_token() -> None:
    sub = "c0a1d3e4-77b2-4f0b-8d6c-2e4b9c1d0b01"
    result = run(
        "token", "--role", "customer", "--sub", sub, "--ttl", "60", "--name", "Mia", HUB_JWT_SECRET=SECRET
    )
    claims = jwt.decode(result.stdout.strip(), SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["role"], claims["name"]) == (sub, "customer", "Mia")
    assert claims["exp"] - claims["iat"] == 60
    assert run("token", "--role", "customer", "--sub", "mia", HUB_JWT_SECRET=SECRET).returncode == 2
    assert run("token", "--role", "king", "--sub", sub, HUB_JWT_SECRET=SECRET).returncode == 2


def test_flags_by_command(hub: Hub) -> None:
    environment = {"HUB_POSTGRES_URL": hub.postgres_url}
    key = "ENABLE_FAVORITES_PRIORITY"
    try:
        assert run("flag", "off", key, **environment).stdout.startswith("off")
        changed = run("flag", "set", key, "--enabled", "--roles", "admin", "--rollout", "20", **environment)
        assert changed.stdout == f"on   {key}  for admin, rolled out to 20 %\n"
        assert run("flag", "list", **environment).stdout == changed.stdout
        assert run("flag", "on", "NO_SUCH_FLAG", **environment).returncode == 1
        assert run("flag", "set", key, "--rollout", "101", **environment).returncode == 2
    finally:
        run("flag", "set", key, "--enabled", "--roles", "admin,customer", "--rollout", "100", **environment)


def test_migrations_by_command(hub: Hub) -> None:
    environment = {"HUB_POSTGRES_URL": hub.postgres_url}
    assert run("migrate", "up", **environment).stdout == "up to date\n"
    assert run("migrate", "verify", **environment).stdout == "complete\n"
    assert "0001_people" in run("migrate", "status", **environment).stdout
    assert run("migrate", "verify", HUB_POSTGRES_URL="postgresql://127.0.0.1:1/x").returncode == 1


def test_help_everywhere() -> None:
    assert "Usage:" in run("--help").stdout
    for command in (
        ["dev"],
        ["serve"],
        ["migrate"],
        ["migrate", "up"],
        ["token"],
        ["flag"],
        ["simulate"],
    ):
        result = CliRunner().invoke(main, [*command, "--help"])
        assert result.exit_code == 0, command
        assert "Usage:" in result.output
