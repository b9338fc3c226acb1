"""The directory answers from memory, hears of every change, and goes on while Postgres is away."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from hub.domain.errors import StoreFailed
from hub.domain.flags import FAVORITES_PRIORITY, Flag
from hub.domain.ids import new_id
from hub.domain.model import Mechanic
from persistence.embedded import EmbeddedPostgres
from persistence.postgres.cache import BatchedCache
from persistence.postgres.directory import PostgresDirectory
from persistence.postgres.migrate import Migrator
from persistence.postgres.pool import Postgres
from tests.postgres.databases import Connection

LIMIT_S = 20.0


class Ears:
    """What the directory tells others, to wait for."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str | None]] = []
        self._more = asyncio.Event()

    def on_change(self, table: str, key: str | None) -> None:
        self.heard.append((table, key))
        self._more.set()

    def on_orphan(self, session_id: str) -> None:
        self.on_change("orphan", session_id)

    async def until(self, table: str, key: str | None) -> None:
        async with asyncio.timeout(LIMIT_S):
            while (table, key) not in self.heard:
                self._more.clear()
                await self._more.wait()


@pytest.fixture
def connection(committed: Connection) -> Connection:
    """What it writes is seen by the pool."""
    return committed


@pytest.fixture
def ears() -> Ears:
    return Ears()


@pytest_asyncio.fixture
async def directory(postgres: Postgres, ears: Ears) -> PostgresDirectory:
    return PostgresDirectory(postgres, on_change=ears.on_change, on_orphan=ears.on_orphan)


@asynccontextmanager
async def running(directory: PostgresDirectory) -> AsyncIterator[None]:
    task = asyncio.create_task(directory.run())
    try:
        async with asyncio.timeout(LIMIT_S):
            await directory.listening.wait()
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def add_mechanic(connection: Connection, first: str = "Mia", status: str = "approved") -> str:
    mechanic_id = new_id()
    await connection.execute(
        "insert into mechanics (id, first_name, last_name, status) values ($1, $2, 'Kraft', $3)",
        mechanic_id,
        first,
        status,
    )
    return mechanic_id


async def add_customer(connection: Connection, *favorites: str) -> str:
    customer_id = new_id()
    await connection.execute("insert into customers (id) values ($1)", customer_id)
    for rank, mechanic_id in enumerate(favorites):
        await connection.execute(
            "insert into customer_favorites (customer_id, mechanic_id, rank) values ($1, $2, $3)",
            customer_id,
            mechanic_id,
            rank,
        )
    return customer_id


async def cut(connection: Connection) -> None:
    """End every other connection to this database."""
    await connection.fetch(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )


async def test_what_there_is(directory: PostgresDirectory, connection: Connection) -> None:
    mia = await add_mechanic(connection)
    bob = await add_mechanic(connection, "", "suspended")
    await connection.execute("update mechanics set priority_window_minutes = 4 where id = $1", bob)
    cora = await add_customer(connection, bob, mia)
    await connection.execute(
        """insert into hub_settings (key, value) values ('split', '[0.5, {"a": null}]')"""
    )
    assert await directory.mechanic(mia) == Mechanic(id=mia, name="Mia Kraft", approved=True)
    assert await directory.mechanic(bob) == Mechanic(
        id=bob, name="Kraft", approved=False, suspended=True, window_minutes=4
    )
    assert await directory.favorites(cora) == (bob, mia)
    assert await directory.favorites(new_id()) == ()
    assert await directory.mechanic("nonsense") is None
    assert await directory.settings() == {"split": [0.5, {"a": None}]}
    plan = await directory.plan("chat10")
    assert plan is not None
    assert (plan.name, plan.price_cents, plan.credits) == ("Quick Chat", 999, 1)
    assert await directory.plan("gold") is None
    assert [plan.code for plan in await directory.plans()] == ["free", "chat10", "video15"]
    assert [flag.key for flag in await directory.flags()] == [FAVORITES_PRIORITY]
    assert await directory.flag("UNHEARD_OF") == Flag(key="UNHEARD_OF")


async def test_a_toggle_by_plain_sql_holds_at_once(
    directory: PostgresDirectory, ears: Ears, connection: Connection
) -> None:
    async with running(directory):
        assert not (await directory.flag(FAVORITES_PRIORITY)).is_enabled
        ears.heard.clear()
        await connection.execute("update feature_flags set is_enabled = true")
        await ears.until("feature_flags", FAVORITES_PRIORITY)
        assert (await directory.flag(FAVORITES_PRIORITY)).is_enabled


