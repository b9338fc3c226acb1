"""The whole life of a booking: booked, offered, accepted by socket, started, ended, all rows in Postgres."""

import asyncio
import json

from tests.bench import people
from tests.bench.accounts import Account
from tests.bench.figures import Metric
from tests.bench.lab import Lab
from tests.bench.servers.hub import Hub
from tests.bench.wire import Crowd, Listener

NAME = "life"
CPU = Metric("hub's CPU a life", "µs", 0)
STORES = Metric("stores' CPU a life", "µs", 0)
PER_SECOND = Metric("lives a CPU second", "/s", 0, lower_is_better=False)
DONE = Metric("lives done", "/s", 0, lower_is_better=False)
SHARE = Metric("load generator", "% of a core", 0)

_AT_ONCE = 32
_MECHANICS = 640


async def measure(lab: Lab) -> None:
    lives = lab.pick(quick=150, full=1_000)
    async with lab.hub(mechanics=range(_MECHANICS)) as hub:
        crowd = Crowd(hub.address)
        await crowd.join([hub.mechanic(number) for number in range(_MECHANICS)])
        company = Company(hub, crowd)
        await company.live(_AT_ONCE)
        for run in range(lab.runs):
            lab.say(f"{NAME}, run {run + 1}")
            await _one(lab, hub, company, lives)
        await crowd.leave()


async def _one(lab: Lab, hub: Hub, company: "Company", lives: int) -> None:
    account = Account(hub.pids, hub.store_pids)
    await company.live(lives)
    wall = account.spent().wall
    await hub.drained()
    spent = account.spent()
    await company.check()
    for metric, value in (
        (CPU, spent.server / lives * 1e6),
        (STORES, spent.stores / lives * 1e6),
        (PER_SECOND, lives / spent.server),
        (DONE, lives / wall),
        (SHARE, spent.generator_share * 100),
    ):
        lab.figures.add(NAME, f"{_AT_ONCE} at once", hub.name, metric, value)


class Company:
    """Mechanics who accept whatever they are asked, start and end it; every customer books once."""

    def __init__(self, hub: Hub, crowd: Crowd, *, first_customer: int = 0) -> None:
        self._hub = hub
        self._crowd = crowd
        self._customers = first_customer
        self._turn = 0
        self._lived: list[str] = []
        self._accepted: dict[int, asyncio.Future[None]] = {}
        crowd.on_frame = self._on_frame

    async def live(self, lives: int) -> None:
        left = iter(range(lives))

        async def one_after_the_other() -> None:
            for _ in left:
                await self._life()

        await asyncio.gather(*(one_after_the_other() for _ in range(_AT_ONCE)))

    async def check(self) -> None:
        """Raises unless every session that has lived is on record as completed, with all its events."""
        ids, self._lived = self._lived, []
        rows = await self._hub.postgres.fetchval(
            "SELECT count(*) FROM sessions WHERE id = ANY($1::uuid[]) AND status = 'completed'", ids
        )
        if rows != len(ids):
            raise RuntimeError(f"{rows} of {len(ids)} sessions are on record as completed.")

    async def _life(self) -> None:
        self._customers += 1
        self._turn = (self._turn + 1) % len(self._crowd.listeners)
        mechanic = self._turn
        accepted = self._accepted[mechanic] = asyncio.get_running_loop().create_future()
        session_id = await self._hub.book(self._customers, mechanic)
        async with asyncio.timeout(20):
            await accepted
        token = people.mechanic_token(mechanic)
        for step in ("start", "end"):
            path = f"/api/mechanic/sessions/{session_id}/{step}"
            await self._hub.pools[0].call("POST", path, b"{}", token=token, expect=200)
        self._lived.append(session_id)

    def _on_frame(self, listener: Listener, payload: bytes) -> None:
        if b'"priority_session_request"' in payload[:64]:
            message = json.loads(payload)
            assignment = message["payload"]["request"]["assignment"]["id"]
            accept = {"type": "accept", "id": 1, "assignment_id": assignment}
            listener.say(json.dumps(accept).encode())
        elif payload.startswith(b'{"type":"reply"'):
            if b'"ok":true' not in payload[:80]:
                raise RuntimeError(f"not accepted: {payload[:300]!r}")
            self._accepted.pop(listener.index).set_result(None)
