"""What people can ask of the hub, in the hub's own words: the same for HTTP and for sockets."""

from msgspec import Struct

from hub.dispatch import Dispatcher
from hub.domain import commands as cmd
from hub.domain.asked import asked_assignment, asked_session
from hub.domain.errors import Refused, StoreFailed
from hub.domain.model import EventType, Session, Status
from hub.ports import Record

QUEUE_LIMIT = 200

Cursor = tuple[int, str]
_OFFER = "offer-"
"""Marks a cursor that stands among the offers."""


class Queue(Struct, frozen=True, kw_only=True):
    """A mechanic's own priority offers first, then what is open to everyone, newest first."""

    sessions: list[Session]
    next: Cursor | None = None


class Desk:
    def __init__(self, *, dispatcher: Dispatcher, record: Record) -> None:
        self._dispatcher = dispatcher
        self._sessions = dispatcher.sessions
        self._record = record

    async def accept(self, mechanic_id: str, assignment_id: str) -> Session:
        session_id = asked_assignment(assignment_id)
        mechanic = await self._dispatcher.directory.mechanic(mechanic_id)
        command = cmd.Accept(
            mechanic_id=mechanic_id,
            name=mechanic.name if mechanic else None,
            approved=mechanic is not None and mechanic.approved,
        )
        return await self._dispatcher.execute(session_id, command)

    async def decline(self, mechanic_id: str, assignment_id: str, reason: str | None = None) -> Session:
        return await self._dispatcher.execute(
            asked_assignment(assignment_id), cmd.Decline(mechanic_id, reason)
        )

    async def release(self, mechanic_id: str, assignment_id: str, reason: str | None = None) -> Session:
        return await self._dispatcher.execute(
            asked_assignment(assignment_id), cmd.Release(mechanic_id, reason)
        )

    async def acknowledge(self, mechanic_id: str, assignment_id: str, stage: str) -> Session:
        command = cmd.Acknowledge(mechanic_id, EventType(stage))
        return await self._dispatcher.execute(asked_assignment(assignment_id), command)

    async def start(self, mechanic_id: str, session_id: str) -> Session:
        return await self._dispatcher.execute(asked_session(session_id), cmd.Start(mechanic_id))

    async def end_as_mechanic(self, mechanic_id: str, session_id: str) -> Session:
        return await self._dispatcher.execute(asked_session(session_id), cmd.End(mechanic_id))

    async def end_as_customer(self, customer_id: str, session_id: str) -> Session:
        """Cancels what has not begun, completes what is live, and changes nothing where it has ended."""
        session_id = asked_session(session_id)
        (session,) = await self._sessions.get([session_id])
        if session is None:
            session = await self._record.session(session_id)
        if session is None or session.customer_id != customer_id:
            raise Refused("not_found", "There is no such session.")
        if not session.active:
            return session
        return await self._dispatcher.execute(session_id, cmd.End(customer_id))

    async def active_session(self, customer_id: str) -> Session | None:
        session = await self._sessions.active_of(customer_id)
        return session if session is not None and session.active else None

    async def held_by(self, mechanic_id: str) -> list[Session]:
        """Newest first."""
        held = await self._sessions.held_by(mechanic_id)
        return sorted(held, key=lambda s: (s.accepted_at or 0, s.id), reverse=True)

    async def queue(self, mechanic_id: str, limit: int = QUEUE_LIMIT, before: Cursor | None = None) -> Queue:
        """The offers come first and count for the limit; the cursor says behind which of them to go on."""
        offers: list[Session] = []
        if before is None or before[1].startswith(_OFFER):
            offers = await self._sessions.offered_to(mechanic_id)
            offers.sort(key=_offer_place, reverse=True)
            if before is not None:
                place = (before[0], before[1].removeprefix(_OFFER))
                offers = [offer for offer in offers if _offer_place(offer) < place]
            before = None
        try:
            approved = await self._approved(mechanic_id)
        except StoreFailed:
            approved = False
        room = limit - len(offers)
        if room <= 0:
            at, assignment_id = _offer_place(offers[limit - 1])
            return Queue(sessions=offers[:limit], next=(at, _OFFER + assignment_id))
        if not approved:
            return Queue(sessions=offers)
        return await self._open_requests(mechanic_id, offers, room, before)

    async def _open_requests(
        self, mechanic_id: str, offers: list[Session], room: int, before: Cursor | None
    ) -> Queue:
        found: list[Session] = []
        while len(found) <= room:
            page = await self._sessions.open(room + 1, before=before)
            declined = await self._sessions.declined_by(mechanic_id, page)
            found += [session for session in page if session.id not in declined]
            if len(page) <= room:
                break
            before = (page[-1].open_at or 0, page[-1].assignment_id)
        last = found[room - 1] if len(found) > room else None
        return Queue(
            sessions=[*offers, *found[:room]],
            next=(last.open_at or 0, last.assignment_id) if last else None,
        )

    async def set_status(self, mechanic_id: str, status: Status) -> Status:
        """What others see from now on. Offers follow: they come to who is back, and leave who hides."""
        effective = await self._dispatcher.presence.set_status(mechanic_id, status)
        if status is Status.OFFLINE:
            await self._dispatcher.mechanic_left(mechanic_id)
        else:
            await self._dispatcher.mechanic_moved(mechanic_id)
        return effective

    async def _approved(self, mechanic_id: str) -> bool:
        mechanic = await self._dispatcher.directory.mechanic(mechanic_id)
        return mechanic is not None and mechanic.approved


def _offer_place(session: Session) -> Cursor:
    return session.created_at, session.assignment_id
