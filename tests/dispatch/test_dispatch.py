"""Everything that happens goes one way, and of many who want the same one wins."""

import asyncio
from collections.abc import Iterator
from itertools import islice

import pytest
from msgspec.structs import replace

from hub.dispatch import DispatchPolicy
from hub.domain import commands as cmd
from hub.domain.errors import ActiveSessionExists, Refused, Unavailable
from hub.domain.ids import new_id, shard_of_user
from hub.domain.model import AssignmentStatus, EventType, RoutingType, Session, SessionStatus, Status
from hub.domain.plan import Wish
from persistence.redis import keys
from tests.dispatch.office import Office, assert_in_place, history, work_of
from tests.domain.samples import ANA, BEN, CUSTOMER
from tests.redis.bench import SHARDS, Bench, contents

BOOKED = [EventType.CREATED, EventType.BROADCAST]


async def test_a_life_from_booking_to_end(office: Office, bench: Bench) -> None:
    session = await office.book()
    await assert_in_place(bench, session)
    for command in (cmd.Accept(mechanic_id=ANA), cmd.Start(ANA), cmd.End(ANA)):
        session = await office.execute(session.id, command)
        await assert_in_place(bench, session)
        assert await work_of(bench, ANA) == ({session.id} if session.held_by else set())

    told = [*BOOKED, EventType.ACCEPTED, EventType.STARTED, EventType.COMPLETED]
    assert session.status is SessionStatus.COMPLETED
    assert [event.type for event in office.events] == told
    assert await history(bench, session) == told
    assert [replace(commit, epoch="") for commit in office.commits] == await bench.entries(
        bench.shard(session)
    )


async def test_a_refusal_changes_nothing(office: Office, bench: Bench) -> None:
    session = await office.book()
    before = await contents(bench.url)

    with pytest.raises(Refused) as refused:
        await office.execute(session.id, cmd.Start(ANA))
    assert refused.value.code == "not_found"
    with pytest.raises(Refused) as refused:
        await office.execute(new_id(), cmd.Start(ANA))

    assert refused.value.code == "not_found"
    assert await contents(bench.url) == before


async def test_what_changes_nothing_is_not_committed(office: Office, bench: Bench) -> None:
    session = await office.book()
    before = await contents(bench.url)

    assert await office.execute(session.id, cmd.OfferDue()) == session
    assert await contents(bench.url) == before
    assert len(office.commits) == 1


@pytest.mark.parametrize("capacity", [0, 1], ids=["any-number", "one-at-a-time"])
async def test_of_fifty_accepts_at_once_one_wins(bench: Bench, other_office: Office, capacity: int) -> None:
    policy = DispatchPolicy(capacity=capacity)
    offices = [Office(bench, policy=policy), Office(other_office.bench, policy=policy)]
    session = await offices[0].book()
    mechanics = [new_id() for _ in range(50)]

    outcomes = await asyncio.gather(
        *(
            offices[n % 2].execute(session.id, cmd.Accept(mechanic_id=mechanic_id))
            for n, mechanic_id in enumerate(mechanics)
        ),
        return_exceptions=True,
    )

    (won,) = [outcome for outcome in outcomes if isinstance(outcome, Session)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert [refused.code for refused in lost] == ["taken"] * 49
    assert await history(bench, session) == [*BOOKED, EventType.ACCEPTED]
    assert sum(len(office.commits) for office in offices) == 2
    assert won.mechanic_id is not None
    assert await bench.sessions.get([session.id]) == [won]
    for mechanic_id in mechanics:
        assert await work_of(bench, mechanic_id) == (
            {session.id} if mechanic_id == won.mechanic_id else set()
        )
    assert await offices[1].execute(session.id, cmd.Accept(mechanic_id=won.mechanic_id)) == won


async def test_fifty_declines_of_what_is_everyones_all_count(office: Office, bench: Bench) -> None:
    session = await office.book()
    mechanics = {new_id() for _ in range(50)}

    answers = await asyncio.gather(*(office.execute(session.id, cmd.Decline(m)) for m in mechanics))

    assert answers == [session] * 50
    assert (await bench.sessions.load(session.id)).declined == mechanics
    assert (await history(bench, session)).count(EventType.DECLINED) == 50


async def test_of_two_bookings_at_once_a_customer_has_one(
    office: Office, other_office: Office, bench: Bench
) -> None:
    outcomes = await asyncio.gather(
        *((office, other_office)[n % 2].try_book(key=f"key-{n}") for n in range(20)), return_exceptions=True
    )

    (won,) = [outcome for outcome in outcomes if isinstance(outcome, tuple)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, ActiveSessionExists)]
    assert won[1]
    assert [refused.session for refused in lost] == [won[0]] * 19
    assert len(await bench.raw.keys("*:session:*")) == 1


async def test_one_booking_repeated_at_once_is_one(
    office: Office, other_office: Office, bench: Bench
) -> None:
    outcomes = await asyncio.gather(
        *((office, other_office)[n % 2].try_book(fingerprint="abc") for n in range(20))
    )

    sessions = [session for session, _ in outcomes]
    assert sum(new for _, new in outcomes) == 1
    assert sessions == [sessions[0]] * 20
    assert sessions[0] is not None
    assert await history(bench, sessions[0]) == BOOKED


async def test_a_repeated_booking_is_found_however_it_went_on(office: Office, bench: Bench) -> None:
    session = await office.book(fingerprint="abc")
    with pytest.raises(Refused) as refused:
        await office.book(fingerprint="another body")
    assert refused.value.code == "idempotency_key_reused"
    cancelled = await office.execute(session.id, cmd.Cancel(CUSTOMER))
    assert await office.try_book(fingerprint="abc") == (cancelled, False)

    await bench.raw.delete(bench.key(session))
    assert await office.try_book(fingerprint="abc") == (None, False)
    with pytest.raises(Refused) as refused:
        await office.book(fingerprint="another body")
    assert refused.value.code == "idempotency_key_reused"


