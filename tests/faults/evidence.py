"""What the stores hold when everything is over, read without the hub's own code: it must not err alike."""

import json
import re
from collections.abc import Sequence
from typing import Any

import asyncpg
from msgspec import Struct
from redis.asyncio import Redis


class Row(Struct, frozen=True, kw_only=True):
    """A session with its assignment in Postgres. `key`: what its customer called the booking."""

    id: str
    customer_id: str
    key: str | None
    mechanic_id: str | None
    status: str
    version: int
    assignment_status: str
    assignment_version: int

    @property
    def active(self) -> bool:
        return self.status in ("pending", "waiting", "live", "scheduled")


class Recorded(Struct, frozen=True, kw_only=True):
    """A row of `session_events`."""

    event_id: str
    session_id: str
    type: str
    actor_id: str | None
    version: int
    data: dict[str, Any]


class Live(Struct, frozen=True, kw_only=True):
    """A session's hash in Redis."""

    id: str
    customer_id: str
    mechanic_id: str | None
    status: str
    assignment_status: str
    version: int


class Evidence(Struct, frozen=True, kw_only=True):
    """`claims` are by customer, `open` holds assignments, `deadlines` maps members to their time (ms).
    `unwritten`: how many journal entries wait; `buried`: dead letters with their errors."""

    rows: dict[str, Row] = {}
    events: Sequence[Recorded] = ()
    live: dict[str, Live] = {}
    claims: dict[str, str] = {}
    open: frozenset[str] = frozenset()
    deadlines: dict[str, int] = {}
    unwritten: int = 0
    buried: Sequence[str] = ()


_ROWS = """
SELECT s.id::text, s.customer_user_id::text AS customer_id, s.metadata ->> 'key' AS key, s.mechanic_id::text,
       s.status, s.version, a.status AS assignment_status, a.version AS assignment_version
FROM sessions s JOIN session_assignments a ON a.session_id = s.id
WHERE s.customer_user_id = ANY($1::text[]::uuid[])
"""
_EVENTS = """
SELECT event_id::text, session_id::text, type, actor_id::text, version, data
FROM session_events WHERE session_id = ANY($1::text[]::uuid[])
"""
_SESSION = re.compile(r"hub:\{\d+\}:session:(.+)")
_CLAIM = re.compile(r"hub:\{\d+\}:active:(.+)")


async def gather_evidence(postgres: asyncpg.Pool, redis: Redis, customers: Sequence[str]) -> Evidence:
    """Of these customers' sessions, and of whatever belongs to nobody."""
    found = await _keys(redis)
    live = {sid: _live(held) for sid, held in found.sessions.items() if held["customer_id"] in customers}
    rows = {row["id"]: Row(**dict(row)) for row in await postgres.fetch(_ROWS, list(customers))}
    mine = {*live, *rows}
    events = [
        Recorded(**{**dict(row), "data": json.loads(row["data"])})
        for row in await postgres.fetch(_EVENTS, list(mine))
    ]
    others = found.sessions.keys() - mine
    foreign = {subject for session_id in others for subject in (session_id, assignment_of(session_id))}
    return Evidence(
        rows=rows,
        events=events,
        live=live,
        claims={customer: sid for customer, sid in found.claims.items() if customer in customers},
        open=frozenset(found.open - foreign),
        deadlines={m: at for m, at in found.deadlines.items() if m.partition(":")[2] not in foreign},
        unwritten=found.unwritten,
        buried=[letter for letter in found.buried if any(session_id in letter for session_id in mine)],
    )


class _Keys(Struct):
    sessions: dict[str, dict[str, str]] = {}
    claims: dict[str, str] = {}
    open: set[str] = set()
    deadlines: dict[str, int] = {}
    unwritten: int = 0
    buried: list[str] = []


async def _keys(redis: Any) -> _Keys:  # redis-py leaves open whether an answer is text
    found = _Keys()
    async for name in redis.scan_iter("hub:{*}:*", count=1000):
        if match := _SESSION.fullmatch(name):
            if fields := await redis.hgetall(name):
                found.sessions[match[1]] = fields
        elif match := _CLAIM.fullmatch(name):
            if holder := await redis.get(name):
                found.claims[match[1]] = holder
        elif name.endswith(":open"):
            found.open.update(await redis.zrange(name, 0, -1))
        elif name.endswith(":deadlines"):
            found.deadlines |= {m: int(at) for m, at in await redis.zrange(name, 0, -1, withscores=True)}
        elif name.endswith(":journal"):
            found.unwritten += await redis.xlen(name)
        elif name.endswith(":journal:dead"):
            letters = await redis.xrange(name)
            found.buried += [f"{fields['error']}: {fields['events']}" for _, fields in letters]
    return found


def assignment_of(session_id: str) -> str:
    """The documented relation of the two ids: the first bit flipped."""
    return f"{int(session_id[0], 16) ^ 8:x}{session_id[1:]}"


def _live(fields: dict[str, str]) -> Live:
    return Live(
        id=fields["id"],
        customer_id=fields["customer_id"],
        mechanic_id=fields.get("mechanic_id"),
        status=fields["status"],
        assignment_status=fields["assignment_status"],
        version=int(fields["version"]),
    )
