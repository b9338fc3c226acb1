"""What nodes tell each other on the bus: `<node or *> <JSON>`. The addressee comes first, so that others drop
a message unread. Hints may be lost: everything in them can be recomputed from the store."""

from enum import StrEnum

import msgspec
from msgspec import Raw, Struct

from hub.domain.model import Status

EVERY_NODE = "*"

NOTHING = Raw(b"null")
"""The frame of a delivery that only ends what is remembered."""


class Audience(StrEnum):
    CONNECTION = "connection"
    USER = "user"
    ONLINE = "online"
    """Every approved mechanic who is online, except those listed."""
    TOLD = "told"
    """Every mechanic who was told of the assignment."""


class Delivery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message for sockets. `frame` is the JSON text, encoded once for everybody.

    `to` is a connection or a user (with TOLD: one who counts as told in any case), `exclude` lists users who
    get nothing, `over` ends what is remembered of who was told of the assignment.
    """

    audience: Audience
    frame: Raw
    to: str = ""
    assignment_id: str = ""
    exclude: list[str] = []
    over: bool = False


class PresenceChange(Struct, frozen=True, kw_only=True):
    mechanic_id: str
    status: Status
    last_seen: int | None = None


class Recorded(Struct, frozen=True, kw_only=True):
    """Postgres has everything of this life of the shard up to the cursor."""

    shard: int
    epoch: str
    cursor: str


class Remembered(Struct, frozen=True, kw_only=True):
    """After a loss: what this node remembers is on record, and it does nothing more until all is restored.
    `ahead`: the shards of which it knew more than there is; None: it is not done yet, but writing."""

    node: str
    ahead: list[int] | None


class Choice(Struct, frozen=True, kw_only=True):
    """The status that a mechanic chose, which others may see as another one."""

    mechanic_id: str
    status: Status


class Word(Struct, frozen=True, kw_only=True):
    """What a node says to itself in a shard's channel, to know that it hears."""

    shard: int
    turn: int


class Hint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`due`: a deadline that comes before the next regular look. `yielded`: a connection to close.

    `loss`: the store may have lost data; write down what you remember. `joined`: a node that took a lease."""

    deliver: list[Delivery] = []
    presence: PresenceChange | None = None
    recorded: Recorded | None = None
    yielded: str | None = None
    due: int | None = None
    loss: bool = False
    remembered: Remembered | None = None
    joined: str | None = None
    chosen: Choice | None = None
    canary: Word | None = None


_decoder = msgspec.json.Decoder(Hint)
_encoder = msgspec.json.Encoder()


def encode(hint: Hint, node: str = EVERY_NODE) -> str:
    return f"{node} {_encoder.encode(hint).decode()}"


def decode(message: str, node: str) -> Hint | None:
    """The hint, None where it is for another node."""
    addressee, _, text = message.partition(" ")
    return _decoder.decode(text) if addressee in (EVERY_NODE, node) else None
