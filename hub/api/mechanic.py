"""What mechanics do."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.api.web import answer, cursor_text, guarded, page_of, read_body
from hub.desk import Desk
from hub.domain.model import Role, Session
from hub.identity import Identity
from hub.ports import Clock
from hub.wire.http import MechanicSession, QueueAnswer, ReasonBody, RequestAnswer
from hub.wire.views import assignment_view, queue_item, rfc3339, session_view

_reason = msgspec.json.Decoder(ReasonBody)


class MechanicApi:
    def __init__(self, *, desk: Desk, clock: Clock) -> None:
        self._desk = desk
        self._clock = clock

    def routes(self) -> list[Route]:
        mechanic = frozenset({Role.MECHANIC})
        assignment = "/api/mechanic/assignments/{id}"
        return [
            guarded("/api/mechanic/queue", self.queue, mechanic),
            guarded(f"{assignment}/accept", self.accept, mechanic, "POST"),
            guarded(f"{assignment}/decline", self.decline, mechanic, "POST"),
            guarded(f"{assignment}/release", self.release, mechanic, "POST"),
            guarded("/api/mechanic/active-session", self.active_session, mechanic),
            guarded("/api/mechanic/sessions/{id}/start", self.start, mechanic, "POST"),
            guarded("/api/mechanic/sessions/{id}/end", self.end, mechanic, "POST"),
        ]

    async def queue(self, request: Request, identity: Identity) -> Response:
        limit, cursor = page_of(request)
        queue = await self._desk.queue(identity.user_id, limit, cursor)
        now = self._clock.now()
        return answer(
            QueueAnswer(
                assignments=[queue_item(session, now, identity.user_id) for session in queue.sessions],
                next_cursor=cursor_text(queue.next),
                server_time=rfc3339(now),
            )
        )

    async def accept(self, request: Request, identity: Identity) -> Response:
        await read_body(request, _reason, default=b"{}")
        return _request(await self._desk.accept(identity.user_id, request.path_params["id"]))

    async def decline(self, request: Request, identity: Identity) -> Response:
        body = await read_body(request, _reason, default=b"{}")
        return _request(await self._desk.decline(identity.user_id, request.path_params["id"], body.reason))

    async def release(self, request: Request, identity: Identity) -> Response:
        body = await read_body(request, _reason, default=b"{}")
        return _request(await self._desk.release(identity.user_id, request.path_params["id"], body.reason))

    async def active_session(self, request: Request, identity: Identity) -> Response:
        held = await self._desk.held_by(identity.user_id)
        newest = held[0] if held else None
        return answer(
            MechanicSession(
                session=session_view(newest) if newest else None,
                assignment=assignment_view(newest) if newest else None,
                others=[queue_item(session, self._clock.now()) for session in held[1:]],
            )
        )

    async def start(self, request: Request, identity: Identity) -> Response:
        return _request(await self._desk.start(identity.user_id, request.path_params["id"]))

    async def end(self, request: Request, identity: Identity) -> Response:
        return _request(await self._desk.end_as_mechanic(identity.user_id, request.path_params["id"]))


def _request(session: Session) -> Response:
    return answer(RequestAnswer(session=session_view(session), assignment=assignment_view(session)))