async def test_who_has_ended_one_may_book_another(office: Office, bench: Bench) -> None:
    session = await office.book()
    with pytest.raises(ActiveSessionExists):
        await office.book(key="second")
    await office.execute(session.id, cmd.End(CUSTOMER))

    second = await office.book(key="second")
    assert await bench.sessions.active_of(CUSTOMER) == second


async def test_a_claim_without_a_session_does_not_lock_the_customer_out(office: Office, bench: Bench) -> None:
    lost = await office.book()
    await bench.raw.delete(bench.key(lost))

    session = await office.book(key="second")

    assert await bench.sessions.active_of(CUSTOMER) == session


# Not now


async def test_nothing_happens_while_the_gate_is_shut(office: Office, bench: Bench) -> None:
    session = await office.book()
    office.gate.shut()
    before = await contents(bench.url)

    for attempt in (office.execute(session.id, cmd.Accept(mechanic_id=ANA)), office.try_book(key="second")):
        with pytest.raises(Unavailable) as unavailable:
            await attempt
        assert (unavailable.value.code, unavailable.value.retry_after) == ("recovering", 2)

    assert await contents(bench.url) == before
    office.gate.open()
    assert (await office.execute(session.id, cmd.Accept(mechanic_id=ANA))).mechanic_id == ANA


async def test_an_absent_epoch_is_noticed(office: Office, bench: Bench) -> None:
    session = await office.book()
    await bench.raw.delete(keys.epoch(bench.shard(session)))

    with pytest.raises(Unavailable) as unavailable:
        await office.execute(session.id, cmd.Accept(mechanic_id=ANA))

    assert unavailable.value.code == "recovering"
    assert office.gate.suspected.is_set()


def people_of(shard: int) -> Iterator[str]:
    return (person for person in iter(new_id, "") if shard_of_user(person, SHARDS) == shard)


@pytest.mark.parametrize("room", [1, 3])
async def test_bookings_stop_where_the_record_is_too_far_behind(bench: Bench, room: int) -> None:
    office = Office(bench, policy=DispatchPolicy(journal_max=room))
    people = [person for shard in range(SHARDS) for person in islice(people_of(shard), 5)]
    outcomes = await asyncio.gather(*map(office.try_book, people), return_exceptions=True)

    refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
    assert {(u.code, u.retry_after) for u in refused} == {("journal_full", 5)}
    assert [await bench.raw.xlen(keys.journal(shard)) for shard in range(SHARDS)] == [room] * SHARDS
    assert len(refused) == (5 - room) * SHARDS
    # What is under way goes on.
    session = next(outcome[0] for outcome in outcomes if isinstance(outcome, tuple))
    assert session is not None
    assert (await office.execute(session.id, cmd.Accept(mechanic_id=ANA))).mechanic_id == ANA


# Offers and connections


async def priority(office: Office, *mechanics: str, wait: bool = False) -> Session:
    """Booked with the mechanics as the directory and presence know them."""
    known = await office.dispatcher.candidates(mechanics)
    return await office.book(
        asked=Wish(
            routing_type=RoutingType.SEQUENCE,
            wait=wait,
            candidates=tuple(known[m] for m in mechanics),
            default_window_ms=600_000,
        )
    )


async def arrive(office: Office, mechanic_id: str, connection: str) -> None:
    office.directory.add(mechanic_id)
    await office.bench.presence.connect(
        mechanic_id, connection, "node-1", status=Status.ONLINE, mechanic=True, limit=8
    )


async def test_candidates_are_who_they_are_and_where(office: Office, bench: Bench) -> None:
    await arrive(office, ANA, "phone")
    found = await office.dispatcher.candidates([ANA, BEN, ANA])

    ana = found[ANA]
    assert list(found) == [ANA, BEN]
    assert found[BEN] is None
    assert ana is not None
    assert (ana.approved, ana.status, [c.id for c in ana.connections]) == (True, Status.ONLINE, ["phone"])
    assert await office.dispatcher.candidates([]) == {}


async def test_an_offer_follows_its_mechanic(office: Office, bench: Bench) -> None:
    await arrive(office, ANA, "phone")
    session = await priority(office, ANA)
    assert session.target_connection == "phone"
    await arrive(office, ANA, "tablet")
    await bench.presence.disconnect(ANA, "phone", "node-1", grace_ms=10_000)

    await office.dispatcher.mechanic_moved(ANA, lost="phone")

    (moved,) = await bench.sessions.get([session.id])
    assert moved is not None
    assert moved.target_connection == "tablet"
    await assert_in_place(bench, moved)


async def test_the_next_favourite_is_asked_with_what_is_known_then(office: Office, bench: Bench) -> None:
    await arrive(office, ANA, "anas")
    await arrive(office, BEN, "old")
    session = await priority(office, ANA, BEN)
    await arrive(office, BEN, "new")
    await bench.presence.disconnect(BEN, "old", "node-1", grace_ms=10_000)

    session = await office.execute(session.id, cmd.Decline(ANA))

    assert (session.offered_to, session.target_connection) == (BEN, "new")
    await assert_in_place(bench, session)


async def test_nobody_waits_for_a_mechanic_who_left(office: Office, bench: Bench) -> None:
    await arrive(office, ANA, "phone")
    session = await priority(office, ANA)

    await office.dispatcher.mechanic_left(ANA)

    (opened,) = await bench.sessions.get([session.id])
    assert opened is not None
    assert opened.assignment_status is AssignmentStatus.OPEN
    await assert_in_place(bench, opened)
