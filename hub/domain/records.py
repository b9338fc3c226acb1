"""What passes between the rules and the stores: snapshots, commits, rows on their way to the record."""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from hub.domain.model import Connection, Event, PresenceState, Session


class Snapshot(Struct, frozen=True, kw_only=True):
    """One session at one moment of the store's clock (`now`, ms). The epoch is '' where data was lost."""

    now: int
    epoch: str
    session: Session | None
    declined: frozenset[str] = frozenset()


class BookingSnapshot(Snapshot, frozen=True, kw_only=True):
    """`held_id`: the customer's active session; `held` is None where it no longer exists. `earlier`: it was
    booked before under another id, where that was asked."""

    held_id: str | None = None
    held: Session | None = None
    fingerprint: str | None = None
    earlier: bool = False

    @property
    def booked(self) -> bool:
        """The session was booked before; `session` is None where only the record has it any more."""
        return self.session is not None or self.fingerprint is not None


class Outcome(StrEnum):
    """What became of a commit. Only the first two mean that it happened."""

    COMMITTED = "committed"
    REPEATED = "repeated"
    CONFLICT = "conflict"
    EPOCH = "epoch"
    STALE = "stale"
    HELD = "held"
    FULL = "full"


HAPPENED = frozenset({Outcome.COMMITTED, Outcome.REPEATED})


class Due(Struct, frozen=True, kw_only=True):
    """Deadlines of one shard that are due, and when the next one is (None: none set). `known`: their
    sessions, as far as they have one that can be read."""

    now: int
    members: tuple[tuple[str, int], ...]
    known: dict[str, Snapshot]
    head: int | None


class JournalEntry(Struct, frozen=True, kw_only=True):
    """One commit on its way to Postgres: the session's new values (None: history only) and its events.
    `epoch`: the life of the data that it was committed in, where that matters."""

    shard: int
    id: str
    command_id: str
    session: Session | None
    events: tuple[Event, ...]
    epoch: str = ""

    @property
    def session_id(self) -> str:
        return self.session.id if self.session is not None else self.events[0].session_id


def latest(entries: Iterable[JournalEntry]) -> dict[str, tuple[Session, str]]:
    """Of each session its last version among these, with the command that led to it."""
    last: dict[str, tuple[Session, str]] = {}
    for entry in entries:
        session = entry.session
        if session is not None and (
            (known := last.get(session.id)) is None or session.version > known[0].version
        ):
            last[session.id] = session, entry.command_id
    return last


class Life(Struct, frozen=True, kw_only=True):
    """The live data as a whole. `run`: this run of the server, `examined`: the last one whose data was
    compared with the record. `now`: the store's time, ms."""

    now: int
    run: str
    examined: str | None
    epochs: list[str | None]
    mark: str | None = None
    """Another one with every examination, and gone with any loss."""

    @property
    def whole(self) -> bool:
        return self.run == self.examined and all(self.epochs)


class Kept(Struct, frozen=True, kw_only=True):
    """A session as the record has it, and the command that made this version."""

    session: Session
    command_id: str


class Restoration(Struct, frozen=True, kw_only=True):
    """A session to be entered as it was in the version `recorded`, under a later one.

    `journal`: the record has to be told of what is entered.
    """

    session: Session
    recorded: int
    command_id: str = ""
    journal: bool = False


class Restored(StrEnum):
    """`newer`: the store has it as new or newer; `moved`: it went on there from an older version; `held`: its
    customer has another session."""

    RESTORED = "restored"
    NEWER = "newer"
    MOVED = "moved"
    HELD = "held"


FORK = "fork"
"""The error of a letter that gives a version another content than the record has."""


class DeadLetter(Struct, frozen=True, kw_only=True):
    """An entry that the record refused, and why. `at`: when the entry was made, ms."""

    id: str
    at: int
    error: str
    entry: JournalEntry


class Debit(Struct, frozen=True, kw_only=True):
    """Credits that were taken for a session."""

    id: int
    session_id: str


class Contact(Struct, frozen=True, kw_only=True):
    """A user's presence with the sockets it rests on."""

    state: PresenceState
    connections: tuple[Connection, ...] = ()


class Arrival(Struct, frozen=True, kw_only=True):
    """A connection as it was entered: the store's time, what others see, how many connections the user has in
    the whole cluster, and who must yield."""

    now: int
    status: str
    connections: int
    yielded: tuple[tuple[str, str], ...] = ()


class Favorite(Struct, frozen=True, kw_only=True):
    """A mechanic whom a customer prefers; `rank` is the place in the order, from 1."""

    mechanic_id: str
    mechanic_name: str
    rank: int
    created_at: int


class Lease(Struct, frozen=True, kw_only=True):
    """The nodes' leases (expiry, ms) after renewing one's own; `held`: whether one's own was still there."""

    now: int
    held: bool
    nodes: dict[str, int]


class Places(Struct, frozen=True, kw_only=True):
    """Some of what the store holds. Claims are by customer, `open` by shard, `offers` by shard and mechanic,
    `work` by mechanic, `connected` by user."""

    sessions: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    open: tuple[int, ...] = ()
    offers: tuple[tuple[int, str], ...] = ()
    work: tuple[str, ...] = ()
    connected: tuple[str, ...] = ()


class Looked(Struct, frozen=True, kw_only=True):
    """What is there of the sessions that were asked for. `broken`: it is no session any more; `newer`: only a
    newer version of the hub can read it."""

    found: dict[str, Session] = {}
    broken: frozenset[str] = frozenset()
    newer: frozenset[str] = frozenset()


class Ghost(Struct, frozen=True, kw_only=True):
    """A session that no longer exists, found in an index (`what`)."""

    what: str
    session_id: str
