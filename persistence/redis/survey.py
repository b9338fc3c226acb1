"""Looking through all of Redis in bounded steps, for what has no index or has lost its place in one."""

import re
from collections.abc import Iterable, Sequence

import msgpack  # type: ignore[import-untyped]  # ships neither stubs nor a marker
import msgspec

from hub.domain.footprint import footprint
from hub.domain.ids import canonical, session_of, shard_of_session, shard_of_user
from hub.domain.model import Session
from hub.domain.records import Ghost, Looked, Places
from persistence.redis import keys, scripts
from persistence.redis.client import RedisClient
from persistence.redis.codec import session_from, whole

_SCAN_COUNT = 500
_PLACES = "hub:{*}:[sacowl]*"
"""Sessions, claims (active), offers and open, work, live, connections; few other keys begin so."""
_PLACE = re.compile(r"hub:\{(\d+)\}:(session|active|open|offers|work|live|conns)(?::([0-9a-f-]{36}))?")


class RedisSurvey:
    def __init__(self, client: RedisClient, shards: int) -> None:
        self._client = client
        self.shards = shards

    async def walk(self, cursor: str) -> tuple[str, Places]:
        """One step through the keyspace: (where to go on, '0' at the end; what was found)."""
        following, names = await self._client.call("SCAN", cursor, "MATCH", _PLACES, "COUNT", _SCAN_COUNT)
        found: dict[str, list[tuple[int, str]]] = {}
        for name in names:
            if match := _PLACE.fullmatch(name):
                found.setdefault(match[2], []).append((int(match[1]), match[3] or ""))
        sessions = tuple(rest for shard, rest in found.get("session", ()) if self._shard(rest) == shard)
        return str(following), Places(
            sessions=sessions,
            claims=tuple(rest for _, rest in found.get("active", ())),
            open=tuple(shard for shard, _ in found.get("open", ())),
            offers=tuple(found.get("offers", ())),
            work=tuple({rest for kind in ("work", "live") for _, rest in found.get(kind, ())}),
            connected=tuple(rest for _, rest in found.get("conns", ())),
        )

    async def align(self, session: Session, epoch: str) -> Sequence[str]:
        """Put the session's places in its shard right; what was wrong, nothing where it has moved on."""
        shard, marks = shard_of_session(session.id, self.shards), footprint(session)
        kinds = {"orphan": session.id, "offer": session.assignment_id, "notify": session.assignment_id}
        members = [f"{kind}:{subject}" for kind, subject in kinds.items()]
        plan = {
            "epoch": epoch,
            "version": session.version,
            "prefix": keys.session(shard, ""),
            "session": session.id,
            "assignment": session.assignment_id,
            "claim": marks.claim,
            "deadlines": [part for member, due in marks.deadlines.items() for part in (str(due), member)],
            "none": [member for member in members if member not in marks.deadlines] or [""],
            "open": marks.open_at or 0,
            "offered": bool(marks.offered_to),
        }
        wrong: Sequence[str] = await self._client.run(
            scripts.ALIGN,
            [
                keys.epoch(shard),
                keys.session(shard, session.id),
                keys.active(shard, session.customer_id),
                keys.deadlines(shard),
                keys.open_requests(shard),
                keys.offers(shard, marks.offered_to or ""),
            ],
            msgpack.packb(plan),
        )
        return wrong

    async def sessions(self, session_ids: Sequence[str]) -> Looked:
        commands = [("HGETALL", keys.session(self._shard(sid), sid)) for sid in session_ids]
        found: dict[str, Session] = {}
        unread: dict[bool, set[str]] = {True: set(), False: set()}
        for session_id, fields in zip(session_ids, await self._client.calls(commands), strict=True):
            try:
                session = session_from(fields)
            except (msgspec.ValidationError, ValueError):
                unread[whole(fields)].add(session_id)
            else:
                if session is not None:
                    found[session_id] = session
        return Looked(found=found, broken=frozenset(unread[False]), newer=frozenset(unread[True]))

    async def absent(self, session_ids: Sequence[str]) -> set[str]:
        commands = [("EXISTS", keys.session(self._shard(sid), sid)) for sid in session_ids]
        replies = await self._client.calls(commands)
        return {sid for sid, there in zip(session_ids, replies, strict=True) if not there}

    async def claims(self, customer_ids: Sequence[str]) -> dict[str, str]:
        """Customer → the session that has their claim."""
        commands = [("GET", keys.active(shard_of_user(c, self.shards), c)) for c in customer_ids]
        replies = await self._client.calls(commands)
        return {c: sid for c, sid in zip(customer_ids, replies, strict=True) if sid}

    async def release(self, customer_id: str, session_id: str) -> bool:
        """Drop the claim if its session does not exist; whether it was so."""
        shard = shard_of_user(customer_id, self.shards)
        return bool(await self._drop(shard, keys.active(shard, customer_id), [(session_id, session_id)]))

    async def drop_ghosts(self, places: Places, shards: frozenset[int]) -> list[Ghost]:
        """Remove from indexes of these shards what names sessions that do not exist."""
        dropped: list[Ghost] = []
        for shard in shards.intersection(places.open):
            cursor = "0"
            while True:
                cursor, members = await self._client.call(
                    "ZSCAN", keys.open_requests(shard), cursor, "COUNT", _SCAN_COUNT
                )
                pairs = [_assigned(member) for member in members[::2]]
                found = await self._drop(shard, keys.open_requests(shard), pairs)
                dropped += [Ghost(what="open_left", session_id=sid) for sid in found]
                if str(cursor) == "0":
                    break
        for shard, mechanic_id in places.offers:
            if shard in shards:
                key = keys.offers(shard, mechanic_id)
                members = await self._client.call("SMEMBERS", key)
                found = await self._drop(shard, key, [_assigned(member) for member in members])
                dropped += [Ghost(what="offer_left", session_id=sid) for sid in found]
        return dropped

    async def work(self, mechanic_ids: Sequence[str]) -> dict[str, tuple[set[str], set[str]]]:
        """(sessions that each mechanic is noted to hold, those of them that are live)."""
        commands = [
            ("SMEMBERS", key(shard_of_user(m, self.shards), m))
            for m in mechanic_ids
            for key in (keys.work, keys.live)
        ]
        replies = await self._client.calls(commands)
        return {
            m: (set(held), set(live))
            for m, held, live in zip(mechanic_ids, replies[::2], replies[1::2], strict=True)
        }

    async def owed(self, mechanic_id: str, session_id: str) -> bool:
        """Whether a deadline will look at what the mechanic holds of the session anyway."""
        member = f"work:{session_id}:{mechanic_id}"
        shards = {self._shard(session_id), shard_of_user(mechanic_id, self.shards)}
        scores = await self._client.calls([("ZSCORE", keys.deadlines(s), member) for s in shards])
        return any(score is not None for score in scores)

    async def present(self, shards: Iterable[int]) -> set[str]:
        """Mechanics who look present to others."""
        commands = [
            ("ZRANGE", index(shard), 0, -1)
            for shard in shards
            for index in (keys.online, keys.busy, keys.away)
        ]
        return {member for members in await self._client.calls(commands) for member in members}

    async def abandoned(self, mechanic_ids: Sequence[str]) -> list[str]:
        """Mechanics who look present without a connection, and whom no grace period will end."""
        commands: list[tuple[str, ...]] = []
        for m in mechanic_ids:
            shard = shard_of_user(m, self.shards)
            commands += [
                ("HGET", keys.presence(shard, m), "effective"),
                ("HLEN", keys.conns(shard, m)),
                ("ZSCORE", keys.deadlines(shard), f"grace:{m}"),
            ]
        replies = await self._client.calls(commands)
        facts = zip(mechanic_ids, replies[::3], replies[1::3], replies[2::3], strict=True)
        return [
            m for m, seen, conns, due in facts if seen not in (None, "offline") and not conns and due is None
        ]

    async def end_grace(self, mechanic_id: str, due: int) -> None:
        """Let the sweeper look whether the mechanic is there."""
        shard = shard_of_user(mechanic_id, self.shards)
        await self._client.call("ZADD", keys.deadlines(shard), "NX", due, f"grace:{mechanic_id}")

    async def _drop(self, shard: int, place: str, pairs: Sequence[tuple[str, str]]) -> list[str]:
        if not pairs:
            return []
        arguments = [part for pair in pairs for part in pair]
        removed: list[str] = await self._client.run(
            scripts.GHOSTS, [place], keys.session(shard, ""), *arguments
        )
        return removed

    def _shard(self, session_id: str) -> int:
        return shard_of_session(session_id, self.shards)


def _assigned(member: str) -> tuple[str, str]:
    """(session, the assignment that stands for it); what is no id stands for nothing that exists."""
    return (session_of(member) if canonical(member) else "", member)