async def test_changes_of_people_hold_at_once(
    directory: PostgresDirectory, ears: Ears, connection: Connection
) -> None:
    mia = await add_mechanic(connection)
    absent = new_id()
    cora = await add_customer(connection)
    async with running(directory):
        assert await directory.mechanic(absent) is None
        assert await directory.favorites(cora) == ()
        await directory.mechanic(mia)
        async with connection.transaction():
            await connection.execute("insert into mechanics (id, first_name) values ($1, 'Ann')", absent)
            await connection.execute("update mechanics set status = 'suspended' where id = $1", mia)
            await connection.execute(
                "insert into customer_favorites (customer_id, mechanic_id) values ($1, $2)", cora, mia
            )
        await ears.until("customer_favorites", cora)
        assert await directory.mechanic(absent) == Mechanic(id=absent, name="Ann", approved=False)
        suspended = await directory.mechanic(mia)
        assert suspended is not None
        assert (suspended.approved, suspended.suspended) == (False, True)
        assert await directory.favorites(cora) == (mia,)
        await connection.execute("delete from customer_favorites")
        ears.heard.clear()
        await connection.execute("truncate customer_favorites, hub_settings")
        await ears.until("customer_favorites", None)
        assert await directory.favorites(cora) == ()


async def test_a_change_without_notification_is_found_by_the_poll(
    directory: PostgresDirectory, ears: Ears, connection: Connection
) -> None:
    mia = await add_mechanic(connection)
    cora = await add_customer(connection)
    await directory.refresh()
    await directory.mechanic(mia)
    await directory.favorites(cora)
    for table in ("feature_flags", "mechanics", "customer_favorites", "plans"):
        await connection.execute(f"alter table {table} disable trigger user")
    await connection.execute("update feature_flags set is_enabled = true")
    await connection.execute("update mechanics set last_name = 'Stark'")
    await connection.execute("insert into customer_favorites values ($1, $2)", cora, mia)
    await connection.execute("update plans set price_cents = 1099 where plan_code = 'chat10'")
    assert not (await directory.flag(FAVORITES_PRIORITY)).is_enabled
    ears.heard.clear()
    await directory.step()
    assert (await directory.flag(FAVORITES_PRIORITY)).is_enabled
    assert await directory.mechanic(mia) == Mechanic(id=mia, name="Mia Stark", approved=True)
    assert await directory.favorites(cora) == (mia,)
    plan = await directory.plan("chat10")
    assert plan is not None
    assert plan.price_cents == 1099
    assert set(ears.heard) == {
        ("mechanics", mia),
        ("customer_favorites", cora),
        ("feature_flags", None),
        ("plans", None),
    }
    await directory.step()
    await connection.execute("update mechanics set last_name = 'Tully'")
    await directory.step()
    assert await directory.mechanic(mia) == Mechanic(id=mia, name="Mia Tully", approved=True)
    await connection.execute("delete from customer_favorites")
    await directory.step()
    assert await directory.favorites(cora) == ()


async def test_a_lost_listener_comes_back_and_catches_up(
    directory: PostgresDirectory, ears: Ears, connection: Connection
) -> None:
    async with running(directory):
        await connection.execute("alter table feature_flags disable trigger user")
        ears.heard.clear()
        await connection.execute("update feature_flags set is_enabled = true")
        await cut(connection)
        await ears.until("hub_settings", None)
        assert (await directory.flag(FAVORITES_PRIORITY)).is_enabled
        await connection.execute("alter table feature_flags enable trigger user")
        await connection.execute("update feature_flags set is_enabled = false")
        await ears.until("feature_flags", FAVORITES_PRIORITY)
        assert not (await directory.flag(FAVORITES_PRIORITY)).is_enabled


async def test_orphans_are_told(directory: PostgresDirectory, ears: Ears, connection: Connection) -> None:
    orphan = new_id()
    async with running(directory):
        await connection.execute("select pg_notify('hub_orphans', $1)", orphan)
        await ears.until("orphan", orphan)
        assert ears.heard[-1] == ("orphan", orphan)


async def test_an_unreadable_notification_harms_nothing(
    directory: PostgresDirectory, ears: Ears, connection: Connection
) -> None:
    async with running(directory):
        ears.heard.clear()
        await connection.execute("select pg_notify('hub_changes', 'not json')")
        await connection.execute("update feature_flags set is_enabled = true")
        await ears.until("feature_flags", FAVORITES_PRIORITY)
        assert directory.listening.is_set()


async def test_setting_a_flag(directory: PostgresDirectory, connection: Connection) -> None:
    await directory.flags()
    changed = await directory.set_flag(FAVORITES_PRIORITY, is_enabled=True, rollout_percentage=25)
    assert changed is not None
    assert (changed.is_enabled, changed.rollout_percentage) == (True, 25)
    assert changed.enabled_for_roles == ("admin", "customer")
    assert await directory.flag(FAVORITES_PRIORITY) == changed
    narrowed = await directory.set_flag(FAVORITES_PRIORITY, enabled_for_roles=["admin"])
    assert narrowed is not None
    assert (narrowed.is_enabled, narrowed.enabled_for_roles) == (True, ("admin",))
    assert await directory.set_flag("UNHEARD_OF", is_enabled=True) is None
    assert await connection.fetchval("select count(*) from feature_flags") == 1


