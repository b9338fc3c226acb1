"""The journal in Redis: entries that wait for Postgres, and those that Postgres refused."""

from collections.abc import Mapping, Sequence

import msgspec

from hub.domain.errors import StoreFailed
from hub.domain.model import Event, Session
from hub.domain.records import JournalEntry
from persistence.redis import keys, scripts
from persistence.redis.client import RedisClient

_events = msgspec.json.Decoder(tuple[Event, ...])
_session = msgspec.json.Decoder(Session)

_PAGE = 500


class RedisJournal:
    def __init__(self, client: RedisClient, shards: int) -> None:
        self._client = client
        self.shards = shards

    async def read(self, after: dict[int, str], limit: int) -> dict[int, list[JournalEntry]]:
        """Per shard the entries behind its cursor, oldest first. Raises `StoreFailed`, with a reason where
        this node cannot read one; one of a later version may."""
        shards = list(after)
        commands = [
            ("XRANGE", keys.journal(s), f"({after[s]}" if after[s] else "-", "+", "COUNT", limit)
            for s in shards
        ]
        replies = await self._client.calls(commands)
        return {
            s: [_readable(s, entry_id, fields) for entry_id, fields in reply]
            for s, reply in zip(shards, replies, strict=True)
        }

    async def waiting(self, shards: Sequence[int]) -> dict[int, int]:
        """Those of the shards that have entries, and how many."""
        lengths = await self._client.calls([("XLEN", keys.journal(shard)) for shard in shards])
        return {shard: length for shard, length in zip(shards, lengths, strict=True) if length}

    async def trim(self, cursors: dict[int, str], epochs: Mapping[int, str]) -> None:
        """Drop what the record has, the cursor's own entry included, and tell the nodes that kept copies of
        what was dropped."""
        dropped = await self._client.calls(
            [("XTRIM", keys.journal(s), "MINID", "=", _next(cursor)) for s, cursor in cursors.items()]
        )
        hints = [
            (s, _recorded(s, epochs[s], cursor))
            for (s, cursor), count in zip(cursors.items(), dropped, strict=True)
            if count
        ]
        if hints:
            await self._client.calls([("SPUBLISH", keys.bus(s), f"* {hint}") for s, hint in hints])

    async def oldest(self) -> list[int | None]:
        """When each shard's first entry that still waits was made, ms."""
        commands = [("XRANGE", keys.journal(s), "-", "+", "COUNT", 1) for s in range(self.shards)]
        replies = await self._client.calls(commands)
        return [int(reply[0][0].partition("-")[0]) if reply else None for reply in replies]

    async def bury(self, entry: JournalEntry, error: str) -> None:
        """Keep an entry that Postgres will never take where a person finds it; once, however often called."""
        fields = ["entry", entry.id, "command", entry.command_id, "error", error]
        fields += ["events", msgspec.json.encode(entry.events).decode()]
        if entry.session is not None:
            fields += ["session", msgspec.json.encode(entry.session).decode()]
        await self._client.run(scripts.BURY, [keys.journal_dead(entry.shard)], entry.id, *fields)

    async def refused(self) -> set[str]:
        """Every session with an entry that was buried."""
        found: set[str] = set()
        start = dict.fromkeys(range(self.shards), "-")
        while start:
            commands = [("XRANGE", keys.journal_dead(s), at, "+", "COUNT", _PAGE) for s, at in start.items()]
            pages = dict(zip(start, await self._client.calls(commands), strict=True))
            for shard, page in pages.items():
                for entry_id, fields in page:
                    entry = entry_from(shard, entry_id, fields)
                    found.update(event.session_id for event in entry.events)
                    if entry.session is not None:
                        found.add(entry.session.id)
            start = {s: f"({page[-1][0]}" for s, page in pages.items() if len(page) == _PAGE}
        return found


def _readable(shard: int, entry_id: str, fields: Sequence[str]) -> JournalEntry:
    try:
        return entry_from(shard, entry_id, fields)
    except (msgspec.MsgspecError, KeyError) as error:
        reason = f"{keys.journal(shard)} {entry_id} cannot be read: {error}"
        raise StoreFailed("The journal cannot be read.", maybe_done=False, reason=reason) from error


def entry_from(shard: int, entry_id: str, fields: Sequence[str] | dict[str, str]) -> JournalEntry:
    flat = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    row = flat.get("session")
    return JournalEntry(
        shard=shard,
        id=entry_id,
        command_id=flat["command"],
        session=_session.decode(row) if row else None,
        events=_events.decode(flat["events"]),
    )


def _recorded(shard: int, epoch: str, cursor: str) -> str:
    return msgspec.json.encode({"recorded": {"shard": shard, "epoch": epoch, "cursor": cursor}}).decode()


def _next(entry_id: str) -> str:
    time, _, number = entry_id.partition("-")
    return f"{time}-{int(number) + 1}"
