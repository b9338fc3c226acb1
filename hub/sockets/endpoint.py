"""The ASGI endpoint of `/ws`: lets sockets in, greets them with all that is open, and sees them off."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from typing import Any

from msgspec import UNSET, Struct

from hub.desk import Desk
from hub.dispatch import Dispatcher
from hub.domain.errors import HubError, Refused, StoreFailed, Unavailable
from hub.domain.model import Mechanic, Role, Status
from hub.identity import Identity, TokenVerifier, bearer
from hub.limiter import Allowances, Bucket
from hub.ports import Bus, Clock, Directory, PresenceStore
from hub.sockets.connection import Connection
from hub.sockets.door import Door
from hub.sockets.protocol import EXTENSION, HubProtocol
from hub.sockets.registry import Registry
from hub.sockets.requests import REQUESTS
from hub.wire import client, codec, hints
from hub.wire.closing import Close
from hub.wire.hints import Hint
from hub.wire.server import ErrorBody, Welcome
from hub.wire.views import QueueItem, queue_item, rfc3339

logger = logging.getLogger("hub.sockets")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_TOUCH_S = 5.0
_IN_A_TURN = 4
_GOODBYES = 16
"""At once: the store has other things to do than to forget those who were cut off together."""
_RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)


class SocketLimits(Struct, frozen=True, kw_only=True):
    hello_timeout_s: float = 5
    ping_interval_s: float = 10
    messages_per_second: float = 20
    connections_per_user: int = 5
    grace_ms: int = 15_000
    origins: tuple[str, ...] = ()


class SocketEndpoint:
    def __init__(
        self,
        *,
        node: str,
        registry: Registry,
        dispatcher: Dispatcher,
        desk: Desk,
        presence: PresenceStore,
        directory: Directory,
        verifier: TokenVerifier,
        bus: Bus,
        clock: Clock,
        limits: SocketLimits,
    ) -> None:
        self.node = node
        self.registry = registry
        self.desk = desk
        self.presence = presence
        self.verifier = verifier
        self.clock = clock
        self._dispatcher = dispatcher
        self._directory = directory
        self._bus = bus
        self._limits = limits
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._allowances = Allowances(limits.messages_per_second, time.monotonic)
        self._door = Door(_IN_A_TURN)
        self._goodbyes = asyncio.Semaphore(_GOODBYES)
        self._changed: set[str] = set()
        self._catching_up: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = _headers(scope)
        if not origin_allowed(headers.get(b"origin"), headers.get(b"host", ""), self._limits.origins):
            await send({"type": "websocket.close", "code": 1008})
            return
        offered = scope["subprotocols"]
        chosen = next((name for name in offered if name in codec.SUBPROTOCOLS), None)
        protocol: HubProtocol = scope["extensions"][EXTENSION]
        await send({"type": "websocket.accept", "subprotocol": chosen})
        connection = Connection(
            self,
            protocol,
            binary=chosen == codec.MSGPACK,
            bucket=Bucket(self._limits.messages_per_second, time.monotonic),
            hello_timeout=self._limits.hello_timeout_s,
            header_token=bearer(headers.get(b"authorization")),
        )
        protocol.attach(connection)

    # Joining and leaving

    async def join(self, connection: Connection, hello: client.Hello) -> None:
        await self._door.passed()
        if not connection.lost:
            await self._let_in(connection, hello)

    async def _let_in(self, connection: Connection, hello: client.Hello) -> None:
        try:
            identity = await self._admit(connection, hello)
            if identity is None:
                return
            self.identify(connection, identity)
            if not connection.bucket.take():
                connection.refuse(Refused("too_fast", "Too many messages."), Close.TOO_FAST)
                return
            await self._enter(connection, hello.status or Status.ONLINE)
            items, more = await self._everything_open(connection)
        except Unavailable as error:
            connection.refuse(error, Close.RESTARTING)
            return
        except Exception:
            connection.close(Close.RESTARTING, "internal")
            raise
        if connection.lost:
            return
        self.registry.joined(connection)
        connection.welcome(
            Welcome(
                connection_id=connection.id,
                user_id=connection.user_id,
                role=connection.role,
                server_time=rfc3339(self.clock.now()),
                heartbeat_seconds=round(self._limits.ping_interval_s),
                assignments=items,
                more=True if more else UNSET,
            )
        )
        if any(item.priority for item in items):
            await self._insist(lambda: self._dispatcher.mechanic_moved(connection.user_id))

    def identify(self, connection: Connection, identity: Identity) -> None:
        connection.identity = identity
        connection.bucket = self._allowances.of(identity.user_id)
        connection.expire_in(max(0.0, identity.expires_at - self.clock.now() / 1000))

    async def announce(self, connection: Connection, status: Status | None, *, again: bool = False) -> None:
        """Enter the connection into the shared presence, with a status or keeping the one there is; `again`
        where it has been there before, and may have yielded without hearing of it."""
        mechanic = connection.role is Role.MECHANIC
        arrival = await self.presence.connect(
            connection.user_id,
            connection.id,
            self.node,
            status=status,
            mechanic=mechanic,
            limit=self._limits.connections_per_user,
            again=again,
        )
        self.clock.learn(arrival.now)
        here = len(self.registry.of_user(connection.user_id))
        connection.bucket.share = min(1.0, here / max(1, arrival.connections))
        if connection.lost:
            # Its goodbye may have come before: nobody else would ever take it away again.
            await self.presence.disconnect(
                connection.user_id, connection.id, self.node, grace_ms=self._limits.grace_ms
            )
        elif mechanic and self.registry.status(connection.user_id) is None:
            # Later changes come in order over the bus.
            self.registry.set_status(connection.user_id, Status(arrival.status))
        shard = self.presence.shard(connection.user_id)
        for yielded, node in arrival.yielded:
            await self._bus.publish(shard, hints.encode(Hint(yielded=yielded), node))

    async def announce_all(self) -> None:
        """Enter all connections again, jittered: the store has forgotten them."""
        members = [member for member in self.registry.members() if isinstance(member, Connection)]
        for member in members:
            member.touched = 0.0
            self.spawn(self._announce_again(member, random.uniform(0, min(2.0, len(members) / 1000))))

    async def _announce_again(self, connection: Connection, delay: float) -> None:
        await asyncio.sleep(delay)
        mechanic = connection.role is Role.MECHANIC
        status = self.registry.chosen(connection.user_id) if mechanic else None

        async def work() -> None:
            if not connection.lost:
                await self.announce(connection, status, again=True)
                if mechanic:
                    await self._dispatcher.mechanic_moved(connection.user_id)

        await self._insist(work)

    def mechanics_changed(self, mechanic_ids: Iterable[str]) -> None:
        """The marketplace approved, suspended or renamed them."""
        for mechanic_id in mechanic_ids:
            if self.registry.of_user(mechanic_id):
                self.spawn(self._look_up(mechanic_id))
            else:
                self._changed.add(mechanic_id)
        # Nobody is in a hurry for those who are not here, and there may be very many of them.
        if self._changed and (self._catching_up is None or self._catching_up.done()):
            self._catching_up = self.spawn(self._look_up_the_changed())

    async def _look_up_the_changed(self) -> None:
        while self._changed:
            await self._look_up(self._changed.pop())

    async def _look_up(self, mechanic_id: str) -> None:
        try:
            mechanic = await self._directory.mechanic(mechanic_id)
        except StoreFailed:
            self.registry.set_approved(mechanic_id, False)
            return
        self.registry.set_approved(mechanic_id, mechanic is not None and mechanic.approved)
        if mechanic is not None and mechanic.approved:
            return
        if mechanic is not None and mechanic.suspended:
            self._shut_out(mechanic_id)
        await self._insist(lambda: self._dispatcher.mechanic_left(mechanic_id, barred=True))

    def _shut_out(self, mechanic_id: str) -> None:
        for member in list(self.registry.of_user(mechanic_id)):
            member.close(Close.FORBIDDEN, "This mechanic is suspended.")

    async def _admit(self, connection: Connection, hello: client.Hello) -> Identity | None:
        token = hello.token or connection.header_token
        connection.header_token = None
        try:
            if token is None:
                raise Refused("unauthorized", "A token is needed.")
            identity = await self.verifier.verify(token)
        except Refused as error:
            connection.refuse(error, Close.NOT_AUTHENTICATED)
            return None
        if identity.role is Role.SERVICE:
            connection.refuse(Refused("forbidden", "Services use HTTP."), Close.FORBIDDEN)
            return None
        if identity.role is Role.MECHANIC:
            mechanic = await self._known(identity.user_id)
            if mechanic is not None and mechanic.suspended:
                connection.refuse(Refused("forbidden", "This mechanic is suspended."), Close.FORBIDDEN)
                return None
        return identity

    async def _enter(self, connection: Connection, status: Status) -> None:
        if connection.lost:
            return
        self.registry.add(connection)
        if connection.role is Role.MECHANIC:
            self.registry.choose(connection.user_id, status)
        connection.touched = asyncio.get_running_loop().time()
        await self.announce(connection, status)
        if connection.role is Role.MECHANIC:
            mechanic = await self._known(connection.user_id)
            self.registry.set_approved(connection.user_id, mechanic is not None and mechanic.approved)
            if mechanic is not None and mechanic.suspended:
                self._shut_out(connection.user_id)

    async def _known(self, mechanic_id: str) -> Mechanic | None:
        """A mechanic who connects while Postgres is away is let in; what they may do is looked up when it is
        back, since the directory then tells of everyone."""
        with contextlib.suppress(StoreFailed):
            return await self._directory.mechanic(mechanic_id)
        return None

    async def _everything_open(self, connection: Connection) -> tuple[list[QueueItem], bool]:
        user_id, now = connection.user_id, self.clock.now()
        if connection.role is Role.MECHANIC:
            queue = await self.desk.queue(user_id)
            for session in queue.sessions:
                self.registry.note_told(session.assignment_id, user_id)
            return [queue_item(session, now, user_id) for session in queue.sessions], queue.next is not None
        if connection.role is Role.CUSTOMER:
            mine = await self.desk.active_session(user_id)
            return ([queue_item(mine, now)] if mine else []), False
        return [], False

    def lost(self, connection: Connection) -> None:
        if self.registry.remove(connection) or connection.entered is not None:
            self.spawn(self._leave(connection))

    async def _leave(self, connection: Connection) -> None:
        if connection.entered is not None:
            await asyncio.wait([connection.entered])
        if connection.identity is None:
            return
        self.registry.remove(connection)
        async with self._goodbyes:
            await self._insist(lambda: self._goodbye(connection))

    async def _goodbye(self, connection: Connection) -> None:
        _, mechanic = await self.presence.disconnect(
            connection.user_id, connection.id, self.node, grace_ms=self._limits.grace_ms
        )
        if mechanic:
            await self._dispatcher.mechanic_moved(connection.user_id, lost=connection.id)

    async def _insist(self, work: Callable[[], Awaitable[None]]) -> None:
        """Until it is done: presence must come right however long a store is away."""
        attempt = 0
        while True:
            try:
                await work()
                return
            except Unavailable:
                if self._stopping and attempt >= len(_RETRY_S):
                    return
                await asyncio.sleep(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
                attempt += 1

    # While it lasts

    async def answer(self, connection: Connection, message: client.ClientMessage) -> dict[str, Any]:
        return await REQUESTS[type(message)](self, connection, message)

    def active(self, connection: Connection) -> None:
        """Activity is noted at most every few seconds, so that a chatty socket costs no more."""
        now = asyncio.get_running_loop().time()
        if connection.joined and now - connection.touched > _TOUCH_S:
            connection.touched = now
            connection.entered = self.spawn(self._touch(connection))

    async def _touch(self, connection: Connection) -> None:
        try:
            if not connection.lost:
                await self.announce(connection, None, again=True)
        except Unavailable:
            connection.touched = 0.0

    def failed(self, error: BaseException) -> ErrorBody:
        if isinstance(error, HubError):
            return codec.error_body(error)
        logger.error("request_failed", exc_info=error)
        return ErrorBody(
            code="internal", detail="Something went wrong here; nothing is known to have happened."
        )

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def stop(self) -> None:
        """Wait for goodbyes under way; what a store does not take any more is left to the lease."""
        self._stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("task_failed", exc_info=error)


def origin_allowed(origin: str | None, host: str, allowed: tuple[str, ...]) -> bool:
    """Apps send no origin; a browser's must be listed or be the hub's own."""
    own = (f"http://{host}", f"https://{host}") if host else ()
    return origin is None or origin in allowed or origin in own


def _headers(scope: Scope) -> dict[bytes, str]:
    """By name; one that comes more than once is a list, which none of those that are read here may be."""
    headers: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        text = value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers
