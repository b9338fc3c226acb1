"""A node: rules, loops, sockets and routes put together over whatever stores it is given."""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

from hub import __version__
from hub.api.administration import administration
from hub.api.application import http_application
from hub.api.ops import OpsApi
from hub.api.people import people
from hub.api.stripe import StripeApi
from hub.booking import BookingDesk
from hub.checkout import CheckoutDesk
from hub.clock import StoreClock
from hub.desk import Desk
from hub.dispatch import Dispatcher, DispatchPolicy, Gate
from hub.domain.model import Session, Status
from hub.domain.records import JournalEntry
from hub.identity import TokenVerifier
from hub.loops.bus_listener import BusListener
from hub.loops.canary import Canary
from hub.loops.inbox import LeftEvents
from hub.loops.journal_writer import JournalWriter
from hub.loops.kept import KeptTail
from hub.loops.lifetime import end, supervised
from hub.loops.node_lease import NodeLease
from hub.loops.presence_mirror import PresenceMirror
from hub.loops.ranks import Ranks
from hub.loops.reconciler import Reconciler
from hub.loops.recovery import Recovery
from hub.loops.refunds import Refunds
from hub.loops.sweeper import Sweeper
from hub.metrics import Metrics
from hub.ports import Stores
from hub.settings import Settings, SettingsError
from hub.sockets.endpoint import Receive, Scope, Send, SocketEndpoint, SocketLimits
from hub.sockets.fanout import Fanout
from hub.sockets.hearing import Hearing
from hub.sockets.presence_copy import PresenceCopy
from hub.sockets.protocol import UpgradeGate, protocol_class
from hub.sockets.registry import Registry
from hub.sockets.server import HubServer, server_config
from hub.wire import hints
from hub.wire.announce import Announcer
from hub.wire.hints import Hint, PresenceChange, Remembered, Word
from hub.wire.http import Obstacle

logger = logging.getLogger("hub.node")

_STOP_S = 2.0
_LATE_S = 4.0
"""A node that has not said by then what it remembers is as good as dead."""
_REQUESTS_A_MESSAGE = 10
"""How many HTTP requests a user may make in the time of one message: apps that poll have no socket."""


class MakeStores(Protocol):
    """`on_change` is told which row of a table has changed, `on_orphan` which session the record expired."""

    def __call__(
        self, *, on_change: Callable[[str, str | None], None], on_orphan: Callable[[str], None]
    ) -> Stores: ...


