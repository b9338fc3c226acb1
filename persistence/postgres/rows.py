"""Journal entries as columns for Postgres, and a session out of its rows again. Pure.

Of many versions of a session in one batch only the last becomes a row, so a busy session costs one write.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from hub.domain.ids import assignment_of
from hub.domain.model import IN_TURN, AssignmentStatus, Event, EventType, Session, SessionStatus, Wave
from hub.domain.records import JournalEntry, latest

Columns = Sequence[Sequence[Any]]

_customer = attrgetter("id", "customer_id", "customer_name", "customer_email", "created_at")
_session = attrgetter(
    *("id", "customer_id", "mechanic_id", "session_type", "plan_code", "payment", "status", "customer_name"),
    *("customer_email", "notes", "is_urgent", "request_type", "requested_brand", "workshop_id", "metadata"),
    *("created_at", "updated_at", "started_at", "ended_at", "version"),
)
_assignment = attrgetter(
    *("assignment_id", "id", "mechanic_id", "assignment_status", "routing_type", "wave"),
    *("preferred_mechanic_id", "priority_window_minutes", "priority_notified_at", "expires_at"),
    *("fallback_reason", "fallback_at", "accepted_at", "created_at", "updated_at", "version"),
)
_MOVES = frozenset({EventType.ACCEPTED, EventType.RELEASED})
_MINUTE_MS = 60_000

_encode = msgspec.json.Encoder().encode


class Batch(NamedTuple):
    """Columns for each part of what a drain writes; nothing to write is an empty one."""

    customers: Columns
    leaving: Columns
    entering: Columns
    joins: Columns
    leaves: Columns
    ends: Columns
    assignments: Columns
    refunds: Columns
    events: Columns


def fold(entries: Sequence[JournalEntry]) -> Batch:
    """What the entries, oldest first, come to."""
    last = latest(entries)
    sessions = [session for session, _ in last.values()]
    joins, leaves = _participants(entries, sessions)
    return Batch(
        customers=_columns([_customer(s) for s in sessions]),
        leaving=_columns([(*_session(s), command) for s, command in last.values() if not s.active]),
        entering=_columns([(*_session(s), command) for s, command in last.values() if s.active]),
        joins=_columns(joins),
        leaves=_columns(leaves),
        ends=_columns([(s.id, None, s.ended_at or s.updated_at) for s in sessions if not s.active]),
        assignments=_columns([_assignment(s) for s in sessions]),
        refunds=_columns([(s.id,) for s in sessions if s.refundable]),
        events=_columns([_event(event) for entry in entries for event in entry.events]),
    )


def versions(entries: Sequence[JournalEntry]) -> Columns:
    """(position, session, version, command) of every entry that has a row."""
    return _columns(
        [(i, e.session.id, e.session.version, e.command_id) for i, e in enumerate(entries) if e.session]
    )


def rivals(entries: Sequence[JournalEntry]) -> tuple[Columns, Columns]:
    """(session, customer, version) of those that are active, in the order of their booking, and (session,
    version) of those that are over."""
    sessions = sorted((session for session, _ in latest(entries).values()), key=attrgetter("created_at"))
    return (
        _columns([(s.id, s.customer_id, s.version) for s in sessions if s.active]),
        _columns([(s.id, s.version) for s in sessions if not s.active]) or ((), ()),
    )


def forks_within(entries: Sequence[JournalEntry]) -> set[int]:
    """Positions of entries that repeat an earlier one's version with another command."""
    commands: dict[tuple[str, int], str] = {}
    return {
        i
        for i, e in enumerate(entries)
        if e.session and commands.setdefault((e.session.id, e.session.version), e.command_id) != e.command_id
    }


def session_from(columns: Iterable[tuple[str, Any]], orphan_ms: int) -> Session:
    """A session as it can be restored: connections and further waves are not in the record."""
    values = {name: value for name, value in columns if value is not None}
    values["orphan_at"] = values["created_at"] + orphan_ms
    if values["status"] == SessionStatus.PENDING:
        preferred = values.get("preferred_mechanic_id")
        if values["assignment_status"] in IN_TURN:
            if preferred is None:
                # The favourite was deleted: nobody could answer, so it is everyone's.
                values["assignment_status"] = AssignmentStatus.OPEN
                values.pop("expires_at", None)
            else:
                values["waves"] = (Wave(preferred, values["priority_window_minutes"] * _MINUTE_MS),)
                values["wait_if_offline"] = values["assignment_status"] == AssignmentStatus.QUEUED
        if values["assignment_status"] == AssignmentStatus.OPEN:
            values["open_at"] = values.get("fallback_at") or values["created_at"]
    return msgspec.convert(values, Session)


def event_from(row: Mapping[str, Any]) -> Event:
    return msgspec.convert({**row, "data": msgspec.json.decode(row["data"])}, Event)


def _participants(
    entries: Sequence[JournalEntry], sessions: Sequence[Session]
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """(session, user, role, joined, left) of who joined; (session, user, left) of others who were in it."""
    ended = {s.id: s.ended_at or s.updated_at for s in sessions if not s.active}
    joined: dict[tuple[str, str], tuple[str, int, int | None]] = {
        (s.id, s.customer_id): ("customer", s.created_at, ended.get(s.id)) for s in sessions
    }
    for s in sessions:
        if s.mechanic_id is not None and s.accepted_at is not None:
            joined[s.id, s.mechanic_id] = "mechanic", s.accepted_at, ended.get(s.id)
    left: dict[tuple[str, str], int] = {}
    for entry in entries:
        for event in entry.events:
            mechanic_id = event.data.get("mechanic_id") if event.type in _MOVES else None
            if mechanic_id is None or entry.session is None:
                continue
            key = event.session_id, mechanic_id
            if event.type is EventType.ACCEPTED:
                joined[key] = "mechanic", event.at, ended.get(event.session_id)
            elif key in joined:
                joined[key] = "mechanic", joined[key][1], event.at
            else:
                left[key] = event.at
    joins = [(*key, *state) for key, state in joined.items()]
    return joins, [(*key, at) for key, at in left.items() if key not in joined]


def _event(event: Event) -> tuple[Any, ...]:
    session = event.session_id
    data = _encode(event.data).decode() if event.data else "{}"
    return (
        *(event.id, session, assignment_of(session), event.type),
        *(event.actor_id, event.at, event.version, data),
    )


def _columns(rows: Sequence[tuple[Any, ...]]) -> Columns:
    return list(zip(*rows, strict=True))
