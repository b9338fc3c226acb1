"""A crowd that uses the hub as people do, through whatever happens to it, and notes what it was told.

What each of them does comes from a seed: a crowd that found something wrong can be called together again.
Nobody gives up on a question: it is asked again, of another node, until there is an answer.
"""

import asyncio
import contextlib
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import httpx
from msgspec import Struct
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from hub.client import HubHttp, HubProblem, HubSocket
from hub.identity import issue
from tests.faults.history import Body, History

GONE = (HubProblem, ConnectionClosed, InvalidHandshake, httpx.TransportError, OSError, TimeoutError)
"""What a lost network, a dead node or a refusal look like to a client."""

_FINAL = frozenset({"taken", "cancelled", "expired", "priority_window", "not_found", "invalid_state"})
"""Refusals that are answers: asking again would bring the same."""

_ANSWER_WITHIN_S = 40.0
_LONGEST_PAUSE_S = 2.0
"""Whoever fares ill again and again asks less often."""
_WAIT_FOR_A_MECHANIC_S = 6.0
_FAVORITES = 3
_ROUTINGS = (("priority_broadcast", 6), ("favorites_sequence", 2), ("broadcast", 2))
_HABITS = (("accept", 10), ("accept late", 3), ("decline", 4), ("ignore", 2), ("vanish", 1))


class Size(Struct, frozen=True, kw_only=True):
    """How many people there are, and how many bookings each customer makes."""

    mechanics: int = 20
    customers: int = 20
    bookings: int = 3


class Network(Struct, frozen=True, kw_only=True):
    """How to reach the hub."""

    urls: Sequence[str]
    http: httpx.AsyncClient
    secret: str


class Person:
    def __init__(self, network: Network, history: History, role: str, dice: random.Random) -> None:
        self.id = str(uuid.UUID(int=dice.getrandbits(128), version=4))
        self.role = role
        self.dice = dice
        self.network = network
        self.http = network.http
        self.history = history
        self.token = issue(network.secret, role=role, user_id=self.id, ttl=86_400, name=self.id[:8])

    def hub(self) -> HubHttp:
        return HubHttp(self.http, self.dice.choice(self.network.urls), self.token)

    async def pause(self, shortest: float, longest: float) -> None:
        """People take their time."""
        await asyncio.sleep(self.dice.uniform(shortest, longest))

    async def persist(self, ask: Callable[[HubHttp], Awaitable[Body]]) -> Body:
        """The answer, which may be a refusal; raises `TimeoutError` where none comes at all."""
        longest = 0.5
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            while True:
                try:
                    return await ask(self.hub())
                except HubProblem as problem:
                    if problem.status < 500:
                        raise
                except httpx.TransportError:
                    pass
                await self.pause(0.1, longest)
                longest = min(longest * 1.5, _LONGEST_PAUSE_S)

    async def act(self, what: str, session_id: str, ask: Callable[[HubHttp], Awaitable[Body]]) -> Body | None:
        """Ask until there is an answer and note it; None unless it is yes."""
        try:
            answer = await self.persist(ask)
        except HubProblem as problem:
            self.history.note(self.id, what, session_id, "refused", problem.code)
            return None
        except TimeoutError:
            self.history.note(self.id, what, session_id, "unknown")
            return None
        self.history.note(self.id, what, session_id, "done")
        self.history.saw(answer)
        return answer


class Mechanic(Person):
    """Stays connected, comes back when the connection goes, and holds a few sessions at most."""

    def __init__(self, network: Network, history: History, dice: random.Random) -> None:
        super().__init__(network, history, "mechanic", dice)
        self._considered: set[str] = set()
        self._held = 0
        self._busy = asyncio.TaskGroup()

    async def live(self) -> None:
        """Until cancelled."""
        longest = 0.3
        async with self._busy:
            while True:
                longest = min(longest * 1.5, _LONGEST_PAUSE_S)
                with contextlib.suppress(*GONE):
                    await self._shift()
                    longest = 0.3
                await self.pause(0.02, longest)

    async def _shift(self) -> None:
        url = self.dice.choice(self.network.urls)
        socket = await HubSocket.connect(url, self.token, binary=self.dice.random() < 0.5)
        try:
            for item in socket.welcome["assignments"]:
                self.history.saw(item)
                self._consider(socket, item)
            async for event in socket.events():
                self.history.heard(self.id, self.role, event)
                if event["event"] in ("priority_session_request", "new_assignment"):
                    self._consider(socket, event["payload"]["request"])
        finally:
            await socket.close()

    def _consider(self, socket: HubSocket, request: Body) -> None:
        """Each offer once, in each of its turns."""
        assignment = request["assignment"]
        turn = f"{assignment['id']} {assignment['status']} {assignment['wave']}"
        if turn not in self._considered and self._held < 3:
            self._considered.add(turn)
            self._busy.create_task(self._respond(socket, request["session"]["id"], assignment["id"]))

    async def _respond(self, socket: HubSocket, session_id: str, assignment_id: str) -> None:
        habit = self.dice.choices([h for h, _ in _HABITS], [w for _, w in _HABITS])[0]
        await self.pause(0.0, 0.2)
        match habit:
            case "accept" | "accept late":
                await self.pause(0.0, 1.0 if habit == "accept late" else 0.0)
                await self._serve(socket, session_id, assignment_id)
            case "decline":
                await self.act("decline", session_id, lambda hub: hub.answer("decline", assignment_id))
            case "vanish":
                socket.abort()

    async def _serve(self, socket: HubSocket, session_id: str, assignment_id: str) -> None:
        self._held += 1
        try:
            if not await self._accept(socket, session_id, assignment_id):
                return
            await self.pause(0.0, 0.2)
            if self.dice.random() < 0.1:
                await self.act("release", session_id, lambda hub: hub.answer("release", assignment_id))
                return
            if await self.act("start", session_id, lambda hub: hub.start_session(session_id)) is not None:
                await self.pause(0.0, 0.3)
                await self.act("complete", session_id, lambda hub: hub.end_session(session_id))
        finally:
            self._held -= 1

    async def _accept(self, socket: HubSocket, session_id: str, assignment_id: str) -> bool:
        """By the socket; where that gives no answer, by HTTP."""
        try:
            answer = await socket.request("accept", assignment_id=assignment_id)
        except HubProblem as problem:
            if problem.code in _FINAL:
                self.history.note(self.id, "accept", session_id, "refused", problem.code)
                return False
        except (ConnectionClosed, TimeoutError):
            pass
        else:
            self.history.note(self.id, "accept", session_id, "done")
            self.history.saw(answer)
            return True
        answered = await self.act("accept", session_id, lambda hub: hub.answer("accept", assignment_id))
        return answered is not None


