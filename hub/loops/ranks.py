"""Which node is first at what: every node does every loop's work, in an order that all agree on."""

import hashlib
from collections.abc import Iterable


class Ranks:
    """Rendezvous order of the living nodes, per shard. A node that is not listed yet ranks last."""

    def __init__(self, node: str, shards: int) -> None:
        self._node = node
        self._shards = shards
        self._ranks = [0] * shards

    def update(self, nodes: Iterable[str]) -> None:
        living = {*nodes, self._node}
        for shard in range(self._shards):
            own = _weight(self._node, shard)
            self._ranks[shard] = sum(_weight(node, shard) > own for node in living)

    def of(self, shard: int) -> int:
        """0 for the shard's first node."""
        return self._ranks[shard]

    def first(self) -> list[int]:
        """Shards at which this node is first."""
        return [shard for shard, rank in enumerate(self._ranks) if rank == 0]


def _weight(node: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{node}/{shard}".encode(), digest_size=8).digest()
