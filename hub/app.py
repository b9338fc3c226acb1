"""The composition root: puts stores, rules, loops, sockets and routes together into a node.

Nothing else imports `persistence`.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import uvicorn

from hub import __version__
from hub.api.application import http_application
from hub.api.customer import CustomerApi
from hub.api.mechanic import MechanicApi
from hub.api.ops import OpsApi
from hub.api.presence import PresenceApi
from hub.booking import BookingDesk
from hub.clock import StoreClock
from hub.desk import Desk
from hub.dispatch import Dispatcher, DispatchPolicy, Gate
from hub.domain.records import JournalEntry
from hub.identity import TokenVerifier
from hub.loops.bus_listener import BusListener
from hub.loops.journal_writer import JournalWriter
from hub.loops.kept import KeptTail
from hub.loops.node_lease import NodeLease
from hub.loops.presence_mirror import PresenceMirror
from hub.loops.ranks import Ranks
from hub.loops.reconciler import Reconciler
from hub.loops.recovery import Recovery
from hub.loops.sweeper import Sweeper
from hub.metrics import Metrics
from hub.settings import Settings, SettingsError
from hub.sockets.endpoint import Receive, Scope, Send, SocketEndpoint, SocketLimits
from hub.sockets.fanout import Fanout
from hub.sockets.hearing import Hearing
from hub.sockets.protocol import UpgradeGate, protocol_class
from hub.sockets.registry import Registry
from hub.sockets.server import HubServer
from hub.wire import hints
from hub.wire.announce import Announcer
from hub.wire.hints import Hint
from persistence.embedded import EmbeddedPostgres, EmbeddedStoreError, EmbeddedValkey
from persistence.postgres.census import Census
from persistence.postgres.demo import load_demo
from persistence.postgres.directory import PostgresDirectory
from persistence.postgres.migrate import MigrationError, Migrator
from persistence.postgres.pool import Postgres
from persistence.postgres.record import PostgresRecord
from persistence.redis.bus import RedisBus
from persistence.redis.client import RedisClient
from persistence.redis.journal import RedisJournal
from persistence.redis.presence import RedisPresence
from persistence.redis.sessions import RedisSessions

__all__ = [
    "EmbeddedPostgres",
    "EmbeddedStoreError",
    "EmbeddedValkey",
    "MigrationError",
    "Node",
    "census",
    "flag_store",
    "load_demo",
    "migrator",
]

logger = logging.getLogger("hub.app")

_STOP_S = 2.0


class Node:
    """One node of the hub. Every node is equal; any number may run over the same stores."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.id = f"{socket.gethostname()[:24]}-{os.getpid()}-{secrets.token_hex(2)}"
        self.metrics = Metrics()
        self.clock = StoreClock()
        self.registry = Registry()
        self.upgrades = UpgradeGate()
        self._ranks = Ranks(self.id, settings.shards)
        self._kept = KeptTail(settings.shards)
        self._tasks: list[asyncio.Task[None]] = []
        self._make_stores()
        self._make_rules()
        self._make_sockets()
        self._make_loops()
        self.http = self._make_http()

    def _make_stores(self) -> None:
        settings = self.settings
        self._redis = RedisClient(settings.redis_url)
        self.sessions = RedisSessions(self._redis, settings.shards)
        self.presence = RedisPresence(self._redis, settings.shards)
        self.journal = RedisJournal(self._redis, settings.shards)
        self._bus = RedisBus(self._redis, settings.shards)
        self.postgres = Postgres(settings.postgres_url)
        self.directory = PostgresDirectory(
            self.postgres, on_change=self._directory_changed, on_orphan=self._orphan_reported
        )
        self.record = PostgresRecord(self.postgres, orphan_ms=_ms(settings.orphan_seconds))

    def _make_rules(self) -> None:
        settings = self.settings
        self.gate = Gate()
        self._announcer = Announcer(self.directory.name_of)
        self.dispatcher = Dispatcher(
            sessions=self.sessions,
            presence=self.presence,
            directory=self.directory,
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
        self.desk = Desk(dispatcher=self.dispatcher, record=self.record)
        self.booking = BookingDesk(
            dispatcher=self.dispatcher,
            directory=self.directory,
            record=self.record,
            default_window_ms=_ms(settings.priority_window_seconds),
        )
        self.verifier = TokenVerifier(
            secret=settings.jwt_secret,
            jwks_url=settings.jwks_url,
            audience=settings.jwt_audience,
            role_claim=settings.jwt_role_claim,
        )

    def _make_sockets(self) -> None:
        settings = self.settings
        self.endpoint = SocketEndpoint(
            node=self.id,
            registry=self.registry,
            dispatcher=self.dispatcher,
            desk=self.desk,
            presence=self.presence,
            directory=self.directory,
            verifier=self.verifier,
            bus=self._bus,
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
            desk=self.desk,
            announcer=self._announcer,
            clock=self.clock,
            spawn=self.endpoint.spawn,
            sent=self.metrics.frames.inc,
        )

    def _make_loops(self) -> None:
        self.sweeper = Sweeper(
            dispatcher=self.dispatcher,
            ranks=self._ranks,
            clock=self.clock,
            late=self.metrics.late,
            alarm=self.metrics.alarm,
        )
        self.writer = JournalWriter(
            journal=self.journal,
            sessions=self.sessions,
            record=self.record,
            ranks=self._ranks,
            wrote=self.metrics.journalled.inc,
            alarm=self.metrics.alarm,
        )
        self.mirror = PresenceMirror(record=self.record, ranks=self._ranks, shards=self.settings.shards)
        hearing = Hearing(
            node=self.id,
            fanout=self._fanout,
            registry=self.registry,
            dispatcher=self.dispatcher,
            on_due=self.sweeper.wake,
            on_recorded=self._kept.recorded,
            on_presence=self.mirror.note,
        )
        self.listener = BusListener(bus=self._bus, heard=hearing.heard, resync=hearing.resync)
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
        )
        self.recovery = Recovery(
            gate=self.gate,
            sessions=self.sessions,
            record=self.record,
            kept=self._kept,
            announce_all=self.endpoint.announce_all,
            warn_others=self._warn_others,
        )
        self.reconciler = Reconciler(
            dispatcher=self.dispatcher,
            record=self.record,
            journal=self.journal,
            ranks=self._ranks,
            gate=self.gate,
            mended=self.metrics.mend,
        )

    def _make_http(self) -> Any:
        self.metrics.watch(connections=lambda: len(self.registry), kept=lambda: len(self._kept))
        routes = [
            *CustomerApi(
                booking=self.booking, desk=self.desk, directory=self.directory, clock=self.clock
            ).routes(),
            *MechanicApi(desk=self.desk, clock=self.clock).routes(),
            *PresenceApi(presence=self.presence, directory=self.directory).routes(),
            *OpsApi(obstacles=self.obstacles, metrics=self.metrics.registry, node=self.id).routes(),
        ]
        return http_application(routes, verifier=self.verifier, origins=self.settings.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and scope["path"] == "/ws":
            await self.endpoint(scope, receive, send)
        else:
            await self.http(scope, receive, send)

    def obstacles(self) -> list[str]:
        """What keeps this node from being ready."""
        found = {
            "recovering": not self.gate.is_open,
            "deaf": not self.listener.listening.is_set(),
            "draining": self.upgrades.refusing,
        }
        return [name for name, holds in found.items() if holds]

    async def start(self) -> None:
        """Start the loops; raises `SettingsError` where the stores hold data laid out in another way."""
        await self.postgres.connect()
        stored = await self.presence.agree_on_shards()
        if stored != self.settings.shards:
            raise SettingsError(
                f"HUB_SHARDS is {self.settings.shards}, but the data in Redis has {stored} shards."
            )
        await self.lease.step()
        for loop in (
            self.directory.run(),
            self.recovery.run(),
            self.listener.run(),
            self.lease.run(),
            self.sweeper.run(),
            self.writer.run(),
            self.reconciler.run(),
            self.mirror.run(),
        ):
            self._tasks.append(asyncio.create_task(_supervised(loop)))

    async def stop(self) -> None:
        """After the last socket: say goodbye in the stores, write what is left, let go."""
        await self.endpoint.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(_STOP_S):
                await self.writer.flush()
                if not await self.presence.connections_of(self.id):
                    await self.presence.forget_node(self.id)
        except Exception as error:
            logger.warning("goodbye_incomplete", extra={"error": type(error).__name__})
        await self._redis.close()
        await self.postgres.close()

    def server(self, *, drain_seconds: float) -> HubServer:
        settings = self.settings
        config = uvicorn.Config(
            self,
            http="httptools",
            ws=protocol_class(
                max_message=settings.max_message_bytes,
                max_outbox=settings.max_outbox_bytes,
                gate=self.upgrades,
            ),
            loop="uvloop",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws_ping_interval=settings.ping_interval_seconds,
            ws_ping_timeout=settings.ping_timeout_seconds,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=2,
            backlog=4096,
        )
        return HubServer(config, registry=self.registry, gate=self.upgrades, drain_seconds=drain_seconds)

    async def _warn_others(self) -> bool:
        """Tell the other nodes that data was lost; whether there are any."""
        await self._bus.publish(0, hints.encode(Hint(loss=True)))
        return len(self.lease.nodes) > 1

    def _committed(self, entry: JournalEntry) -> None:
        self._kept.keep(entry)
        self.writer.committed(entry)

    def _orphan_reported(self, session_id: str) -> None:
        self.reconciler.orphan_reported(session_id)

    def _directory_changed(self, table: str, key: str | None) -> None:
        if table == "mechanics":
            self.endpoint.mechanics_changed([key] if key else self.registry.mechanics())


async def _supervised(loop: Coroutine[Any, Any, None]) -> None:
    try:
        await loop
    except Exception:
        logger.critical("loop_died", exc_info=True)
        raise


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


# What the commands need of the stores


def census(postgres_url: str) -> Census:
    """People and rows, for simulations."""
    return Census(postgres_url)


def migrator(postgres_url: str) -> Migrator:
    return Migrator(postgres_url)


@contextlib.asynccontextmanager
async def flag_store(postgres_url: str) -> AsyncIterator[PostgresDirectory]:
    """Flags read and written directly, without a node."""
    postgres = Postgres(postgres_url)
    await postgres.connect()
    try:
        yield PostgresDirectory(postgres)
    finally:
        await postgres.close()
