"""Identities that carry their own address: every id tells its key shard without an index."""

import binascii
import hashlib
import re
import secrets

_CANONICAL = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_ASSIGNMENT_BIT = {f"{n:x}": f"{n ^ 8:x}" for n in range(16)}

_VARIANT = {f"{n:x}": f"{n & 3 | 8:x}" for n in range(16)}


def crc16(text: str) -> int:
    """The checksum that Redis Cluster uses for slots (CRC-16/XMODEM)."""
    return binascii.crc_hqx(text.encode(), 0)


def shard_of_user(user_id: str, shards: int) -> int:
    return crc16(user_id) % shards


def shard_of_session(session_id: str, shards: int) -> int:
    """Shard of a session or an assignment: its last two bytes are the customer's checksum."""
    return int(session_id[-4:], 16) % shards


def canonical(text: str) -> str | None:
    """The id in canonical text form, None where it is not a UUID."""
    return text.lower() if _CANONICAL.fullmatch(text) else None


def new_session_id(customer_id: str) -> str:
    return _session_id(customer_id, secrets.token_bytes(16))


def derived_session_id(customer_id: str, key: str) -> str:
    """The same customer and key always give the same session, so a repeated booking finds the first one."""
    return _session_id(
        customer_id, hashlib.blake2b(f"{customer_id}\n{key}".encode(), digest_size=16).digest()
    )


def assignment_of(session_id: str) -> str:
    """The assignment's id: the session's with its first bit flipped. Its own inverse."""
    return _ASSIGNMENT_BIT[session_id[0]] + session_id[1:]


session_of = assignment_of


def event_id(session_id: str, version: int, kind: str, actor_id: str | None = None) -> str:
    """Equal for every recomputation of the same event, so that a repeat is recognised as one.

    `actor_id` only tells apart events that take no version of their own (acks, declines of a broadcast).
    """
    text = f"{session_id}:{version}:{kind}:{actor_id or ''}"
    return _uuid(hashlib.blake2b(text.encode(), digest_size=16).digest(), 8)


def new_id() -> str:
    return _uuid(secrets.token_bytes(16), 4)


def _session_id(customer_id: str, seed: bytes) -> str:
    return _uuid(seed[:14] + crc16(customer_id).to_bytes(2, "big"), 8)


def _uuid(seed: bytes, version: int) -> str:
    """RFC 9562 version 4 (random) or 8: all bits but version and variant are ours. By hand, at a third of
    what `uuid.UUID` takes."""
    text = seed.hex()
    variant = _VARIANT[text[16]]
    return f"{text[:8]}-{text[8:12]}-{version}{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"
