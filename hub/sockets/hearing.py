"""What a node does with what it hears on the bus, and how it makes up for what it could not hear."""

import logging
from collections.abc import Callable, Iterable

import msgspec

from hub.dispatch import Dispatcher
from hub.domain.ids import assignment_of, session_of
from hub.sockets.fanout import Fanout
from hub.sockets.registry import Registry
from hub.wire import hints
from hub.wire.hints import Hint, PresenceChange

logger = logging.getLogger("hub.sockets.hearing")

_OPEN_AT_ONCE = 1_000
_SETTLED_MS = 2_000
"""A hint that has not come by then was lost."""
_LATELY_MS = 10_000
"""How far back the first glance goes."""


class Hearing:
    """`on_due`, `on_recorded` (shard, epoch, cursor), `on_remembered` (node, shards that it was ahead in),
    `on_joined` (node), `on_presence` and `on_canary` (shard, turn) pass hints on to the loops."""

    def __init__(
        self,
        *,
        node: str,
        fanout: Fanout,
        registry: Registry,
        dispatcher: Dispatcher,
        on_due: Callable[[int], None],
        on_recorded: Callable[[int, str, str], None],
        on_remembered: Callable[[str, Iterable[int] | None], None],
        on_joined: Callable[[str], None],
        on_presence: Callable[[PresenceChange], None],
        on_canary: Callable[[int, int], None],
    ) -> None:
        self._node = node
        self._fanout = fanout
        self._registry = registry
        self._dispatcher = dispatcher
        self._on_due = on_due
        self._on_recorded = on_recorded
        self._on_remembered = on_remembered
        self._on_joined = on_joined
        self._on_presence = on_presence
        self._on_canary = on_canary
        self._glanced = 0

    def heard(self, message: str) -> None:
        """One message of the bus; whatever it holds, the next one is heard too."""
        try:
            hint = hints.decode(message, self._node)
            if hint is not None:
                self._pass_on(hint)
        except msgspec.MsgspecError:
            logger.error("hint_unreadable", extra={"size": len(message)})
        except Exception:
            logger.exception("hint_failed")

    async def resync(self) -> None:
        """Show every local socket what it may have missed, from state."""
        if not len(self._registry):
            return
        sessions = self._dispatcher.sessions
        for shard in range(sessions.shards):
            for session in await sessions.offered_now(shard):
                if session.target_node == self._node:
                    self._fanout.show_offer(session)
        open_now = await sessions.open(_OPEN_AT_ONCE)
        for session in open_now:
            self._fanout.show_open(session, (await sessions.load(session.id)).declined)
        still_open = {session.assignment_id for session in open_now}
        closed = [session_of(a) for a in self._registry.told_assignments() if a not in still_open]
        for session_id, ended in zip(closed, await sessions.get(closed), strict=True):
            if ended is None:
                self._registry.forget_told(assignment_of(session_id))
            else:
                self._fanout.show_end(ended)
        for customer_id in self._registry.customers():
            if (mine := await sessions.active_of(customer_id)) is not None:
                self._fanout.show_state(mine)
        await self._resync_presence()

    async def glance(self) -> None:
        """Show what was opened since the last glance, a moment ago at least, and was not announced here."""
        latest = self._dispatcher.clock.now() - _SETTLED_MS
        sessions = self._dispatcher.sessions
        opened: list[str] = []
        if self._registry.any_mechanic():
            opened = await sessions.opened(self._glanced or latest - _LATELY_MS, latest)
        missed = [sid for sid in opened if not self._registry.was_announced(assignment_of(sid))]
        if missed:
            logger.warning("hints_missed", extra={"sessions": missed[:10], "count": len(missed)})
        for session_id in missed:
            snapshot = await sessions.load(session_id)
            if snapshot.session is not None and snapshot.session.open_at is not None:
                self._fanout.show_open(snapshot.session, snapshot.declined)
        self._glanced = latest

    async def _resync_presence(self) -> None:
        concerned = list({*self._registry.mechanics(), *self._registry.watched()})
        for mechanic_id, state in (await self._dispatcher.presence.states(concerned)).items():
            change = PresenceChange(mechanic_id=mechanic_id, status=state.status, last_seen=state.last_seen)
            self._fanout.apply(Hint(presence=change))
        for mechanic_id, status in (
            await self._dispatcher.presence.chosen(self._registry.mechanics())
        ).items():
            self._registry.choose(mechanic_id, status)

    def _pass_on(self, hint: Hint) -> None:
        self._fanout.apply(hint)
        if hint.due is not None:
            self._on_due(hint.due)
        if hint.presence is not None:
            self._on_presence(hint.presence)
        if hint.loss:
            self._dispatcher.gate.suspect()
        if hint.recorded is not None:
            self._on_recorded(hint.recorded.shard, hint.recorded.epoch, hint.recorded.cursor)
        if hint.remembered is not None:
            self._on_remembered(hint.remembered.node, hint.remembered.ahead)
        if hint.joined is not None:
            self._on_joined(hint.joined)
        if hint.chosen is not None:
            self._registry.choose(hint.chosen.mechanic_id, hint.chosen.status)
        if hint.canary is not None:
            self._on_canary(hint.canary.shard, hint.canary.turn)
