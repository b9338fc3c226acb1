"""Entries of the journal that Postgres will not take, or not now, or of people who are gone by then."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from hub.client import HubProblem
from hub.domain.ids import new_id, new_session_id, shard_of_user
from hub.domain.model import EventType, Session, SessionStatus
from hub.domain.records import FORK
from persistence.redis import keys
from tests.faults.cluster import SETTINGS, Cluster, Node
from tests.faults.evidence import assignment_of
from tests.faults.scene import Actor, Scene, scene
from tests.patience import until
from tests.postgres.journal import booking, event

SHARDS = int(SETTINGS["HUB_SHARDS"])
BATCH = 500


async def test_of_500_one_is_poison(cluster: Cluster) -> None:
    sessions = [past(customer_in(2)) for _ in range(BATCH)]
    poison = sessions[BATCH // 3] = past(customer_in(2), priority_window_minutes=0)
    alarms = await cluster.alarms("journal_entry_buried")
    async with dead_letters(cluster, 2) as letters:
        await enter(cluster, 2, sessions)
        await until(lambda: nothing_waits(cluster))

        ((_, letter),) = await letters()
        assert letter["error"].startswith("23514: ")
        assert json.loads(letter["session"])["id"] == poison.id
        assert await cluster.alarms("journal_entry_buried") == alarms + 1
        ids = [session.id for session in sessions]
        found = await cluster.postgres.fetch("SELECT id::text FROM sessions WHERE id = ANY ($1)", ids)
        assert {row["id"] for row in found} == {*ids} - {poison.id}
        events = "SELECT count(*) FROM session_events WHERE session_id = ANY ($1)"
        assert await cluster.postgres.fetchval(events, ids) == BATCH - 1


async def test_a_version_comes_with_another_content(cluster: Cluster) -> None:
    session = past(customer_in(1))
    alarms = await cluster.alarms("journal_entry_buried")
    async with dead_letters(cluster, 1) as letters:
        await enter(cluster, 1, [session])
        await until(lambda: recorded(cluster, session.customer_id))
        await enter(cluster, 1, [msgspec.structs.replace(session, notes="another story")])
        await until(lambda: nothing_waits(cluster))

        assert [letter["error"] for _, letter in await letters()] == [FORK]
        assert await cluster.alarms("journal_entry_buried") == alarms + 1
        assert await cluster.postgres.fetchval("SELECT notes FROM sessions WHERE id = $1", session.id) is None


async def test_an_entry_that_nobody_can_read(cluster: Cluster) -> None:
    """A node of a later version might: nothing is thrown away, and other shards do not wait."""
    async with scene(cluster) as people:
        mia = somebody(people, 0)
        alarms = await cluster.alarms("journal_stuck")
        (entry,) = await enter(cluster, 3, [past(customer_in(3), session_type="fax")])
        await until(lambda: more_alarms(cluster, "journal_stuck", alarms))

        await mia.book()
        await until(lambda: recorded(cluster, mia.id))
        assert f"hub:{{3}}:journal {entry} cannot be read" in stuck(cluster, 3)[-1]["reason"]
        await cluster.redis.xdel(keys.journal(3), entry)


async def test_people_are_deleted_while_their_entries_wait(cluster: Cluster) -> None:
    """Not judged as others are: that the record does not know the winner is what must come of it."""
    people = Scene(cluster)
    ana, mia, noah = await people.mechanic(cluster.nodes[0]), people.customer(), people.customer()
    await cluster.postgres.execute("INSERT INTO customers (id) VALUES ($1)", mia.id)
    async with unwritten(cluster):
        session, other = await mia.book(), await noah.book()
        await ana.offer(session)
        await ana.actor.answer("accept", session["id"])
        await cluster.postgres.execute("DELETE FROM mechanics WHERE id = $1", ana.actor.id)
        await cluster.postgres.execute("DELETE FROM customers WHERE id = $1", mia.id)
    await until(lambda: nothing_waits(cluster))

    row = await cluster.postgres.fetchrow(
        "SELECT s.status, s.mechanic_id, a.mechanic_id AS assigned FROM sessions s"
        " JOIN session_assignments a ON a.session_id = s.id WHERE s.id = $1",
        session["id"],
    )
    assert tuple(row or ()) == ("waiting", None, None)
    accepted = "SELECT actor_id::text FROM session_events WHERE session_id = $1 AND type = 'accepted'"
    assert await cluster.postgres.fetchval(accepted, session["id"]) == ana.actor.id
    assert await cluster.postgres.fetchval("SELECT 1 FROM customers WHERE id = $1", mia.id)
    assert await cluster.postgres.fetchval("SELECT 1 FROM sessions WHERE id = $1", other["id"])
    await people.end()
    await until(lambda: nothing_waits(cluster))


async def test_somebody_books_again_and_again_in_one_batch(cluster: Cluster) -> None:
    async with scene(cluster) as people:
        mia = people.customer()
        await mia.book("before")
        await until(lambda: nothing_waits(cluster))
        async with unwritten(cluster):
            for key in ("second", "third", "fourth"):
                active = await mia.persist(lambda hub: hub.active_session())
                await mia.end(active["session"]["id"])
                await mia.book(key)
        await until(lambda: nothing_waits(cluster))


async def test_a_row_of_somebodys_stands_in_the_way(cluster: Cluster) -> None:
    """One shard waits for a person and tells them why; the others do not wait."""
    async with scene(cluster) as people:
        mia, noah = somebody(people, 1), somebody(people, 2)
        await cluster.postgres.execute("INSERT INTO customers (id) VALUES ($1)", mia.id)
        by_hand = await cluster.postgres.fetchval(
            "INSERT INTO sessions (id, customer_user_id, session_type, plan_code)"
            " VALUES (gen_random_uuid(), $1, 'chat', 'free') RETURNING id",
            mia.id,
        )
        alarms = await cluster.alarms("journal_stuck")
        await mia.book()
        await until(lambda: more_alarms(cluster, "journal_stuck", alarms))

        await noah.book()
        await until(lambda: recorded(cluster, noah.id))
        said = stuck(cluster, shard(mia))[-1]["reason"]
        assert "uq_active_session_per_customer" in said
        assert f"(customer_user_id)=({mia.id})" in said
        await cluster.postgres.execute("DELETE FROM sessions WHERE id = $1", by_hand)


async def test_the_journal_is_full(cluster: Cluster) -> None:
    """What has begun goes on to its end; what would begin is told to come again."""
    node = cluster.nodes[0]
    await node.stop()
    node.start(HUB_JOURNAL_MAX=str(5 * SHARDS))
    await cluster.ready()
    async with scene(cluster) as people:
        ana, mia = await people.mechanic(node), people.customer()
        session = await mia.book()
        await ana.offer(session)
        async with unwritten(cluster):
            customers = [people.customer() for _ in range(10 * SHARDS)]
            refusals = [await refused(customer, node) for customer in customers]
            assert {(said.status, said.code) for said in refusals if said} == {(503, "journal_full")}
            taken = await ana.actor.hub_at(node).answer("accept", assignment_of(session["id"]))
            assert taken["session"]["status"] == "waiting"
            assert (await mia.hub_at(node).end(session["id"]))["session"]["status"] == "cancelled"
        await customers[-1].book()
    await node.stop()


async def test_the_nodes_die_before_what_is_written_is_trimmed(cluster: Cluster) -> None:
    """Those that come after them see to it, though nothing more happens."""
    async with scene(cluster) as people:
        mia = people.customer()
        for node in cluster.nodes:
            node.redis.delay(0.2)
        booking = asyncio.create_task(mia.book())
        await until(lambda: recorded(cluster, mia.id))
        for node in cluster.nodes:
            await node.redis.refuse()
            await node.kill()
        assert not await nothing_waits(cluster)
        await cluster.heal()
        await until(lambda: nothing_waits(cluster))
        await booking


async def refused(customer: Actor, node: Node) -> HubProblem | None:
    """The node's refusal of a booking."""
    key = f"{customer.id}-first"
    try:
        await customer.hub_at(node).book(key=key, plan_code="free", metadata={"key": key})
    except HubProblem as problem:
        return problem
    return None


