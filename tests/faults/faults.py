"""What can be done to a cluster: each fault is made, holds for a while and is taken back."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable

from tests.faults.cluster import LEASE_S, Cluster
from tests.proxy import Proxy

Fault = Callable[[Cluster, random.Random], Awaitable[None]]


async def _hold(dice: random.Random, longest: float = 2 * LEASE_S) -> None:
    await asyncio.sleep(dice.uniform(0.2, longest))


# Nodes


async def kill_a_node(cluster: Cluster, dice: random.Random) -> None:
    node = dice.choice(cluster.nodes)
    await node.kill()
    await _hold(dice)
    await node.heal()


async def suspend_a_node(cluster: Cluster, dice: random.Random) -> None:
    node = dice.choice(cluster.nodes)
    node.signal(signal.SIGSTOP)
    await _hold(dice, 4 * LEASE_S)
    await node.heal()


async def restart_all_nodes_in_turn(cluster: Cluster, dice: random.Random) -> None:
    for node in cluster.nodes:
        await node.stop()
        await node.heal()
        await cluster.ready(node)


# Valkey


async def kill_valkey(cluster: Cluster, dice: random.Random) -> None:
    await cluster.kill_valkey()
    await _hold(dice)
    await cluster.revive_valkey()


async def flush_valkey(cluster: Cluster, dice: random.Random) -> None:
    await cluster.redis.flushall()


async def give_valkey_an_older_file(cluster: Cluster, dice: random.Random) -> None:
    older = cluster.keep_valkey_file()
    await _hold(dice)
    await cluster.kill_valkey()
    cluster.bring_back(older)
    await cluster.revive_valkey()


async def suspend_valkey(cluster: Cluster, dice: random.Random) -> None:
    os.kill(cluster.valkey.pid, signal.SIGSTOP)
    await _hold(dice, 6.0)
    os.kill(cluster.valkey.pid, signal.SIGCONT)


async def forget_scripts(cluster: Cluster, dice: random.Random) -> None:
    await cluster.redis.script_flush()


async def fill_valkey(cluster: Cluster, dice: random.Random) -> None:
    await cluster.redis.config_set("maxmemory", 1)
    await _hold(dice)
    await cluster.redis.config_set("maxmemory", 0)


# Postgres


async def kill_postgres(cluster: Cluster, dice: random.Random) -> None:
    await cluster.kill_postgres()
    await _hold(dice)
    await cluster.revive_postgres()


async def forbid_writing_to_postgres(cluster: Cluster, dice: random.Random) -> None:
    await cluster.set_read_only(True)
    await _hold(dice)
    await cluster.set_read_only(False)


# Lines


def _line(store: str, harm: Callable[[Proxy], object], *, all_nodes: bool = False) -> Fault:
    async def fault(cluster: Cluster, dice: random.Random) -> None:
        nodes = cluster.nodes if all_nodes else dice.sample(cluster.nodes, dice.randint(1, 2))
        lines: list[Proxy] = [getattr(node, store) for node in nodes]
        for line in lines:
            harm(line)
        await _hold(dice)
        for line in lines:
            await line.heal()

    return fault


def _far(line: Proxy) -> None:
    line.delay(0.05)


FAULTS: dict[str, Fault] = {
    "kill -9 a node": kill_a_node,
    "suspend a node": suspend_a_node,
    "restart all nodes in turn": restart_all_nodes_in_turn,
    "kill -9 Valkey": kill_valkey,
    "FLUSHALL": flush_valkey,
    "Valkey on an older file": give_valkey_an_older_file,
    "suspend Valkey": suspend_valkey,
    "SCRIPT FLUSH": forget_scripts,
    "Valkey full": fill_valkey,
    "Valkey out of reach": _line("redis", Proxy.blackhole, all_nodes=True),
    "lines to Valkey cut": _line("redis", Proxy.cut),
    "lines to Valkey half-open": _line("redis", Proxy.half_open),
    "lines to Valkey slow": _line("redis", _far),
    "hints lost": _line("redis", Proxy.deafen),
    "kill -9 Postgres": kill_postgres,
    "Postgres read-only": forbid_writing_to_postgres,
    "Postgres out of reach": _line("postgres", Proxy.blackhole, all_nodes=True),
    "lines to Postgres cut": _line("postgres", Proxy.cut),
}
