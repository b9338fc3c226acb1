"""Presence in Redis: connections as they come and go, and what follows from them for others."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from hub.domain.ids import shard_of_user
from hub.domain.model import Connection, PresenceState, Status
from hub.domain.records import Arrival, Contact, Lease
from persistence.redis import keys, scripts
from persistence.redis.client import RedisClient
from persistence.redis.scripts import Script

_CLAIM_CHECKED_AFTER_MS = 5_000


class RedisPresence:
    def __init__(self, client: RedisClient, shards: int) -> None:
        self._client = client
        self.shards = shards

    def shard(self, user_id: str) -> int:
        return shard_of_user(user_id, self.shards)

    async def connect(
        self,
        user_id: str,
        connection: str,
        node: str,
        *,
        status: Status | None,
        mechanic: bool,
        limit: int,
        again: bool = False,
    ) -> Arrival:
        """Enter a connection; a mechanic's with the status they chose, None to keep what it was. One that
        comes `again` and is not known any more takes nobody's place.

        The node's own list is written first: whatever dies next, the connection can be found and removed.
        """
        await self._client.call("HSET", keys.node_conns(node), connection, user_id)
        chosen = (status or "-") if mechanic else ""
        now, effective, connections, *yielded = await self._run(
            scripts.CONNECT, user_id, connection, node, chosen, limit, "again" if again else ""
        )
        pairs = tuple(zip(yielded[::2], yielded[1::2], strict=True))
        return Arrival(now=now, status=effective, connections=connections, yielded=pairs)

    async def disconnect(
        self, user_id: str, connection: str, node: str, *, grace_ms: int
    ) -> tuple[int, bool]:
        """Remove a connection: (connections that the user has left, whether the user is a mechanic)."""
        _, left, kind = await self._run(scripts.DISCONNECT, user_id, connection, grace_ms)
        await self._client.call("HDEL", keys.node_conns(node), connection)
        return left, kind == "mechanic"

    async def remove(self, connections: Mapping[str, str], *, grace_ms: int) -> set[str]:
        """Remove many connections, given with their users, from what others see; the users who are mechanics.
        Their node's own list keeps them, until the node is forgotten."""
        replies = await asyncio.gather(
            *(
                self._run(scripts.DISCONNECT, user, connection, grace_ms)
                for connection, user in connections.items()
            )
        )
        pairs = zip(connections.values(), replies, strict=True)
        return {user for user, (_, _, kind) in pairs if kind == "mechanic"}

    async def set_status(self, mechanic_id: str, status: Status) -> Status:
        """Returns what others see now."""
        _, effective = await self._run(scripts.STATUS, mechanic_id, status)
        return Status(effective)

    async def chosen(self, mechanic_ids: Sequence[str]) -> dict[str, Status]:
        """What mechanics chose, of whom that is known."""
        replies = await self._client.calls(
            [("HGET", keys.presence(self.shard(m), m), "status") for m in mechanic_ids]
        )
        return {m: Status(status) for m, status in zip(mechanic_ids, replies, strict=True) if status}

    async def end_grace(self, mechanic_id: str) -> bool:
        """Whether the mechanic is offline now."""
        _, word = await self._run(scripts.GRACE, mechanic_id)
        return bool(word == "offline")

    async def set_work(self, mechanic_id: str, session_id: str, *, held: bool, live: bool) -> None:
        await self._run(scripts.WORK, mechanic_id, session_id, "live" if live else "held" if held else "")

    async def claim_work(self, mechanic_id: str, session_id: str, capacity: int) -> bool:
        """Take one of the mechanic's places for a session, where there is one left."""
        _, word = await self._run(
            scripts.CLAIM,
            mechanic_id,
            session_id,
            capacity,
            f"work:{session_id}:{mechanic_id}",
            _CLAIM_CHECKED_AFTER_MS,
        )
        return bool(word == "claimed")

    async def states(self, mechanic_ids: Sequence[str]) -> dict[str, PresenceState]:
        commands = [
            ("HMGET", keys.presence(self.shard(m), m), "effective", "last_seen") for m in mechanic_ids
        ]
        replies = await self._client.calls(commands)
        return {m: _state(*reply) for m, reply in zip(mechanic_ids, replies, strict=True)}

    async def contacts(self, mechanic_ids: Sequence[str]) -> dict[str, Contact]:
        """Presence and connections together, for a decision."""
        commands: list[tuple[str, ...]] = []
        for m in mechanic_ids:
            commands.append(("HMGET", keys.presence(self.shard(m), m), "effective", "last_seen"))
            commands.append(("HGETALL", keys.conns(self.shard(m), m)))
        replies = await self._client.calls(commands)
        return {
            m: Contact(state=_state(*replies[i]), connections=_connections(replies[i + 1]))
            for i, m in zip(range(0, len(replies), 2), mechanic_ids, strict=True)
        }

    async def online(self, limit: int, *, after: tuple[int, str] | None = None) -> list[tuple[str, int]]:
        """Mechanics who are online, longest first, with the time since when (ms)."""
        bottom = after[0] if after else "-inf"
        slack = 64 if after else 0
        commands = [
            ("ZRANGE", keys.online(s), bottom, "+inf", "BYSCORE", "LIMIT", 0, limit + slack, "WITHSCORES")
            for s in range(self.shards)
        ]
        replies = await self._client.calls(commands)
        everyone = sorted((int(float(at)), m) for part in replies for m, at in part)
        return [(m, at) for at, m in everyone if after is None or (at, m) > after][:limit]

    async def renew_lease(self, node: str, lease_ms: int) -> Lease:
        now, before, *rest = await self._client.run(scripts.LEASE, [keys.NODES], node, lease_ms)
        nodes = {n: int(float(at)) for n, at in zip(rest[::2], rest[1::2], strict=True)}
        return Lease(now=now, held=before != "", nodes=nodes)

    async def describe_node(self, node: str, facts: dict[str, str]) -> None:
        await self._client.call("HSET", keys.node(node), *(part for pair in facts.items() for part in pair))

    async def connections_of(self, node: str) -> dict[str, str]:
        """Connection → user, of all that this node has announced."""
        found: dict[str, str] = await self._client.call("HGETALL", keys.node_conns(node))
        return found

    async def forget_node(self, node: str) -> None:
        await self._client.calls([("DEL", keys.node_conns(node)), ("DEL", keys.node(node))])
        await self._client.call("ZREM", keys.NODES, node)

    async def agree_on_shards(self) -> int:
        """The number of shards that the data was laid out with; stored by whoever comes first."""
        await self._client.call("SET", keys.SHARDS, self.shards, "NX")
        return int(await self._client.call("GET", keys.SHARDS))

    async def _run(self, script: Script, user_id: str, *arguments: str | int) -> list[Any]:
        s = self.shard(user_id)
        places = [
            keys.conns(s, user_id),
            keys.presence(s, user_id),
            keys.online(s),
            keys.deadlines(s),
            keys.bus(s),
            keys.work(s, user_id),
            keys.live(s, user_id),
            keys.busy(s),
            keys.away(s),
            keys.started(s),
        ]
        reply: list[Any] = await self._client.run(script, places, user_id, *arguments)
        return reply


def _state(effective: str | None, last_seen: str | None) -> PresenceState:
    return PresenceState(
        status=Status(effective) if effective else Status.OFFLINE,
        last_seen=int(last_seen) if last_seen else None,
    )


def _connections(fields: dict[str, str]) -> tuple[Connection, ...]:
    found = []
    for connection, value in fields.items():
        node, active_at, _ = value.split()
        found.append(Connection(connection, node, int(active_at)))
    return tuple(found)
