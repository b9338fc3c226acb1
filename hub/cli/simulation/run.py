"""A simulation from its start to its summary."""

import asyncio
import contextlib
import math
import random
import time
import uuid
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol

import httpx
from msgspec import Struct

from hub.cli.simulation.people import Customer, Hub, Mechanic
from hub.cli.simulation.tally import Summary, Tally
from hub.client import HubProblem
from hub.identity import issue

_FIRST = ("Ana", "Ben", "Chloe", "Dario", "Eva", "Finn", "Gia", "Hugo", "Ines", "Jan", "Kira", "Leo")
_LAST = ("Adler", "Brandt", "Costa", "Duarte", "Engel", "Ferrari", "Gomez", "Hansen", "Ivanov", "Jensen")
_TOKEN_S = 7 * 86_400
_SETTLE_S = 10.0
_WIND_DOWN_S = 10.0
_LEAVE_S = 1.0
_HURRY_S = 0.5
_GIVE_UP_WINDOWS = 2.5


class Options(Struct, frozen=True, kw_only=True):
    """`seconds` 0 goes on until `stop`; `rate` is bookings a second; `window_s` the hub's priority window."""

    urls: list[str]
    secret: str
    role_claim: str = "role"
    audience: str = ""
    mechanics: int = 20
    customers: int = 40
    rate: float = 2.0
    seconds: float = 60.0
    seed: int = 1
    window_s: float = 8.0


class Books(Protocol):
    """Where people are entered before, and rows are counted after."""

    async def enter(
        self, mechanics: Sequence[tuple[str, str, str]], favorites: Mapping[str, Sequence[str]]
    ) -> None: ...
    async def count(self, session_ids: Sequence[str]) -> tuple[set[str], int, int]: ...


class Simulation:
    """`tally` may be looked at while it runs."""

    def __init__(self, options: Options, books: Books) -> None:
        self.options = options
        self.tally = Tally()
        self.started = time.perf_counter()
        self._books = books
        self._dice = random.Random(options.seed)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> Summary:
        mechanics = [(self._id("mechanic", n), *self._name(n)) for n in range(self.options.mechanics)]
        ids = [mechanic_id for mechanic_id, _, _ in mechanics]
        favorites = {
            self._id("customer", n): self._dice.sample(ids, min(3, len(ids)))
            for n in range(self.options.customers)
        }
        await self._books.enter(mechanics, favorites)
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(timeout=15, trust_env=False, limits=limits) as client:
            hub = Hub(self.options.urls, client, self._token)
            async with asyncio.TaskGroup() as people:
                shifts = [
                    people.create_task(Mechanic(hub, i, f"{first} {last}", self.tally, self._fork()).live())
                    for i, first, last in mechanics
                ]
                await self._everybody_in(len(mechanics))
                self.started = time.perf_counter()
                await self._customers(hub, favorites)
                seconds = time.perf_counter() - self.started
                for shift in shifts:
                    shift.cancel()
        return await self._summary(seconds)

    async def _customers(self, hub: Hub, favorites: Mapping[str, list[str]]) -> None:
        everyone = [
            Customer(hub, customer_id, " ".join(self._name(n * 7)), chosen, self.tally, self._fork())
            for n, (customer_id, chosen) in enumerate(favorites.items())
        ]
        idle = deque(everyone)
        under_way: set[asyncio.Task[None]] = set()

        async def visit(customer: Customer) -> None:
            await self._unless_refused(customer.visit(self.options.window_s * _GIVE_UP_WINDOWS))
            idle.append(customer)

        end = self.started + self.options.seconds if self.options.seconds else math.inf
        async with asyncio.TaskGroup() as visits:
            while time.perf_counter() < end and not self._stopping.is_set():
                if idle:
                    task = visits.create_task(visit(idle.popleft()))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                await self._pause(self._dice.expovariate(self.options.rate))
            end = time.perf_counter() + _WIND_DOWN_S
            while under_way and time.perf_counter() < end and not self._stopping.is_set():
                await self._pause(0.1)
            for task in under_way:
                task.cancel()
        await self._everybody_out(everyone)

    async def _everybody_out(self, customers: Iterable[Customer]) -> None:
        """Nothing stays open that would surprise the next run; but a hub that is down holds nobody up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S), asyncio.TaskGroup() as leaving:
                for customer in customers:
                    leaving.create_task(self._unless_refused(customer.leave()))

    async def _unless_refused(self, doing: Coroutine[Any, Any, None]) -> None:
        try:
            await doing
        except HubProblem as problem:
            self.tally.refuse(problem.code)

    async def _everybody_in(self, expected: int) -> None:
        end = time.perf_counter() + _SETTLE_S
        while self.tally.sockets < expected and time.perf_counter() < end and not self._stopping.is_set():
            await self._pause(0.05)

    async def _summary(self, seconds: float) -> Summary:
        """Rows may still be on their way."""
        booked = list(self.tally.booked)
        end = time.perf_counter() + (_HURRY_S if self._stopping.is_set() else _SETTLE_S)
        while True:
            rows, assignments, events = await self._books.count(booked)
            if len(rows) == len(booked) or time.perf_counter() > end:
                return self.tally.summary(seconds, rows, assignments, events)
            await asyncio.sleep(0.1)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _fork(self) -> random.Random:
        return random.Random(self._dice.getrandbits(64))

    def _id(self, role: str, number: int) -> str:
        """The same in every run, so that runs do not pile people up."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"simulated {role} {number}"))

    def _name(self, number: int) -> tuple[str, str]:
        return _FIRST[number % len(_FIRST)], _LAST[number // len(_FIRST) % len(_LAST)]

    def _token(self, role: str, user_id: str, name: str) -> str:
        return issue(
            self.options.secret,
            role=role,
            user_id=user_id,
            ttl=_TOKEN_S,
            name=name,
            role_claim=self.options.role_claim,
            audience=self.options.audience,
        )