async def test_a_node_starts_without_postgres_and_outlives_it(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    server.start()
    url, port = server.url, server.port
    try:
        await Migrator(url).up()
        connection = await asyncpg.connect(url)
        mia = await add_mechanic(connection)
        await connection.close()
        server.stop()

        ears = Ears()
        postgres = Postgres(url)
        await postgres.connect()
        directory = PostgresDirectory(postgres, on_change=ears.on_change)
        task = asyncio.create_task(directory.run())
        with pytest.raises(StoreFailed):
            await directory.flag(FAVORITES_PRIORITY)

        server = EmbeddedPostgres(tmp_path, port=port)
        server.start()
        async with asyncio.timeout(LIMIT_S):
            await directory.listening.wait()
        await directory.mechanic(mia)

        server.stop()
        with pytest.raises(StoreFailed):
            await directory.step()
        assert not (await directory.flag(FAVORITES_PRIORITY)).is_enabled
        assert await directory.mechanic(mia) == Mechanic(id=mia, name="Mia Kraft", approved=True)
        assert len(await directory.plans()) == 3
        with pytest.raises(StoreFailed):
            await directory.mechanic(new_id())
        task.cancel()
        await asyncio.wait([task])
        await postgres.close()
    finally:
        server.stop()


async def test_not_connected_is_a_failed_store(database_url: str) -> None:
    with pytest.raises(StoreFailed):
        await PostgresDirectory(Postgres(database_url)).plans()


# The cache by itself


class Source:
    """Answers when told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.asked: list[set[str]] = []
        self.reading = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.failing = False

    async def fetch(self, keys: list[str]) -> Mapping[str, str]:
        self.asked.append(set(keys))
        found = {key: self.values[key] for key in keys if key in self.values}
        self.reading.set()
        await self.open.wait()
        if self.failing:
            raise StoreFailed("away", maybe_done=False)
        return found


async def test_misses_of_one_tick_are_one_query() -> None:
    source = Source()
    source.values = {"a": "1", "b": "2"}
    cache = BatchedCache(source.fetch, "none", 10)
    assert await asyncio.gather(*(cache.get(key) for key in "aabbc")) == ["1", "1", "2", "2", "none"]
    assert source.asked == [{"a", "b", "c"}]
    assert await cache.get("c") == "none"
    assert len(source.asked) == 1


async def test_a_change_during_a_read_is_not_missed() -> None:
    source = Source()
    source.values = {"a": "old"}
    source.open.clear()
    cache = BatchedCache(source.fetch, "none", 10)
    waiting = asyncio.create_task(cache.get("a"))
    await source.reading.wait()
    source.values = {"a": "new"}
    refreshing = asyncio.create_task(cache.refresh(["a", "unknown"]))
    await asyncio.sleep(0)
    source.open.set()
    await waiting
    assert await refreshing == {"a"}
    assert await cache.get("a") == "new"
    assert source.asked == [{"a"}, {"a"}]


async def test_who_was_not_asked_for_longest_is_forgotten() -> None:
    source = Source()
    cache = BatchedCache(source.fetch, "none", 2)
    for key in "abac":
        await cache.get(key)
    source.asked.clear()
    await cache.get("a")
    assert source.asked == []
    await cache.get("b")
    assert source.asked == [{"b"}]


async def test_a_failed_read_fails_the_misses_and_keeps_the_known() -> None:
    source = Source()
    cache = BatchedCache(source.fetch, "none", 10)
    source.values = {"a": "1"}
    await cache.get("a")
    source.failing = True
    with pytest.raises(StoreFailed):
        await cache.refresh()
    with pytest.raises(StoreFailed):
        await cache.get("b")
    assert await cache.get("a") == "1"
    source.failing = False
    assert await cache.get("b") == "none"


async def test_a_waiter_that_gives_up_does_not_take_the_others_along() -> None:
    source = Source()
    source.open.clear()
    cache = BatchedCache(source.fetch, "none", 10)
    first = asyncio.create_task(cache.get("a"))
    second = asyncio.create_task(cache.get("a"))
    await source.reading.wait()
    first.cancel()
    source.open.set()
    assert await second == "none"


async def test_a_setting_holds_here_when_it_is_written(
    directory: PostgresDirectory, committed: Connection
) -> None:
    assert await directory.settings() == {}

    written = await directory.set_settings({"default_window_seconds": 90.0, "sequence_split": (0.5, 0.5)})
    again = await directory.set_settings({"default_window_seconds": 60.0})

    assert written == {"default_window_seconds": 90.0, "sequence_split": (0.5, 0.5)}
    assert again == {"default_window_seconds": 60.0, "sequence_split": [0.5, 0.5]}
    assert await directory.settings() == {"default_window_seconds": 60.0, "sequence_split": [0.5, 0.5]}
    stored = "select key, value::text from hub_settings order by key"
    assert [tuple(row) for row in await committed.fetch(stored)] == [
        ("default_window_seconds", "60.0"), ("sequence_split", "[0.5, 0.5]"),
    ]  # fmt: skip
