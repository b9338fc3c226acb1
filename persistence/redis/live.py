"""The live data as a whole: which life it is in, and how the next one begins."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

import msgspec

from hub.domain.footprint import footprint
from hub.domain.ids import new_id, shard_of_session
from hub.domain.model import FINISHED_KEYS_LIVE_MS, AssignmentStatus, Session, SessionStatus
from hub.domain.records import Life, Restoration, Restored
from persistence.redis import keys, scripts
from persistence.redis.client import Argument, RedisClient
from persistence.redis.codec import parted_fields, session_from

_SCAN_COUNT = 500
_SESSIONS = "hub:{*}:session:*"
_AT_ONCE = 200
"""Sessions that one script restores: some five milliseconds of the server's time."""
_ABSENT, _UNREADABLE = 0, -1

_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()


class RedisLive:
    def __init__(self, client: RedisClient, shards: int) -> None:
        self._client = client
        self.shards = shards

    async def look(self) -> Life:
        commands: list[tuple[Argument, ...]] = [("TIME",), ("INFO", "server"), ("GET", keys.RUN)]
        commands += [("GET", keys.epoch(shard)) for shard in range(self.shards)]
        (seconds, micros), facts, mark, *epochs = await self._client.calls(commands)
        return Life(
            now=int(seconds) * 1000 + int(micros) // 1000,
            run=next(line[7:] for line in facts.splitlines() if line.startswith("run_id:")),
            examined=mark.partition(" ")[0] if mark else None,
            epochs=epochs,
            mark=mark,
        )

    async def glance(self) -> tuple[int, str | None]:
        """The store's time and the mark of the last examination."""
        (seconds, micros), mark = await self._client.calls([("TIME",), ("GET", keys.RUN)])
        return int(seconds) * 1000 + int(micros) // 1000, mark

    async def epochs_of(self, shards: Sequence[int]) -> dict[int, str]:
        """Of those that have one."""
        found = await self._client.calls([("GET", keys.epoch(shard)) for shard in shards])
        return {shard: epoch for shard, epoch in zip(shards, found, strict=True) if epoch}

    async def landed(self) -> None:
        """Whoever has a commit on its way knows what became of it, or will ask again."""
        await self._client.landed()
        await asyncio.sleep(0)

    def trust(self, run: str) -> None:
        """From now on commits go to this run of the server and to no other."""
        self._client.trusted = run

    async def last_entries(self) -> list[str]:
        """The id of the last entry that each shard's journal ever had, '' where it had none."""
        names = [keys.journal(shard) for shard in range(self.shards)]
        there = await self._client.calls([("EXISTS", name) for name in names])
        known = [name for name, exists in zip(names, there, strict=True) if exists]
        facts = dict(
            zip(known, await self._client.calls([("XINFO", "STREAM", name) for name in known]), strict=True)
        )
        return [facts[name]["last-generated-id"] if name in facts else "" for name in names]

    async def sessions(self) -> AsyncIterator[Mapping[str, int]]:
        """Every session that is there with its version, in pages; some may come twice. One that was restored
        and has not changed since is no newer than what it was restored from."""
        cursor = "0"
        while True:
            cursor, names = await self._client.call("SCAN", cursor, "MATCH", _SESSIONS, "COUNT", _SCAN_COUNT)
            known = await self._client.calls([("HMGET", name, "version", "restored") for name in names])
            yield {
                name.rpartition(":")[2]: _basis(version, restored or "")
                for name, (version, restored) in zip(names, known, strict=True)
                if version is not None
            }
            if str(cursor) == "0":
                return

    async def found(self, session_ids: Sequence[str]) -> list[Session | None]:
        """What is there of these sessions, be it the truth or not."""
        return await found(self._client, self.shards, session_ids)

    async def restore(self, wanted: Sequence[Restoration]) -> list[Restored]:
        return await restore(self._client, self.shards, wanted)

    async def begin(self, run: str, epochs: Mapping[int, str]) -> None:
        """Begin the shards' next lives, and then vouch for the data of this run of the server."""
        mark = f"{run} {new_id()}"
        for name, value in [*((keys.epoch(s), epoch) for s, epoch in epochs.items()), (keys.RUN, mark)]:
            await self._client.ask("SET", name, value, run=run)


def _basis(version: str, restored: str) -> int:
    """`restored` is "<from which version> <as which>"."""
    basis, _, unchanged = restored.partition(" ")
    return int(basis if unchanged == version else version)


async def found(client: RedisClient, shards: int, session_ids: Sequence[str]) -> list[Session | None]:
    commands = [("HGETALL", keys.session(shard_of_session(sid, shards), sid)) for sid in session_ids]
    return [readable(fields) for fields in await client.calls(commands)]


def readable(fields: Sequence[str] | Mapping[str, str]) -> Session | None:
    try:
        return session_from(fields)
    except (msgspec.ValidationError, ValueError):
        return None


async def restore(client: RedisClient, shards: int, wanted: Sequence[Restoration]) -> list[Restored]:
    """What became of each. Where an older version turns out to be there, its places are looked up."""
    outcomes = await _enter(client, shards, wanted, [None] * len(wanted), unknown=_ABSENT)
    while changed := [position for position, outcome in enumerate(outcomes) if outcome == "changed"]:
        behind = [wanted[position] for position in changed]
        known = await found(client, shards, [each.session.id for each in behind])
        again = await _enter(client, shards, behind, known, unknown=_UNREADABLE)
        for position, outcome in zip(changed, again, strict=True):
            outcomes[position] = outcome
    return list(map(Restored, outcomes))


