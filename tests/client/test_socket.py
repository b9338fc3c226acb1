"""The socket client against a small real server: what it promises when the other side misbehaves."""

import asyncio
import http
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from hub.client import HubProblem, HubSocket
from hub.wire.codec import JSON, MSGPACK

Body = dict[str, Any]
Test = Callable[[str], Awaitable[None]]
Talk = Callable[[ServerConnection], Awaitable[None]]

WELCOME = {"type": "welcome", "connection_id": "c", "user_id": "u", "role": "mechanic", "assignments": []}
EVENT = {"type": "event", "event": "searching", "event_id": "e", "at": "now", "payload": {}}
FULL = 1_000


async def against(talk: Talk, test: Test, *, turn_away: Response | None = None) -> None:
    """Run the test against a server that talks like that; no task of the client may be left."""
    before = asyncio.all_tasks()

    async def gate(connection: ServerConnection, request: Request) -> Response | None:
        return turn_away

    protocols = [Subprotocol(JSON), Subprotocol(MSGPACK)]
    async with serve(talk, "127.0.0.1", 0, subprotocols=protocols, process_request=gate) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with asyncio.timeout(20):
            await test(f"http://127.0.0.1:{port}")
    left = [task for task in asyncio.all_tasks() - before if "hub/client" in str(task.get_coro())]
    assert left == []


async def say(connection: ServerConnection, message: Body) -> None:
    binary = connection.subprotocol == MSGPACK
    await connection.send(msgspec.msgpack.encode(message) if binary else json.dumps(message))


async def hear(connection: ServerConnection) -> Body:
    data = await connection.recv()
    message: Body = msgspec.msgpack.decode(data) if isinstance(data, bytes) else json.loads(data)
    return message


async def welcome_and(connection: ServerConnection, *messages: Body) -> None:
    await hear(connection)
    for message in (WELCOME, *messages):
        await say(connection, message)


async def silent(connection: ServerConnection) -> None:
    await welcome_and(connection)
    await connection.wait_closed()


@pytest.mark.parametrize("binary", [False, True])
async def test_replies_find_their_requests_in_any_order(binary: bool) -> None:
    async def talk(connection: ServerConnection) -> None:
        assert (await hear(connection)) == {"type": "hello", "token": "t", "status": "away"}
        await say(connection, WELCOME)
        asked = [await hear(connection), await hear(connection)]
        for request in reversed(asked):
            await say(
                connection, {"type": "reply", "id": request["id"], "ok": True, "to": request["assignment_id"]}
            )
        await connection.wait_closed()

    async def test(url: str) -> None:
        socket = await HubSocket.connect(url, "t", status="away", binary=binary)
        both = await asyncio.gather(
            socket.request("accept", assignment_id="a"), socket.request("decline", assignment_id="b")
        )
        assert [reply["to"] for reply in both] == ["a", "b"]
        assert socket.welcome["connection_id"] == "c"
        await socket.close()

    await against(talk, test)


async def test_a_refusal_is_raised_with_its_code() -> None:
    async def talk(connection: ServerConnection) -> None:
        await welcome_and(connection)
        request = await hear(connection)
        error = {"code": "recovering", "detail": "Soon.", "retry_after": 1}
        await say(connection, {"type": "reply", "id": request["id"], "ok": False, "error": error})
        await connection.wait_closed()

    async def test(url: str) -> None:
        socket = await HubSocket.connect(url, "t")
        with pytest.raises(HubProblem) as refused:
            await socket.request("accept", assignment_id="a")
        assert (refused.value.code, refused.value.retry_after) == ("recovering", 1)
        await socket.close()

    await against(talk, test)


async def test_the_reason_of_a_closed_door_is_told() -> None:
    async def talk(connection: ServerConnection) -> None:
        await hear(connection)
        await say(connection, {"type": "error", "code": "token_expired", "detail": "Too old."})
        await connection.close(4401)

    async def test(url: str) -> None:
        with pytest.raises(HubProblem, match="token_expired"):
            await HubSocket.connect(url, "t")

    await against(talk, test)


async def test_a_refused_handshake_is_a_problem() -> None:
    async def test(url: str) -> None:
        with pytest.raises(HubProblem) as refused:
            await HubSocket.connect(url, "t")
        problem = refused.value
        assert (problem.status, problem.code, problem.retry_after) == (503, "draining", 2)

    answer = Response(
        http.HTTPStatus.SERVICE_UNAVAILABLE,
        "Service Unavailable",
        Headers({"Retry-After": "2", "Content-Type": "application/problem+json"}),
        json.dumps({"code": "draining", "detail": "Elsewhere, please."}).encode(),
    )
    await against(silent, test, turn_away=answer)


async def test_whoever_asks_learns_that_the_network_went() -> None:
    async def test(url: str) -> None:
        socket = await HubSocket.connect(url, "t")
        asking = asyncio.create_task(socket.request("heartbeat"))
        await asyncio.sleep(0)
        socket.abort()
        with pytest.raises((HubProblem, ConnectionClosed)):
            await asking
        assert [event async for event in socket.events()] == []
        assert [event async for event in socket.events()] == []
        await socket.close()

    await against(silent, test)


async def test_events_end_even_where_every_place_was_taken() -> None:
    async def talk(connection: ServerConnection) -> None:
        await welcome_and(connection, *[EVENT] * FULL)

    async def test(url: str) -> None:
        socket = await HubSocket.connect(url, "t")
        await socket._connection.wait_closed()
        assert len([event async for event in socket.events()]) == FULL
        await socket.close()

    await against(talk, test)


async def test_events_that_nobody_reads_do_not_hold_up_replies_or_the_end() -> None:
    async def talk(connection: ServerConnection) -> None:
        await welcome_and(connection)
        request = await hear(connection)
        for message in [*[EVENT] * FULL, {"type": "reply", "id": request["id"], "ok": True}, EVENT]:
            await say(connection, message)
        await connection.wait_closed()

    async def test(url: str) -> None:
        socket = await HubSocket.connect(url, "t")
        assert (await socket.request("status", status="online"))["ok"]
        await socket._connection.wait_closed()  # the event too many
        with pytest.raises(ConnectionClosed):
            await socket.request("status", status="busy")
        assert len([event async for event in socket.events()]) == FULL
        began = time.perf_counter()
        await socket.close()
        assert time.perf_counter() - began < 1

    await against(talk, test)


async def test_a_cancelled_goodbye_leaves_nothing_running() -> None:
    async def test(url: str) -> None:
        socket = await HubSocket.connect(url, "t")
        # The other side will not answer the close frame: nothing that it sends is read.
        socket._connection.transport.pause_reading()
        leaving = asyncio.create_task(socket.close())
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert socket._reader.done()

    await against(silent, test)


async def test_the_hub_says_that_it_goes_away() -> None:
    async def talk(connection: ServerConnection) -> None:
        await welcome_and(connection, {"type": "going_away", "reconnect_ms": 1500}, EVENT)
        await connection.wait_closed()

    async def test(url: str) -> None:
        socket = await HubSocket.connect(url, "t")
        assert await anext(aiter(socket.events())) == EVENT
        assert socket.going_away == 1.5
        await socket.close()

    await against(talk, test)
