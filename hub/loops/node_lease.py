"""The node's lease: one heartbeat for all its connections, and a look at who has stopped beating.

Liveness is a lease a node, not a write a connection, so idle sockets cost nothing. A node judges others only
after it has itself renewed without a gap for a whole lease: otherwise an outage of the store would put
everyone offline, and recovery would not wait for those whose leases ran out in it. One that finds its own
lease gone announces all its connections again.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator

from hub.dispatch import Dispatcher
from hub.domain.errors import Unavailable
from hub.loops.ranks import Ranks
from hub.ports import Clock

logger = logging.getLogger("hub.loops.lease")

_BEATS_A_LEASE = 3
_AT_ONCE = 128
_STAGGER_MS = 200


class NodeLease:
    def __init__(
        self,
        *,
        node: str,
        facts: dict[str, str],
        dispatcher: Dispatcher,
        ranks: Ranks,
        clock: Clock,
        lease_ms: int,
        grace_ms: int,
        announce_all: Callable[[], Awaitable[None]],
        greet: Callable[[], Awaitable[None]],
    ) -> None:
        self._node = node
        self._facts = facts
        self._dispatcher = dispatcher
        self._presence = dispatcher.presence
        self._ranks = ranks
        self._clock = clock
        self._lease_ms = lease_ms
        self._grace_ms = grace_ms
        self._announce_all = announce_all
        self._greet = greet
        self._unbroken_since: int | None = None
        self._renewed_at = 0
        self.nodes: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    async def run(self) -> None:
        beat = self._lease_ms / 1000 / _BEATS_A_LEASE
        while True:
            pause = beat * random.uniform(0.9, 1.0)
            try:
                pause = min(pause, await self.step() / 1000)
            except Unavailable as error:
                logger.warning("lease_not_renewed", extra={"detail": error.detail})
            except Exception:
                logger.exception("lease_failed")
            await asyncio.sleep(pause)

    async def step(self) -> int:
        """Renew; where that has gone well for a whole lease, bury nodes whose leases have run out. Returns
        how long (ms) until the next one can have run out."""
        lease = await self._presence.renew_lease(self._node, self._lease_ms)
        self._clock.learn(lease.now)
        # Another's lease may be a beat older than this node's.
        gap = lease.now - self._renewed_at > self._lease_ms - self._lease_ms // _BEATS_A_LEASE
        first = self._renewed_at == 0
        self._renewed_at = lease.now
        if gap or not lease.held or self._unbroken_since is None:
            self._unbroken_since = lease.now
        # A store that is back on an older file knows of older leases only.
        known = {node: max(expiry, self._seen.get(node, 0)) for node, expiry in lease.nodes.items()}
        living = {node: expiry for node, expiry in known.items() if expiry > lease.now}
        # Whoever was started just now has judged nobody yet, whatever the leases say.
        self._seen |= known if first else living
        self.nodes = living
        self._ranks.update(living)
        if first or not lease.held:
            await self._presence.describe_node(self._node, self._facts)
            await self._greet()
        if not first and not lease.held:
            logger.warning("lease_lost", extra={"node": self._node})
            await self._announce_all()
        if lease.now - self._unbroken_since >= self._lease_ms:
            self._seen = {node: expiry for node, expiry in self._seen.items() if expiry > lease.now}
            for node in known.keys() - living.keys() - {self._node}:
                await self.bury(node)
        return self._next_expiry()

    def _next_expiry(self) -> int:
        """Only a dead node's lease gets so far. Nodes look one after the other: the first does the work."""
        expiries = [expiry for node, expiry in self.nodes.items() if node != self._node]
        left = min(expiries) + 1 - self._clock.now() if expiries else self._lease_ms
        return max(1, left) + self._ranks.of(0) * _STAGGER_MS

    def met(self, node: str) -> None:
        """Another node has taken a lease just now. At the next beat it may be lost again, but not what that
        node remembers."""
        self._seen[node] = self._clock.now() + self._lease_ms

    def living(self) -> set[str]:
        """The nodes that nobody could judge to be dead: the store may have forgotten them, or have been away
        for longer than their leases."""
        return set(self._seen)

    async def bury(self, node: str) -> None:
        """Take a dead node's connections away, then their offers, the node itself last: so whoever dies over
        it is followed by another, who does all of it again."""
        connections = await self._presence.connections_of(node)
        logger.warning("node_buried", extra={"node": node, "connections": len(connections)})
        mechanics: set[str] = set()
        for some in _parts(list(connections.items()), _AT_ONCE):
            mechanics |= await self._presence.remove(dict(some), grace_ms=self._grace_ms)
        lost = [(connection, user) for connection, user in connections.items() if user in mechanics]
        for some in _parts(lost, _AT_ONCE):
            await asyncio.gather(
                *(self._dispatcher.mechanic_moved(user, lost=connection) for connection, user in some)
            )
        await self._presence.forget_node(node)


def _parts(pairs: list[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    return (pairs[start : start + size] for start in range(0, len(pairs), size))
