"""Stripe's signature scheme v1: proof that an event is Stripe's, and that it is not an old one sent again.

The header is `t=<seconds>,v1=<signature>[,v1=…]`; a signature is the HMAC-SHA256, in hex, of the time, a dot
and the body as it came, keyed with the endpoint's whole secret (https://docs.stripe.com/webhooks/signature).
While a secret is being rotated Stripe signs with the old and the new one.
"""

import hmac
from collections.abc import Iterable

from hub.domain.errors import Refused

TOLERANCE_S = 300
"""How far the time of signing may be from now, either way."""

_MAX_HEADER = 4096
_MAX_DIGITS = 12


def sign(secret: str, payload: bytes, at: int) -> str:
    """The header for a payload signed at this time, in seconds."""
    return f"t={at},v1={_signature(secret, payload, str(at))}"


def check(header: str | None, payload: bytes, secrets: Iterable[str], now: float) -> None:
    """Raises `Refused` (invalid_signature) unless one of the secrets signed it, at about `now` (seconds)."""
    signed_at, signatures = _parts(header or "")
    expected = [_signature(secret, payload, signed_at) for secret in secrets]
    if not any(hmac.compare_digest(mine, theirs) for mine in expected for theirs in signatures):
        raise Refused("invalid_signature", "No signature is of this body and one of the endpoint's secrets.")
    if abs(now - int(signed_at)) > TOLERANCE_S:
        raise Refused("invalid_signature", f"It was signed more than {TOLERANCE_S} s from now.")


def _parts(header: str) -> tuple[str, list[str]]:
    """(time, signatures of scheme v1). Other schemes are for other versions of us."""
    if len(header) > _MAX_HEADER or not header.isascii():
        raise _unreadable()
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    if len(times) != 1 or not times[0].isdigit() or len(times[0]) > _MAX_DIGITS:
        raise _unreadable()
    return times[0], [value for name, _, value in pairs if name == "v1"]


def _signature(secret: str, payload: bytes, at: str) -> str:
    return hmac.digest(secret.encode(), at.encode() + b"." + payload, "sha256").hex()


def _unreadable() -> Refused:
    return Refused("invalid_signature", "Stripe-Signature must be t=<seconds>,v1=<signature>.")
