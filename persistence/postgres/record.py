"""Postgres as the lasting record of sessions: the journal's entries become rows, and rows sessions again.

A drain is one transaction, cursors included: what it has written is exactly what its cursors have passed.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
from msgspec import Struct

from hub.domain.ids import canonical
from hub.domain.model import Event, Session
from hub.domain.records import FORK, JournalEntry, Kept
from persistence.postgres import rows
from persistence.postgres.pool import DATA_ERRORS, PATIENCE_S, Connection, Postgres, describe
from persistence.postgres.query_files import load, parameters, together

_JOURNAL = load("journal")
_RECORD = load("record")
_LOCK_CURSORS = f"with limits as materialized ({_JOURNAL['limits']})\n{_JOURNAL['lock_cursors']}"
_BY_ID = f"{_RECORD['sessions']}\n{_RECORD['of_id']}"
_ACTIVE = f"{_RECORD['sessions']}\n{_RECORD['active']}"
_BY_IDS = f"{_RECORD['sessions']}\n{_RECORD['of_ids']}"
_ACTIVE_AFTER = f"{_RECORD['sessions']}\n{_RECORD['active_after']}"
_ACTIVE_OF = f"{_RECORD['sessions']}\n{_RECORD['active_of']}"

# Customers before what names them, which Postgres checks when a statement ends; what leaves the active set
# before what enters it, since a customer may have ended one session and booked the next in the same batch.
# Sessions before their participants, or two writers of one would deadlock.
_STEPS = tuple(
    tuple(_JOURNAL[name] for name in names)
    for names in (
        ("forks", "customers", "sessions"),
        ("sessions", "joins", "leaves", "assignments", "events"),
        ("leaves", "refunds", "move_cursors"),
    )
)
_STATEMENTS = tuple(together(*step) for step in _STEPS)
_NOTHING = tuple(tuple(((),) * parameters(query) for query in step) for step in _STEPS)

_AT_ONCE = 250
_SLACK_MS = 60_000
"""The sweeper comes first; this is for what it does not know."""

Read = Callable[[dict[int, str]], Awaitable[dict[int, list[JournalEntry]]]]
"""Cursors per shard ('' for the beginning) → the entries behind them, oldest first."""

Epochs = Callable[[], Awaitable[Mapping[int, str]]]
"""The shards' epochs now; none while a restoration may be under way."""

Bury = Callable[[JournalEntry, str], Awaitable[None]]
"""Puts away an entry that Postgres will never take, with the reason; maybe twice for the same entry."""


class Written(Struct, frozen=True, kw_only=True):
    """What a batch came to. `rows`: those that changed, in all tables; `buried` are among the `entries`."""

    entries: int = 0
    rows: int = 0
    buried: int = 0


class WriteResult(Written, frozen=True, kw_only=True):
    """`waiting`: sessions that were left out until an earlier one of their customer's is over. `late`: lives
    whose entries were left out, by shard and epoch."""

    waiting: frozenset[str] = frozenset()
    late: frozenset[tuple[int, str]] = frozenset()


class DrainResult(Written, frozen=True, kw_only=True):
    """`cursors`: how far the shards are written now, whoever did it. `skipped`: those another writer had."""

    cursors: dict[int, str] = {}
    skipped: frozenset[int] = frozenset()


class _Forked(Exception):
    """An entry gives a version another content than the record has."""