async def _enter(
    client: RedisClient,
    shards: int,
    wanted: Sequence[Restoration],
    known: Sequence[Session | None],
    *,
    unknown: int,
) -> list[str]:
    """`unknown`: in place of the version of those of which nothing is known."""
    by_shard: dict[int, list[int]] = {}
    for position, each in enumerate(wanted):
        by_shard.setdefault(shard_of_session(each.session.id, shards), []).append(position)
    calls = [
        (shard, positions[start : start + _AT_ONCE])
        for shard, positions in by_shard.items()
        for start in range(0, len(positions), _AT_ONCE)
    ]
    answers = await asyncio.gather(
        *(
            _enter_in(client, shard, [(wanted[p], known[p]) for p in positions], unknown)
            for shard, positions in calls
        )
    )
    outcomes: dict[int, str] = {}
    for (_, positions), answer in zip(calls, answers, strict=True):
        outcomes.update(zip(positions, answer, strict=True))
    return [outcomes[position] for position in range(len(wanted))]


async def _enter_in(
    client: RedisClient, shard: int, wanted: Sequence[tuple[Restoration, Session | None]], unknown: int
) -> list[str]:
    places = [keys.deadlines(shard), keys.open_requests(shard), keys.journal(shard)]
    for each, _ in wanted:
        places += keys.session(shard, each.session.id), keys.active(shard, each.session.customer_id)
    kinds, parts = _parted([each.session for each, _ in wanted])
    items = [
        _item(each, known, unknown, places, shard, *part)
        for (each, known), part in zip(wanted, parts, strict=True)
    ]
    plan = {"prefix": keys.session(shard, ""), "kinds": kinds, "items": items}
    answer: list[str] = await client.run(scripts.RESTORE, places, _msgpack.encode(plan))
    return answer


class _Item(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the script `restore` is told of a session."""

    version: int
    recorded: int
    command: str
    knew: int
    session: str
    assignment: str
    kind: int
    set: Sequence[str]
    claim: bool = False
    deadlines: list[str] = []
    none: list[str] = []
    open: int | None = None
    journal: tuple[str, ...] = ()
    expire: int | None = None
    declined: int | None = None
    join: int | None = None
    leave: int | None = None


def _parted(sessions: Sequence[Session]) -> tuple[list[list[str]], list[tuple[int, Sequence[str]]]]:
    """Sessions of one state have most fields in common: what those of a kind have, and for every session the
    number of its kind and the fields that it has besides, which are the same for all of a kind."""
    by_state: dict[tuple[SessionStatus, AssignmentStatus], list[int]] = {}
    for position, session in enumerate(sessions):
        by_state.setdefault((session.status, session.assignment_status), []).append(position)
    kinds: list[list[str]] = []
    parts: dict[int, tuple[int, Sequence[str]]] = {}
    for positions in by_state.values():
        common, besides = parted_fields([sessions[position] for position in positions])
        numbers: dict[Sequence[str], int] = {}
        for position, own in zip(positions, besides, strict=True):
            if (names := own[::2]) not in numbers:
                kinds.append(common)
                numbers[names] = len(kinds)
            parts[position] = numbers[names], own
    return kinds, [parts[position] for position in range(len(sessions))]


def _item(
    wanted: Restoration,
    known: Session | None,
    unknown: int,
    places: list[str],
    shard: int,
    kind: int,
    own: Sequence[str],
) -> _Item:
    """Adds to the places what few need."""
    session = wanted.session
    marks = footprint(session)
    item = _Item(
        version=session.version,
        recorded=wanted.recorded,
        command=wanted.command_id,
        knew=known.version if known else unknown,
        session=session.id,
        assignment=session.assignment_id,
        kind=kind,
        set=own,
        claim=marks.claim,
        deadlines=scored(marks.deadlines.items()),
        open=marks.open_at,
    )
    held_by = {marks.held_by}
    if known:
        left = footprint(known)
        held_by.add(left.held_by)
        item.none = list(left.deadlines)
        if left.offered_to:
            item.leave = _place(places, keys.offers(shard, left.offered_to))
    for holder in held_by - {None}:
        item.deadlines += (str(session.updated_at), f"work:{session.id}:{holder}")
    if marks.offered_to:
        item.join = _place(places, keys.offers(shard, marks.offered_to))
    if marks.ended:
        item.expire = FINISHED_KEYS_LIVE_MS
        item.declined = _place(places, keys.declined(shard, session.id))
    if wanted.journal:
        item.journal = _entry(wanted)
    return item


def _place(places: list[str], key: str) -> int:
    places.append(key)
    return len(places)


def _entry(wanted: Restoration) -> tuple[str, ...]:
    return "events", "[]", "session", _json.encode(wanted.session).decode(), "command", wanted.command_id


def scored(deadlines: Iterable[tuple[str, int]]) -> list[str]:
    return [part for member, due in deadlines for part in (str(due), member)]
