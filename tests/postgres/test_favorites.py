"""Favourites keep their order, whatever several nodes do to it at once, and the next booking knows it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hub.domain.errors import Refused, StoreFailed
from hub.domain.ids import new_id
from persistence.embedded import EmbeddedPostgres
from persistence.postgres.directory import PostgresDirectory
from persistence.postgres.favorites import LIMIT, PostgresFavorites, placed
from persistence.postgres.migrate import Migrator
from persistence.postgres.pool import Postgres
from tests.postgres.databases import Connection

CORA = new_id()


@pytest.fixture
def connection(committed: Connection) -> Connection:
    """What it writes is seen by the pool."""
    return committed


@pytest.fixture
def directory(postgres: Postgres) -> PostgresDirectory:
    return PostgresDirectory(postgres)


@pytest.fixture
def favorites(postgres: Postgres, directory: PostgresDirectory) -> PostgresFavorites:
    return PostgresFavorites(postgres, directory)


@pytest_asyncio.fixture
async def other(database_url: str) -> AsyncIterator[PostgresFavorites]:
    """The same on another node."""
    postgres = Postgres(database_url)
    await postgres.connect()
    yield PostgresFavorites(postgres, PostgresDirectory(postgres))
    await postgres.close()


async def people(connection: Connection, count: int) -> list[str]:
    """Mechanics, in the order of their ids."""
    rows = await connection.fetch(
        "insert into mechanics (id, first_name, last_name)"
        " select gen_random_uuid(), 'M' || n, 'Kraft' from generate_series(1, $1::integer) as n"
        " returning id::text",
        count,
    )
    return sorted(row["id"] for row in rows)


async def put(favorites: PostgresFavorites, mechanic_id: str, rank: int | None = None) -> tuple[int, bool]:
    favorite, new = await favorites.put(CORA, mechanic_id, rank, name="Cora Lind", email=None)
    assert favorite.mechanic_id == mechanic_id
    return favorite.rank, new


async def ranks(connection: Connection) -> dict[str, int]:
    rows = await connection.fetch("select mechanic_id::text, rank from customer_favorites")
    return {row["mechanic_id"]: row["rank"] for row in rows}


@pytest.mark.parametrize(
    ("mechanic", "rank", "order"),
    [
        ("x", None, "abcx"),
        ("x", 1, "xabc"),
        ("x", 3, "abxc"),
        ("x", 1000, "abcx"),
        ("b", None, "abc"),
        ("b", 1, "bac"),
        ("b", 2, "abc"),
        ("b", 3, "acb"),
        ("a", 1000, "bca"),
    ],
)
def test_where_a_favourite_goes(mechanic: str, rank: int | None, order: str) -> None:
    assert "".join(placed("abc", mechanic, rank)) == order


async def test_a_customer_arranges_their_favourites(
    favorites: PostgresFavorites, directory: PostgresDirectory, connection: Connection
) -> None:
    ana, ben, eve = await people(connection, 3)
    assert await directory.favorites(CORA) == ()
    assert await put(favorites, ana) == (1, True)
    assert await put(favorites, ben) == (2, True)
    assert await put(favorites, eve, 1) == (1, True)
    assert await put(favorites, ben) == (3, False)
    assert await directory.favorites(CORA) == (eve, ana, ben)
    assert await put(favorites, ben, 2) == (2, False)
    assert await directory.favorites(CORA) == (eve, ben, ana)
    await favorites.remove(CORA, eve)
    await favorites.remove(CORA, eve)
    assert await directory.favorites(CORA) == (ben, ana)
    assert await ranks(connection) == {ben: 1, ana: 2}
    assert await connection.fetchval("select full_name from customers where id = $1", CORA) == "Cora Lind"


async def test_pages_are_in_rank_order(favorites: PostgresFavorites, connection: Connection) -> None:
    ana, ben, eve = await people(connection, 3)
    for mechanic_id in (ben, eve, ana):
        await put(favorites, mechanic_id)
    first = await favorites.page(CORA, 2)
    assert [(f.mechanic_id, f.rank) for f in first] == [(ben, 1), (eve, 2)]
    assert [(f.mechanic_id, f.rank) for f in await favorites.page(CORA, 2, after=2)] == [(ana, 3)]
    assert {f.mechanic_name for f in first} < {"M1 Kraft", "M2 Kraft", "M3 Kraft"}
    assert await favorites.page(new_id(), 2) == []


async def test_ranks_that_plain_sql_wrote_are_put_in_order(
    favorites: PostgresFavorites, directory: PostgresDirectory, connection: Connection
) -> None:
    ana, ben, eve, jan = await people(connection, 4)
    await connection.execute("insert into customers (id) values ($1)", CORA)
    await connection.execute(
        "insert into customer_favorites (customer_id, mechanic_id, rank)"
        " values ($1, $2, 7), ($1, $3, 7), ($1, $4, -1)",
        CORA, ben, ana, eve,
    )  # fmt: skip
    assert [(f.mechanic_id, f.rank) for f in await favorites.page(CORA, 9)] == [(eve, 1), (ana, 2), (ben, 3)]
    assert await directory.favorites(CORA) == (eve, ana, ben)
    assert await put(favorites, jan, 2) == (2, True)
    assert await ranks(connection) == {eve: 1, jan: 2, ana: 3, ben: 4}
    await connection.execute("delete from mechanics where id = $1", jan)
    assert [(f.mechanic_id, f.rank) for f in await favorites.page(CORA, 9)] == [(eve, 1), (ana, 2), (ben, 3)]


async def test_nodes_at_once_leave_no_gap_and_no_double(
    favorites: PostgresFavorites, other: PostgresFavorites, connection: Connection
) -> None:
    mechanics = await people(connection, 24)
    nodes = (favorites, other)
    await asyncio.gather(
        *(put(nodes[n % 2], mechanic, 1 + n % 5 if n % 3 else None) for n, mechanic in enumerate(mechanics))
    )
    assert sorted((await ranks(connection)).values()) == list(range(1, 25))
    await asyncio.gather(
        *(favorites.remove(CORA, mechanic) for mechanic in mechanics[::3]),
        *(put(other, mechanic, 2) for mechanic in mechanics[1::3]),
        *(put(favorites, mechanics[2]) for _ in range(3)),
    )
    assert sorted((await ranks(connection)).values()) == list(range(1, 17))


async def test_what_is_refused_leaves_nothing(favorites: PostgresFavorites, connection: Connection) -> None:
    with pytest.raises(Refused, match="not_found"):
        await put(favorites, new_id())
    assert await connection.fetchval("select count(*) from customers") == 0
    *mechanics, one_more = await people(connection, LIMIT + 1)
    await connection.execute("insert into customers (id) values ($1)", CORA)
    await connection.execute(
        "insert into customer_favorites (customer_id, mechanic_id) select $1, unnest($2::uuid[])",
        CORA, mechanics,
    )  # fmt: skip
    with pytest.raises(Refused, match="too_many_favorites"):
        await put(favorites, one_more)
    assert await put(favorites, mechanics[7], 1) == (1, False)
    assert len(await ranks(connection)) == LIMIT


LOST_COMMIT = """
    create sequence commits;
    create function die_once() returns trigger language plpgsql as $$
    begin
      if nextval('commits') = 1 then
        perform pg_terminate_backend(pg_backend_pid()), pg_sleep(10);
      end if;
      return null;
    end $$;
    create constraint trigger dies after insert on customer_favorites deferrable initially deferred
      for each row execute function die_once();
"""


async def test_a_commit_that_came_to_nothing_is_answered_so(
    favorites: PostgresFavorites, connection: Connection
) -> None:
    (ana,) = await people(connection, 1)
    await connection.execute(LOST_COMMIT)
    with pytest.raises(StoreFailed):
        await put(favorites, ana)
    assert await ranks(connection) == {}
    assert await put(favorites, ana) == (1, True)
    assert await ranks(connection) == {ana: 1}


async def test_without_postgres_nothing_is_written(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    server.start()
    postgres = Postgres(server.url)
    try:
        await Migrator(server.url).up()
        await postgres.connect()
        favorites = PostgresFavorites(postgres, PostgresDirectory(postgres))
        server.stop()
        with pytest.raises(StoreFailed):
            await put(favorites, new_id())
        with pytest.raises(StoreFailed):
            await favorites.remove(CORA, new_id())
        with pytest.raises(StoreFailed):
            await favorites.page(CORA, 1)
    finally:
        await postgres.close()
        server.stop()