class PostgresRecord:
    """`orphan_ms`: how long after its booking a restored session expires unless somebody serves it."""

    def __init__(self, postgres: Postgres, *, orphan_ms: int) -> None:
        self._postgres = postgres
        self._orphan_ms = orphan_ms
        self._ensured: set[int] = set()

    # The journal

    async def drain(
        self, shards: Sequence[int], read: Read, *, epochs: Mapping[int, str], now: Epochs, bury: Bury
    ) -> DrainResult:
        """Write what `read` finds behind the cursors, in one transaction.

        Shards without an epoch are left alone. A cursor of another epoch starts from the beginning if the
        shard's epoch is still the same `now`, while the cursor is held: otherwise the record has left that
        life behind, and what is restored into it is no word of what was committed in it. Raises `StoreFailed`
        where Postgres is away or refuses for now: nothing has moved, or the reply was lost.
        """
        known = {shard: epochs[shard] for shard in sorted(shards) if epochs.get(shard)}
        if not known:
            return DrainResult()
        async with self._postgres.connection() as connection:
            await self._ensure_cursors(connection, known)
            try:
                return await self._drain(connection, known, read, now, _write)
            except (*DATA_ERRORS, _Forked):
                # Rare: to be ready for it would cost every drain a savepoint.
                return await self._drain(connection, known, read, now, partial(_write_and_bury, bury=bury))

    async def _drain(
        self,
        connection: Connection,
        epochs: Mapping[int, str],
        read: Read,
        now: Epochs,
        write: Callable[[Connection, Sequence[JournalEntry], rows.Columns], Awaitable[Written]],
    ) -> DrainResult:
        async with connection.transaction():
            held = await connection.fetch(_LOCK_CURSORS, list(epochs))
            skipped = frozenset(epochs).difference(row["shard"] for row in held)
            # Held by another writer, or deleted by a person: the next drain makes sure.
            self._ensured -= skipped
            after = {row["shard"]: row["last_id"] for row in held}
            if elsewhere := [row["shard"] for row in held if row["epoch"] != epochs[row["shard"]]]:
                lives = await now()
                for shard in elsewhere:
                    del after[shard]
                    if lives.get(shard) == epochs[shard]:
                        after[shard] = ""
            found = {s: entries for s, entries in (await read(after)).items() if entries} if after else {}
            before = {shard: cursor for shard, cursor in after.items() if cursor}
            if not found:
                return DrainResult(cursors=before, skipped=skipped)
            moved = {shard: entries[-1].id for shard, entries in found.items()}
            written = await write(
                connection,
                [entry for part in found.values() for entry in part],
                (list(moved), [epochs[shard] for shard in moved], list(moved.values())),
            )
        return DrainResult(
            entries=written.entries,
            rows=written.rows,
            buried=written.buried,
            cursors=before | moved,
            skipped=skipped,
        )

    async def write(
        self, entries: Sequence[JournalEntry], *, bury: Bury, of_this_life: bool = False
    ) -> WriteResult:
        """Write entries that a node kept, without moving a cursor: the stream they stood in may be lost. The
        nodes do so in turn: they remember much of the same customers, and would deadlock. `of_this_life`: not
        those of a life that the record has left behind."""
        if not entries:
            return WriteResult()
        async with self._postgres.connection() as connection, connection.transaction():
            await connection.execute(_JOURNAL["turn"], timeout=PATIENCE_S)
            await connection.execute(_JOURNAL["limits"])
            late = await _late(connection, entries) if of_this_life else frozenset()
            entries = [entry for entry in entries if (entry.shard, entry.epoch) not in late]
            waiting = await _waiting(connection, entries)
            ready = [entry for entry in entries if entry.session_id not in waiting]
            written = await _write_apart(connection, ready, bury)
        return WriteResult(
            entries=written.entries, rows=written.rows, buried=written.buried, waiting=waiting, late=late
        )

    async def _ensure_cursors(self, connection: Connection, epochs: Mapping[int, str]) -> None:
        missing = [shard for shard in epochs if shard not in self._ensured]
        if missing:
            await connection.execute(_JOURNAL["ensure_cursors"], missing, [epochs[s] for s in missing])
            self._ensured.update(missing)

    # Reading back

    async def session(self, session_id: str) -> Session | None:
        if canonical(session_id) is None:
            return None
        found = await self._postgres.fetch(_BY_ID, session_id)
        return rows.session_from(found[0].items(), self._orphan_ms) if found else None

    async def active_pages(self) -> AsyncIterator[list[Kept]]:
        """Sessions that are pending, waiting, live or scheduled, in no order, in pages for one breath.
        While one is dealt with the next is on its way."""
        async with self._postgres.connection() as connection, connection.transaction(readonly=True):
            cursor = await connection.cursor(_ACTIVE)
            coming = asyncio.ensure_future(cursor.fetch(_AT_ONCE))
            try:
                while found := await coming:
                    coming = asyncio.ensure_future(cursor.fetch(_AT_ONCE))
                    yield [self._kept(row) for row in found]
            finally:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    async def kept(self, session_ids: Sequence[str]) -> dict[str, Kept]:
        found = await self._postgres.fetch(_BY_IDS, session_ids)
        return {row["id"]: self._kept(row) for row in found}

    async def versions(self, session_ids: Sequence[str]) -> dict[str, int]:
        found = await self._postgres.fetch(_RECORD["versions"], session_ids)
        return {row["id"]: row["version"] for row in found}

    async def cursors(self) -> dict[int, tuple[str, str]]:
        """Each shard's epoch and the last entry of it that is on record."""
        found = await self._postgres.fetch(_JOURNAL["cursors"])
        return {row["shard"]: (row["epoch"], row["last_id"]) for row in found}

    async def begin(self, epochs: Mapping[int, str]) -> None:
        """The shards' next lives: their journals are read from the beginning."""
        await self._postgres.fetch(_JOURNAL["begin"], list(epochs), list(epochs.values()))

    def _kept(self, row: asyncpg.Record) -> Kept:
        session = rows.session_from(row.items(), self._orphan_ms)
        return Kept(session=session, command_id=row["command_id"] or "")

    async def sessions(self, session_ids: Sequence[str]) -> dict[str, Session]:
        return {session.id: session for session in await self._read(_BY_IDS, session_ids)}

    async def active_after(self, customer_id: str, limit: int) -> list[Session]:
        """Active sessions by customer, from the next customer on."""
        return await self._read(_ACTIVE_AFTER, customer_id, limit)

    async def active_of(self, customer_ids: Sequence[str]) -> list[Session]:
        return await self._read(_ACTIVE_OF, customer_ids)

    async def booked_since(self, at: int) -> bool:
        """Whether anything was booked then (ms) or later."""
        ((found,),) = await self._postgres.fetch(_RECORD["booked_since"], at)
        return bool(found)

    async def events(self, session_id: str) -> dict[str, Event]:
        """The session's history by the events' ids, which are not always those that the hub gives."""
        found = await self._postgres.fetch(_RECORD["events_of"], session_id)
        return {row["event_id"]: rows.event_from(dict(row)) for row in found}

    async def _read(self, query: str, *arguments: object) -> list[Session]:
        found = await self._postgres.fetch(query, *arguments, patience_s=PATIENCE_S)
        return [rows.session_from(row.items(), self._orphan_ms) for row in found]

    # Upkeep

    async def expire_orphans(self) -> int:
        """Set sessions that nobody will move any more to expired; how many. Each is told on `hub_orphans`."""
        age_ms = self._orphan_ms + _SLACK_MS
        found = await self._postgres.fetch(_RECORD["expire_orphans"], age_ms, patience_s=PATIENCE_S)
        return int(found[0][0])

    async def note_orphan_age(self) -> None:
        """Tell the database's own job, too, how long a session may be pending or waiting."""
        await self._postgres.fetch(_RECORD["note_orphan_age"], self._orphan_ms / 1000)

    async def mirror_presence(self, presence: Iterable[tuple[str, bool, int]]) -> None:
        """(mechanic, online, last seen in ms): rows that know something newer stay."""
        newest: dict[str, tuple[str, bool, int]] = {}
        for row in presence:
            if row[0] not in newest or row[2] > newest[row[0]][2]:
                newest[row[0]] = row
        if newest:
            columns = zip(*newest.values(), strict=True)
            await self._postgres.fetch(_RECORD["mirror_presence"], *columns)

    @asynccontextmanager
    async def advisory_lock(self, key: int) -> AsyncIterator[bool]:
        """Whether this node has it: one node in the cluster does, until the block or its connection ends."""
        async with self._postgres.own_connection() as connection:
            yield bool(await connection.fetchval(_RECORD["try_lock"], key))


