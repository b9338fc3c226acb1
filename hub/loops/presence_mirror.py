"""The presence mirror: notes in Postgres who is online, for dashboards that read only there."""

import logging

from hub.domain.errors import Unavailable
from hub.domain.ids import shard_of_user
from hub.loops.periodic import every
from hub.loops.ranks import Ranks
from hub.ports import RecordWriter

logger = logging.getLogger("hub.loops.mirror")

_EVERY_S = 1.0


class PresenceMirror:
    """Every node hears every change; the first node of the mechanic's shard writes it down."""

    def __init__(self, *, record: RecordWriter, ranks: Ranks, shards: int) -> None:
        self._record = record
        self._ranks = ranks
        self._shards = shards
        self._changes: dict[str, tuple[bool, int]] = {}

    def note(self, mechanic_id: str, is_online: bool, last_seen: int | None) -> None:
        """What others see of a mechanic has changed."""
        if last_seen is not None and self._ranks.of(shard_of_user(mechanic_id, self._shards)) == 0:
            self._changes[mechanic_id] = (is_online, last_seen)

    async def run(self) -> None:
        await every(_EVERY_S, self.step, logger)

    async def step(self) -> None:
        """Write what has changed; what cannot be written now is kept unless something newer comes."""
        changes, self._changes = self._changes, {}
        if not changes:
            return
        try:
            await self._record.mirror_presence([(m, online, at) for m, (online, at) in changes.items()])
        except Unavailable:
            self._changes = changes | self._changes
            raise
