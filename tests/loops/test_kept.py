"""A node remembers its own commits until they are on record."""

from hub.domain.records import JournalEntry
from hub.loops.kept import KeptTail


def entry(shard: int, entry_id: str) -> JournalEntry:
    return JournalEntry(shard=shard, id=entry_id, command_id="c", session=None, events=(), epoch="e")


def test_commits_are_kept_until_they_are_on_record() -> None:
    kept = KeptTail(2)
    for entry_id in ("9-0", "10-0", "10-2", "11-0"):
        kept.keep(entry(0, entry_id))
    kept.keep(entry(1, "5-0"))
    kept.keep(entry(1, ""))
    assert len(kept) == 5
    kept.recorded(0, "another", "99-0")
    assert len(kept) == 5
    kept.recorded(0, "e", "10-1")
    assert [(e.shard, e.id) for e in kept.all()] == [(0, "10-2"), (0, "11-0"), (1, "5-0")]
    kept.recorded(1, "e", "6-0")
    kept.recorded(0, "e", "11-0")
    assert len(kept) == 0