async def _late(connection: Connection, entries: Sequence[JournalEntry]) -> frozenset[tuple[int, str]]:
    """The lives that are over; the others cannot end before this transaction does."""
    lives = {(entry.shard, entry.epoch) for entry in entries}
    known = {
        row["shard"]: row["epoch"]
        for row in await connection.fetch(_JOURNAL["lives"], [shard for shard, _ in lives])
    }
    return frozenset((shard, epoch) for shard, epoch in lives if known.get(shard, epoch) != epoch)


async def _waiting(connection: Connection, entries: Sequence[JournalEntry]) -> frozenset[str]:
    """The sessions of customers who have another that is active, as far as is known here: it has ended, or
    they could not have booked, but only another node remembers that."""
    active, over = rows.rivals(entries)
    blocked = await connection.fetch(_JOURNAL["blocked"], *active, *over) if active else []
    return frozenset(row["id"] for row in blocked)


async def _write(
    connection: Connection, entries: Sequence[JournalEntry], cursors: rows.Columns = ()
) -> Written:
    """Raises `_Forked` where an entry gives a version another content than the record has."""
    if rows.forks_within(entries):
        raise _Forked
    batch = rows.fold(entries)
    versions = rows.versions(entries)
    steps = (
        (versions, batch.customers, batch.leaving),
        (batch.entering, batch.joins, batch.leaves, batch.assignments, batch.events),
        (batch.ends, batch.refunds, cursors),
    )
    changed = 0
    for statement, parts, nothing in zip(_STATEMENTS, steps, _NOTHING, strict=True):
        if any(parts):
            columns = (column for part, empty in zip(parts, nothing, strict=True) for column in part or empty)
            counts = await connection.fetchval(statement, *columns, timeout=PATIENCE_S)
            if parts[0] is versions and counts.pop(0):
                raise _Forked
            changed += sum(counts)
    return Written(entries=len(entries), rows=changed)


