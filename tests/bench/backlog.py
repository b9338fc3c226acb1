"""Many bookings at once: decided by the hub's own rules and committed by its own script, but not asked for by
HTTP, so that a hundred thousand take seconds and not minutes."""

import asyncio
from collections.abc import Callable, Sequence

from hub.domain import commands as cmd
from hub.domain.decide import decide
from hub.domain.ids import new_id, new_session_id
from hub.domain.model import (
    AssignmentStatus,
    Candidate,
    Payment,
    RoutingType,
    Session,
    SessionStatus,
    SessionType,
    Status,
)
from hub.domain.plan import Wish
from hub.domain.records import BookingSnapshot, Outcome
from persistence.redis.client import RedisClient
from persistence.redis.sessions import RedisSessions
from tests.bench import people

HOUR_MS = 3_600_000
_BATCH = 256


class Backlog:
    def __init__(self, redis_url: str, shards: int, first_customer: int = 100_000_000) -> None:
        self._client = RedisClient(redis_url)
        self._sessions = RedisSessions(self._client, shards)
        self._shards = shards
        self._customer = first_customer

    async def close(self) -> None:
        await self._client.close()

    async def now(self) -> int:
        """The store's clock, ms."""
        seconds, micros = await self._client.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def deadlines(self, until: int | None = None) -> int:
        """How many are set, or are due by then."""
        top = "+inf" if until is None else until
        keys = [f"hub:{{{shard}}}:deadlines" for shard in range(self._shards)]
        return sum(await self._client.calls([("ZCOUNT", key, "-inf", top) for key in keys]))

    async def offers(
        self, count: int, due: Callable[[int], int], mechanic: Callable[[int], int]
    ) -> dict[str, int]:
        """Priority requests whose windows end at `due(number)`, each a mechanic's turn; assignment → due."""
        made: dict[str, int] = {}

        def wish(number: int, now: int) -> Wish:
            candidate = Candidate(mechanic_id=people.mechanic_id(mechanic(number)), status=Status.ONLINE)
            return Wish(
                routing_type=RoutingType.PRIORITY,
                preferred=True,
                candidates=(candidate,),
                window_ms=due(number) - now,
                default_window_ms=HOUR_MS,
            )

        for session in await self._book(count, wish):
            assert session.expires_at is not None
            made[session.assignment_id] = session.expires_at
        return made

    async def open_to_all(self, count: int) -> None:
        """Requests that everyone may take."""
        await self._book(count, lambda number, now: Wish(default_window_ms=HOUR_MS))

    async def _book(self, count: int, wish: Callable[[int, int], Wish]) -> Sequence[Session]:
        epochs = await self._sessions.epochs()
        booked: list[Session] = []
        for start in range(0, count, _BATCH):
            now = await self.now()
            numbers = range(start, min(start + _BATCH, count))
            booked += await asyncio.gather(*(self._one(wish(n, now), now, epochs) for n in numbers))
        return booked

    async def _one(self, wish: Wish, now: int, epochs: Sequence[str | None]) -> Session:
        self._customer += 1
        customer = people.customer_id(self._customer)
        draft = Session(
            id=new_session_id(customer),
            customer_id=customer,
            session_type=SessionType.CHAT,
            plan_code="free",
            payment=Payment.FREE,
            status=SessionStatus.PENDING,
            assignment_status=AssignmentStatus.OPEN,
            created_at=0,
            updated_at=0,
            orphan_at=0,
            version=0,
        )
        command = cmd.Book(draft=draft, wish=wish, actor_id=customer, orphan_ms=2 * HOUR_MS)
        known = {c.mechanic_id: c for c in wish.candidates if c is not None}
        decision = decide(None, command, now, candidates=known, notify_timeout_ms=2 * HOUR_MS)
        epoch = epochs[self._sessions.shard(draft.id)]
        snapshot = BookingSnapshot(now=now, epoch=epoch or "", session=None)
        outcome, _ = await self._sessions.commit(snapshot, decision, command_id=new_id())
        if outcome is not Outcome.COMMITTED:
            raise RuntimeError(f"a booking of the backlog was not committed: {outcome}")
        return decision.session
