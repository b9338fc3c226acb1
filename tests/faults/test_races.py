"""People who do the same thing in the same moment, by several nodes: one is first, everyone is told so."""

import asyncio
import itertools
import random

from hub.client import HubSocket
from tests.faults.cluster import Cluster
from tests.faults.crowd import GONE
from tests.faults.scene import Actor, Ear, first, scene


async def test_two_hundred_mechanics_accept_at_once_over_three_nodes(cluster: Cluster) -> None:
    async with scene(cluster) as people:
        ears, mia = await people.mechanics(200), people.customer()
        session = await mia.book()
        await asyncio.gather(*(ear.offer(session) for ear in ears))

        answers = await asyncio.gather(*(ear.actor.answer("accept", session["id"]) for ear in ears))

        (winner,) = [ear.actor.id for ear, answer in zip(ears, answers, strict=True) if answer]
        refusals = {o.code for o in people.history.operations if o.what == "accept" and o.who != winner}
        assert refusals == {"taken"}
        mine = await mia.persist(lambda hub: hub.active_session())
        assert mine["session"]["mechanic_id"] == winner


async def test_favourites_accept_around_their_deadlines(cluster: Cluster) -> None:
    """From two milliseconds before to two after, while a rival takes whatever becomes free."""
    async with scene(cluster) as people:
        (rival, *favourites) = await people.mechanics(25)
        pairs = [(ear, people.customer()) for ear in favourites]
        sessions = await asyncio.gather(*(mia.prefer(ear.actor) for ear, mia in pairs))

        async def at_the_last_moment(ear: Ear, session_id: str, offset: float) -> None:
            offer = await ear.event("priority_session_request")
            await asyncio.sleep(offer["expires_in_ms"] / 1000 + offset)
            await ear.actor.answer("accept", session_id)

        async def take(session: dict[str, str]) -> None:
            await first(rival.offer(session), won(session["id"]))
            await rival.actor.answer("accept", session["id"])
            await rival.actor.answer("release", session["id"])

        async def won(session_id: str) -> None:
            favourite = favourites[[s["id"] for s in sessions].index(session_id)]
            await favourite.event("assignment_accepted")

        offsets = itertools.cycle((-0.002, -0.001, 0.0, 0.001, 0.002))
        await asyncio.gather(
            *(
                at_the_last_moment(ear, session["id"], offset)
                for ear, session, offset in zip(favourites, sessions, offsets, strict=False)
            ),
            *(take(session) for session in sessions),
        )


async def test_an_accept_meets_a_cancellation(cluster: Cluster) -> None:
    async with scene(cluster) as people:
        ears = await people.mechanics(20)
        pairs = [(ear, people.customer()) for ear in ears]
        sessions = await asyncio.gather(*(mia.prefer(ear.actor) for ear, mia in pairs))
        await asyncio.gather(*(ear.event("priority_session_request") for ear in ears))

        asked = [
            (ear.actor.answer("accept", s["id"]), mia.end(s["id"]))
            for (ear, mia), s in zip(pairs, sessions, strict=True)
        ]
        answers = await asyncio.gather(*itertools.chain.from_iterable(asked))

        assert all(answers[1::2]), "a customer may always go"
        refusals = {o.code for o in people.history.operations if o.outcome == "refused"}
        assert refusals <= {"cancelled"}


async def test_an_accept_is_lost_with_its_connection_and_repeated(cluster: Cluster) -> None:
    async with scene(cluster) as people:
        ears = await people.mechanics(20)
        pairs = [(ear, people.customer()) for ear in ears]
        sessions = await asyncio.gather(*(mia.prefer(ear.actor) for ear, mia in pairs))

        async def lose_and_repeat(ear: Ear, session: dict[str, str]) -> None:
            offer = await ear.event("priority_session_request")
            asking = asyncio.create_task(
                ear.socket.request("accept", assignment_id=offer["request"]["assignment"]["id"])
            )
            await asyncio.sleep(0)  # it is said
            ear.socket.abort()
            await asyncio.gather(asking, return_exceptions=True)
            assert await ear.actor.answer("accept", session["id"])

        await asyncio.gather(*(lose_and_repeat(ear, s) for ear, s in zip(ears, sessions, strict=True)))


async def test_descriptors_are_reused_while_frames_are_on_their_way(cluster: Cluster) -> None:
    """Sockets go without a goodbye and others come in their place, all the time; frames are for one each."""
    node = cluster.nodes[0]
    dice = random.Random(7)
    async with scene(cluster) as people:
        favourites = await people.mechanics(10)
        customers = [people.customer() for _ in range(10)]

        async def come_and_go(somebody: Actor, until: asyncio.Event) -> None:
            while not until.is_set():
                try:
                    socket = await HubSocket.connect(node.url, somebody.token)
                except GONE:
                    continue
                events = socket.events()
                for event in [await anext(events, None) for _ in range(dice.randrange(2))]:
                    if event is not None:
                        people.history.heard(somebody.id, somebody.role, event)
                socket.abort()
                await socket.close()

        async def book_and_end(mia: Actor, ear: Ear) -> None:
            for nth in range(10):
                session = await mia.prefer(ear.actor, key=f"booking-{nth}")
                await mia.end(session["id"])

        over = asyncio.Event()
        comers = [asyncio.create_task(come_and_go(mia, over)) for mia in customers for _ in range(2)]
        await asyncio.gather(
            *(book_and_end(mia, ear) for mia, ear in zip(customers, favourites, strict=True))
        )
        over.set()
        for mia in customers:
            # Whoever waits for an event gets one.
            await mia.end((await mia.book("the last"))["id"])
        await asyncio.gather(*comers)


async def test_a_thousand_sockets_come_back_at_once(cluster: Cluster) -> None:
    async with scene(cluster) as people:
        ears = await people.mechanics(1_000)
        for ear in ears:
            ear.socket.abort()
        places = zip(ears, itertools.cycle(reversed(cluster.nodes)), strict=False)
        again = await asyncio.gather(*(ear.actor.connect(node) for ear, node in places))

        mia = people.customer()
        session = await mia.book()
        await asyncio.gather(*(ear.offer(session) for ear in again))
        for ear in again:
            assert [event["event"] for event in ear.heard].count("new_assignment") == 1
