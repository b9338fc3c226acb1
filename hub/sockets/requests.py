"""What each request of a client does, once it is welcome."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from msgspec import structs

from hub.domain.errors import Refused
from hub.domain.ids import canonical
from hub.domain.model import Role, Session, Status
from hub.wire import client
from hub.wire.client import MAX_WATCHED
from hub.wire.http import request_answer
from hub.wire.views import OFFLINE, presence_view, queue_item, rfc3339

if TYPE_CHECKING:
    from hub.sockets.connection import Connection
    from hub.sockets.endpoint import SocketEndpoint

Fields = dict[str, Any]


async def heartbeat(hub: "SocketEndpoint", connection: "Connection", _: client.Heartbeat) -> Fields:
    return {"server_time": rfc3339(hub.clock.now())}


async def status(hub: "SocketEndpoint", connection: "Connection", message: client.SetStatus) -> Fields:
    mechanic_id = _mechanic(connection)
    effective = await hub.desk.set_status(mechanic_id, message.status)
    hub.registry.choose(mechanic_id, message.status)
    if message.status is not Status.ONLINE:
        return {"status": effective}
    queue = await hub.desk.queue(mechanic_id)
    for session in queue.sessions:
        hub.registry.note_told(session.assignment_id, mechanic_id)
    now = hub.clock.now()
    items = [queue_item(session, now, mechanic_id) for session in queue.sessions]
    more: Fields = {"more": True} if queue.next else {}
    return {"status": effective, "server_time": rfc3339(now), "assignments": items, **more}


async def accept(hub: "SocketEndpoint", connection: "Connection", message: client.Accept) -> Fields:
    return _request(hub, await hub.desk.accept(_mechanic(connection), message.assignment_id))


async def decline(hub: "SocketEndpoint", connection: "Connection", message: client.Decline) -> Fields:
    mechanic_id = _mechanic(connection)
    return _request(hub, await hub.desk.decline(mechanic_id, message.assignment_id, message.reason))


async def release(hub: "SocketEndpoint", connection: "Connection", message: client.Release) -> Fields:
    mechanic_id = _mechanic(connection)
    return _request(hub, await hub.desk.release(mechanic_id, message.assignment_id, message.reason))


async def ack(hub: "SocketEndpoint", connection: "Connection", message: client.Ack) -> Fields:
    await hub.desk.acknowledge(_mechanic(connection), message.assignment_id, message.stage)
    return {}


async def watch(hub: "SocketEndpoint", connection: "Connection", message: client.Watch) -> Fields:
    """Watching starts before reading, so that a change in between is not missed."""
    asked = {mechanic_id: canonical(mechanic_id) for mechanic_id in message.mechanic_ids}
    known = {mechanic_id for mechanic_id in asked.values() if mechanic_id is not None}
    if len(connection.watched | known) > MAX_WATCHED:
        detail = f"A connection may watch {MAX_WATCHED} mechanics."
        raise Refused("invalid_request", detail, field="mechanic_ids")
    hub.registry.watch(connection, known)
    states = await hub.presence.states(list(known))
    views = {m: presence_view(states[c]) if c is not None else OFFLINE for m, c in asked.items()}
    return {"presence": views}


async def unwatch(hub: "SocketEndpoint", connection: "Connection", message: client.Unwatch) -> Fields:
    hub.registry.unwatch(connection, [c for m in message.mechanic_ids if (c := canonical(m))])
    return {}


async def refresh(hub: "SocketEndpoint", connection: "Connection", message: client.Refresh) -> Fields:
    identity = await hub.verifier.verify(message.token)
    if (identity.user_id, identity.role) != (connection.user_id, connection.role):
        raise Refused("forbidden", "The token is somebody else's.")
    hub.identify(connection, identity)
    return {"expires_at": rfc3339(round(identity.expires_at * 1000))}


async def hello(hub: "SocketEndpoint", connection: "Connection", _: client.Hello) -> Fields:
    raise Refused("invalid_state", "You have said hello already.")


REQUESTS: dict[type[client.ClientMessage], Callable[..., Awaitable[Fields]]] = {
    client.Hello: hello,
    client.SetStatus: status,
    client.Heartbeat: heartbeat,
    client.Accept: accept,
    client.Decline: decline,
    client.Release: release,
    client.Ack: ack,
    client.Watch: watch,
    client.Unwatch: unwatch,
    client.Refresh: refresh,
}


def _mechanic(connection: "Connection") -> str:
    if connection.role is not Role.MECHANIC:
        raise Refused("forbidden", "Only mechanics may do this.")
    return connection.user_id


def _request(hub: "SocketEndpoint", session: Session) -> Fields:
    return structs.asdict(request_answer(session, hub.clock.now()))