class Node:
    """One node of the hub. Every node is equal; any number may run over the same stores."""

    def __init__(self, settings: Settings, make_stores: MakeStores) -> None:
        self.settings = settings
        self._stores = make_stores(
            on_change=self._directory_changed,
            on_orphan=lambda session_id: self.reconciler.orphan_reported(session_id),
        )
        self.id = f"{socket.gethostname()[:24]}-{os.getpid()}-{secrets.token_hex(2)}"
        self.metrics = Metrics()
        self.clock = StoreClock()
        self.registry = Registry()
        self.upgrades = UpgradeGate()
        self._ranks = Ranks(self.id, settings.shards)
        self._kept = KeptTail(settings.shards)
        self._tasks: list[asyncio.Task[None]] = []
        self._make_rules()
        self._make_sockets()
        self._make_loops()
        self._make_keepers()
        self.http = self._make_http()

    def _make_rules(self) -> None:
        settings, stores = self.settings, self._stores
        self.gate = Gate()
        self._announcer = Announcer()
        self.dispatcher = Dispatcher(
            sessions=stores.sessions,
            presence=stores.presence,
            directory=stores.directory,
            announcements=self._announcer,
            clock=self.clock,
            gate=self.gate,
            policy=DispatchPolicy(
                notify_timeout_ms=_ms(settings.notify_timeout_seconds),
                orphan_ms=_ms(settings.orphan_seconds),
                capacity=settings.mechanic_capacity,
                journal_max=max(1, settings.journal_max // settings.shards),
            ),
            on_commit=self._committed,
            on_event=self.metrics.event,
        )
        self.desk = Desk(dispatcher=self.dispatcher, record=stores.record)
        self.booking = BookingDesk(
            dispatcher=self.dispatcher,
            directory=stores.directory,
            record=stores.record,
            ledger=stores.ledger,
            default_window_seconds=settings.priority_window_seconds,
        )
        self.checkout = CheckoutDesk(
            inbox=stores.inbox,
            booking=self.booking,
            record=stores.record,
            alarm=self.metrics.alarm,
        )
        self.verifier = TokenVerifier(
            secret=settings.jwt_secret,
            jwks_url=settings.jwks_url,
            audience=settings.jwt_audience,
            role_claim=settings.jwt_role_claim,
            now=lambda: self.clock.now() / 1000,
        )

    def _make_sockets(self) -> None:
        settings, stores = self.settings, self._stores
        self.endpoint = SocketEndpoint(
            node=self.id,
            registry=self.registry,
            dispatcher=self.dispatcher,
            desk=self.desk,
            presence=stores.presence,
            directory=stores.directory,
            verifier=self.verifier,
            bus=stores.bus,
            clock=self.clock,
            limits=SocketLimits(
                hello_timeout_s=settings.hello_timeout_seconds,
                ping_interval_s=settings.ping_interval_seconds,
                messages_per_second=settings.messages_per_second,
                connections_per_user=settings.connections_per_user,
                grace_ms=_ms(settings.offline_grace_seconds),
                origins=settings.allowed_origins,
            ),
        )
        self._fanout = Fanout(
            registry=self.registry,
            dispatcher=self.dispatcher,
            announcer=self._announcer,
            clock=self.clock,
            spawn=self.endpoint.spawn,
            sent=self.metrics.frames.inc,
        )

    def _make_loops(self) -> None:
        stores = self._stores
        self.sweeper = Sweeper(
            dispatcher=self.dispatcher,
            ranks=self._ranks,
            clock=self.clock,
            late=self.metrics.late,
            alarm=self.metrics.alarm,
        )
        self.writer = JournalWriter(
            journal=stores.journal,
            live=stores.live,
            record=stores.record,
            ranks=self._ranks,
            wrote=self.metrics.journalled.inc,
            alarm=self.metrics.alarm,
        )
        self.mirror = PresenceMirror(record=stores.record, ranks=self._ranks, shards=self.settings.shards)
        self._presence_copy = PresenceCopy(stores.presence, hears=self._hears)
        hearing = Hearing(
            node=self.id,
            fanout=self._fanout,
            registry=self.registry,
            dispatcher=self.dispatcher,
            on_due=self.sweeper.wake,
            on_recorded=self._kept.recorded,
            on_remembered=lambda node, ahead: self.recovery.remembered(node, ahead),
            on_joined=lambda node: self.lease.met(node),
            on_presence=self._presence_changed,
            on_canary=lambda shard, turn: self.canary.heard(shard, turn),
        )
        self.listener = BusListener(
            bus=stores.bus, heard=hearing.heard, resync=hearing.resync, glance=hearing.glance
        )
        self.canary = Canary(
            speak=lambda shard, turn: stores.bus.publish(
                shard, hints.encode(Hint(canary=Word(shard=shard, turn=turn)), self.id)
            ),
            shards=self.settings.shards,
            listener=self.listener,
            alarm=self.metrics.alarm,
        )
        self.lease = NodeLease(
            node=self.id,
            facts={
                "host": socket.gethostname(),
                "pid": str(os.getpid()),
                "version": __version__,
                "started_at": str(time.time_ns() // 1_000_000),
            },
            dispatcher=self.dispatcher,
            ranks=self._ranks,
            clock=self.clock,
            lease_ms=_ms(self.settings.node_lease_seconds),
            grace_ms=_ms(self.settings.offline_grace_seconds),
            announce_all=self.endpoint.announce_all,
            greet=lambda: self._tell_nodes(Hint(joined=self.id)),
        )

    def _make_keepers(self) -> None:
        """The loops that look for what was lost or left undone."""
        stores = self._stores
        self.recovery = Recovery(
            gate=self.gate,
            live=stores.live,
            sessions=stores.sessions,
            journal=stores.journal,
            record=stores.record,
            kept=self._kept,
            others=lambda: self.lease.living() - {self.id},
            ask_others=lambda: self._tell_nodes(Hint(loss=True)),
            say=lambda ahead: self._tell_nodes(Hint(remembered=Remembered(node=self.id, ahead=ahead))),
            announce_all=self.endpoint.announce_all,
            announce=self._announce_restored,
            wait_s=max(self.settings.node_lease_seconds, _LATE_S),
            alarm=self.metrics.alarm,
        )
        self.reconciler = Reconciler(
            dispatcher=self.dispatcher,
            record=stores.record,
            journal=stores.journal,
            survey=stores.survey,
            ranks=self._ranks,
            gate=self.gate,
            mended=self.metrics.mend,
        )
        self.left_events = LeftEvents(
            inbox=stores.inbox, handle=self.checkout.handle, alarm=self.metrics.alarm
        )
        self.refunds = Refunds(
            ledger=stores.ledger,
            sessions=stores.sessions,
            journal=stores.journal,
            ranks=self._ranks,
            gate=self.gate,
            mended=self.metrics.mend,
        )

    def _make_http(self) -> Any:
        stores = self._stores
        self.metrics.watch(connections=lambda: len(self.registry), kept=lambda: len(self._kept))
        operations = [
            *people(
                stores=stores,
                booking=self.booking,
                desk=self.desk,
                clock=self.clock,
                capacity=self.settings.mechanic_capacity,
                presence=self._presence_copy.states,
            ),
            *StripeApi(
                checkout=self.checkout,
                inbox=stores.inbox,
                clock=self.clock,
                secrets=self.settings.stripe_webhook_secrets,
            ).operations(),
            *administration(
                dispatcher=self.dispatcher,
                history=stores.history,
                switches=stores.switches,
                inspection=stores.inspection,
                analytics=stores.analytics,
                clock=self.clock,
                default_window_seconds=self.settings.priority_window_seconds,
                journal_max=self.settings.journal_max,
                mended=lambda: self.reconciler.recent,
            ),
            *OpsApi(obstacles=self.obstacles, metrics=self.metrics.registry, node=self.id).operations(),
        ]
        return http_application(
            operations,
            verifier=self.verifier,
            clock=self.clock,
            origins=self.settings.allowed_origins,
            requests_per_second=self.settings.messages_per_second * _REQUESTS_A_MESSAGE,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and scope["path"] == "/ws":
            await self.endpoint(scope, receive, send)
        else:
            await self.http(scope, receive, send)

    def _hears(self) -> bool:
        """Whether what is said on the bus is heard here, and what is in the stores is the truth."""
        return self.gate.is_open and self.listener.listening.is_set() and not self.canary.deaf

    def obstacles(self) -> list[Obstacle]:
        """What keeps this node from being ready."""
        found: dict[Obstacle, bool] = {
            "recovering": not self.gate.is_open,
            "deaf": self.canary.deaf or not self.listener.listening.is_set(),
            "draining": self.upgrades.refusing,
        }
        return [name for name, holds in found.items() if holds]

    async def start(self) -> None:
        """Start the loops; raises `SettingsError` where the stores hold data laid out in another way."""
        await self._stores.open()
        stored = await self._stores.presence.agree_on_shards()
        if stored != self.settings.shards:
            raise SettingsError(
                f"HUB_SHARDS is {self.settings.shards}, but the data in Redis has {stored} shards."
            )
        await self.lease.step()
        for loop in (
            self._stores.follow(),
            self.recovery.run(),
            self.listener.run(),
            self.canary.run(),
            self.lease.run(),
            self.sweeper.run(),
            self.writer.run(),
            self.reconciler.run(),
            self.refunds.run(),
            self.mirror.run(),
            self.left_events.run(),
        ):
            self._tasks.append(asyncio.create_task(supervised(loop)))

    async def stop(self) -> None:
        """After the last socket: say goodbye in the stores, write what is left, let go."""
        await self.endpoint.stop()
        await end(self._tasks)
        last = {"journal": self.writer.flush, "lease": self._give_lease_back, "stores": self._stores.close}
        for what, goodbye in last.items():
            try:
                async with asyncio.timeout(_STOP_S):
                    await goodbye()
            except Exception as error:
                logger.warning("goodbye_incomplete", extra={"what": what, "error": type(error).__name__})

    async def _give_lease_back(self) -> None:
        """Not over connections whose goodbyes failed: others take those away when it runs out."""
        if not await self._stores.presence.connections_of(self.id):
            await self._stores.presence.forget_node(self.id)

    def server(self, *, drain_seconds: float) -> HubServer:
        settings = self.settings
        config = server_config(
            self,
            protocol_class(
                max_message=settings.max_message_bytes,
                max_outbox=settings.max_outbox_bytes,
                gate=self.upgrades,
                ping_interval_s=settings.ping_interval_seconds,
                ping_timeout_s=settings.ping_timeout_seconds,
            ),
        )
        return HubServer(config, registry=self.registry, gate=self.upgrades, drain_seconds=drain_seconds)

    async def _tell_nodes(self, hint: Hint) -> None:
        await self._stores.bus.publish(0, hints.encode(hint))

    async def _announce_restored(self, session: Session) -> None:
        """Whoever is offered it may have a connection elsewhere."""
        if session.offered_to is not None:
            await self.dispatcher.mechanic_moved(session.offered_to)

    def _committed(self, entry: JournalEntry) -> None:
        self._kept.keep(entry)
        self.writer.committed(entry)

    def _presence_changed(self, change: PresenceChange) -> None:
        self._presence_copy.note(change)
        self.mirror.note(change.mechanic_id, change.status is not Status.OFFLINE, change.last_seen)

    def _directory_changed(self, table: str, key: str | None) -> None:
        if table == "mechanics":
            self.endpoint.mechanics_changed([key] if key else self.registry.mechanics())


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
