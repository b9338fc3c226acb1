"""From hints on the bus to frames on this node's sockets."""

from collections.abc import Callable, Coroutine
from typing import Any

from hub.dispatch import Dispatcher
from hub.domain import commands as cmd
from hub.domain.errors import Unavailable
from hub.domain.ids import assignment_of, session_of
from hub.domain.model import Session, Status
from hub.ports import Clock
from hub.sockets.frames import Outgoing
from hub.sockets.registry import Registry
from hub.wire.announce import Announcer
from hub.wire.closing import Close
from hub.wire.hints import NOTHING, Audience, Delivery, Hint, PresenceChange

_CATCH_UP = 200


class Fanout:
    """`spawn` starts work that nobody waits for; `sent` counts frames by event for the metrics."""

    def __init__(
        self,
        *,
        registry: Registry,
        dispatcher: Dispatcher,
        announcer: Announcer,
        clock: Clock,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        sent: Callable[[int], None] = lambda frames: None,
    ) -> None:
        self._registry = registry
        self._dispatcher = dispatcher
        self._announcer = announcer
        self._clock = clock
        self._spawn = spawn
        self._sent = sent

    def apply(self, hint: Hint) -> None:
        for delivery in hint.deliver:
            self.deliver(delivery)
        if hint.presence is not None:
            self._presence(hint.presence)
        if hint.yielded is not None and (member := self._registry.get(hint.yielded)):
            member.close(Close.YIELDED, "A newer connection took this one's place.")

    def deliver(self, delivery: Delivery) -> None:
        registry = self._registry
        if delivery.over:
            if delivery.frame != NOTHING:
                registry.tell_told(delivery.assignment_id, Outgoing(delivery.frame), delivery.to)
            registry.forget_told(delivery.assignment_id)
            return
        message = Outgoing(delivery.frame)
        match delivery.audience:
            case Audience.CONNECTION:
                self._offer(delivery, message)
            case Audience.USER:
                self._sent(registry.tell(delivery.to, message))
            case Audience.ONLINE:
                self._sent(registry.broadcast(message, delivery.assignment_id, delivery.exclude))
            case Audience.TOLD:
                registry.tell_told(delivery.assignment_id, message, delivery.to)

    def show_open(self, session: Session, declined: frozenset[str]) -> None:
        """Tell this node's listeners of an open request; those who know it recognise the event's id."""
        self.deliver(self._announcer.new_assignment(session, declined))

    def show_offer(self, session: Session) -> None:
        """Write a priority request again if its connection is here."""
        if session.target_connection and self._registry.get(session.target_connection):
            self.deliver(self._announcer.priority_request(session, self._clock.now()))

    def show_state(self, session: Session) -> None:
        """Tell the customer, and whoever has the session, how it stands."""
        for delivery in self._announcer.session_updated(session):
            self.deliver(delivery)

    def show_end(self, session: Session) -> None:
        """Tell those who were told of a request that it is no longer to be had."""
        for delivery in self._announcer.ended(session):
            self.deliver(delivery)

    def _offer(self, delivery: Delivery, message: Outgoing) -> None:
        member = self._registry.get(delivery.to)
        if member is None:
            return
        self._registry.note_told(delivery.assignment_id, member.user_id)

        def written() -> None:
            self._sent(1)
            command = cmd.Notified(member.id, self._clock.now())
            self._spawn(self._report(session_of(delivery.assignment_id), command))

        member.send(message, written)

    async def _report(self, session_id: str, command: cmd.Notified) -> None:
        try:
            await self._dispatcher.nudge(session_id, command)
        except Unavailable:
            # Not knowing that it was shown, the hub opens the request to everyone: safe, only less exclusive.
            return

    async def _catch_up(self, mechanic_id: str) -> None:
        """Who was busy has missed the broadcasts; what is still open may be waiting for just them. What was
        open before they came, they were told when they came."""
        registry, sessions = self._registry, self._dispatcher.sessions
        missed = [session_of(assignment) for assignment in registry.missed(mechanic_id)[-_CATCH_UP:]]
        if not missed:
            return
        try:
            found = [s for s in await sessions.get(missed) if s is not None]
            declined = await sessions.declined_by(mechanic_id, found)
        except Unavailable:
            return
        for session_id in set(missed).difference(s.id for s in found if s.open_at):
            registry.taken(assignment_of(session_id))  # and we have not heard of it
        for session in found:
            if session.open_at and session.id not in declined and registry.hears(mechanic_id):
                registry.note_told(session.assignment_id, mechanic_id)
                delivery = self._announcer.new_assignment(session, frozenset())
                self._sent(registry.tell(mechanic_id, Outgoing(delivery.frame)))

    def _presence(self, change: PresenceChange) -> None:
        was = self._registry.status(change.mechanic_id)
        self._registry.set_status(change.mechanic_id, change.status)
        if was is Status.BUSY and change.status is Status.ONLINE:
            self._spawn(self._catch_up(change.mechanic_id))
        watchers = self._registry.watchers(change.mechanic_id)
        if not watchers:
            return
        message = Outgoing(self._announcer.presence(change, self._clock.now()))
        self._sent(sum(member.send(message) for member in watchers))
