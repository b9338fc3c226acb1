"""A server that is there and refuses: nothing is half done, and whoever asked knows that nothing was."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
import pytest_asyncio
from redis.exceptions import RedisError

from hub.domain import commands as cmd
from hub.domain.decide import decide
from hub.domain.errors import StoreFailed
from hub.domain.ids import new_id
from hub.domain.records import Outcome
from persistence.embedded import EmbeddedValkey
from persistence.redis.client import RedisClient
from tests.domain.samples import ANA, online
from tests.patience import until
from tests.redis.bench import Bench, book, contents, open_bench

Break = Callable[[Bench], Awaitable[object]]


async def full(bench: Bench) -> object:
    return await bench.raw.config_set("maxmemory", 1)


async def without_replicas(bench: Bench) -> object:
    return await bench.raw.config_set("min-replicas-to-write", 1)


async def read_only(bench: Bench) -> object:
    return await bench.raw.replicaof("127.0.0.1", 1)


async def busy(bench: Bench) -> object:
    await bench.raw.config_set("busy-reply-threshold", 1)

    async def endless() -> None:
        with suppress(RedisError):
            await bench.raw.eval("while true do end", 0)

    spinning = asyncio.create_task(endless())
    await until(lambda: _is_busy(bench))
    return spinning


async def _is_busy(bench: Bench) -> bool:
    try:
        await bench.raw.ping()
    except RedisError as error:
        return "BUSY" in str(error) or "busy" in str(error)
    return False


@pytest_asyncio.fixture
async def mended(bench: Bench) -> AsyncIterator[None]:
    yield
    with suppress(RedisError):
        await bench.raw.script_kill()
    await bench.raw.replicaof("NO", "ONE")
    for name, value in (
        ("maxmemory", 0),
        ("min-replicas-to-write", 0),
        ("repl-diskless-sync-delay", 5),
        ("busy-reply-threshold", 5_000),
    ):
        await bench.raw.config_set(name, value)


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize("harm", [full, without_replicas, read_only], ids=lambda f: f.__name__)
async def test_a_commit_that_is_refused_has_changed_nothing(bench: Bench, harm: Break) -> None:
    session = await book(bench, online(ANA))
    snapshot = await bench.sessions.load(session.id)
    decision = decide(snapshot.session, cmd.Cancel("admin"), snapshot.now)
    before = await contents(bench.url)
    await harm(bench)

    with pytest.raises(StoreFailed) as failure:
        await bench.sessions.commit(snapshot, decision, command_id=new_id())

    assert (failure.value.code, failure.value.maybe_done) == ("unavailable", False)
    assert (await bench.sessions.load(session.id)).session == session
    assert await contents(bench.url) == before


@pytest.mark.usefixtures("mended")
async def test_a_server_that_is_busy_with_a_script_refuses_whole(bench: Bench) -> None:
    session = await book(bench, online(ANA))
    snapshot = await bench.sessions.load(session.id)
    decision = decide(snapshot.session, cmd.Cancel("admin"), snapshot.now)
    spinning = await busy(bench)

    with pytest.raises(StoreFailed) as failure:
        await bench.sessions.commit(snapshot, decision, command_id=new_id())

    assert not failure.value.maybe_done
    await bench.raw.script_kill()
    assert isinstance(spinning, asyncio.Task)
    await spinning
    outcome, _ = await bench.sessions.commit(snapshot, decision, command_id=new_id())
    assert outcome is Outcome.COMMITTED


@pytest.mark.usefixtures("mended")
async def test_a_server_that_is_still_loading_is_not_there_yet(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As a replica does that is given a master's data."""
    other = EmbeddedValkey(tmp_path_factory.mktemp("replica"))
    other.start()
    try:
        await bench.raw.mset({f"key-{n}": "x" for n in range(3_000)})
        async with open_bench(other.url) as replica:
            await replica.raw.config_set("key-load-delay", 1_000)
            await replica.raw.config_set("loading-process-events-interval-bytes", 1_024)
            await bench.raw.config_set("repl-diskless-sync-delay", 0)
            await replica.raw.replicaof("127.0.0.1", bench.url.rpartition(":")[2].partition("/")[0])

            async def loading() -> bool:
                return bool((await replica.raw.info("persistence"))["loading"])

            await until(loading)
            fresh = RedisClient(other.url)
            with pytest.raises(StoreFailed, match="BusyLoadingError") as failure:
                await fresh.ask("SET", "word", "x")
            assert not failure.value.maybe_done
            await fresh.close()
    finally:
        other.stop()
