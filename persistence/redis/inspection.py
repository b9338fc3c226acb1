"""What operators look at in Redis: counts, running offers, entries that wait or were refused. All bounded."""

import asyncio
import re
from typing import Any

from hub.domain.errors import Refused
from hub.domain.ids import session_of, shard_of_session
from hub.domain.model import Event, Session
from hub.domain.overview import LiveState, NodeState, PresenceCounts, SessionCounts
from hub.domain.records import FORK, DeadLetter
from persistence.redis import keys, scripts
from persistence.redis.client import RedisClient
from persistence.redis.codec import session_from
from persistence.redis.journal import entry_from

_PAGE = 500
_NODES = 200
_DEADLINES = 20_000
"""Deadlines a shard that are counted by kind; a shard with more looks quieter than it is."""
_LETTER = re.compile(r"(\d{1,5})-(\d{1,15})-(\d{1,15})", re.ASCII)


class RedisInspection:
    def __init__(self, client: RedisClient, shards: int) -> None:
        self._client = client
        self.shards = shards

    async def overview(self, offers: int) -> LiveState:
        """The live state now, with the `offers` that end soonest."""
        shards = range(self.shards)
        ask = self._client.calls
        seconds, micros = await self._client.call("TIME")
        now = int(seconds) * 1000 + int(micros) // 1000
        deadlines, running = await self._deadlines(offers)
        heads = await ask([("ZRANGE", keys.open_requests(s), 0, 0, "WITHSCORES") for s in shards])
        is_open = sum(await ask([("ZCARD", keys.open_requests(s)) for s in shards]))
        offered, orphans = sum(d[2] for d in deadlines), sum(d[3] for d in deadlines)
        live = sum(await ask([("SCARD", keys.started(s)) for s in shards]))
        pending = offered + is_open
        return LiveState(
            now=now,
            nodes=await self._nodes(),
            presence=PresenceCounts(
                online=sum(await ask([("ZCARD", keys.online(s)) for s in shards])),
                busy=sum(await ask([("ZCARD", keys.busy(s)) for s in shards])),
                away=sum(await ask([("ZCARD", keys.away(s)) for s in shards])),
            ),
            sessions=SessionCounts(pending=pending, waiting=max(0, orphans - pending), live=live),
            offers=running,
            offers_total=offered,
            open=is_open,
            oldest_open_at=min((_ms(head[0][1]) for head in heads if head), default=None),
            deadlines=sum(d[0] for d in deadlines),
            next_due=min((_ms(d[1]) for d in deadlines if d[1]), default=None),
            unrecorded=sum(await ask([("XLEN", keys.journal(s)) for s in shards])),
            dead=sum(await ask([("XLEN", keys.journal_dead(s)) for s in shards])),
        )

    async def unrecorded(self, session_id: str, since: int) -> list[Event]:
        """Events of a session, from a time (ms) on, that wait in its shard's journal or were refused.

        Without forks: what they tell of is another past than the record's.
        """
        shard = shard_of_session(session_id, self.shards)
        # The journal first: what is buried meanwhile is met at least once.
        waiting = await self._events(shard, keys.journal(shard), session_id, since)
        return waiting + await self._events(shard, keys.journal_dead(shard), session_id, since)

    async def dead_letters(self, limit: int, *, before: tuple[int, str] | None = None) -> list[DeadLetter]:
        """Newest first, from before a (time, id) on."""
        top = _place(before[1]) if before else None
        if before and top is None:
            return []
        commands = [
            ("XREVRANGE", keys.journal_dead(s), _below(top, s), "-", "COUNT", limit)
            for s in range(self.shards)
        ]
        replies = await self._client.calls(commands)
        found = [_letter(s, *entry) for s, page in enumerate(replies) for entry in page]
        found.sort(key=lambda letter: _place(letter.id) or (), reverse=True)
        return found[:limit]

    async def retry(self, letter_id: str) -> str | None:
        """Put it back into the journal: the entry's new id, None where there is no such letter.

        Raises `Refused` for a fork, which would add another past to the one on record.
        """
        place = _place(letter_id)
        if place is None or place[2] >= self.shards:
            return None
        time, number, shard = place
        entry_id = f"{time}-{number}"
        dead = keys.journal_dead(shard)
        for found in await self._client.call("XRANGE", dead, entry_id, entry_id):
            if _letter(shard, *found).error == FORK:
                raise Refused("invalid_state", "It tells of another past than the record, which stands.")
        # Once: a second attempt after a lost reply would find nothing, and say so of one that went well.
        entry = await self._client.run(scripts.RETRY, [dead, keys.journal(shard)], entry_id, once=True)
        return str(entry) or None

    async def _events(self, shard: int, stream: str, session_id: str, since: int) -> list[Event]:
        found: list[Event] = []
        start = str(since)
        while True:
            page = await self._client.call("XRANGE", stream, start, "+", "COUNT", _PAGE)
            for entry_id, fields in page:
                flat = _flat(fields)
                # Most entries are of other sessions, and need not be read.
                if flat.get("error") != FORK and any(session_id in part for part in flat.values()):
                    events = entry_from(shard, entry_id, flat).events
                    found += [event for event in events if event.session_id == session_id]
            if len(page) < _PAGE:
                return found
            start = f"({page[-1][0]}"

    async def _nodes(self) -> tuple[NodeState, ...]:
        leases = await self._client.call("ZRANGE", keys.NODES, 0, _NODES - 1, "WITHSCORES")
        facts = await self._client.calls(
            [("HMGET", keys.node(n), "host", "pid", "version", "started_at") for n, _ in leases]
        )
        connections = await self._client.calls([("HLEN", keys.node_conns(n)) for n, _ in leases])
        return tuple(
            NodeState(
                id=node,
                host=host,
                pid=int(pid) if pid else None,
                version=version,
                started_at=int(started_at) if started_at else None,
                lease_expires_at=_ms(expiry),
                connections=count,
            )
            for (node, expiry), (host, pid, version, started_at), count in zip(
                leases, facts, connections, strict=True
            )
        )

    async def _deadlines(self, offers: int) -> tuple[list[list[Any]], tuple[Session, ...]]:
        """(what each shard's script says, the sessions whose offers end soonest)."""
        tallies = await asyncio.gather(
            *(
                self._client.run(scripts.TALLY, [keys.deadlines(s)], _DEADLINES, offers)
                for s in range(self.shards)
            )
        )
        listed = sorted(
            (_ms(due), member.removeprefix("offer:"))
            for tally in tallies
            for member, due in zip(tally[4::2], tally[5::2], strict=True)
        )
        ids = [session_of(assignment_id) for _, assignment_id in listed[:offers]]
        hashes = await self._client.calls(
            [("HGETALL", keys.session(shard_of_session(sid, self.shards), sid)) for sid in ids]
        )
        running = [session_from(fields) for fields in hashes]
        return tallies, tuple(s for s in running if s is not None and s.offered_to)


def _letter(shard: int, entry_id: str, fields: Any) -> DeadLetter:
    flat = _flat(fields)
    return DeadLetter(
        id=f"{shard}-{entry_id}",
        at=int(entry_id.partition("-")[0]),
        error=flat["error"],
        entry=entry_from(shard, entry_id, flat),
    )


def _place(letter_id: str) -> tuple[int, int, int] | None:
    """(time, number, shard), by which letters are ordered; None: there can be no such letter."""
    match = _LETTER.fullmatch(letter_id)
    return (int(match[2]), int(match[3]), int(match[1])) if match else None


def _below(place: tuple[int, int, int] | None, shard: int) -> str:
    """Where a shard's letters before this place begin, as a bound of XREVRANGE."""
    if place is None:
        return "+"
    time, number, top = place
    return f"{time}-{number}" if shard < top else f"({time}-{number}"


def _flat(fields: Any) -> dict[str, str]:
    return fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))


def _ms(score: str | float) -> int:
    return int(float(score))
