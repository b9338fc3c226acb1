"""The session store's promises, in memory.

A commit happens whole or not at all, and only on the version it was decided on; one whose id is among the
session's last eight is not done again; one that comes too late is not done at all. Deadlines and indexes are
written as the difference of two footprints and in no other way. Time stands still until a test moves it.
"""

from collections import deque

from hub.domain.decision import Decision
from hub.domain.footprint import footprint
from hub.domain.model import Session
from hub.domain.records import BookingSnapshot, JournalEntry, Outcome, Snapshot

COMMIT_WITHIN_MS = 3_000
REMEMBERED = 8


class ModelStore:
    def __init__(self, now: int) -> None:
        self.now = now
        self.sessions: dict[str, Session] = {}
        self.declined: dict[str, set[str]] = {}
        self.deadlines: dict[str, int] = {}
        self.claims: dict[str, str] = {}
        self.open: dict[str, int] = {}
        self.offers: set[tuple[str, str]] = set()
        self.journal: list[JournalEntry] = []
        self._commands: dict[str, deque[str]] = {}

    def load(self, session_id: str) -> Snapshot:
        declined = frozenset(self.declined.get(session_id, ()))
        return Snapshot(now=self.now, epoch="one", session=self.sessions.get(session_id), declined=declined)

    def load_booking(self, customer_id: str, session_id: str) -> BookingSnapshot:
        held_id = self.claims.get(customer_id)
        return BookingSnapshot(
            now=self.now,
            epoch="one",
            session=self.sessions.get(session_id),
            held_id=held_id,
            held=self.sessions[held_id] if held_id else None,
        )

    def commit(self, snapshot: Snapshot, decision: Decision, command_id: str) -> Outcome:
        session = decision.session
        before, after = footprint(snapshot.session), footprint(session)
        known = self.sessions.get(session.id)
        commands = self._commands.setdefault(session.id, deque(maxlen=REMEMBERED))
        if command_id in commands:
            return Outcome.REPEATED
        if self.now > snapshot.now + COMMIT_WITHIN_MS:
            return Outcome.STALE
        if (known and known.version) != (snapshot.session and snapshot.session.version):
            return Outcome.CONFLICT
        claims = after.claim and not before.claim
        if claims and self.claims.get(session.customer_id, session.id) != session.id:
            return Outcome.HELD

        if decision.changed:
            self.sessions[session.id] = session
            commands.append(command_id)
        if decision.declined_by is not None:
            self.declined.setdefault(session.id, set()).add(decision.declined_by)
        if claims:
            self.claims[session.customer_id] = session.id
        if before.claim and not after.claim:
            del self.claims[session.customer_id]
        for member in before.deadlines.keys() - after.deadlines.keys():
            del self.deadlines[member]
        self.deadlines |= {m: due for m, due in after.deadlines.items() if before.deadlines.get(m) != due}
        if before.open_at is not None and after.open_at is None:
            del self.open[session.assignment_id]
        if after.open_at is not None and after.open_at != before.open_at:
            self.open[session.assignment_id] = after.open_at
        if before.offered_to is not None and before.offered_to != after.offered_to:
            self.offers.remove((before.offered_to, session.assignment_id))
        if after.offered_to is not None and before.offered_to != after.offered_to:
            self.offers.add((after.offered_to, session.assignment_id))
        self.journal.append(
            JournalEntry(
                shard=0,
                id=f"{len(self.journal)}",
                command_id=command_id,
                session=session if decision.changed else None,
                events=decision.events,
            )
        )
        return Outcome.COMMITTED

    def due(self) -> list[tuple[str, int]]:
        return sorted((m, at) for m, at in self.deadlines.items() if at <= self.now)

    def settle(self, member: str, due: int) -> None:
        """Remove a deadline that its session no longer implies, unless somebody moved it meanwhile."""
        if self.deadlines.get(member) == due:
            del self.deadlines[member]
