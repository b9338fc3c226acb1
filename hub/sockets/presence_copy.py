"""A node's copy of presence, for those who poll: read once, kept by what is said on the bus.

Somebody's app asks every few seconds; most questions are about mechanics whom others ask about, too. A copy
is as good as Redis while the bus is heard; a change whose hint was lost is seen `KEPT_S` late at the most.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from hub.domain.model import PresenceState
from hub.ports import PresenceStore
from hub.wire.hints import PresenceChange

KEPT_S = 2.0
_MOST = 50_000


class _Entry(NamedTuple):
    state: PresenceState
    until: float
    turn: int


class PresenceCopy:
    """`hears`: whether this node hears the bus and trusts the data now. `now` in seconds."""

    def __init__(
        self,
        presence: PresenceStore,
        *,
        hears: Callable[[], bool],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._presence = presence
        self._hears = hears
        self._now = now
        self._entries: dict[str, _Entry] = {}
        self._turn = 0

    async def states(self, mechanic_ids: Sequence[str]) -> Mapping[str, PresenceState]:
        if not self._hears():
            return await self._presence.states(mechanic_ids)
        now, turn = self._now(), self._turn
        known: dict[str, PresenceState] = {}
        missing = []
        for mechanic_id in mechanic_ids:
            entry = self._entries.get(mechanic_id)
            if entry is not None and entry.until > now:
                known[mechanic_id] = entry.state
            else:
                missing.append(mechanic_id)
        if missing:
            for mechanic_id, state in (await self._presence.states(missing)).items():
                heard = self._entries.get(mechanic_id)
                if heard is not None and heard.turn > turn:
                    state = heard.state  # it changed while it was read
                else:
                    self._keep(mechanic_id, _Entry(state, now + KEPT_S, turn))
                known[mechanic_id] = state
        return known

    def note(self, change: PresenceChange) -> None:
        self._turn += 1
        state = PresenceState(status=change.status, last_seen=change.last_seen)
        self._keep(change.mechanic_id, _Entry(state, self._now() + KEPT_S, self._turn))

    def _keep(self, mechanic_id: str, entry: _Entry) -> None:
        self._entries.pop(mechanic_id, None)
        self._entries[mechanic_id] = entry
        if len(self._entries) > _MOST:
            del self._entries[next(iter(self._entries))]
