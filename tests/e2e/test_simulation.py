"""The simulation: what it counts, how it looks, and that a real one comes out sound."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from io import StringIO
from typing import Any

import pytest
import pytest_asyncio
from rich.console import Console

from hub.cli.simulation.display import line, panel, summarise
from hub.cli.simulation.run import Options, Simulation
from hub.cli.simulation.tally import Tally, quantiles
from tests.e2e.conftest import SHORT
from tests.e2e.world import SECRET, Hub, World, world_of


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crowded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A hub of its own: what simulated people leave open would surprise other tests."""
    hub = Hub(tmp_path_factory.mktemp("crowded") / "data", nodes=2, **SHORT)
    try:
        async with world_of(hub) as world:
            yield world
    finally:
        hub.stop()


class NoBooks:
    async def enter(self, mechanics: Any, favorites: Any) -> None:
        return

    async def count(self, session_ids: Any) -> tuple[set[str], int, int]:
        return set(session_ids), len(session_ids), 0


def booked(session_id: str, reason: str | None = None) -> dict[str, Any]:
    kind = "broadcast" if reason else "priority"
    return {"session": {"id": session_id}, "routing": {"type": kind, "reason": reason}}


def frame(name: str, session_id: str, customer_id: str, reason: str | None = None) -> dict[str, Any]:
    payload: dict[str, Any] = {"request": {"session": {"id": session_id, "customer_id": customer_id}}}
    return {"event": name, "payload": payload | ({"fallback_reason": reason} if reason else {})}


def test_quantiles() -> None:
    assert quantiles([]) == (0.0, 0.0)
    assert quantiles([float(n) for n in range(101)]) == (50.0, 99.0)


def test_what_is_lost_and_what_is_doubled_shows() -> None:
    tally = Tally()
    tally.book(booked("a"), 0.0)
    tally.book(booked("b", "mechanic_busy"), 0.0)
    assignment = {"preferred_mechanic_id": "ana"}
    tally.accept({"id": "a"}, assignment, "ana")
    assert tally.summary(1, {"a", "b"}, 2, 9).sound
    tally.accept({"id": "a"}, assignment, "ben")
    summary = tally.summary(1, {"a"}, 1, 9)
    assert (summary.lost, summary.double, summary.sound) == (1, 1, False)
    assert summary.routing == {"priority": 1, "mechanic_busy": 1}
    assert summary.accepted == {"the favourite": 1, "another mechanic": 1}


def test_a_released_session_may_be_accepted_again() -> None:
    tally = Tally()
    tally.accept({"id": "a"}, {"preferred_mechanic_id": None}, "ana")
    tally.release("a")
    tally.accept({"id": "a"}, {"preferred_mechanic_id": None}, "ben")
    assert tally.double == 0


def test_the_first_frame_counts_and_fallbacks_count_once() -> None:
    tally = Tally()
    tally.sending("mia", 1.0)
    tally.frame(frame("priority_session_request", "a", "mia"), 1.005)
    tally.frame(frame("priority_session_request", "a", "mia"), 1.9)
    for _ in range(3):
        tally.frame(frame("new_assignment", "a", "mia", "priority_timeout"), 5.0)
    assert tally.offer_ms == [pytest.approx(5.0)]
    assert tally.broadcast_ms == []
    assert tally.fallbacks == {"priority_timeout": 1}


def test_it_can_be_looked_at_before_anything_has_happened() -> None:
    out = Console(file=StringIO(), force_terminal=True, width=100)
    simulation = Simulation(Options(urls=[], secret=SECRET), NoBooks())
    out.print(panel(simulation), line(simulation.tally, 1.0))
    summarise(simulation.tally.summary(1, set(), 0, 0), out)
    text = out.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO from above
    assert "favourites get their requests first" in text
    assert "lost" in text


async def test_a_real_run_is_sound(crowded: World) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub", "simulate", "--json", "--duration", "4", "--rate", "12",
        "--mechanics", "8", "--customers", "30",
        "--url", crowded.hub.urls[0], "--url", crowded.hub.urls[1],
        env={**os.environ, "HUB_JWT_SECRET": SECRET, "HUB_POSTGRES_URL": crowded.hub.postgres_url,
             "HUB_PRIORITY_WINDOW_SECONDS": "2.5"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    summary = json.loads(out)
    assert summary["bookings"] > 10
    assert (summary["lost"], summary["double"]) == (0, 0)
    assert summary["sessions"] == summary["assignments"] == summary["bookings"]
    assert summary["accepted"]["the favourite"] > 0
    assert summary["offer_ms"][0] > 0


async def test_ctrl_c_ends_it_with_a_summary(crowded: World) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub", "simulate", "--json", "--duration", "0", "--rate", "20",
        "--mechanics", "3", "--customers", "9", "--url", crowded.hub.urls[0],
        env={**os.environ, "HUB_JWT_SECRET": SECRET, "HUB_POSTGRES_URL": crowded.hub.postgres_url},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    before = await crowded.postgres.fetchval("SELECT count(*) FROM sessions")

    async def busy() -> bool:
        return bool(await crowded.postgres.fetchval("SELECT count(*) FROM sessions") > before)

    await crowded.eventually(busy)
    process.send_signal(signal.SIGINT)
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert json.loads(out)["bookings"] > 0
