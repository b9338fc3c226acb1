"""The composition root: gives nodes and commands their stores. Nothing else imports `persistence`."""

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

from hub.node import Node
from hub.ports import Stores
from hub.settings import Settings
from persistence.embedded import EmbeddedPostgres, EmbeddedStoreError, EmbeddedValkey
from persistence.postgres.analytics import PostgresAnalytics
from persistence.postgres.census import Census
from persistence.postgres.demo import load_demo
from persistence.postgres.directory import PostgresDirectory
from persistence.postgres.favorites import PostgresFavorites
from persistence.postgres.inbox import PostgresInbox
from persistence.postgres.ledger import PostgresLedger
from persistence.postgres.legacy import OlderTable, OlderTableError
from persistence.postgres.migrate import MigrationError, Migrator
from persistence.postgres.pool import Postgres
from persistence.postgres.record import PostgresRecord
from persistence.postgres.statistics import PostgresStatistics
from persistence.redis.bus import RedisBus
from persistence.redis.client import RedisClient
from persistence.redis.inspection import RedisInspection
from persistence.redis.journal import RedisJournal
from persistence.redis.live import RedisLive
from persistence.redis.presence import RedisPresence
from persistence.redis.sessions import RedisSessions
from persistence.redis.survey import RedisSurvey

__all__ = [
    "EmbeddedPostgres",
    "EmbeddedStoreError",
    "EmbeddedValkey",
    "MigrationError",
    "Node",
    "OlderTableError",
    "analytics_store",
    "census",
    "flag_store",
    "load_demo",
    "migrator",
    "older_table",
]


def node(settings: Settings) -> Node:
    """One node of the hub, over Redis and Postgres."""
    return Node(settings, partial(_stores, settings))


def _stores(
    settings: Settings,
    *,
    on_change: Callable[[str, str | None], None],
    on_orphan: Callable[[str], None],
) -> Stores:
    redis = RedisClient(settings.redis_url, settings.redis_wait)
    postgres = Postgres(settings.postgres_url)
    directory = PostgresDirectory(postgres, on_change=on_change, on_orphan=on_orphan)
    record = PostgresRecord(postgres, orphan_ms=round(settings.orphan_seconds * 1000))
    presence = RedisPresence(redis, settings.shards)

    async def close() -> None:
        await redis.close()
        await postgres.close()

    return Stores(
        sessions=RedisSessions(redis, settings.shards),
        live=RedisLive(redis, settings.shards),
        presence=presence,
        journal=RedisJournal(redis, settings.shards),
        bus=RedisBus(redis, settings.shards),
        survey=RedisSurvey(redis, settings.shards),
        inspection=RedisInspection(redis, settings.shards),
        directory=directory,
        switches=directory,
        record=record,
        history=record,
        ledger=PostgresLedger(postgres),
        inbox=PostgresInbox(postgres),
        favorites=PostgresFavorites(postgres, directory),
        statistics=PostgresStatistics(postgres),
        analytics=PostgresAnalytics(postgres),
        open=postgres.connect,
        follow=directory.run,
        close=close,
    )


# What the commands need of the stores


def census(postgres_url: str) -> Census:
    """People and rows, for simulations."""
    return Census(postgres_url)


def migrator(postgres_url: str) -> Migrator:
    return Migrator(postgres_url)


def older_table(postgres_url: str) -> OlderTable:
    return OlderTable(postgres_url)


@contextlib.asynccontextmanager
async def flag_store(postgres_url: str) -> AsyncIterator[PostgresDirectory]:
    """Flags read and written directly, without a node."""
    async with _connected(postgres_url) as postgres:
        yield PostgresDirectory(postgres)


@contextlib.asynccontextmanager
async def analytics_store(postgres_url: str) -> AsyncIterator[PostgresAnalytics]:
    async with _connected(postgres_url) as postgres:
        yield PostgresAnalytics(postgres)


@contextlib.asynccontextmanager
async def _connected(postgres_url: str) -> AsyncIterator[Postgres]:
    postgres = Postgres(postgres_url)
    await postgres.connect()
    try:
        yield postgres
    finally:
        await postgres.close()
