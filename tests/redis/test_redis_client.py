"""The way to Redis: gathering, and what happens when the server or the line to it fails."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.decide import decide
from hub.domain.errors import StoreFailed
from hub.domain.ids import new_id
from hub.domain.records import Outcome
from persistence.redis import scripts
from persistence.redis.client import Argument, RedisClient
from persistence.redis.sessions import COMMIT_WITHIN_MS
from tests.domain.samples import ANA, online
from tests.patience import PATIENCE_S, until
from tests.redis.bench import Bench, book, contents
from tests.redis.conftest import Suspension

ATTEMPTS = 4


class CountingClient(RedisClient):
    """Counts attempts."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.attempts = 0

    def ask(self, *command: Argument, run: str | None = None, safe: bool = False) -> asyncio.Future[object]:
        self.attempts += 1
        return super().ask(*command, run=run, safe=safe)


@pytest_asyncio.fixture
async def client(bench: Bench) -> AsyncIterator[CountingClient]:
    client = CountingClient(bench.url)
    yield client
    await client.close()


async def reads(bench: Bench) -> int:
    """How often the server has read from a socket so far."""
    return int((await bench.raw.info("stats"))["total_reads_processed"])


async def executed(bench: Bench, command: str) -> int:
    stats = await bench.raw.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


async def test_the_calls_of_one_tick_leave_together(bench: Bench) -> None:
    await bench.client.call("PING")
    calls, before = await executed(bench, "get"), await reads(bench)

    await asyncio.gather(*(bench.client.call("GET", f"key-{n}") for n in range(200)))

    # One for the pipeline, one for the question itself; a pipeline may come in two pieces.
    assert await reads(bench) - before <= 3
    assert await executed(bench, "get") - calls == 200


async def test_replies_find_their_callers(bench: Bench) -> None:
    async def echo(n: int) -> object:
        return await bench.client.call("ECHO", f"word-{n}")

    # More than one pipeline holds.
    assert await asyncio.gather(*map(echo, range(1_000))) == [f"word-{n}" for n in range(1_000)]
    assert await bench.client.calls([]) == []


async def test_one_refusal_does_not_spoil_its_neighbours(bench: Bench) -> None:
    await bench.raw.set("text", "no number")

    calls = [bench.client.call(*words) for words in (("ECHO", "a"), ("INCR", "text"), ("ECHO", "b"))]
    answers = await asyncio.gather(*calls, return_exceptions=True)

    assert answers[::2] == ["a", "b"]
    assert isinstance(answers[1], StoreFailed)
    assert not answers[1].maybe_done


async def test_what_cannot_be_sent_holds_up_nobody(bench: Bench) -> None:
    calls = [bench.client.call("ECHO", word) for word in ("a", "\ud800", "b")]
    async with asyncio.timeout(PATIENCE_S):
        answers = await asyncio.gather(*calls, return_exceptions=True)

    assert answers[::2] == ["a", "b"]
    assert isinstance(answers[1], UnicodeEncodeError)


async def test_a_caller_who_gave_up_does_not_disturb_the_others(bench: Bench) -> None:
    impatient = asyncio.create_task(bench.client.call("ECHO", "a"))
    patient = asyncio.create_task(bench.client.call("ECHO", "b"))
    await asyncio.sleep(0)
    impatient.cancel()

    assert await patient == "b"
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_scripts_that_the_server_forgot_are_sent_again(bench: Bench) -> None:
    session = await book(bench, online(ANA))
    await bench.raw.script_flush()
    assert await bench.raw.script_exists(scripts.LOAD.digest, scripts.COMMIT.digest) == [False, False]

    snapshot = await bench.sessions.load(session.id)
    decision = decide(snapshot.session, cmd.Cancel("admin"), snapshot.now)
    outcome, _ = await bench.sessions.commit(snapshot, decision, command_id=new_id())

    assert outcome is Outcome.COMMITTED
    assert await bench.raw.script_exists(scripts.LOAD.digest, scripts.COMMIT.digest) == [True, True]


async def test_lost_connections_are_transparent_for_reads(bench: Bench) -> None:
    session = await book(bench, online(ANA))
    await asyncio.gather(*(bench.sessions.load(session.id) for _ in range(5)))

    assert await bench.raw.client_kill_filter(_type="normal", skipme=True) >= 1

    found = await asyncio.gather(*(bench.sessions.load(session.id) for _ in range(5)))
    assert [snapshot.session for snapshot in found] == [session] * 5


async def test_a_server_that_does_not_answer_is_given_up_and_found_again(
    client: CountingClient, suspension: Suspension
) -> None:
    assert await client.call("ECHO", "before") == "before"
    client.attempts = 0
    suspension.begin()

    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(StoreFailed) as failure:
            await client.call("SET", "word", "x")

    assert failure.value.maybe_done
    assert client.attempts == ATTEMPTS
    suspension.end()
    assert await client.call("SET", "word", "y")
    assert await client.call("GET", "word") == "y"


@pytest.mark.parametrize(("left_ms", "happens"), [(60_000, True), (100, False)], ids=["in-time", "too-late"])
async def test_a_commit_in_doubt_is_decided_by_its_time(
    bench: Bench, suspension: Suspension, left_ms: int, happens: bool
) -> None:
    """A suspended server executes what it is sent whenever it goes on, long after its author gave up."""
    session = await book(bench, online(ANA))
    snapshot = await bench.sessions.load(session.id)
    decision = decide(snapshot.session, cmd.Cancel("admin"), snapshot.now)
    before = await contents(bench.url)
    sent = await executed(bench, "evalsha")
    aged = replace(snapshot, now=snapshot.now - COMMIT_WITHIN_MS + left_ms)
    suspension.begin()

    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(StoreFailed) as failure:
            await bench.sessions.commit(aged, decision, command_id="mine")
    suspension.end()

    assert failure.value.maybe_done

    async def arrived() -> bool:
        return await executed(bench, "evalsha") == sent + 1

    await until(arrived)
    assert (await contents(bench.url) == before) is not happens
    outcome, _ = await bench.sessions.commit(aged, decision, command_id="mine")
    assert outcome is (Outcome.REPEATED if happens else Outcome.STALE)


async def test_with_nobody_at_the_port_nothing_was_done() -> None:
    client = RedisClient("redis://127.0.0.1:1/0")

    with pytest.raises(StoreFailed) as failure:
        await client.call("PING")

    assert not failure.value.maybe_done
    await client.close()
