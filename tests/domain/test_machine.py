"""Everything that can happen, in any order, with every fault that a store and a network have.

Hypothesis plays the people, the sweepers, the clock and the network against the model store; `laws.py` says
what must hold of each decision, this module what must hold of all of them together.
"""

from collections import defaultdict
from enum import StrEnum, auto

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.decide import Decision, decide
from hub.domain.errors import Refused
from hub.domain.footprint import footprint
from hub.domain.ids import new_id, session_of
from hub.domain.model import (
    UNVERSIONED,
    AssignmentStatus,
    Candidate,
    Connection,
    EventType,
    RoutingType,
    Session,
    SessionStatus,
    Status,
)
from hub.domain.plan import Wish
from hub.domain.records import HAPPENED, Outcome, Snapshot
from tests.domain import laws
from tests.domain.model_store import REMEMBERED, ModelStore
from tests.domain.samples import (
    CUSTOMERS,
    MECHANICS,
    MINUTE,
    NOTIFY_MS,
    NOW,
    ORPHAN_MS,
    STRANGER,
    book,
    draft,
    name_of,
    wish,
)


class Fault(StrEnum):
    NONE = auto()
    LOST_REPLY = auto()
    """The commit happens, its author does not learn of it."""
    DELAYED = auto()
    """The commit is on its way for a while: others may be faster, or it comes too late."""


class Call:
    """One command on its way to being answered; `decided` is what is sent, the same until an answer comes."""

    def __init__(self, session_id: str, command: cmd.Command) -> None:
        self.session_id = session_id
        self.command = command
        self.id = new_id()
        self.decided: tuple[Snapshot, Decision] | None = None
        self.committed: list[int] = []
        self.answers: list[str] = []


RECENT = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3])
"""Which session, counted from the newest: those that ended long ago are seldom of interest."""
PICK = st.integers(0, 30)
FAULT = st.sampled_from([Fault.NONE, Fault.NONE, Fault.NONE, Fault.LOST_REPLY, Fault.DELAYED])
WORD = st.sampled_from([Fault.NONE, Fault.NONE, Fault.LOST_REPLY, Fault.DELAYED, None])
WHO = st.sampled_from([None, None, *MECHANICS, STRANGER])
"""None: whoever has the request now, by offer or by accept."""
APPROVED = st.sampled_from([True, True, True, True, False])
STATUS = st.sampled_from(
    [Status.ONLINE, Status.ONLINE, Status.ONLINE, Status.AWAY, Status.BUSY, Status.OFFLINE]
)
PAUSE = st.sampled_from([1, NOTIFY_MS - 1, NOTIFY_MS, 2_999, 3_000, 3_001, MINUTE, 5 * MINUTE])
ROUTING = st.sampled_from([RoutingType.SEQUENCE, RoutingType.PRIORITY, RoutingType.BROADCAST])
FAVOURITES = st.lists(st.sampled_from([*MECHANICS, STRANGER]), max_size=4, unique=True)
WINDOW = st.sampled_from([None, MINUTE, 10 * MINUTE, 60 * MINUTE])


