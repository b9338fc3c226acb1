"""The older table `session_requests`: its rows brought into sessions, and the table put away.

A batch is one transaction, the rows' flags included: an import may be killed at any moment and run again, or
twice at once, beside a hub that serves.

OlderTableError has a message for people: what is in the way, and what to do about it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from hub.domain.ids import assignment_of, event_id
from hub.domain.model import Event, EventType
from hub.domain.records import JournalEntry
from persistence.postgres import rows
from persistence.postgres.export_file import ExportError, ExportFile
from persistence.postgres.pool import Own, Postgres
from persistence.postgres.query_files import load
from persistence.postgres.verify import ARCHIVED, OLDER

_SQL = load("legacy")
_EVENTS = load("journal")["events"]

_BATCH = 2_000
_FIRST = ("-infinity", "00000000-0000-0000-0000-000000000000")
_VERSION = 1
_MARK = {"imported": True}


class OlderTableError(Exception):
    """What was asked cannot be done to the older table as it is; nothing was changed."""


class Imported(Struct, frozen=True, kw_only=True):
    """Rows written now, those that an import had written before, and ids that other bookings have."""

    imported: int
    skipped: int
    conflicts: list[str]


class Archived(Struct, frozen=True, kw_only=True):
    path: str
    rows: int


class OlderTable:
    def __init__(self, url: str, *, batch: int = _BATCH) -> None:
        self._postgres = Postgres(url)
        self._batch = batch

    async def import_rows(self, *, dry_run: bool = False) -> Imported:
        """Write every row that was not imported yet into the unified tables, oldest first.

        Raises `StoreFailed`: what was written until then stays, and the next call goes on from there.
        """
        async with self._postgres.own_connection(patience_s=None) as connection:
            table = await _name(connection)
            sql = {name: query.replace("older_table", table) for name, query in _SQL.items()}
            imported, skipped = 0, await connection.fetchval(sql["imported"])
            conflicts: list[str] = []
            last = _FIRST
            while True:
                async with connection.transaction():
                    taken = [tuple(row) for row in await connection.fetch(sql["take"], *last, self._batch)]
                    if not taken:
                        return Imported(imported=imported, skipped=skipped, conflicts=conflicts)
                    last = taken[-1]
                    ids = [row_id for _, row_id in taken]
                    known = await _known(connection, sql["known"], ids)
                    new = [row_id for row_id in ids if row_id not in known]
                    before = [row_id for row_id in known if known[row_id]]
                    if not dry_run:
                        new = await _write(connection, sql["import"], new)
                        await connection.execute(sql["flag"], [*new, *before])
                imported += len(new)
                skipped += len(before)
                conflicts += [row_id for row_id in known if not known[row_id]]

    async def archive(self, path: Path, *, force: bool = False) -> Archived | None:
        """Export every row, rename the table and leave a view at its name; None where that was done before.

        Raises `OlderTableError` (rows are not imported, or the file cannot be written) and `StoreFailed`: the
        table is as it was.
        """
        async with self._postgres.own_connection(patience_s=None) as connection, connection.transaction():
            if await _name(connection) == ARCHIVED:
                return None
            await connection.execute(_SQL["lock"])
            # Another archiving may have been the one that was waited for.
            if await _name(connection) == ARCHIVED:
                return None
            left = await connection.fetchval(_SQL["not_imported"].replace("older_table", OLDER))
            if left:
                raise OlderTableError(
                    f"{left} rows of {OLDER} are not imported: they would be gone from its view. Run"
                    " `hub legacy import` first, and mend the conflicts that it names."
                )
            try:
                with ExportFile(path, force=force) as file:
                    count = await _export(connection, file)
                    await connection.execute(_SQL["archive"])
                    file.place()
            except ExportError as error:
                raise OlderTableError(str(error)) from error
        return Archived(path=str(path), rows=count)


async def _name(connection: Own) -> str:
    name: str | None = await connection.fetchval(_SQL["name"])
    if name is None:
        raise OlderTableError(f"There is no table {OLDER}. Run `hub migrate up` first.")
    return name


async def _known(connection: Own, query: str, ids: list[str]) -> dict[str, bool]:
    """Those that the unified tables have already, and whether an import brought them."""
    found = await connection.fetch(
        query,
        ids,
        [assignment_of(row_id) for row_id in ids],
        [event_id(row_id, _VERSION, EventType.CREATED) for row_id in ids],
    )
    return {row["id"]: row["imported"] for row in found}


async def _write(connection: Own, query: str, ids: list[str]) -> list[str]:
    """Those that were written."""
    written = await connection.fetch(query, ids, [assignment_of(row_id) for row_id in ids])
    history = JournalEntry(
        shard=0,
        id="",
        command_id="",
        session=None,
        events=tuple(event for row in written for event in _history(dict(row))),
    )
    if history.events:
        await connection.execute(_EVENTS, *rows.fold([history]).events)
    return [row["id"] for row in written]


def _history(row: dict[str, Any]) -> Iterator[Event]:
    """What the row tells of its past, as the hub would have recorded it."""

    def event(kind: EventType, at: int, actor_id: str | None = None, **data: Any) -> Event:
        return Event(
            session_id=row["id"], type=kind, at=at, version=_VERSION, actor_id=actor_id, data=data | _MARK
        )

    favorite, mechanic = row["preferred_mechanic_id"], row["accepted_by"]
    yield event(EventType.CREATED, row["created"], row["customer_id"])
    if row["notified"] is not None:
        if favorite is not None:
            yield event(EventType.OFFERED, row["created"], mechanic_id=favorite)
        yield event(EventType.NOTIFIED, row["notified"], favorite)
    if row["fell_back"] is not None:
        reason = row["fallback_reason"]
        yield event(EventType.OFFER_EXPIRED, row["fell_back"], mechanic_id=favorite, reason=reason)
        yield event(EventType.BROADCAST, row["fell_back"], reason=reason)
    elif row["notified"] is None and row["sent"] is not None:
        yield event(EventType.BROADCAST, row["sent"])
    if row["accepted"] is not None:
        in_turn = mechanic is not None and mechanic == favorite and row["fell_back"] is None
        yield event(EventType.ACCEPTED, row["accepted"], mechanic, mechanic_id=mechanic, priority=in_turn)
    yield event(EventType(row["status"]), row["ended"])


async def _export(connection: Own, file: ExportFile) -> int:
    """How many rows the file has, which is how many the table has."""
    async for (line,) in connection.cursor(_SQL["rows"], prefetch=1_000):
        file.write(line)
    written, count = file.close(), await connection.fetchval(f"select count(*) from {OLDER}")
    if written != count:
        raise OlderTableError(f"The export has {written} lines for {count} rows of {OLDER}.")
    return written
