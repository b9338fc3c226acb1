"""What a simulation counts as late, ended and lost; how its people ask again; that a stop stops it."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import pytest

from hub.cli.simulation.display import line
from hub.cli.simulation.people import Customer, Hub, persistently
from hub.cli.simulation.run import Options, Simulation
from hub.cli.simulation.tally import Tally
from hub.client import HubProblem

SECRET = "a secret that only the tests know, long enough for HS256"


def broadcast(session_id: str, customer_id: str) -> dict[str, Any]:
    request = {"session": {"id": session_id, "customer_id": customer_id}}
    return {"event": "new_assignment", "payload": {"request": request}}


def booking(session_id: str) -> dict[str, Any]:
    return {"session": {"id": session_id}, "routing": {"type": "priority", "reason": None}}


def test_what_was_booked_while_nobody_was_free_is_not_late() -> None:
    tally = Tally()
    tally.sending("mia", 10.0)
    tally.frame(broadcast("a", "mia"), 12.0, since=11.9)
    assert tally.broadcast_ms == []
    tally.frame(broadcast("a", "mia"), 12.5, since=9.0)
    assert tally.broadcast_ms == [2500.0]


def test_a_session_ends_once_however_many_end_it() -> None:
    tally = Tally()
    tally.book(booking("a"), 0.0)
    for session_id in ("a", "a", "of an earlier run"):
        tally.end({"id": session_id, "status": "completed"})
    assert tally.ended == {"completed": 1}


def test_what_was_released_is_accepted_again_and_not_twice() -> None:
    tally = Tally()
    for mechanic_id in ("ana", "ben"):
        tally.accept({"id": "a"}, {"preferred_mechanic_id": None}, mechanic_id)
        tally.release("a")
    tally.accept({"id": "a"}, {"preferred_mechanic_id": None}, "cleo")
    assert (tally.accepted.total(), tally.released, tally.double) == (3, 2, 0)
    assert "3 accepted (0 by the favourite, 2 released again)" in line(tally, 5.0)


def test_what_the_hub_denies_is_lost_even_with_a_row() -> None:
    tally = Tally()
    tally.book(booking("a"), 0.0)
    tally.lose("a")
    summary = tally.summary(1.0, {"a"}, 1, 3)
    assert (summary.lost, summary.sound) == (1, False)


def wishes(seed: int) -> list[dict[str, Any]]:
    hub = Hub([], httpx.AsyncClient(), lambda role, user_id, name: "token")
    customer = Customer(hub, "mia", "Mia", ["ana", "ben"], Tally(), random.Random(seed))
    return [customer._wish() for _ in range(50)]


def test_a_seed_decides_what_people_wish() -> None:
    assert wishes(7) == wishes(7)
    assert wishes(7) != wishes(8)
    assert {wish.get("routing_type") for wish in wishes(7)} == {
        "priority_broadcast",
        "favorites_sequence",
        None,
    }


async def test_weather_is_waited_out_and_a_refusal_is_an_answer() -> None:
    weather = [
        httpx.ConnectError("refused"),
        httpx.ReadError("lost"),
        HubProblem("recovering", "Soon.", status=503, retry_after=0.01),
    ]

    async def ask() -> str:
        if weather:
            raise weather.pop(0)
        return "done"

    async def refused() -> None:
        raise HubProblem("taken", "Too late.", status=409)

    assert await persistently(ask) == "done"
    with pytest.raises(HubProblem, match="taken"):
        await persistently(refused)


async def test_asking_again_may_ask_another_node() -> None:
    """One of two nodes is dead."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"session": null}'
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
        )
        await writer.drain()
        writer.close()

    dead = await asyncio.start_server(answer, "127.0.0.1", 0)
    gone = dead.sockets[0].getsockname()[1]
    dead.close()
    await dead.wait_closed()
    alive = await asyncio.start_server(answer, "127.0.0.1", 0)
    urls = [f"http://127.0.0.1:{port}" for port in (gone, alive.sockets[0].getsockname()[1])]
    async with alive, httpx.AsyncClient(trust_env=False) as client:
        hub = Hub(urls, client, lambda role, user_id, name: "token")
        for seed in range(6):
            customer = Customer(hub, "mia", "Mia", [], Tally(), random.Random(seed))
            assert await customer._active_session() is None


class NoBooks:
    async def enter(
        self, mechanics: Sequence[tuple[str, str, str]], favorites: Mapping[str, Sequence[str]]
    ) -> None:
        return

    async def count(self, session_ids: Sequence[str]) -> tuple[set[str], int, int]:
        return set(session_ids), 0, 0


async def test_a_stop_ends_it_in_time_even_where_the_hub_is_down() -> None:
    knocked = asyncio.Event()

    async def turn_away(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocked.set()
        writer.close()

    nobody = await asyncio.start_server(turn_away, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{nobody.sockets[0].getsockname()[1]}"
    simulation = Simulation(
        Options(urls=[url], secret=SECRET, mechanics=3, customers=3, rate=50, seconds=0), NoBooks()
    )
    before = asyncio.all_tasks()
    running = asyncio.create_task(simulation.run())
    await knocked.wait()
    simulation.stop()
    async with asyncio.timeout(15):
        summary = await running
    nobody.close()
    await nobody.wait_closed()
    assert (summary.bookings, summary.sound) == (0, True)
    assert asyncio.all_tasks() - before - {running} == set()
