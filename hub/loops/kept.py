"""This node's own commits until Postgres has them: what Redis could lose in the meantime."""

from collections.abc import Iterable
from itertools import takewhile

from hub.domain.records import JournalEntry


class KeptTail:
    """Commits belong to the life of the data (`epoch`) that they were made in: what a later life has recorded
    says nothing of them."""

    def __init__(self, shards: int) -> None:
        self._kept: list[dict[tuple[int, int], JournalEntry]] = [{} for _ in range(shards)]
        self._known: list[tuple[str, tuple[int, int]]] = [("", (0, 0))] * shards

    def __len__(self) -> int:
        return sum(map(len, self._kept))

    def keep(self, entry: JournalEntry) -> None:
        if entry.id:
            self._kept[entry.shard][order(entry.id)] = entry
            self._know(entry.shard, entry.epoch, order(entry.id))

    def recorded(self, shard: int, epoch: str, cursor: str) -> None:
        """The record has everything of this life of the shard up to the cursor."""
        kept, end = self._kept[shard], order(cursor)
        # They are kept in the order of their making, or nearly so: what is left goes with a later cursor.
        for place in list(takewhile(lambda place: place <= end, kept)):
            if kept[place].epoch == epoch:
                del kept[place]
        self._know(shard, epoch, end)

    def drop(self, entries: Iterable[JournalEntry]) -> None:
        """They are on record, whatever became of the life they belong to."""
        for entry in entries:
            self._kept[entry.shard].pop(order(entry.id), None)

    def all(self) -> list[JournalEntry]:
        """Of each shard, oldest first."""
        return [kept[place] for kept in self._kept for place in sorted(kept)]

    def of_other_lives(self, epochs: list[str | None]) -> list[JournalEntry]:
        return [entry for entry in self.all() if entry.epoch != epochs[entry.shard]]

    def ahead(self, epochs: list[str | None], last_entries: list[str]) -> set[int]:
        """The shards of which this node knows more than there is: something was lost."""
        return {
            shard
            for shard, (epoch, place) in enumerate(self._known)
            if epoch and epoch == epochs[shard] and place > order(last_entries[shard] or "0")
        }

    def newest(self) -> int:
        """When the last commit that this node knows of was made, ms."""
        return max(place[0] for _, place in self._known)

    def _know(self, shard: int, epoch: str, place: tuple[int, int]) -> None:
        known_epoch, known = self._known[shard]
        if known_epoch != epoch or place > known:
            self._known[shard] = epoch, place


def order(entry_id: str) -> tuple[int, int]:
    """Stream ids compare by time, then by number."""
    time, _, number = entry_id.partition("-")
    return int(time), int(number or 0)