class Hub(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = ModelStore(NOW)
        self.people = {m: Candidate(mechanic_id=m, name=name_of(m)) for m in MECHANICS}
        self.moves: list[cmd.Retarget] = []
        self.ids: list[str] = []
        self.bookings = 0
        self.unanswered: list[Call] = []
        self.sent: list[Call] = []
        self.connections: dict[str, set[str]] = defaultdict(set)
        self.holder: dict[str, str | None] = {}
        self.accepts: set[tuple[str, str]] = set()
        self.event_keys: dict[str, tuple[str, int, EventType, str | None]] = {}
        self.probed: set[tuple[str, int]] = set()

    # People come and go

    @initialize(
        statuses=st.tuples(*[STATUS] * 4),
        counts=st.tuples(*[st.sampled_from([1, 2, 0])] * 4),
        favourites=st.permutations(MECHANICS),
        wait=st.booleans(),
    )
    def open_the_shop(
        self, statuses: tuple[Status, ...], counts: tuple[int, ...], favourites: list[str], wait: bool
    ) -> None:
        for mechanic_id, status, count in zip(MECHANICS, statuses, counts, strict=True):
            self.people[mechanic_id] = replace(self.people[mechanic_id], status=status)
            for _ in range(count):
                self.connect(mechanic_id, None)
        asked = wish(*(self.people[m] for m in favourites), sequence=True, wait=wait)
        self.issue(draft(key="0").id, book(asked, key="0"), Fault.NONE)

    @rule(mechanic_id=st.sampled_from(MECHANICS), word=WORD)
    def connect(self, mechanic_id: str, word: Fault | None) -> None:
        person = self.people[mechanic_id]
        connection = Connection(f"connection-{len(self.moves)}", "node", self.store.now)
        self.people[mechanic_id] = replace(person, connections=(*person.connections, connection))
        self.connections[mechanic_id].add(connection.id)
        self.moved(cmd.Retarget(self.people[mechanic_id]), word)

    @rule(mechanic_id=st.sampled_from(MECHANICS), pick=PICK, seen=st.booleans(), word=WORD)
    def disconnect(self, mechanic_id: str, pick: int, seen: bool, word: Fault | None) -> None:
        """Word of it may be faster than what is known of the mechanic (not `seen`)."""
        person = self.people[mechanic_id]
        if person.connections:
            lost = person.connections[pick % len(person.connections)]
            left = tuple(c for c in person.connections if c is not lost)
            self.people[mechanic_id] = replace(person, connections=left)
            self.moved(cmd.Retarget(self.people[mechanic_id] if seen else person, lost.id), word)

    @rule(mechanic_id=st.sampled_from(MECHANICS), status=STATUS, approved=APPROVED, word=WORD)
    def change(self, mechanic_id: str, status: Status, approved: bool, word: Fault | None) -> None:
        self.people[mechanic_id] = replace(self.people[mechanic_id], status=status, approved=approved)
        self.moved(cmd.Retarget(self.people[mechanic_id]), word)

    def moved(self, move: cmd.Retarget, word: Fault | None) -> None:
        """Word of it goes to the offers concerned, or is lost (None)."""
        self.moves.append(move)
        for mechanic_id, assignment_id in sorted(self.store.offers):
            if mechanic_id == move.candidate.mechanic_id and word is not None:
                self.issue(session_of(assignment_id), move, word)

    # What they ask for

    @rule(
        customer_id=st.sampled_from(CUSTOMERS),
        routing_type=ROUTING,
        favourites=FAVOURITES,
        wait=st.booleans(),
        odd=st.sampled_from([None, None, None, None, "not preferred", "no flag", "workshop"]),
        window_ms=WINDOW,
        orphan_ms=st.sampled_from([ORPHAN_MS, ORPHAN_MS, 2 * MINUTE]),
        fault=FAULT,
    )
    def book(
        self,
        customer_id: str,
        routing_type: RoutingType,
        favourites: list[str],
        wait: bool,
        odd: str | None,
        window_ms: int | None,
        orphan_ms: int,
        fault: Fault,
    ) -> None:
        sequence = routing_type is RoutingType.SEQUENCE
        asked = Wish(
            routing_type=routing_type,
            preferred=odd != "not preferred",
            enabled=odd != "no flag",
            workshop=odd == "workshop",
            wait=wait,
            candidates=tuple(self.people.get(m) for m in (favourites if sequence else favourites[:1])),
            window_ms=window_ms,
            default_window_ms=15 * MINUTE,
        )
        self.bookings += 1
        command = book(asked, customer_id, f"{self.bookings}", orphan_ms)
        self.issue(command.draft.id, command, fault)

    @precondition(lambda self: self.ids)
    @rule(
        recent=RECENT,
        who=WHO,
        approved=APPROVED,
        admin=st.sampled_from([None, None, None, STRANGER]),
        fault=FAULT,
    )
    def accept(self, recent: int, who: str | None, approved: bool, admin: str | None, fault: Fault) -> None:
        session_id, mechanic_id = self.pick(recent, who)
        self.issue(
            session_id,
            cmd.Accept(mechanic_id=mechanic_id, name=name_of(mechanic_id), approved=approved, actor_id=admin),
            fault,
        )

    @precondition(lambda self: self.ids)
    @rule(recent=RECENT, mechanics=st.permutations(MECHANICS))
    def accept_all_at_once(self, recent: int, mechanics: list[str]) -> None:
        """All have seen the same state; the store lets one of them through."""
        session_id, _ = self.pick(recent, None)
        calls = [Call(session_id, cmd.Accept(mechanic_id=m, name=name_of(m))) for m in mechanics]
        for call in calls:
            self.attempt(call, Fault.DELAYED)
        for call in calls:
            self.send_again(call)
        accepted = [call for call in calls if "done" in call.answers]
        assert len(accepted) <= 1

    @precondition(lambda self: self.ids)
    @rule(recent=RECENT, who=WHO, fault=FAULT)
    def decline(self, recent: int, who: str | None, fault: Fault) -> None:
        session_id, mechanic_id = self.pick(recent, who)
        self.issue(session_id, cmd.Decline(mechanic_id, "lunch"), fault)

    @precondition(lambda self: self.ids)
    @rule(recent=RECENT, who=WHO, fault=FAULT)
    def release(self, recent: int, who: str | None, fault: Fault) -> None:
        session_id, mechanic_id = self.pick(recent, who)
        self.issue(session_id, cmd.Release(mechanic_id), fault)

    @precondition(lambda self: self.ids)
    @rule(recent=RECENT, who=WHO, fault=FAULT)
    def start(self, recent: int, who: str | None, fault: Fault) -> None:
        session_id, mechanic_id = self.pick(recent, who)
        self.issue(session_id, cmd.Start(mechanic_id), fault)

    @precondition(lambda self: self.ids)
    @rule(recent=RECENT, who=WHO, customer=st.sampled_from([False, False, True]), fault=FAULT)
    def end(self, recent: int, who: str | None, customer: bool, fault: Fault) -> None:
        session_id, mechanic_id = self.pick(recent, who)
        customer_id = self.store.sessions[session_id].customer_id
        self.issue(session_id, cmd.End(customer_id if customer else mechanic_id), fault)

    @precondition(lambda self: self.ids)
    @rule(recent=RECENT, fault=FAULT, opened=st.sampled_from([True, True, True, False]))
    def intervene(self, recent: int, fault: Fault, opened: bool) -> None:
        session_id, _ = self.pick(recent, None)
        self.issue(session_id, cmd.Broadcast(STRANGER) if opened else cmd.Cancel(STRANGER, "test"), fault)

    # What the nodes report

    @precondition(lambda self: self.ids)
    @rule(recent=RECENT, right=st.sampled_from([True, True, False]), ago=st.integers(0, 3), fault=FAULT)
    def notified(self, recent: int, right: bool, ago: int, fault: Fault) -> None:
        session_id, mechanic_id = self.pick(recent, None)
        wrong = min(self.connections[mechanic_id], default="another")
        connection = self.store.sessions[session_id].target_connection if right else wrong
        self.issue(session_id, cmd.Notified(connection or wrong, self.store.now - ago), fault)

    @precondition(lambda self: self.ids)
    @rule(recent=RECENT, who=WHO, stage=st.sampled_from([EventType.DELIVERED, EventType.SEEN]), fault=FAULT)
    def acknowledge(self, recent: int, who: str | None, stage: EventType, fault: Fault) -> None:
        session_id, mechanic_id = self.pick(recent, who)
        self.issue(session_id, cmd.Acknowledge(mechanic_id, stage), fault)

    @precondition(lambda self: self.ids and self.moves)
    @rule(recent=RECENT, back=st.integers(0, 3), concerned=st.sampled_from([True, True, False]), fault=FAULT)
    def retarget(self, recent: int, back: int, concerned: bool, fault: Fault) -> None:
        """Word of a mechanic's connections, perhaps overtaken by later moves."""
        session_id, mechanic_id = self.pick(recent, None)
        moves = [m for m in self.moves if m.candidate.mechanic_id == mechanic_id] if concerned else []
        moves = moves or self.moves
        self.issue(session_id, moves[-1 - back % len(moves)], fault)

    @precondition(lambda self: self.ids)
    @rule(recent=RECENT, who=WHO, fault=FAULT)
    def unreachable(self, recent: int, who: str | None, fault: Fault) -> None:
        session_id, mechanic_id = self.pick(recent, who)
        self.issue(session_id, cmd.Unreachable(mechanic_id), fault)

    # Time

    @rule(ms=PAUSE)
    def wait(self, ms: int) -> None:
        self.store.now += ms

    @precondition(lambda self: self.store.deadlines)
    @rule(pick=PICK, offset=st.sampled_from([0, -1, 1]))
    def wait_for_a_deadline(self, pick: int, offset: int) -> None:
        heads = sorted(self.store.deadlines.values())
        self.store.now = max(self.store.now, heads[pick % min(2, len(heads))] + offset)

    @precondition(lambda self: self.ids)
    @rule(
        recent=RECENT,
        command=st.sampled_from([cmd.OfferDue(), cmd.NotifyDue(), cmd.OrphanDue(), cmd.OrphanDue(True)]),
        fault=FAULT,
    )
    def deadline_of_another_clock(self, recent: int, command: cmd.Command, fault: Fault) -> None:
        """What is not due yet, what is over, and what a person does not want to wait for."""
        session_id, _ = self.pick(recent, None)
        self.issue(session_id, command, fault)

    @rule(fault=FAULT)
    def sweep(self, fault: Fault) -> None:
        for member, due in self.store.due():
            kind, _, key = member.partition(":")
            command = {"offer": cmd.OfferDue(), "notify": cmd.NotifyDue(), "orphan": cmd.OrphanDue()}[kind]
            session_id = key if kind == "orphan" else session_of(key)
            call = self.issue(session_id, command, fault)
            if call.answers == ["idle"]:
                implied = footprint(self.store.sessions[session_id]).deadlines.get(member)
                assert implied is None or implied > self.store.now, "a deadline that is due had no effect"
                self.store.settle(member, due)

    # The network

    @precondition(lambda self: self.unanswered)
    @rule(pick=PICK)
    def resend(self, pick: int) -> None:
        self.send_again(self.unanswered[pick % len(self.unanswered)])

    @precondition(lambda self: self.sent)
    @rule(pick=PICK)
    def straggler(self, pick: int) -> None:
        """A copy of a commit that was sent long ago arrives once more; nobody hears the reply."""
        self.send(self.sent[-1 - pick % len(self.sent)])

    # How a command goes its way

    def pick(self, recent: int, who: str | None) -> tuple[str, str]:
        session_id = self.ids[-1 - recent % len(self.ids)]
        session = self.store.sessions[session_id]
        return session_id, who or session.mechanic_id or session.preferred_mechanic_id or MECHANICS[0]

    def issue(self, session_id: str, command: cmd.Command, fault: Fault) -> Call:
        call = Call(session_id, command)
        self.attempt(call, fault)
        return call

    def attempt(self, call: Call, fault: Fault) -> None:
        snapshot: Snapshot
        if isinstance(call.command, cmd.Book):
            booking = self.store.load_booking(call.command.draft.customer_id, call.session_id)
            if booking.session is None and booking.held is not None and booking.held.active:
                return self.answer(call, "active_session_exists")
            snapshot = booking
        else:
            snapshot = self.store.load(call.session_id)
        try:
            decision = self.decide(call.command, snapshot)
        except Refused as refusal:
            return self.answer(call, refusal.code)
        if not decision.changed and not decision.events:
            return self.answer(call, "idle")
        call.decided = snapshot, decision
        if fault is Fault.DELAYED:
            self.unanswered.append(call)
            return None
        outcome = self.send(call)
        if fault is Fault.LOST_REPLY:
            self.unanswered.append(call)
            return None
        assert outcome in (Outcome.COMMITTED, Outcome.REPEATED), "nobody was faster"
        return self.answer(call, "done")

    def decide(self, command: cmd.Command, snapshot: Snapshot) -> Decision:
        before = snapshot.session
        waves = before.waves[before.wave + 1 :] if before else ()
        later = {w.mechanic_id: self.people[w.mechanic_id] for w in waves}
        candidates = self.people if before is None else later
        decision = decide(before, command, snapshot.now, candidates=candidates, notify_timeout_ms=NOTIFY_MS)
        assert decision == decide(
            before, command, snapshot.now, candidates=self.people, notify_timeout_ms=NOTIFY_MS
        ), "who had their turn matters"
        laws.check_decision(before, command, snapshot.now, candidates, decision)
        return decision

    def send(self, call: Call) -> Outcome:
        assert call.decided is not None
        snapshot, decision = call.decided
        before = self.store.sessions.get(call.session_id)
        outcome = self.store.commit(snapshot, decision, call.id)
        if call not in self.sent:
            self.sent = [*self.sent[-15:], call]
        if outcome is Outcome.COMMITTED:
            assert before == snapshot.session, "decided on something else than what was there"
            self.happened(call, before, decision)
        else:
            assert self.store.sessions.get(call.session_id) == before
        if call.committed and self.version(call) - call.committed[-1] < REMEMBERED:
            assert outcome in HAPPENED, "the author of a commit that happened is told otherwise"
        return outcome

    def send_again(self, call: Call) -> None:
        """The author has had no reply, and goes on until there is one."""
        if call in self.unanswered:
            self.unanswered.remove(call)
        if call.answers:
            return
        outcome = self.send(call)
        if outcome in HAPPENED:
            self.answer(call, "done")
        elif outcome is Outcome.HELD:
            self.answer(call, "active_session_exists")
        else:
            self.attempt(call, Fault.NONE)

    def happened(self, call: Call, before: Session | None, decision: Decision) -> None:
        after = decision.session
        for event in decision.events:
            key = (event.session_id, event.version, event.type, event.actor_id)
            assert event.type in UNVERSIONED or event.id not in self.event_keys
            assert self.event_keys.setdefault(event.id, key) == key, "one id for two events"
        if not decision.changed:
            return
        assert all(after.version - version > REMEMBERED for version in call.committed), "done twice"
        call.committed.append(after.version)
        if before is None:
            self.ids.append(call.session_id)
        self.check_holder(call.session_id, call.command, before, after)
        self.connections_known(after)

    def check_holder(
        self, session_id: str, command: cmd.Command, before: Session | None, after: Session
    ) -> None:
        """One mechanic, from the accept until the release, whatever the session's own fields say."""
        holder = self.holder.get(session_id)
        if isinstance(command, cmd.Accept):
            assert holder is None
            holder = command.mechanic_id
            self.accepts.add((session_id, holder))
        elif isinstance(command, cmd.Release):
            assert holder == command.mechanic_id
            holder = None
        assert after.mechanic_id == holder
        assert before is None or before.mechanic_id == self.holder.get(session_id)
        self.holder[session_id] = holder

    def connections_known(self, after: Session) -> None:
        if after.target_connection is not None:
            assert after.target_connection in self.connections[after.waves[after.wave].mechanic_id]

    def answer(self, call: Call, word: str) -> None:
        call.answers.append(word)
        assert len(call.answers) == 1, "answered twice"
        if word in ("done", "idle"):
            if isinstance(call.command, cmd.Accept):
                assert (call.session_id, call.command.mechanic_id) in self.accepts
        else:
            assert word in Refused.STATUS
            system = (
                cmd.OfferDue | cmd.NotifyDue | cmd.OrphanDue | cmd.Retarget | cmd.Unreachable | cmd.Notified
            )
            assert not isinstance(call.command, system)
            assert all(self.version(call) - version >= REMEMBERED for version in call.committed)

    def version(self, call: Call) -> int:
        return self.store.sessions[call.session_id].version

    # What holds after every step

    @invariant()
    def everything_follows_from_the_sessions(self) -> None:
        sessions = self.store.sessions.values()
        deadlines: dict[str, int] = {}
        for session in sessions:
            deadlines |= laws.deadlines_of(session)
        active = [s for s in sessions if s.active]
        assert self.store.deadlines == deadlines
        assert self.store.claims == {s.customer_id: s.id for s in active}
        assert len({s.customer_id for s in active}) == len(active)
        assert self.store.open == {s.assignment_id: s.open_at for s in active if s.open_at is not None}
        assert self.store.offers == {
            (s.waves[s.wave].mechanic_id, s.assignment_id) for s in active if s.expires_at is not None
        }

    @invariant()
    def nobody_is_stuck(self) -> None:
        for session in self.store.sessions.values():
            if (
                session.status is SessionStatus.PENDING
                and session.assignment_status is not AssignmentStatus.OPEN
            ):
                assert f"offer:{session.assignment_id}" in self.store.deadlines
            if (session.id, session.version) not in self.probed:
                self.probed.add((session.id, session.version))
                laws.check_answers(session, self.store.now)

    def teardown(self) -> None:
        """Everybody leaves; time alone must bring everything to an end that nobody has started."""
        for call in list(self.unanswered):
            self.send_again(call)
        for _ in range(8 * len(self.ids) + 1):
            if not self.store.deadlines:
                break
            self.store.now = max(self.store.now, min(self.store.deadlines.values()))
            self.sweep(Fault.NONE)
            self.everything_follows_from_the_sessions()
        assert not self.store.deadlines
        over = {*laws.ENDED, SessionStatus.LIVE}
        assert all(s.status in over for s in self.store.sessions.values())


TestHub = Hub.TestCase
