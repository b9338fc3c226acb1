"""Who and what there is, from memory: no booking waits for Postgres, and a change by plain SQL holds at once.

Notifications tell which entry is stale; behind them a poll reads everything known again, because one can be
missed (a disabled trigger, a lost connection). While Postgres is away the last known values are served.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

import asyncpg
import msgspec

from hub.domain.errors import StoreFailed
from hub.domain.flags import Flag
from hub.domain.ids import canonical
from hub.domain.model import Mechanic, Plan, SessionType
from persistence.postgres.cache import BatchedCache
from persistence.postgres.pool import Postgres
from persistence.postgres.query_files import load

CHANGES = "hub_changes"
ORPHANS = "hub_orphans"

_QUERIES = load("directory")
_KEYED = ("mechanics", "customer_favorites")
_WHOLE = ("feature_flags", "plans", "hub_settings")
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_PROBE_S = 5.0
_LOOK_UP_S = 2.0

log = logging.getLogger(__name__)

V = TypeVar("V")


class _Change(msgspec.Struct, frozen=True):
    table: str
    key: str | None = None


_change = msgspec.json.Decoder(_Change)


class PostgresDirectory:
    """`on_change(table, key)` is called when new values hold here (key None: any of the table), `on_orphan`
    with the id of a session that the database expired. `listening` is set while notifications arrive."""

    def __init__(
        self,
        postgres: Postgres,
        *,
        on_change: Callable[[str, str | None], None] | None = None,
        on_orphan: Callable[[str], None] | None = None,
        poll_s: float = 4.0,
        capacity: int = 50_000,
    ) -> None:
        self._postgres = postgres
        self._on_change = on_change
        self._on_orphan = on_orphan
        self._poll_s = poll_s
        self._mechanics: BatchedCache[Mechanic | None] = BatchedCache(self._read_mechanics, None, capacity)
        self._favorites: BatchedCache[tuple[str, ...]] = BatchedCache(self._read_favorites, (), capacity)
        self._tables: BatchedCache[Mapping[str, Any]] = BatchedCache(self._read_tables, {}, len(_WHOLE))
        self._seen: tuple[object, ...] | None = None
        self._heard: dict[tuple[str, str], None] = {}
        self._woken = asyncio.Event()
        self.listening = asyncio.Event()

    # Looking up

    async def mechanic(self, mechanic_id: str) -> Mechanic | None:
        key = canonical(mechanic_id)
        return await _from(self._mechanics, key) if key else None

    async def favorites(self, customer_id: str) -> tuple[str, ...]:
        """The customer's favourite mechanics, first choice first."""
        key = canonical(customer_id)
        return await _from(self._favorites, key) if key else ()

    async def plan(self, code: str) -> Plan | None:
        return (await self._table("plans", Plan)).get(code)

    async def plans(self) -> list[Plan]:
        return list((await self._table("plans", Plan)).values())

    async def flag(self, key: str) -> Flag:
        """The flag; one that nobody defined is off."""
        return (await self._table("feature_flags", Flag)).get(key) or Flag(key=key)

    async def flags(self) -> list[Flag]:
        return list((await self._table("feature_flags", Flag)).values())

    async def settings(self) -> Mapping[str, object]:
        return await self._table("hub_settings", object)

    async def set_flag(
        self,
        key: str,
        *,
        is_enabled: bool | None = None,
        enabled_for_roles: Sequence[str] | None = None,
        rollout_percentage: int | None = None,
    ) -> Flag | None:
        """Change what is given; the flag as it then is here, too. None where there is no such flag."""
        roles = None if enabled_for_roles is None else list(enabled_for_roles)
        found = await self._postgres.fetch(_QUERIES["set_flag"], key, is_enabled, roles, rollout_percentage)
        if not found:
            return None
        # The change has been made, whether or not it can be read again at once.
        with suppress(StoreFailed):
            await _promptly(self._tables.refresh(["feature_flags"]))
        return _flag(found[0])

    async def set_settings(self, values: Mapping[str, object]) -> Mapping[str, object]:
        """Change these settings; all of them as they then are here, too."""
        texts = [msgspec.json.encode(value).decode() for value in values.values()]
        await self._postgres.fetch(_QUERIES["set_settings"], list(values), texts)
        with suppress(StoreFailed):
            await _promptly(self._tables.refresh(["hub_settings"]))
        return {**await self.settings(), **values}

    async def favorites_written(self, customer_id: str) -> None:
        """Look at what this process has just written, without waiting to be told."""
        with suppress(StoreFailed):
            await _promptly(self._favorites.refresh([customer_id]))

    # Keeping up

    async def run(self) -> None:
        """Follow changes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._poll())

    async def step(self) -> None:
        """One poll: read everything known again where any of it has changed, which is mostly told before.
        Raises `StoreFailed`; what was known stays."""
        known = self._mechanics.keys(), self._favorites.keys()
        (row,) = await self._postgres.fetch(_QUERIES["digest"], *known)
        seen = (*map(len, known), row["digest"])
        if seen == self._seen:
            await self._refresh_tables()
        else:
            await self.refresh()
            self._seen = seen  # of before it was read: what changes meanwhile is another digest

    async def refresh(self) -> None:
        """Read all that is known again, and the small tables in any case."""
        mechanics, favorites, _ = await asyncio.gather(
            self._mechanics.refresh(), self._favorites.refresh(), self._refresh_tables()
        )
        for table, keys in zip(_KEYED, (mechanics, favorites), strict=True):
            for key in keys:
                self._tell(table, key)

    async def _refresh_tables(self) -> None:
        for table in await self._tables.load(_WHOLE):
            self._tell(table, None)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self.step()
            except StoreFailed as failure:
                log.warning("directory_poll_failed error=%r", failure.detail)

    async def _listen(self) -> None:
        failures = 0
        while True:
            try:
                await self._follow()
                failures = 0
            except StoreFailed as failure:
                failures = 0 if self.listening.is_set() else failures + 1
                log.warning("directory_listener_lost error=%r", failure.detail)
            finally:
                self.listening.clear()
            await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])

    async def _follow(self) -> None:
        """Apply notifications until the connection is lost."""
        async with self._postgres.own_connection(patience_s=_PROBE_S) as connection:
            connection.add_termination_listener(lambda _: self._woken.set())
            for channel in (CHANGES, ORPHANS):
                await connection.add_listener(channel, self._hear)
            # Only now: what changed before the channels were open is told by nobody else.
            await self.refresh()
            for table in (*_KEYED, *_WHOLE):
                self._tell(table, None)
            self.listening.set()
            while not connection.is_closed():
                try:
                    async with asyncio.timeout(_PROBE_S):
                        await self._woken.wait()
                except TimeoutError:
                    # A connection whose other end vanished without a word looks merely quiet.
                    await connection.execute("select 1")
                self._woken.clear()
                heard, self._heard = self._heard, {}
                await self._apply(heard)

    def _hear(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        self._heard[channel, str(payload)] = None
        self._woken.set()

    async def _apply(self, heard: Iterable[tuple[str, str]]) -> None:
        changes: dict[_Change, None] = {}
        for channel, payload in heard:
            if channel == ORPHANS:
                if self._on_orphan is not None:
                    self._on_orphan(payload)
                continue
            try:
                changes[_change.decode(payload)] = None
            except msgspec.MsgspecError:
                log.warning("directory_notification_unreadable channel=%s", channel)
        await asyncio.gather(*(self._reread(table, changes) for table in {c.table for c in changes}))
        for change in changes:
            self._tell(change.table, change.key)

    async def _reread(self, table: str, changes: Mapping[_Change, None]) -> None:
        keys = [c.key for c in changes if c.table == table]
        some = None if None in keys else [key for key in keys if key is not None]
        if table == "mechanics":
            await self._mechanics.refresh(some)
        elif table == "customer_favorites":
            await self._favorites.refresh(some)
        elif table in _WHOLE:
            await self._tables.refresh([table])

    def _tell(self, table: str, key: str | None) -> None:
        if self._on_change is not None:
            self._on_change(table, key)

    # Reading

    async def _table(self, name: str, _kind: type[V]) -> Mapping[str, V]:
        return cast("Mapping[str, V]", await _from(self._tables, name))

    async def _read_mechanics(self, ids: list[str]) -> dict[str, Mechanic | None]:
        found = await self._postgres.fetch(_QUERIES["mechanics"], ids)
        return {
            row["id"]: Mechanic(
                id=row["id"],
                name=row["name"],
                approved=row["status"] == "approved",
                suspended=row["status"] == "suspended",
                window_minutes=row["priority_window_minutes"],
            )
            for row in found
        }

    async def _read_favorites(self, ids: list[str]) -> dict[str, tuple[str, ...]]:
        found = await self._postgres.fetch(_QUERIES["favorites"], ids)
        return {row["id"]: tuple(row["mechanics"]) for row in found}

    async def _read_tables(self, names: list[str]) -> dict[str, Mapping[str, Any]]:
        return {name: await _READERS[name](self._postgres) for name in names}


async def _from(cache: BatchedCache[V], key: str) -> V:
    """What is known, which it mostly is, costs no timer."""
    return await (cache.get(key) if key in cache else _promptly(cache.get(key)))


async def _promptly(reading: Awaitable[V]) -> V:
    """Nobody waits for a server that is silent, nor behind others who do: a booking can go to everyone."""
    try:
        async with asyncio.timeout(_LOOK_UP_S):
            return await reading
    except TimeoutError as error:
        raise StoreFailed("Postgres does not answer in time.", maybe_done=True) from error


async def _plans(postgres: Postgres) -> Mapping[str, Plan]:
    return {
        row["plan_code"]: Plan(
            code=row["plan_code"],
            name=row["name"],
            session_type=SessionType(row["session_type"]),
            price_cents=row["price_cents"],
            credits=row["credits"],
            window_minutes=row["priority_window_minutes"],
            active=row["is_active"],
        )
        for row in await postgres.fetch(_QUERIES["plans"])
    }


async def _flags(postgres: Postgres) -> Mapping[str, Flag]:
    return {row["flag_key"]: _flag(row) for row in await postgres.fetch(_QUERIES["flags"])}


async def _settings(postgres: Postgres) -> Mapping[str, Any]:
    return {
        row["key"]: msgspec.json.decode(row["value"]) for row in await postgres.fetch(_QUERIES["settings"])
    }


def _flag(row: asyncpg.Record) -> Flag:
    return Flag(
        key=row["flag_key"],
        name=row["flag_name"] or "",
        description=row["description"] or "",
        is_enabled=row["is_enabled"],
        enabled_for_roles=tuple(row["enabled_for_roles"]),
        rollout_percentage=row["rollout_percentage"],
    )


_READERS = {"plans": _plans, "feature_flags": _flags, "hub_settings": _settings}
