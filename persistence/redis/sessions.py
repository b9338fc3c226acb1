"""Sessions in Redis: load at one moment, commit by compare-and-set, list what is open, offered or due."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from hub.domain.decision import Decision
from hub.domain.errors import Recovering
from hub.domain.footprint import Footprint, footprint
from hub.domain.ids import assignment_of, session_of, shard_of_session, shard_of_user
from hub.domain.model import FINISHED_KEYS_LIVE_MS, Session
from hub.domain.records import BookingSnapshot, Due, Outcome, Restoration, Restored, Snapshot
from persistence.redis import keys, scripts
from persistence.redis.client import RedisClient
from persistence.redis.codec import changes, session_from
from persistence.redis.live import readable, restore, scored
from persistence.redis.together import Together

COMMIT_WITHIN_MS = 3_000
"""A commit that reaches the store later than this after its load is refused: its author has given up."""

_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()


class RedisSessions:
    def __init__(self, client: RedisClient, shards: int) -> None:
        self._client = client
        self.shards = shards
        self._offers = Together(self._offered_to)
        self._newest = Together(self._open_newest)

    def shard(self, session_id: str) -> int:
        return shard_of_session(session_id, self.shards)

    async def load(self, session_id: str) -> Snapshot:
        shard = self.shard(session_id)
        reply = await self._client.run(
            scripts.LOAD,
            [keys.epoch(shard), keys.session(shard, session_id), keys.declined(shard, session_id)],
            keys.session(shard, ""),
            run=self._client.trusted,
        )
        now, epoch, fields, declined = reply[:4]
        return Snapshot(now=now, epoch=epoch, session=session_from(fields), declined=frozenset(declined))

    async def load_booking(
        self, customer_id: str, session_id: str, *, earlier_id: str | None = None
    ) -> BookingSnapshot:
        """Also the customer's active session, what was booked under the same Idempotency-Key, and whether it
        was booked as `earlier_id`."""
        shard = self.shard(session_id)
        places = [
            keys.epoch(shard),
            keys.session(shard, session_id),
            keys.declined(shard, session_id),
            keys.active(shard, customer_id),
            keys.idempotency(shard, session_id),
        ]
        if earlier_id is not None:
            places += [keys.session(shard, earlier_id), keys.idempotency(shard, earlier_id)]
        now, epoch, fields, _, held_id, held, fingerprint, earlier = await self._client.run(
            scripts.LOAD,
            places,
            keys.session(shard, ""),
            run=self._client.trusted,
        )
        return BookingSnapshot(
            now=now,
            epoch=epoch,
            session=session_from(fields),
            held_id=held_id or None,
            held=session_from(held),
            fingerprint=fingerprint or None,
            earlier=bool(earlier),
        )

    async def commit(
        self,
        snapshot: Snapshot,
        decision: Decision,
        *,
        command_id: str,
        hints: Sequence[str] = (),
        journal_max: int = 0,
        owed: Iterable[tuple[str, int]] = (),
    ) -> tuple[Outcome, str]:
        """Write the decision if nothing has changed since the snapshot.

        `owed` are further deadlines (member, due) for effects outside the session's shard. The second part of
        the answer is the journal entry's id, or for `held` the session that the customer has.
        """
        session = decision.session
        shard = self.shard(session.id)
        before, after = footprint(snapshot.session), footprint(session)
        plan = _plan(snapshot, decision, before, after)
        plan |= {"command": command_id, "journal_max": journal_max, "hints": list(hints)}
        plan["journal"] += ["command", command_id]
        for member, due in owed:
            plan["deadlines"] += [str(due), member]
        leaving = before.offered_to or after.offered_to or ""
        reply = await self._client.run(
            scripts.COMMIT,
            [
                keys.epoch(shard),
                keys.session(shard, session.id),
                keys.declined(shard, session.id),
                keys.active(shard, session.customer_id),
                keys.deadlines(shard),
                keys.open_requests(shard),
                keys.journal(shard),
                keys.bus(shard),
                keys.idempotency(shard, session.id),
                keys.offers(shard, leaving),
                keys.offers(shard, after.offered_to or leaving),
            ],
            _msgpack.encode(plan),
            once=True,
        )
        return Outcome(reply[0]), reply[1] if len(reply) > 1 else ""

    async def get(self, session_ids: Sequence[str]) -> list[Session | None]:
        commands = [("HGETALL", keys.session(self.shard(sid), sid)) for sid in session_ids]
        replies = await self._read(commands)
        return [session_from(fields) for fields in replies]

    async def active_of(self, customer_id: str) -> Session | None:
        shard = shard_of_user(customer_id, self.shards)
        (session_id,) = await self._read([("GET", keys.active(shard, customer_id))])
        return (await self.get([session_id]))[0] if session_id else None

    async def offered_to(self, mechanic_id: str) -> list[Session]:
        """The sessions whose turn is this mechanic's."""
        return await self._offers.ask(mechanic_id)

    async def _offered_to(self, mechanic_ids: Sequence[str]) -> dict[str, list[Session]]:
        """A command a shard, however many ask: when everybody comes back at once, this is most of what they
        want to know, and mostly nothing."""
        commands = [
            ("SUNION", *(keys.offers(shard, mechanic_id) for mechanic_id in mechanic_ids))
            for shard in range(self.shards)
        ]
        found: dict[str, list[Session]] = {mechanic_id: [] for mechanic_id in mechanic_ids}
        members = {member for part in await self._read(commands) for member in part}
        for session in await self.get([session_of(member) for member in members]):
            if session is not None and session.offered_to in found:
                found[session.offered_to].append(session)
        return found

    async def held_by(self, mechanic_id: str) -> list[Session]:
        shard = shard_of_user(mechanic_id, self.shards)
        (members,) = await self._read([("SMEMBERS", keys.work(shard, mechanic_id))])
        return [s for s in await self.get(list(members)) if s is not None and s.held_by == mechanic_id]

    async def open(self, limit: int, *, before: tuple[int, str] | None = None) -> list[Session]:
        """Open requests, newest first, from before a (opened at, assignment) on."""
        return await (self._newest.ask(limit) if before is None else self._open(limit, before))

    async def _open_newest(self, limits: Sequence[int]) -> dict[int, list[Session]]:
        longest = await self._open(max(limits))
        return {limit: longest[:limit] for limit in limits}

    async def _open(self, limit: int, before: tuple[int, str] | None = None) -> list[Session]:
        top = f"{before[0]}" if before else "+inf"
        slack = 64 if before else 0
        places = await self._places(top, "-inf", "BYSCORE", "REV", "LIMIT", 0, limit + slack)
        places = sorted((place for place in places if before is None or place < before), reverse=True)
        listed: list[Session] = []
        # Only those that are wanted are read; some may have closed meanwhile, and the next take their place.
        for start in range(0, len(places), limit):
            found = await self.get([session_of(member) for _, member in places[start : start + limit]])
            listed += [session for session in found if session is not None and session.open_at is not None]
            if len(listed) >= limit:
                break
        return listed[:limit]

    async def opened(self, earliest: int, latest: int) -> list[str]:
        """The sessions that are open since a moment in this time, oldest first."""
        places = await self._places(earliest, latest, "BYSCORE")
        return [session_of(member) for _, member in sorted(places)]

    async def _places(self, *how: str | int) -> list[tuple[int, str]]:
        """(opened at, assignment) of open requests, of each shard as asked for."""
        commands = [("ZRANGE", keys.open_requests(shard), *how, "WITHSCORES") for shard in range(self.shards)]
        return [(int(float(at)), member) for part in await self._read(commands) for member, at in part]

    async def declined_by(self, mechanic_id: str, sessions: Sequence[Session]) -> set[str]:
        """Those of the sessions that this mechanic has declined."""
        if not sessions:
            return set()
        commands = [("SISMEMBER", keys.declined(self.shard(s.id), s.id), mechanic_id) for s in sessions]
        replies = await self._read(commands)
        return {s.id for s, declined in zip(sessions, replies, strict=True) if declined}

    async def _read(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The replies of the server whose data was examined; raises `Recovering` where it has lost it since:
        then nothing that is absent is known to be absent."""
        *replies, examined = await self._client.calls(
            [*commands, ("GET", keys.RUN)], run=self._client.trusted
        )
        if examined is None:
            raise Recovering
        return replies

    async def heads(self, shards: Iterable[int]) -> list[int | None]:
        """When the earliest deadline of each shard is due."""
        commands = [("ZRANGE", keys.deadlines(shard), 0, 0, "WITHSCORES") for shard in shards]
        replies = await self._client.calls(commands)
        return [int(float(reply[0][1])) if reply else None for reply in replies]

    async def due(self, shard: int, limit: int) -> Due:
        now, head, epoch, *found = await self._client.run(
            scripts.DUE,
            [keys.deadlines(shard), keys.epoch(shard)],
            *(limit, keys.session(shard, ""), keys.declined(shard, "")),
            run=self._client.trusted,
        )
        known = {
            member: Snapshot(now=now, epoch=epoch, session=session, declined=frozenset(decliners))
            for member, _, fields, decliners in found
            if (session := readable(fields)) is not None
        }
        members = tuple((member, int(float(at))) for member, at, *_ in found)
        return Due(now=now, members=members, known=known, head=int(float(head)) if head else None)

    async def settle(self, shard: int, member: str, due: int, moved_to: int | None = None) -> bool:
        """Remove or move a deadline, unless somebody else moved it since it was seen."""
        new = "" if moved_to is None else moved_to
        reply = await self._client.run(scripts.SETTLE, [keys.deadlines(shard)], member, due, new)
        return bool(reply == "settled")

    async def settle_work(self, session: Session, member: str, due: int) -> bool:
        """Remove a deadline of the session's shard, unless the session has changed; whether it had not."""
        shard = self.shard(session.id)
        places = [keys.deadlines(shard), keys.session(shard, session.id)]
        reply = await self._client.run(scripts.SETTLE, places, member, due, "", session.version)
        return bool(reply != "changed")

    async def offered_now(self, shard: int) -> list[Session]:
        """Every session of the shard that is some mechanic's turn."""
        members = await self._client.call("ZRANGE", keys.deadlines(shard), 0, -1)
        ids = [session_of(m.removeprefix("offer:")) for m in members if m.startswith("offer:")]
        return [s for s in await self.get(ids) if s is not None and s.offered_to]

    async def restore(self, session: Session, recorded: int) -> bool:
        """Enter a session as the record has it in the version `recorded`, unless it is known here as new, or
        its customer has another one."""
        wanted = Restoration(session=session, recorded=recorded)
        (outcome,) = await restore(self._client, self.shards, [wanted])
        return outcome is Restored.RESTORED

    async def epochs(self) -> list[str | None]:
        commands = [("GET", keys.epoch(shard)) for shard in range(self.shards)]
        return await self._client.calls(commands)


def _plan(snapshot: Snapshot, decision: Decision, before: Footprint, after: Footprint) -> dict[str, Any]:
    session = decision.session
    write, drop = changes(snapshot.session, session) if decision.changed else ([], [])
    moved = {m: due for m, due in after.deadlines.items() if before.deadlines.get(m) != due}
    new_claim = after.claim and not before.claim
    entry = ["events", _json.encode(decision.events).decode()]
    if decision.changed:
        entry += ["session", _json.encode(session).decode()]
    return {
        "epoch": snapshot.epoch,
        "version": snapshot.session.version if snapshot.session else 0,
        "not_after": snapshot.now + COMMIT_WITHIN_MS,
        "assignment": assignment_of(session.id),
        "set": write,
        "drop": drop,
        "claim": "take" if new_claim else "drop" if before.claim and not after.claim else "",
        "claimant": session.id,
        "ghost": _ghost(snapshot),
        "declined": decision.declined_by or "",
        "fingerprint": session.fingerprint or "" if new_claim else "",
        "deadlines": scored(moved.items()),
        "settled": [member for member in before.deadlines if member not in after.deadlines],
        "open": _open_move(before, after),
        "leave": before.offered_to is not None and before.offered_to != after.offered_to,
        "join": after.offered_to is not None and before.offered_to != after.offered_to,
        "journal": entry,
        "expire": FINISHED_KEYS_LIVE_MS if after.ended and decision.changed else 0,
    }


def _ghost(snapshot: Snapshot) -> str:
    """A claim whose session is gone or over must not keep the customer from booking."""
    if not isinstance(snapshot, BookingSnapshot):
        return ""
    return "" if snapshot.held is not None and snapshot.held.active else snapshot.held_id or ""


def _open_move(before: Footprint, after: Footprint) -> int:
    if after.open_at == before.open_at:
        return 0
    return -1 if after.open_at is None else after.open_at
