"""What admins do to a booking, whoever's turn it is, and all that is known of its past."""

from collections.abc import Iterable, Mapping
from typing import Any

from hub.dispatch import Dispatcher
from hub.domain import commands as cmd
from hub.domain.asked import asked_assignment
from hub.domain.decide import decide
from hub.domain.errors import Refused
from hub.domain.ids import canonical
from hub.domain.model import Event, EventType, Role, Session
from hub.domain.timeline import Actor, Happening, Timeline, offers, place
from hub.ports import Clock, History, Inspection

_MECHANICS_OWN = frozenset(
    {
        EventType.NOTIFIED,
        EventType.DELIVERED,
        EventType.SEEN,
        EventType.DECLINED,
        EventType.RELEASED,
        EventType.STARTED,
        EventType.COMPLETED,
    }
)
"""What only mechanics do, unless it is the customer."""


class ControlDesk:
    def __init__(
        self, *, dispatcher: Dispatcher, history: History, inspection: Inspection, clock: Clock
    ) -> None:
        self._dispatcher = dispatcher
        self._directory = dispatcher.directory
        self._history = history
        self._inspection = inspection
        self._clock = clock

    async def broadcast(self, admin: Actor, assignment_id: str, reason: str | None) -> Session:
        """Open the request to everyone now; one that is open stays as it is."""
        command = cmd.Broadcast(admin.id, note=reason, actor_name=admin.name)
        return await self._execute(assignment_id, command)

    async def assign(self, admin: Actor, assignment_id: str, mechanic_id: str) -> Session:
        """Accept for a mechanic, whoever's turn it is."""
        known = canonical(mechanic_id)
        mechanic = await self._directory.mechanic(known) if known else None
        if mechanic is None:
            raise Refused("invalid_request", "There is no such mechanic.", field="mechanic_id")
        command = cmd.Accept(
            mechanic_id=mechanic.id,
            name=mechanic.name,
            approved=mechanic.approved,
            actor_id=admin.id,
            actor_name=admin.name,
        )
        return await self._execute(assignment_id, command)

    async def cancel(self, admin: Actor, assignment_id: str, reason: str | None) -> Session:
        return await self._execute(assignment_id, cmd.Cancel(admin.id, reason, admin.name))

    async def timeline(self, assignment_id: str) -> Timeline:
        """Everything that happened, what is not on record yet included."""
        session = await self._session(asked_assignment(assignment_id))
        # The journal first: what moves from there to the record meanwhile is met at least once.
        waiting = await self._inspection.unrecorded(session.id, session.created_at)
        known = {event.id: event for event in waiting} | dict(await self._history.events(session.id))
        ordered = sorted(known.items(), key=lambda item: place(item[1]))
        events = [event for _, event in ordered]
        names = await self._names(session, events)
        return Timeline(
            session=session,
            happenings=tuple(
                Happening(id=event_id, event=event, actor=_actor(event, session, names))
                for event_id, event in ordered
            ),
            offers=tuple(offers(events)),
            names=names,
        )

    async def _execute(self, assignment_id: str, command: cmd.Command) -> Session:
        session_id = asked_assignment(assignment_id)
        try:
            return await self._dispatcher.execute(session_id, command)
        except Refused as refused:
            if refused.code != "not_found":
                raise
        session = await self._session(session_id)
        if session.active:
            raise Refused("not_found", "There is no such request now.")
        return decide(session, command, self._clock.now()).session

    async def _session(self, session_id: str) -> Session:
        (session,) = await self._dispatcher.sessions.get([session_id])
        session = session or await self._history.session(session_id)
        if session is None:
            raise Refused("not_found", "There is no such request.")
        return session

    async def _names(self, session: Session, events: Iterable[Event]) -> dict[str, str]:
        """Of all mechanics who come into it."""
        ids: set[Any] = {session.mechanic_id, session.preferred_mechanic_id}
        ids |= {part for event in events for part in (event.actor_id, event.data.get("mechanic_id"))}
        people = [await self._directory.mechanic(each) for each in ids if isinstance(each, str)]
        return {person.id: person.name for person in people if person is not None}


def _actor(event: Event, session: Session, names: Mapping[str, str]) -> Actor | None:
    if event.actor_id is None:
        return None
    role, name = _role(event, session), event.data.get("actor_name")
    if role is Role.CUSTOMER:
        name = session.customer_name
    elif role is Role.MECHANIC:
        name = names.get(event.actor_id)
    return Actor(id=event.actor_id, role=role, name=name)


def _role(event: Event, session: Session) -> Role:
    """From the event, not from who is known: people are deleted, and their past stays."""
    if event.actor_id == session.customer_id:
        return Role.CUSTOMER
    if event.type in _MECHANICS_OWN or event.actor_id == event.data.get("mechanic_id"):
        return Role.MECHANIC
    if event.type is EventType.CREATED:
        return Role(event.data.get("actor_role", Role.SERVICE))
    return Role.ADMIN
