"""This node's own commits until Postgres has them: what Redis could lose in the meantime."""

from collections import deque

from hub.domain.records import JournalEntry


class KeptTail:
    def __init__(self, shards: int) -> None:
        self._kept: list[deque[JournalEntry]] = [deque() for _ in range(shards)]

    def __len__(self) -> int:
        return sum(map(len, self._kept))

    def keep(self, entry: JournalEntry) -> None:
        if entry.id:
            self._kept[entry.shard].append(entry)

    def recorded(self, shard: int, cursor: str) -> None:
        """The record has everything of the shard up to the cursor."""
        kept, end = self._kept[shard], order(cursor)
        while kept and order(kept[0].id) <= end:
            kept.popleft()

    def all(self) -> list[JournalEntry]:
        """Of each shard, oldest first."""
        return [entry for kept in self._kept for entry in sorted(kept, key=lambda e: order(e.id))]


def order(entry_id: str) -> tuple[int, int]:
    """Stream ids compare by time, then by number."""
    time, _, number = entry_id.partition("-")
    return int(time), int(number or 0)
