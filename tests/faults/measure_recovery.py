"""How long recovery takes from the loss of all of Redis' data: `python -m tests.faults.measure_recovery N`.

Puts N open sessions on record (one in five of them accepted), empties Redis, and tells when every shard has
its next epoch. `/healthz`, asked meanwhile, shows how long a node's event loop was busy at most. Seconds are
the machine's: the floor is what a Valkey takes that is told nothing but the sessions' hashes.
"""

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import asyncpg
from hiredis import pack_command

from hub.domain.ids import assignment_of, new_id, new_session_id
from persistence.embedded import EmbeddedValkey
from tests.bench.servers.hub import Hub
from tests.patience import until

_PAGE = 5_000
_PATIENCE_S = 120.0
_LIMIT = 1 << 24
_TELLINGS = 5


async def put_on_record(postgres: "asyncpg.Pool[asyncpg.Record]", sessions: int) -> None:
    """Open broadcasts, of which every fifth was accepted by a mechanic."""
    mechanic = new_id()
    async with postgres.acquire() as connection, connection.transaction():
        await connection.execute("INSERT INTO mechanics (id, status) VALUES ($1, 'approved')", mechanic)
        for start in range(0, sessions, _PAGE):
            customers = [new_id() for _ in range(min(_PAGE, sessions - start))]
            ids = [new_session_id(customer) for customer in customers]
            held = [mechanic if n % 5 == 0 else None for n in range(len(ids))]
            await connection.execute("INSERT INTO customers (id) SELECT unnest($1::uuid[])", customers)
            await connection.execute(
                "INSERT INTO sessions (id, customer_user_id, mechanic_id, session_type, plan_code, payment,"
                " status, notes, version, command_id, created_at, updated_at)"
                " SELECT id, customer, mechanic, 'chat', 'free', 'free',"
                " CASE WHEN mechanic IS NULL THEN 'pending' ELSE 'waiting' END, 'The engine rattles.', 2, $4,"
                " now() - random() * interval '2 minutes', now() - random() * interval '1 minute'"
                " FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS r (id, customer, mechanic)",
                ids, customers, held, new_id(),
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO session_assignments (id, session_id, mechanic_id, status, accepted_at, version)"
                " SELECT id, session, mechanic,"
                " CASE WHEN mechanic IS NULL THEN 'open' ELSE 'accepted' END,"
                " CASE WHEN mechanic IS NULL THEN NULL ELSE now() END, 2"
                " FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS r (id, session, mechanic)",
                [assignment_of(session) for session in ids], ids, held,
            )  # fmt: skip


async def lose_everything(hub: Hub) -> float:
    """Seconds from the loss until every shard has an epoch again."""
    shards = await hub.shards()
    await hub.redis.flushall()
    lost = time.monotonic()

    async def recovered() -> bool:
        return all(await hub.redis.mget([f"hub:{{{shard}}}:epoch" for shard in range(shards)]))

    await until(recovered, _PATIENCE_S)
    return time.monotonic() - lost


async def told_alone(directory: Path, hub: Hub) -> float:
    """Seconds until another Valkey has the same hashes, at best."""
    names = [name async for name in hub.redis.scan_iter("hub:*:session:*", count=1_000)]
    told = []
    for start in range(0, len(names), _PAGE):
        async with hub.redis.pipeline(transaction=False) as pipeline:
            for name in names[start : start + _PAGE]:
                pipeline.hgetall(name)
            for name, fields in zip(names[start:], await pipeline.execute(), strict=False):
                told.append(pack_command(("HSET", name, *itertools.chain.from_iterable(fields.items()))))
    valkey = EmbeddedValkey(directory / "alone")
    await asyncio.to_thread(valkey.start)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", valkey.port, limit=_LIMIT)
        try:
            return min([await _tell(reader, writer, told) for _ in range(_TELLINGS)])
        finally:
            writer.close()
    finally:
        await asyncio.to_thread(valkey.stop)


async def _tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, told: Sequence[bytes]) -> float:
    writer.write(pack_command(("FLUSHALL",)))
    await reader.readuntil(b"\r\n")
    start_at = time.monotonic()
    for page in range(0, len(told), _PAGE):
        writer.write(b"".join(told[page : page + _PAGE]))
        await writer.drain()
    writer.write(pack_command(("PING",)))
    await reader.readuntil(b"+PONG\r\n")
    return time.monotonic() - start_at


async def ask_for_health(hub: Hub, answers: list[float]) -> None:
    while True:
        for pool in hub.pools:
            asked = time.monotonic()
            await pool.call("GET", "/healthz")
            answers.append(time.monotonic() - asked)
        await asyncio.sleep(0.05)


async def at_rest(hub: Hub) -> bool:
    """Every node is ready, and has done what was left to do after the restoration."""
    now = int((await hub.redis.time())[0]) * 1000
    due = [
        await hub.redis.zcount(f"hub:{{{shard}}}:deadlines", "-inf", now)
        for shard in range(await hub.shards())
    ]
    return not any(due) and all([(await pool.call("GET", "/readyz")).status == 200 for pool in hub.pools])


async def measure(sessions: int, nodes: int, times: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        hub = await Hub.start(Path(directory), nodes=nodes)
        try:
            await put_on_record(hub.postgres, sessions)
            await lose_everything(hub)
            await until(lambda: at_rest(hub), _PATIENCE_S)
            alone = await told_alone(Path(directory), hub)
            # Or the disk would still be at the bare Valkey's file when the hub's is to be synced.
            await asyncio.to_thread(os.sync)
            for _ in range(times):
                await until(lambda: at_rest(hub), _PATIENCE_S)
                answers: list[float] = []
                asking = asyncio.create_task(ask_for_health(hub, answers))
                try:
                    took = await lose_everything(hub)
                finally:
                    asking.cancel()
                    await asyncio.gather(asking, return_exceptions=True)
                found = sum([1 async for _ in hub.redis.scan_iter("hub:*:session:*", count=1_000)])
                sys.stdout.write(
                    f"{found} sessions in {took:.2f} s, {took / alone:.1f} times what a Valkey takes alone;"
                    f" slowest /healthz {max(answers) * 1_000:.0f} ms\n"
                )
        finally:
            await hub.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="measure_recovery", description=__doc__)
    parser.add_argument("sessions", type=int)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.sessions, arguments.nodes, arguments.times))


if __name__ == "__main__":
    main()
