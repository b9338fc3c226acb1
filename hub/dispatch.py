"""The one way in which anything happens to a session: load, decide, commit; again where someone was first.

REST, sockets, the sweeper, the console and the webhook all issue commands here. A command is acknowledged
only after its commit; where a reply was lost, the same commit is sent again (its id makes that safe) until
the store says whether it happened. So what is answered as failed did not happen, what is answered as done
stays done.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.decide import Decision, decide
from hub.domain.errors import ActiveSessionExists, HubError, Recovering, Refused, StoreFailed, Unavailable
from hub.domain.footprint import Footprint, footprint
from hub.domain.ids import new_id
from hub.domain.model import Candidate, Event, Mechanic, Session
from hub.domain.records import HAPPENED, BookingSnapshot, Contact, JournalEntry, Outcome, Snapshot
from hub.ports import Announcements, Clock, Directory, PresenceStore, SessionStore

_ATTEMPTS = 64
_NEAR_MS = 1_100
_WORK_CHECKED_AFTER_MS = 1_000
_ASK_AGAIN_S = 0.1

_MAY_CHANGE = frozenset({Outcome.HELD, Outcome.FULL})
"""Refusals that an earlier copy of the same commit, still on its way, might not meet."""

_MOVES_ON = (cmd.OfferDue, cmd.NotifyDue, cmd.Unreachable, cmd.Decline)


class DispatchPolicy(Struct, frozen=True, kw_only=True):
    """Times in ms; `capacity` 0 means that a mechanic may hold any number of sessions."""

    notify_timeout_ms: int = 2_000
    orphan_ms: int = 7_200_000
    capacity: int = 0
    journal_max: int = 1_000_000


_Loaded = TypeVar("_Loaded", bound=Snapshot)


class Gate:
    """Whether commands may be issued now. Shut while lost data is being restored."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self.suspected = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    def open(self) -> None:
        self.suspected.clear()
        self._open.set()

    def shut(self) -> None:
        self._open.clear()

    def suspect(self) -> None:
        """Somebody saw signs that the store lost data."""
        self.suspected.set()

    async def passed(self) -> None:
        await self._open.wait()


