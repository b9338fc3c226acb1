"""How people behave: some answer at once, some late, some never; some lose the network in between."""

import asyncio
import contextlib
import math
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import httpx
from msgspec import Struct
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from hub.cli.simulation.tally import Tally
from hub.client import HubHttp, HubProblem, HubSocket

Json = dict[str, Any]

GONE = (HubProblem, ConnectionClosed, InvalidHandshake, httpx.TransportError, OSError, TimeoutError)
"""What a lost network, a restarting node or a refusal look like to a client."""

HABITS = (
    ("accepts at once", 40),
    ("accepts late", 15),
    ("declines", 15),
    ("ignores", 12),
    ("loses the network", 10),
    ("goes busy", 8),
)
_REPAIR_S = (0.5, 4.0)
_SOON_S = (0.05, 0.8)
_AWAY_S = (0.2, 3.0)
_RETRIES = 40


class Hub(Struct, frozen=True):
    """How to reach the hub as somebody."""

    urls: list[str]
    client: httpx.AsyncClient
    token_for: Callable[[str, str, str], str]

    def http(self, token: str, dice: random.Random) -> HubHttp:
        """By any node: whoever asks again after a lost connection does not ask a dead one for ever."""
        return HubHttp(self.client, dice.choice(self.urls), token)


class Mechanic:
    """Stays connected, comes back when the connection goes, and takes one session at a time."""

    def __init__(self, hub: Hub, user_id: str, name: str, tally: Tally, dice: random.Random) -> None:
        self.id = user_id
        self.name = name
        self._hub = hub
        self._tally = tally
        self._dice = dice
        self._token = hub.token_for("mechanic", user_id, name)
        self._work = asyncio.TaskGroup()
        self._occupied = False
        self._held: set[str] = set()
        self._breaks = 0
        self._available_since = math.inf

    @property
    def _http(self) -> HubHttp:
        return self._hub.http(self._token, self._dice)

    async def live(self) -> None:
        """Until cancelled."""
        async with self._work:
            while True:
                with contextlib.suppress(*GONE):
                    if not self._occupied:
                        await self._finish_earlier_work()
                    await self._shift()
                await asyncio.sleep(self._dice.uniform(*_AWAY_S))

    async def _finish_earlier_work(self) -> None:
        """What a lost connection or an earlier run broke off would keep this mechanic busy."""
        held = await persistently(lambda: self._http.held())
        for item in [held, *held["others"]]:
            if item["session"] is not None:
                session_id = item["session"]["id"]
                await persistently(partial(self._do, HubHttp.start_session, session_id))
                ended = await persistently(partial(self._do, HubHttp.end_session, session_id))
                self._tally.end(ended["session"])
                self._rid_of(session_id)

    async def _shift(self) -> None:
        binary = self._dice.random() < 0.5
        socket = await HubSocket.connect(
            self._hub.urls[self._dice.randrange(len(self._hub.urls))], self._token, binary=binary
        )
        self._tally.sockets += 1
        self._available_since = time.perf_counter()
        try:
            for item in socket.welcome["assignments"]:
                self._consider(socket, item["assignment"], urgent=item["priority"])
            async for event in socket.events():
                if event["event"] in ("priority_session_request", "new_assignment"):
                    self._tally.frame(event, time.perf_counter(), self._waiting_since())
                    urgent = event["event"] == "priority_session_request"
                    window_s = event["payload"].get("expires_in_ms", 10_000) / 1000
                    self._consider(
                        socket, event["payload"]["request"]["assignment"], urgent=urgent, window_s=window_s
                    )
                elif event["event"] in ("session_updated", "assignment_cancelled", "assignment_expired"):
                    self._heard_of(event["payload"])
        finally:
            self._tally.sockets -= 1
            await socket.close()

    def _consider(self, socket: HubSocket, assignment: Json, *, urgent: bool, window_s: float = 10.0) -> None:
        if self._occupied:
            return
        self._work.create_task(self._respond(socket, assignment["id"], urgent, window_s))

    def _waiting_since(self) -> float:
        """Since when the hub has nothing against sending requests here; never, where it has. What was booked
        before comes late by right."""
        return math.inf if self._held or self._breaks else self._available_since

    def _heard_of(self, payload: Json) -> None:
        session = payload.get("session") or {"id": payload["session_id"], "status": "cancelled"}
        if session["status"] not in ("waiting", "live"):
            self._rid_of(session["id"])

    def _rid_of(self, session_id: str) -> None:
        if session_id in self._held:
            self._held.discard(session_id)
            self._available_since = time.perf_counter()

    async def _respond(self, socket: HubSocket, assignment_id: str, urgent: bool, window_s: float) -> None:
        dice = self._dice
        habit = dice.choices([h for h, _ in HABITS], [w for _, w in HABITS])[0]
        try:
            if urgent:
                await socket.request("ack", assignment_id=assignment_id, stage="delivered")
            match habit:
                case "accepts at once":
                    await asyncio.sleep(dice.uniform(*_SOON_S))
                    await self._accept(socket, assignment_id)
                case "accepts late":
                    await asyncio.sleep(window_s * dice.uniform(0.6, 0.95))
                    await self._accept(socket, assignment_id)
                case "declines":
                    await asyncio.sleep(dice.uniform(*_SOON_S))
                    await socket.request("decline", assignment_id=assignment_id, reason="not now")
                case "loses the network" if urgent:
                    socket.abort()
                case "goes busy":
                    await self._take_a_break(socket)
                case _:
                    return
        except HubProblem as problem:
            self._tally.refuse(problem.code)
        except GONE:
            return

    async def _take_a_break(self, socket: HubSocket) -> None:
        self._breaks += 1
        try:
            await socket.request("status", status="busy")
            await asyncio.sleep(self._dice.uniform(*_AWAY_S))
            await socket.request("status", status="online")
        finally:
            self._breaks -= 1
            self._available_since = time.perf_counter()

    async def _accept(self, socket: HubSocket, assignment_id: str) -> None:
        """Take it, do it, end it; now and then give it back."""
        if self._occupied:
            return
        self._occupied = True
        try:
            answer = await socket.request("accept", assignment_id=assignment_id)
            session = answer["session"]
            self._held.add(session["id"])
            self._tally.accept(session, answer["assignment"], self.id)
            if self._dice.random() < 0.05:
                self._tally.release(session["id"])
                await socket.request("release", assignment_id=assignment_id, reason="flat tyre")
                self._rid_of(session["id"])
                return
            await asyncio.sleep(self._dice.uniform(*_SOON_S))
            await self._start(session["id"])
            await asyncio.sleep(self._dice.uniform(*_REPAIR_S))
            if self._dice.random() < 0.7:
                ended = await persistently(partial(self._do, HubHttp.end_session, session["id"]))
                self._tally.end(ended["session"])
                self._rid_of(session["id"])
        finally:
            self._occupied = False

    async def _start(self, session_id: str) -> None:
        try:
            await persistently(partial(self._do, HubHttp.start_session, session_id))
        except HubProblem as problem:
            if problem.code in ("taken", "not_found"):  # the hub said it was ours, and we kept it
                self._tally.lose(session_id)
            raise

    def _do(self, what: Callable[[HubHttp, str], Awaitable[Json]], session_id: str) -> Awaitable[Json]:
        return what(self._http, session_id)


