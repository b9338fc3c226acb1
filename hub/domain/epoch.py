"""Epochs: each life of a shard's live data has a random name, which tells when data was lost before it."""

from hub.domain.ids import new_id

VERSION_GAP = 1_000
"""Nothing that was decided in one life may commit in the next, so restored versions leave it far behind."""


def new_epoch(lost_at: int | None = None) -> str:
    """`lost_at` (ms): when what was booked lately was lost; None where there was nothing to lose."""
    return new_id() if lost_at is None else f"{lost_at}:{new_id()}"


def renewed(epoch: str) -> str:
    """The next life of data of which nothing was lost; an earlier loss stays known."""
    lost_at, began_with_loss, _ = epoch.partition(":")
    return new_epoch(int(lost_at) if began_with_loss else None)


def lost_since(epoch: str, at: int) -> bool:
    """Whether the epoch began with a loss, and later than `at` (ms)."""
    lost_at, began_with_loss, _ = epoch.partition(":")
    return bool(began_with_loss) and int(lost_at) > at