async def _write_and_bury(
    connection: Connection, entries: Sequence[JournalEntry], cursors: rows.Columns, *, bury: Bury
) -> Written:
    written = await _write_apart(connection, entries, bury)
    await _write(connection, (), cursors)
    return written


async def _write_apart(connection: Connection, entries: Sequence[JournalEntry], bury: Bury) -> Written:
    """Halves what Postgres refuses for its data until the entries at fault stand alone."""
    try:
        async with connection.transaction():
            sound, forks = await _part_forks(connection, entries)
            written = await _write(connection, sound)
    except _Forked:
        # Somebody wrote another content of that version after the look.
        return await _write_apart(connection, entries, bury)
    except DATA_ERRORS as error:
        if len(entries) == 1:
            await bury(entries[0], describe(error))
            return Written(entries=1, buried=1)
    else:
        for entry in forks:
            await bury(entry, FORK)
        return Written(entries=len(entries), rows=written.rows, buried=len(forks))
    middle = len(entries) // 2
    first = await _write_apart(connection, entries[:middle], bury)
    second = await _write_apart(connection, entries[middle:], bury)
    return Written(entries=len(entries), rows=first.rows + second.rows, buried=first.buried + second.buried)


async def _part_forks(
    connection: Connection, entries: Sequence[JournalEntry]
) -> tuple[Sequence[JournalEntry], list[JournalEntry]]:
    """(entries to write, entries that give a version another content than the record has)."""
    positions = rows.forks_within(entries)
    if columns := rows.versions(entries):
        positions |= {row["position"] for row in await connection.fetch(_JOURNAL["forks"], *columns)}
    if not positions:
        return entries, []
    sound = [entry for i, entry in enumerate(entries) if i not in positions]
    return sound, [entries[i] for i in sorted(positions)]