class Customer:
    """Books, waits, and gives up when it takes too long."""

    def __init__(
        self, hub: Hub, user_id: str, name: str, favorites: list[str], tally: Tally, dice: random.Random
    ) -> None:
        self.id = user_id
        self._favorites = favorites
        self._tally = tally
        self._dice = dice
        self._hub = hub
        self._token = hub.token_for("customer", user_id, name)
        self._open: str | None = None

    @property
    def _http(self) -> HubHttp:
        return self._hub.http(self._token, self._dice)

    async def visit(self, patience_s: float) -> None:
        """One booking from its start to its end."""
        key = str(uuid.uuid4())  # not of the seed: a repeated run must not find the last one's bookings
        wish = self._wish()
        if (earlier := (await self._active_session())) is not None:
            await persistently(lambda: self._http.end(earlier["id"]))
        self._tally.sending(self.id, time.perf_counter())
        try:
            answer = await persistently(lambda: self._http.book(key=key, **wish))
        except HubProblem as problem:
            self._tally.refuse(problem.code)
            return
        self._tally.book(answer, time.perf_counter())
        self._open = session_id = answer["session"]["id"]
        live, deadline = False, time.perf_counter() + patience_s
        while time.perf_counter() < deadline:
            await asyncio.sleep(self._dice.uniform(0.5, 1.5))
            found = await self._active_session()
            if found is None or found["id"] != session_id:
                self._open = None
                return
            if found["status"] == "live" and not live:
                live, deadline = True, time.perf_counter() + _REPAIR_S[1]
        await self.leave()

    async def leave(self) -> None:
        """End what is still open."""
        if (session_id := self._open) is None:
            return
        try:
            ended = await persistently(lambda: self._http.end(session_id))
        except HubProblem as problem:
            if problem.code == "not_found":
                self._tally.lose(session_id)
            raise
        self._open = None
        self._tally.end(ended["session"])

    async def _active_session(self) -> Json | None:
        found: Json | None = (await persistently(lambda: self._http.active_session()))["session"]
        return found

    def _wish(self) -> Json:
        wish: Json = {"plan_code": "free", "notes": "Simulated."}
        kind = self._dice.choices(("favourite", "sequence", "anyone"), (65, 15, 20))[0]
        if kind == "favourite" and self._favorites:
            wish |= {"routing_type": "priority_broadcast", "preferred_mechanic_id": self._favorites[0]}
            wish["wait_if_offline"] = self._dice.random() < 0.05
        elif kind == "sequence":
            wish["routing_type"] = "favorites_sequence"
        if self._dice.random() < 0.2:
            wish |= {"plan_code": "chat10", "payment": "credit"}
        return wish


async def persistently(ask: Callable[[], Any]) -> Any:
    """Ask until there is an answer: lost connections and 503 are weather, refusals are answers."""
    for attempt in range(_RETRIES):
        try:
            return await ask()
        except HubProblem as problem:
            if problem.retry_after is None:
                raise
            await asyncio.sleep(min(problem.retry_after, 2.0) * random.uniform(0.3, 1.0))
        except httpx.TransportError:
            await asyncio.sleep(min(0.1 * 2**attempt, 2.0))
    raise HubProblem("unreachable", "The hub did not answer for a long time.")
