"""Signatures of Stripe's scheme v1: what counts as one, and what is refused."""

import hashlib
import hmac

import pytest

from hub.domain.errors import Refused
from hub.signature import check, sign

NOW = 1_700_000_000
BODY = b'{"id": "evt_1"}'
SECRETS = ("whsec_old", "whsec_new")


def v1(secret: str = "whsec_new", body: bytes = BODY, at: object = NOW) -> str:
    """The signature as Stripe's documentation computes it."""
    signed = str(at).encode() + b"." + body
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def header(*signatures: str, at: object = NOW) -> str:
    return ",".join([f"t={at}", *(f"v1={signature}" for signature in signatures)])


def test_a_signature_is_the_documented_one() -> None:
    assert sign("whsec_new", BODY, NOW) == header(v1())
    # openssl dgst -sha256 -hmac whsec_new
    known = "e8852b8fc73dd537655dffca7885106cd7ddc96a7a1a5ebdf65e3e447f4ed6a4"
    assert sign("whsec_new", BODY, NOW) == f"t=1700000000,v1={known}"


@pytest.mark.parametrize(
    "good",
    [
        header(v1()),
        header(v1("whsec_old")),
        header(v1("whsec_other"), v1()),
        header(v1()) + ",v0=of-another-scheme,x",
        f"v1={v1()},t={NOW}",
        f"t={NOW}, v1={v1()}",
        header(v1(at=NOW - 300), at=NOW - 300),
        header(v1(at=NOW + 300), at=NOW + 300),
    ],
    ids=["new", "old", "one of several", "other schemes", "order", "spaces", "5 minutes old", "ahead"],
)
def test_what_stripe_signed_passes(good: str) -> None:
    check(good, BODY, SECRETS, NOW)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "",
        "garbage",
        f"v1={v1()}",
        f"t={NOW}",
        f"t={NOW},v0={v1()}",
        f"t={NOW},t={NOW},v1={v1()}",
        f"t=,v1={v1(at='')}",
        f"t=now,v1={v1(at='now')}",
        f"t=-{NOW},v1={v1(at=-NOW)}",
        f"t={NOW}.0,v1={v1(at=f'{NOW}.0')}",
        f"t=²,v1={v1(at='²')}",
        f"t={'1' * 5000},v1={v1()}",
        f"t={'0' * 20}{NOW},v1={v1(at='0' * 20 + str(NOW))}",
        header("ä" * 64),
        header(*["0" * 64] * 10_000, v1()),
        header(""),
        header(v1().upper()),
        header(v1()[:-1]),
        header(v1("whsec_other")),
        header(v1(body=BODY + b" ")),
        header(v1(at=NOW - 1)),
        header(v1(at=NOW - 301), at=NOW - 301),
        header(v1(at=NOW + 301), at=NOW + 301),
    ],
)
def test_everything_else_is_refused(bad: str | None) -> None:
    with pytest.raises(Refused) as refusal:
        check(bad, BODY, SECRETS, NOW)
    assert (refusal.value.code, refusal.value.http_status) == ("invalid_signature", 400)


def test_without_secrets_nothing_is_signed() -> None:
    with pytest.raises(Refused):
        check(header(v1("")), BODY, (), NOW)
