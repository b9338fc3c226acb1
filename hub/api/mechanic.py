"""What mechanics do."""

from hub.api.operation import Ask, Operation, operation
from hub.api.web import cursor_text
from hub.desk import Desk
from hub.domain.model import Role, Session
from hub.ports import Clock
from hub.wire.http import MechanicSession, Page, QueueAnswer, ReasonBody, RequestAnswer, request_answer
from hub.wire.views import assignment_view, queue_item, rfc3339, session_view

_LOST = ("not_found", "taken", "cancelled", "expired", "invalid_state")


class MechanicApi:
    def __init__(self, *, desk: Desk, clock: Clock) -> None:
        self._desk = desk
        self._clock = clock

    def operations(self) -> list[Operation]:
        mechanic = frozenset({Role.MECHANIC})
        assignment, session = "/api/mechanic/assignments/{id}", "/api/mechanic/sessions/{id}"
        to_accept = (*_LOST, "at_capacity", "priority_window", "mechanic_not_approved")
        return [
            operation("GET", "/api/mechanic/queue", self.queue, mechanic),
            operation("POST", f"{assignment}/accept", self.accept, mechanic, refuses=to_accept),
            operation(
                "POST", f"{assignment}/decline", self.decline, mechanic, refuses=(*_LOST, "priority_window")
            ),
            operation("POST", f"{assignment}/release", self.release, mechanic, refuses=_LOST),
            operation("GET", "/api/mechanic/active-session", self.active_session, mechanic),
            operation("POST", f"{session}/start", self.start, mechanic, refuses=_LOST),
            operation("POST", f"{session}/end", self.end, mechanic, refuses=_LOST),
        ]

    async def queue(self, ask: Ask[Page, None]) -> QueueAnswer:
        """One's own priority requests first, then open ones that one has not declined, newest first."""
        limit, cursor = ask.page
        queue = await self._desk.queue(ask.identity.user_id, limit, cursor)
        now = self._clock.now()
        return QueueAnswer(
            assignments=[queue_item(session, now, ask.identity.user_id) for session in queue.sessions],
            next_cursor=cursor_text(queue.next),
            server_time=rfc3339(now),
        )

    async def accept(self, ask: Ask[None, ReasonBody]) -> RequestAnswer:
        """Take a request; again 200 for whoever has it."""
        return self._request(await self._desk.accept(ask.identity.user_id, ask.path("id")))

    async def decline(self, ask: Ask[None, ReasonBody]) -> RequestAnswer:
        """Say no: a priority request goes on to the next, a broadcast is not shown again."""
        return self._request(await self._desk.decline(ask.identity.user_id, ask.path("id"), ask.body.reason))

    async def release(self, ask: Ask[None, ReasonBody]) -> RequestAnswer:
        """Give an accepted request back to everyone before it has begun."""
        return self._request(await self._desk.release(ask.identity.user_id, ask.path("id"), ask.body.reason))

    async def active_session(self, ask: Ask[None, None]) -> MechanicSession:
        """The newest session that one holds, and the others."""
        held = await self._desk.held_by(ask.identity.user_id)
        newest = held[0] if held else None
        return MechanicSession(
            session=session_view(newest) if newest else None,
            assignment=assignment_view(newest) if newest else None,
            others=[queue_item(session, self._clock.now()) for session in held[1:]],
        )

    async def start(self, ask: Ask[None, None]) -> RequestAnswer:
        """Begin: the session is live."""
        return self._request(await self._desk.start(ask.identity.user_id, ask.path("id")))

    async def end(self, ask: Ask[None, None]) -> RequestAnswer:
        """Complete a live session."""
        return self._request(await self._desk.end_as_mechanic(ask.identity.user_id, ask.path("id")))

    def _request(self, session: Session) -> RequestAnswer:
        return request_answer(session, self._clock.now())
