"""Presence polls: customers' apps ask whether a mechanic is online, beside a bare JSON route of Starlette."""

import asyncio
import time

from tests.bench import people
from tests.bench.accounts import Account
from tests.bench.figures import Metric
from tests.bench.lab import Lab
from tests.bench.servers.server import Server
from tests.bench.servers.starlette import PlainStarlette
from tests.bench.wire import Crowd, HttpPool, http_request

NAME = "presence"
RATE = Metric("polls a CPU second", "/s", 0, lower_is_better=False)
ANSWERED = Metric("answered", "/s", 0, lower_is_better=False)
SHARE = Metric("load generator", "% of a core", 0)

_LINES = 16
_SETTING = "16 connections"


async def measure(lab: Lab) -> None:
    async with lab.hub(mechanics=range(100)) as hub, lab.references([PlainStarlette]) as references:
        crowd = Crowd(hub.address)
        await crowd.join([hub.mechanic(number) for number in range(100)])
        token = people.customer_token(1)
        asked = {hub.name: (f"/api/mechanics/{people.mechanic_id(1)}/status", token)}
        servers: list[Server] = [hub, *references]
        for run in range(lab.runs):
            for server in servers:
                lab.say(f"{NAME}, run {run + 1}: {server.name}")
                path, bearer = asked.get(server.name, ("/status/1", ""))
                await _one(lab, server, path, bearer)
        await crowd.leave()


async def _one(lab: Lab, server: Server, path: str, token: str) -> None:
    pool = HttpPool(server.address)
    await pool.warm(_LINES)
    await pool.call("GET", path, token=token, expect=200)
    request = http_request("GET", path, pool.host, token=token)
    account = Account(server.pids, server.store_pids)
    end = time.monotonic() + lab.pick(quick=0.6, full=2.0)
    answered = 0

    async def poll() -> None:
        nonlocal answered
        while time.monotonic() < end:
            await pool.ask(request)
            answered += 1

    await asyncio.gather(*(poll() for _ in range(_LINES)))
    spent = account.spent()
    pool.close()
    for metric, value in (
        (RATE, answered / spent.server),
        (ANSWERED, answered / spent.wall),
        (SHARE, spent.generator_share * 100),
    ):
        lab.figures.add(NAME, _SETTING, server.name, metric, value)
