"""Why the hub closes a socket, and what a client should do about it."""

from enum import IntEnum
from typing import Self


class Close(IntEnum):
    """A close code with its `meaning` and when to `reconnect`."""

    meaning: str
    reconnect: str

    def __new__(cls, code: int, meaning: str, reconnect: str) -> Self:
        close = int.__new__(cls, code)
        close._value_ = code
        close.meaning = meaning
        close.reconnect = reconnect
        return close

    PROTOCOL_ERROR = 1002, "A frame that breaks RFC 6455.", "After mending the client."
    NOT_UTF8 = 1007, "Text that is not UTF-8.", "After mending the client."
    TOO_LARGE_FRAME = 1009, "A frame was too large.", "Yes, but do not send it again."
    NO_PONG = 1011, "No pong came in time after a ping.", "At once."
    RESTARTING = 1012, "The node restarts, or its stores do not answer.", "At once, with jitter."
    MALFORMED = (
        4400,
        "Not JSON or MessagePack, no object, no `type`, the wrong kind of frame, or a wrong hello.",
        "After mending the client.",
    )
    NOT_AUTHENTICATED = 4401, "No token, or one that is not valid or has expired.", "With a new token."
    FORBIDDEN = 4403, "A service, or a suspended mechanic.", "No."
    NO_HELLO = 4408, "No hello came in time.", "Yes, and say hello."
    YIELDED = 4409, "A newer connection of the same user took this one's place.", "No: another one is alive."
    TOO_LARGE = (
        4413,
        "A message in fragments was too large, or in too many of them.",
        "Yes, but do not send it again.",
    )
    TOO_FAST = (
        4429,
        "Too many messages or pings a second, or too many requests at once.",
        "Later, and slower.",
    )
    SLOW_CONSUMER = (
        4430,
        "The client did not read, and too much was waiting for it.",
        "At once; the welcome has everything.",
    )