class Dispatcher:
    """Issues commands. `on_commit` is told of every commit of this process, `on_event` of each event."""

    def __init__(
        self,
        *,
        sessions: SessionStore,
        presence: PresenceStore,
        directory: Directory,
        announcements: Announcements,
        clock: Clock,
        gate: Gate,
        policy: DispatchPolicy,
        on_commit: Callable[[JournalEntry], None] = lambda entry: None,
        on_event: Callable[[Event, Session], None] = lambda event, session: None,
    ) -> None:
        self.sessions = sessions
        self.presence = presence
        self.directory = directory
        self.policy = policy
        self.gate = gate
        self._announcements = announcements
        self.clock = clock
        self._on_commit = on_commit
        self._on_event = on_event

    async def execute(self, session_id: str, command: cmd.Command, known: Snapshot | None = None) -> Session:
        """The session, `known` before; raises `Refused` or `Unavailable`, and then nothing has happened."""
        if isinstance(command, cmd.Accept) and self.policy.capacity:
            return await self._accept_within_capacity(session_id, command)
        return await self._execute(session_id, command, known)

    async def nudge(self, session_id: str, command: cmd.Command) -> None:
        """A command of the hub's own, which a session that is no more needs not. Raises `Unavailable`."""
        with contextlib.suppress(Refused):
            await self.execute(session_id, command)

    async def book(
        self, command: cmd.Book, known: BookingSnapshot | None = None
    ) -> tuple[Session | None, bool]:
        """(the session, whether it is new). The draft's id is the booking's identity: a repeated one finds
        the first one's session, None where that is only on record any more. `known`: what was loaded for it
        just now."""
        command_id = new_id()
        for attempt in range(_ATTEMPTS):
            snapshot, known = await self.before_booking(command.draft, known), None
            if snapshot.booked:
                return snapshot.session, False
            if command.not_after is not None and snapshot.now > command.not_after:
                raise Unavailable("unavailable", "This booking took too long and was given up.")
            if command.epoch not in (None, snapshot.epoch):
                raise Recovering  # whoever asks again is answered from the record
            decision = decide(
                None,
                command,
                snapshot.now,
                candidates={c.mechanic_id: c for c in command.wish.candidates if c is not None},
                notify_timeout_ms=self.policy.notify_timeout_ms,
            )
            if await self._commit(snapshot, decision, command_id):
                await self._look_again(None, decision.session)
                return decision.session, True
            await _give_way(attempt)
        raise _contended()

    async def before_booking(self, draft: Session, known: BookingSnapshot | None = None) -> BookingSnapshot:
        """What a booking of this draft meets; raises `Refused` where another one is in its way."""
        snapshot = known or await self._known(self.sessions.load_booking(draft.customer_id, draft.id))
        self._check(snapshot)
        if snapshot.booked:
            booked_as = snapshot.session.fingerprint if snapshot.session else snapshot.fingerprint
            # A session that was restored from the record has lost its fingerprint.
            if booked_as is not None and booked_as != draft.fingerprint:
                raise Refused("idempotency_key_reused", "This Idempotency-Key was used for another booking.")
        elif snapshot.held is not None and snapshot.held.active:
            raise ActiveSessionExists(snapshot.held)
        return snapshot

    async def restate(self, session_id: str) -> bool:
        """Commit a session unchanged in a new version, so that the record is written anew; whether it was:
        another commit meanwhile has the same effect."""
        snapshot = await self._known(self.sessions.load(session_id))
        self._check(snapshot)
        if snapshot.session is None:
            return False
        version = snapshot.session.version + 1
        again = replace(snapshot.session, version=version, updated_at=snapshot.now)
        return await self._commit(snapshot, Decision(session=again, changed=True), new_id())

    async def candidates(self, mechanic_ids: Iterable[str]) -> dict[str, Candidate | None]:
        """What is known of these mechanics now; None for those whom nobody knows."""
        ids = list(dict.fromkeys(mechanic_ids))
        people = {mechanic_id: await self.directory.mechanic(mechanic_id) for mechanic_id in ids}
        known = [mechanic_id for mechanic_id, person in people.items() if person is not None]
        contacts = await self.presence.contacts(known) if known else {}
        return {
            mechanic_id: _candidate(person, contacts[mechanic_id]) if person else None
            for mechanic_id, person in people.items()
        }

    async def mechanic_moved(self, mechanic_id: str, *, lost: str | None = None) -> None:
        """A mechanic's connections changed: offers that had none, or had the lost one, go to another."""
        offered = await self.sessions.offered_to(mechanic_id)
        if not offered:
            return
        candidate = (await self.candidates([mechanic_id]))[mechanic_id]
        if candidate is not None:
            for session in offered:
                await self.nudge(session.id, cmd.Retarget(candidate, lost))

    async def mechanic_left(self, mechanic_id: str, *, barred: bool = False) -> None:
        """A mechanic is offline, or may not accept any more: nobody need wait for their answer."""
        for session in await self.sessions.offered_to(mechanic_id):
            await self.nudge(session.id, cmd.Unreachable(mechanic_id, barred))

    async def align_work(self, session_id: str, mechanic_id: str) -> None:
        """Bring what the mechanic is noted to hold in line with the session, whatever happens meanwhile.

        Two nodes may do this at once, and the slower may write what is out of date: so each looks again after
        writing, and whoever looks last has written the truth.
        """
        session = (await self.sessions.load(session_id)).session
        while True:
            await self._note_work(session_id, mechanic_id, session)
            latest = (await self.sessions.load(session_id)).session
            if (latest and latest.version) == (session and session.version):
                return
            session = latest

    async def _note_work(self, session_id: str, mechanic_id: str, session: Session | None) -> None:
        marks = footprint(session)
        held = marks.held_by == mechanic_id
        await self.presence.set_work(mechanic_id, session_id, held=held, live=held and marks.live)

    async def _accept_within_capacity(self, session_id: str, command: cmd.Accept) -> Session:
        claimed = await self.presence.claim_work(command.mechanic_id, session_id, self.policy.capacity)
        if not claimed:
            raise Refused("at_capacity", "This mechanic holds as many sessions as they may.")
        try:
            return await self._execute(session_id, command)
        except HubError:
            with contextlib.suppress(StoreFailed):  # the place is checked again after the claim's deadline
                await self.align_work(session_id, command.mechanic_id)
            raise

    async def _execute(self, session_id: str, command: cmd.Command, known: Snapshot | None = None) -> Session:
        command_id = new_id()
        for attempt in range(_ATTEMPTS):
            snapshot, known = known or await self._known(self.sessions.load(session_id)), None
            self._check(snapshot)
            if isinstance(command, cmd.Retarget):
                command = await self._with_connections(command)
            decision = decide(
                snapshot.session,
                command,
                snapshot.now,
                candidates=await self._standby(snapshot.session, command),
                notify_timeout_ms=self.policy.notify_timeout_ms,
            )
            if not decision.changed and not decision.events:
                return decision.session
            if await self._commit(snapshot, decision, command_id):
                await self._look_again(snapshot.session, decision.session)
                return decision.session
            await _give_way(attempt)
        raise _contended()

    async def _with_connections(self, command: cmd.Retarget) -> cmd.Retarget:
        """Read after the session, on every attempt: who connects later looks for offers after that."""
        mechanic_id = command.candidate.mechanic_id
        found = (await self.candidates([mechanic_id]))[mechanic_id]
        return cmd.Retarget(found, command.lost) if found is not None else command

    async def _look_again(self, before: Session | None, session: Session) -> None:
        """A mechanic who came or went while an offer to them was being made has not seen it: it is ours to
        see whether it still points the right way."""
        mechanic_id = session.offered_to
        if mechanic_id is None or (before is not None and before.offered_to == mechanic_id):
            return
        with contextlib.suppress(HubError):  # the notify timeout finds what is left
            candidate = (await self.candidates([mechanic_id]))[mechanic_id]
            if candidate is None:
                return
            target = candidate.target()
            reachable = any(c.id == session.target_connection for c in candidate.connections)
            if not reachable and (target is not None or session.target_connection is not None):
                await self._execute(session.id, cmd.Retarget(candidate))

    async def _known(self, loading: Awaitable[_Loaded]) -> _Loaded:
        """What was loaded; a store that fails is looked at, since its data may be another's."""
        try:
            return await loading
        except StoreFailed:
            self.gate.suspect()
            raise

    def _check(self, snapshot: Snapshot) -> None:
        self.clock.learn(snapshot.now)
        if not snapshot.epoch:
            self.gate.suspect()
        if not snapshot.epoch or not self.gate.is_open:
            raise Recovering

    async def _standby(self, session: Session | None, command: cmd.Command) -> dict[str, Candidate]:
        if session is None or not isinstance(command, _MOVES_ON):
            return {}
        later = [wave.mechanic_id for wave in session.waves[session.wave + 1 :]]
        try:
            found = await self.candidates(later) if later else {}
        except StoreFailed:
            return {}  # nobody is known to be able to answer: everyone is asked
        return {mechanic_id: c for mechanic_id, c in found.items() if c is not None}

    async def _commit(self, snapshot: Snapshot, decision: Decision, command_id: str) -> bool:
        """Whether it happened; False where the decision must be made again."""
        before, after = footprint(snapshot.session), footprint(decision.session)
        owed = _work_owed(before, after)
        due = snapshot.now + _WORK_CHECKED_AFTER_MS
        near = [at for at in after.deadlines.values() if at < snapshot.now + _NEAR_MS]
        declined = snapshot.declined | ({decision.declined_by} if decision.declined_by else frozenset())
        hints = self._announcements.hints(snapshot.session, decision, declined, min(near, default=None))
        outcome, detail = await self._until_known(
            snapshot,
            decision,
            command_id=command_id,
            hints=hints,
            owed=[(f"work:{decision.session.id}:{mechanic_id}", due) for mechanic_id in owed],
        )
        if outcome in HAPPENED:
            self._tell(decision, command_id, detail, snapshot.epoch)
            await self._pay(decision.session, owed, due)
            return True
        if outcome is Outcome.FULL:
            raise Unavailable("journal_full", "The record is too far behind to take bookings.", retry_after=5)
        if outcome is Outcome.HELD and isinstance(snapshot, BookingSnapshot):
            (held,) = await self.sessions.get([detail])
            if held is not None and held.active:
                raise ActiveSessionExists(held)
        return False

    async def _until_known(
        self,
        snapshot: Snapshot,
        decision: Decision,
        *,
        command_id: str,
        hints: list[str],
        owed: list[tuple[str, int]],
    ) -> tuple[Outcome, str]:
        """Send the commit until the store says what became of it; `stale` at the latest ends the doubt."""
        doubt = False
        journal_max = self.policy.journal_max if snapshot.session is None else 0
        while True:
            try:
                outcome, detail = await self.sessions.commit(
                    snapshot, decision, command_id=command_id, hints=hints, journal_max=journal_max, owed=owed
                )
            except StoreFailed as failure:
                doubt = doubt or failure.maybe_done
                if not doubt:
                    self.gate.suspect()
                    raise
                await asyncio.sleep(_ASK_AGAIN_S)
                continue
            if doubt and outcome in _MAY_CHANGE:
                await asyncio.sleep(_ASK_AGAIN_S)
                continue
            if outcome is Outcome.EPOCH:
                self.gate.suspect()
                if not doubt:
                    raise Recovering
                # Whether it happened shows once the record is back; recovery opens the gate again.
                self.gate.shut()
                await self.gate.passed()
            return outcome, detail

    def _tell(self, decision: Decision, command_id: str, entry_id: str, epoch: str) -> None:
        session = decision.session
        entry = JournalEntry(
            shard=self.sessions.shard(session.id),
            id=entry_id,
            command_id=command_id,
            session=session if decision.changed else None,
            events=decision.events,
            epoch=epoch,
        )
        self._on_commit(entry)
        for event in decision.events:
            self._on_event(event, session)

    async def _pay(self, session: Session, owed: list[str], due: int) -> None:
        """Apply at once what the commit owes to other shards; the sweeper does where this fails."""
        with contextlib.suppress(StoreFailed):  # the deadline stays, and with it the debt
            for mechanic_id in owed:
                await self._note_work(session.id, mechanic_id, session)
                member = f"work:{session.id}:{mechanic_id}"
                # One look that also settles; only where somebody was faster, the whole way round.
                if not await self.sessions.settle_work(session, member, due):
                    await self.align_work(session.id, mechanic_id)
                    await self.sessions.settle(self.sessions.shard(session.id), member, due)


def _work_owed(before: Footprint, after: Footprint) -> list[str]:
    if (before.held_by, before.live) == (after.held_by, after.live):
        return []
    return [mechanic_id for mechanic_id in {before.held_by, after.held_by} if mechanic_id is not None]


def _candidate(person: Mechanic, contact: Contact) -> Candidate:
    return Candidate(
        mechanic_id=person.id,
        name=person.name,
        approved=person.approved,
        status=contact.state.status,
        connections=contact.connections,
        window_ms=person.window_minutes * 60_000 if person.window_minutes else None,
    )


async def _give_way(attempt: int) -> None:
    await asyncio.sleep(random.random() * 0.002 * min(attempt, 10))


def _contended() -> Unavailable:
    return Unavailable("unavailable", "Too many people are after this session at once.")