# What is put in its way


def customer_in(wanted: int) -> str:
    """Somebody of this shard."""
    return next(iter(filter(lambda one: shard_of_user(one, SHARDS) == wanted, iter(new_id, None))))


def somebody(people: Scene, wanted: int) -> Actor:
    """A customer of this shard."""
    customer = Actor(people, "customer")
    while shard(customer) != wanted:
        customer = Actor(people, "customer")
    people.customers.append(customer)
    return customer


def shard(actor: Actor) -> int:
    return shard_of_user(actor.id, SHARDS)


def past(customer_id: str, **changes: Any) -> Session:
    """A session that was over when it began: only the record cares."""
    return booking(
        customer_id,
        id=new_session_id(customer_id),
        status=SessionStatus.CANCELLED,
        payment="free",
        open_at=None,
        **changes,
    )


async def enter(cluster: Cluster, to: int, sessions: Sequence[Session]) -> Sequence[str]:
    """Into the journal, all at once, each by a command of its own; the entries' ids."""
    async with cluster.redis.pipeline(transaction=True) as commands:
        for session in sessions:
            created = event(session, EventType.CREATED, session.customer_id)
            commands.xadd(
                keys.journal(to),
                {
                    "command": new_id(),
                    "session": msgspec.json.encode(session).decode(),
                    "events": msgspec.json.encode([created]).decode(),
                },
            )
        return list(await commands.execute())


@contextlib.asynccontextmanager
async def unwritten(cluster: Cluster) -> AsyncIterator[None]:
    """Meanwhile everything waits in the journal."""
    for node in cluster.nodes:
        await node.postgres.refuse()
    yield
    for node in cluster.nodes:
        await node.postgres.heal()


# What becomes of it


@contextlib.asynccontextmanager
async def dead_letters(cluster: Cluster, of: int) -> AsyncIterator[Any]:
    """A shard's, which are thrown away in the end."""
    name = keys.journal_dead(of)
    yield lambda: cluster.redis.xrange(name)
    await cluster.redis.delete(name)


async def nothing_waits(cluster: Cluster) -> bool:
    return not any([await cluster.redis.xlen(keys.journal(each)) for each in range(SHARDS)])


async def recorded(cluster: Cluster, customer_id: str) -> bool:
    query = "SELECT 1 FROM sessions WHERE customer_user_id = $1 LIMIT 1"
    return await cluster.postgres.fetchval(query, customer_id) is not None


async def more_alarms(cluster: Cluster, what: str, than: int) -> bool:
    return await cluster.alarms(what) > than


def stuck(cluster: Cluster, of: int) -> list[dict[str, Any]]:
    """What the nodes have logged of a shard that does not go on."""
    lines = [json.loads(line) for node in cluster.nodes for line in node.log.read_text().splitlines()]
    return [line for line in lines if line["event"] == "journal_stuck" and line.get("shard") == of]
