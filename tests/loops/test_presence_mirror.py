"""The presence mirror: what waits for a record that is away."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from hub.domain.errors import StoreFailed
from hub.domain.model import Session
from hub.loops.presence_mirror import PresenceMirror
from hub.loops.ranks import Ranks
from tests.domain.samples import ANA, BEN
from tests.redis.bench import SHARDS


class FakeRecord:
    """Takes presence, unless it is away."""

    def __init__(self) -> None:
        self.mirrored: list[tuple[str, bool, int]] = []
        self.away = False

    def active_pages(self) -> Any:
        raise NotImplementedError

    async def kept(self, session_ids: Sequence[str]) -> Any:
        raise NotImplementedError

    async def versions(self, session_ids: Sequence[str]) -> Any:
        raise NotImplementedError

    async def cursors(self) -> Any:
        raise NotImplementedError

    async def begin(self, epochs: Mapping[int, str]) -> None:
        raise NotImplementedError

    async def session(self, session_id: str) -> Session | None:
        raise NotImplementedError

    async def sessions(self, session_ids: Sequence[str]) -> Mapping[str, Session]:
        raise NotImplementedError

    async def active_after(self, customer_id: str, limit: int) -> Sequence[Session]:
        raise NotImplementedError

    async def active_of(self, customer_ids: Sequence[str]) -> Sequence[Session]:
        raise NotImplementedError

    async def booked_since(self, at: int) -> bool:
        raise NotImplementedError

    async def drain(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def write(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def mirror_presence(self, presence: Any) -> None:
        if self.away:
            raise StoreFailed("Postgres is away.", maybe_done=False)
        self.mirrored += list(presence)

    async def expire_orphans(self) -> int:
        raise NotImplementedError

    async def note_orphan_age(self) -> None:
        raise NotImplementedError

    def advisory_lock(self, key: int) -> Any:
        raise NotImplementedError


async def test_presence_is_mirrored_by_the_first_node_and_kept_while_the_record_is_away() -> None:
    record = FakeRecord()
    ranks = Ranks("n1", SHARDS)
    mirror = PresenceMirror(record=record, ranks=ranks, shards=SHARDS)
    mirror.note(ANA, True, 1)
    mirror.note(ANA, False, 2)
    mirror.note(BEN, True, 3)
    record.away = True
    with pytest.raises(StoreFailed):
        await mirror.step()
    mirror.note(BEN, False, 4)
    record.away = False
    await mirror.step()
    await mirror.step()
    assert sorted(record.mirrored) == [(ANA, False, 2), (BEN, False, 4)]


async def test_a_node_that_is_not_first_mirrors_nothing() -> None:
    record = FakeRecord()
    everyone = [Ranks(node, SHARDS) for node in ("n1", "n2", "n3")]
    for ranks in everyone:
        ranks.update(["n1", "n2", "n3"])
    for ranks in everyone:
        mirror = PresenceMirror(record=record, ranks=ranks, shards=SHARDS)
        mirror.note(ANA, True, 1)
        await mirror.step()
    assert record.mirrored == [(ANA, True, 1)]
