"""The checker: holds what people were told against what the stores hold, once all is healed and drained.

In the manner of Jepsen's total-queue and single-winner checks: everything acknowledged is there, once, and
nothing is there that was refused; at most one mechanic has a session at any time. Pure: a history and the
evidence in, sentences about what is wrong out.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.faults.evidence import Evidence, Recorded, Row, assignment_of
from tests.faults.history import History, Sight

RESTORED_GAP = 1_000
"""How far a restored session's version is ahead of its row's, until its next change."""

_ON_RECORD = {
    "book": {"created"},
    "accept": {"accepted"},
    "decline": {"declined"},
    "release": {"released"},
    "start": {"started"},
    "complete": {"completed"},
    "end": {"completed", "cancelled", "expired"},
}
"""What must be on record of an operation that was acknowledged."""

_BY_WHOEVER = {"end", "complete"}
"""Acknowledged again where somebody else was first."""

_ENDS_A_TURN = {"accepted", "declined", "offer_expired", "cancelled", "expired"}


class Case(NamedTuple):
    history: History
    evidence: Evidence
    by_session: dict[str, list[Recorded]]


Check = Callable[[Case], Iterator[str]]


def judge(history: History, evidence: Evidence) -> list[str]:
    """Everything that is wrong, a sentence each; each begins with the kind of wrong."""
    by_session: dict[str, list[Recorded]] = defaultdict(list)
    for event in evidence.events:
        by_session[event.session_id].append(event)
    case = Case(history, evidence, by_session)
    return [wrong for check in CHECKS for wrong in check(case)]


def acknowledged_is_there(case: Case) -> Iterator[str]:
    for operation in case.history.operations:
        if operation.outcome != "done":
            continue
        row = case.evidence.rows.get(operation.subject)
        if row is None:
            yield f"lost: {operation.what} by {operation.who}, session {operation.subject} has no row"
            continue
        wanted = _ON_RECORD[operation.what]
        if not any(
            event.type in wanted and (operation.what in _BY_WHOEVER or event.actor_id == operation.who)
            for event in case.by_session[row.id]
        ):
            yield f"lost: {operation.what} by {operation.who} of {row.id} is not on record"


def refused_is_not_there(case: Case) -> Iterator[str]:
    """A booking that failed did not happen and will not."""
    refused = {o.subject: o for o in case.history.operations if o.what == "book" and o.outcome == "refused"}
    keys: dict[str, str] = {}
    for row in case.evidence.rows.values():
        if row.key is None:
            continue
        if row.key in refused:
            yield f"ghost: {row.id} was refused with {refused[row.key].code}"
        if row.key in keys:
            yield f"double booking: {keys[row.key]} and {row.id} were booked as {row.key}"
        keys[row.key] = row.id


def one_winner(case: Case) -> Iterator[str]:
    for session_id, events in case.by_session.items():
        holder: str | None = None
        for event in _in_order(events):
            if event.type == "accepted":
                if holder is not None:
                    yield f"double accept: {session_id} by {holder} and {event.actor_id}"
                holder = event.actor_id
            elif event.type == "released":
                holder = None
        row = case.evidence.rows.get(session_id)
        if row is not None and row.mechanic_id != holder:
            yield f"wrong winner: {session_id} is {row.mechanic_id}'s, its last accept is {holder}'s"


def the_winner_was_told_alone(case: Case) -> Iterator[str]:
    """Of those who were told that a session is theirs, all but one have given it back."""
    told: dict[str, set[str]] = defaultdict(set)
    for operation in case.history.operations:
        if operation.outcome == "done" and operation.what == "accept":
            told[operation.subject].add(operation.who)
    for session_id, winners in told.items():
        gave_back = {e.actor_id for e in case.by_session[session_id] if e.type == "released"}
        if len(keep := winners - gave_back) > 1:
            yield f"double accept: {session_id} was promised to {sorted(keep)}"


def turns_are_respected(case: Case) -> Iterator[str]:
    for session_id, events in case.by_session.items():
        turn: str | None = None
        for event in _in_order(events):
            if event.type == "offered":
                turn = event.data["mechanic_id"]
            elif event.type == "accepted" and turn not in (None, event.actor_id):
                yield f"stolen: {session_id} was offered to {turn}, accepted by {event.actor_id}"
            if event.type in _ENDS_A_TURN and (event.type != "declined" or event.data["priority"]):
                turn = None
        row = case.evidence.rows.get(session_id)
        offered_now = row is not None and row.assignment_status in ("offered", "queued")
        if turn is not None and not offered_now:
            yield f"endless offer: {session_id} to {turn}"


def versions_never_fork(case: Case) -> Iterator[str]:
    """One version of a session is one state, wherever it was seen; nobody saw more than is on record."""
    known: dict[tuple[str, int], Sight] = {}
    evidence = case.evidence
    seen = [
        *case.history.sights,
        *(
            Sight(state.id, state.version, state.status, state.assignment_status, state.mechanic_id)
            for states in (evidence.rows.values(), evidence.live.values())
            for state in states
        ),
    ]
    for sight in seen:
        first = known.setdefault((sight.session_id, sight.version), sight)
        if first != sight:
            yield f"fork: {first} and {sight}"
        row = evidence.rows.get(sight.session_id)
        restored = row is not None and (sight.version - row.version) % RESTORED_GAP == 0
        if row is not None and sight.version > row.version and not restored:
            yield f"regression: version {sight.version} of {row.id} was seen, {row.version} is on record"


def events_are_there_once(case: Case) -> Iterator[str]:
    for session_id, events in case.by_session.items():
        identities = [(e.version, e.type, e.actor_id) for e in events]
        if len(set(identities)) != len(identities):
            yield f"repeated event: {session_id}"
    for row in case.evidence.rows.values():
        if "created" not in {event.type for event in case.by_session[row.id]}:
            yield f"lost event: {row.id} has no beginning"
        if row.assignment_version != row.version:
            yield f"torn: {row.id} has version {row.version}, its assignment {row.assignment_version}"


def stores_agree(case: Case) -> Iterator[str]:
    evidence = case.evidence
    if evidence.unwritten:
        yield f"undrained: {evidence.unwritten} journal entries"
    for letter in evidence.buried:
        yield f"buried: {letter}"
    for row in evidence.rows.values():
        live = evidence.live.get(row.id)
        if live is None:
            if row.active:
                yield f"gone: {row.id} is {row.status} on record only"
        elif (live.status, live.mechanic_id) != (row.status, row.mechanic_id):
            on_record = f"{row.status} of {row.mechanic_id}"
            yield f"disagree: {row.id} is {on_record} on record, {live.status} of {live.mechanic_id} live"
    for live in evidence.live.values():
        if live.id not in evidence.rows:
            yield f"unrecorded: {live.id}"


def places_follow(case: Case) -> Iterator[str]:
    """Claims, the open index and deadlines are those of the active sessions, and nobody waits for ever."""
    evidence = case.evidence
    active = {row.id: row for row in evidence.rows.values() if row.active}
    claims = {row.customer_id: row.id for row in active.values()}
    if evidence.claims != claims:
        yield f"claims: {_difference(evidence.claims, claims)}"
    assignments = {assignment_of(row.id) for row in active.values() if row.assignment_status == "open"}
    if evidence.open != assignments:
        yield f"open index: {sorted(evidence.open ^ assignments)}"
    wanted = {member for row in active.values() for member in _deadlines(row)}
    kept = {m for m in evidence.deadlines if m.partition(":")[0] in ("orphan", "offer")}
    if kept != wanted:
        yield f"deadlines: {sorted(kept ^ wanted)}"


def frames_are_for_their_addressee(case: Case) -> Iterator[str]:
    for frame in case.history.frames:
        if frame.role == "customer" and frame.customer_id not in (None, frame.to):
            yield f"another's frame: {frame.name} of {frame.customer_id} came to {frame.to}"
        if frame.target_id not in (None, frame.to):
            yield f"another's frame: {frame.name} for {frame.target_id} came to {frame.to}"


CHECKS: tuple[Check, ...] = (
    acknowledged_is_there,
    refused_is_not_there,
    one_winner,
    the_winner_was_told_alone,
    turns_are_respected,
    versions_never_fork,
    events_are_there_once,
    stores_agree,
    places_follow,
    frames_are_for_their_addressee,
)


def _in_order(events: list[Recorded]) -> list[Recorded]:
    """As they happened; within one version in the order of cause and effect."""
    return sorted(events, key=lambda event: (event.version, _RANK.get(event.type, 0)))


_RANK = {"created": -1, "offered": 2, "broadcast": 1}


def _deadlines(row: Row) -> list[str]:
    found = [f"orphan:{row.id}"] if row.status in ("pending", "waiting") else []
    if row.assignment_status in ("offered", "queued"):
        found.append(f"offer:{assignment_of(row.id)}")
    return found


def _difference(found: dict[str, str], wanted: dict[str, str]) -> dict[str, str]:
    return dict(set(found.items()) ^ set(wanted.items()))
