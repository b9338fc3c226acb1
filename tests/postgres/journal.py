"""Bookings on their way to the record: sessions, their next versions, and a journal that a test fills."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from hub.domain.ids import new_id, new_session_id
from hub.domain.model import AssignmentStatus, Event, EventType, Session, SessionStatus
from hub.domain.records import JournalEntry
from persistence.postgres.record import PostgresRecord

NOW = 1_700_000_000_123
ORPHAN_MS = 7_200_000
EPOCHS = {0: "first", 1: "first"}


class Journal:
    """Streams of entries as the writer reads them, and what was buried of them."""

    def __init__(self, record: PostgresRecord) -> None:
        self.record = record
        self.streams: dict[int, list[JournalEntry]] = {0: [], 1: []}
        self.buried: list[tuple[str, str]] = []
        self.asked: list[dict[int, str]] = []

    def add(self, session: Session | None, *events: Event, shard: int = 0, command: str = "") -> JournalEntry:
        number = len(self.streams[shard]) + 1
        entry = JournalEntry(
            shard=shard,
            id=f"{NOW}-{number}",
            command_id=command or new_id(),
            session=session,
            events=events,
        )
        self.streams[shard].append(entry)
        return entry

    async def read(self, after: dict[int, str]) -> dict[int, list[JournalEntry]]:
        self.asked.append(after)
        return {
            shard: [e for e in self.streams[shard] if _number(e.id) > _number(cursor)]
            for shard, cursor in after.items()
        }

    async def bury(self, entry: JournalEntry, error: str) -> None:
        self.buried.append((entry.id, error))

    async def drain(
        self, shards: Sequence[int] = (0, 1), epochs: dict[int, str] | None = None, **changes: Any
    ) -> Any:
        """`changes`: what `drain` is told instead."""
        known = epochs or EPOCHS

        async def now() -> dict[int, str]:
            return known

        told = {"read": self.read, "epochs": known, "now": now, "bury": self.bury, **changes}
        return await self.record.drain(shards, **told)


def _number(entry_id: str) -> int:
    return int(entry_id.partition("-")[2] or 0)


def booking(customer_id: str | None = None, **changes: Any) -> Session:
    customer_id = customer_id or new_id()
    values: dict[str, Any] = {
        "id": new_session_id(customer_id),
        "customer_id": customer_id,
        "customer_name": "Cora Lind",
        "customer_email": "cora@example.com",
        "session_type": "chat",
        "plan_code": "chat10",
        "payment": "paid",
        "status": SessionStatus.PENDING,
        "assignment_status": AssignmentStatus.OPEN,
        "metadata": '{"car": "T4"}',
        "created_at": NOW,
        "updated_at": NOW,
        "orphan_at": NOW + ORPHAN_MS,
        "open_at": NOW,
        "version": 1,
    }
    return Session(**values | changes)


def step(session: Session, **changes: Any) -> Session:
    """The next version, a second later."""
    return replace(session, version=session.version + 1, updated_at=session.updated_at + 1_000, **changes)


def accepted(session: Session, mechanic_id: str) -> Session:
    return step(
        session,
        status=SessionStatus.WAITING,
        assignment_status=AssignmentStatus.ACCEPTED,
        mechanic_id=mechanic_id,
        accepted_at=session.updated_at + 1_000,
        open_at=None,
    )


def ended(session: Session, status: SessionStatus = SessionStatus.CANCELLED) -> Session:
    return step(session, status=status, ended_at=session.updated_at + 1_000, open_at=None)


def event(session: Session, kind: EventType, actor_id: str | None = None, **data: Any) -> Event:
    return Event(
        session_id=session.id,
        type=kind,
        at=session.updated_at,
        version=session.version,
        actor_id=actor_id,
        data=data,
    )
