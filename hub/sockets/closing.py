"""Why the hub closes a socket. What a client should do about each is in the protocol's documentation."""

from enum import IntEnum


class Close(IntEnum):
    NORMAL = 1000
    TOO_LARGE_FRAME = 1009
    NO_PONG = 1011
    RESTARTING = 1012
    MALFORMED = 4400
    NOT_AUTHENTICATED = 4401
    FORBIDDEN = 4403
    NO_HELLO = 4408
    YIELDED = 4409
    TOO_LARGE = 4413
    TOO_FAST = 4429
    SLOW_CONSUMER = 4430