class Customer(Person):
    """Books one session after the other, listens, and ends what nobody serves."""

    def __init__(
        self, network: Network, history: History, dice: random.Random, mechanics: Sequence[str], bookings: int
    ) -> None:
        super().__init__(network, history, "customer", dice)
        self._mechanics = mechanics
        self._bookings = bookings

    async def live(self) -> None:
        """Until every booking has come to its end."""
        listening = asyncio.create_task(self._listen())
        try:
            for nth in range(self._bookings):
                await self.pause(0.0, 0.5)
                await self._book(f"{self.id}-{nth}")
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(*GONE):
                socket = await HubSocket.connect(self.dice.choice(self.network.urls), self.token)
                try:
                    async for event in socket.events():
                        self.history.heard(self.id, self.role, event)
                finally:
                    await socket.close()
            await self.pause(0.05, 0.3)

    async def _book(self, key: str) -> None:
        wish = self._wish() | {"metadata": {"key": key}}
        try:
            booked = await self.persist(lambda hub: hub.book(key=key, **wish))
        except HubProblem as problem:
            self.history.note(self.id, "book", key, "refused", problem.code)
            return
        except TimeoutError:
            self.history.note(self.id, "book", key, "unknown")
            return
        session_id = booked["session"]["id"]
        self.history.note(self.id, "book", session_id, "done")
        self.history.saw(booked)
        await self._see_it_through(session_id)

    async def _see_it_through(self, session_id: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_FOR_A_MECHANIC_S):
                while True:
                    mine = await self.persist(lambda hub: hub.active_session())
                    self.history.saw(mine)
                    if mine["session"] is None or mine["session"]["id"] != session_id:
                        break
                    await self.pause(0.2, 1.0)
        await self.act("end", session_id, lambda hub: hub.end(session_id))

    def _wish(self) -> dict[str, Any]:
        routing = self.dice.choices([r for r, _ in _ROUTINGS], [w for _, w in _ROUTINGS])[0]
        wish: dict[str, Any] = {"plan_code": "free", "routing_type": routing}
        if routing == "priority_broadcast":
            wish["preferred_mechanic_id"] = self.dice.choice(self._mechanics)
            wish["wait_if_offline"] = self.dice.random() < 0.2
        return wish


class Crowd:
    """Mechanics and customers of one seed. They exist in the record before they come."""

    def __init__(self, network: Network, seed: int, size: Size) -> None:
        self.history = History()
        self.mechanics = [
            Mechanic(network, self.history, random.Random(f"{seed} mechanic {n}"))
            for n in range(size.mechanics)
        ]
        ids = [mechanic.id for mechanic in self.mechanics]
        self.customers = [
            Customer(network, self.history, random.Random(f"{seed} customer {n}"), ids, size.bookings)
            for n in range(size.customers)
        ]

    async def register(self, postgres: asyncpg.Pool) -> None:
        await postgres.executemany(
            "INSERT INTO mechanics (id, first_name, last_name, status) VALUES ($1, $2, 'Fault', 'approved')",
            [(mechanic.id, f"M{n}") for n, mechanic in enumerate(self.mechanics)],
        )
        await postgres.executemany(
            "INSERT INTO customers (id) VALUES ($1)", [(customer.id,) for customer in self.customers]
        )
        favorites = [
            (customer.id, mechanic.id, rank)
            for customer in self.customers
            for rank, mechanic in enumerate(customer.dice.sample(self.mechanics, _FAVORITES), 1)
        ]
        await postgres.executemany(
            "INSERT INTO customer_favorites (customer_id, mechanic_id, rank) VALUES ($1, $2, $3)", favorites
        )

    async def live(self) -> None:
        """Until all customers have had their fill."""
        mechanics = [asyncio.create_task(mechanic.live()) for mechanic in self.mechanics]
        try:
            await asyncio.gather(*(customer.live() for customer in self.customers))
        finally:
            for task in mechanics:
                task.cancel()
            for outcome in await asyncio.gather(*mechanics, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome

    def booked(self) -> int:
        """Bookings that were acknowledged by now."""
        return sum(o.what == "book" and o.outcome == "done" for o in self.history.operations)
