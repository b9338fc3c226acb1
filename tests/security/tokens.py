"""Tokens of every kind that proves nothing."""

import base64
import json
import time
import uuid
from typing import Any

import jwt

from tests.e2e.world import SECRET

OTHER = "another secret, which the hub does not know, of some length"


def claims(**changed: Any) -> dict[str, Any]:
    found = {"sub": str(uuid.uuid4()), "role": "admin", "exp": int(time.time()) + 600, **changed}
    return {name: value for name, value in found.items() if value is not None}


def signed(secret: str = SECRET, algorithm: str = "HS256", **changed: Any) -> str:
    return jwt.encode(claims(**changed), secret, algorithm=algorithm)


def written(header: dict[str, Any], payload: Any, signature: str = "") -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in (header, payload)
    ]
    return ".".join([*parts, signature])


def worthless() -> dict[str, str]:
    """By what is wrong with it; each would be an admin's."""
    good = signed()
    head, body, signature = good.split(".")
    return {
        "garbage": "garbage",
        "dots": "..",
        "empty parts": "e30..",
        "another secret": signed(OTHER),
        "no secret": written({"alg": "HS256", "typ": "JWT"}, claims(), "AAAA"),
        "unsigned": written({"alg": "none", "typ": "JWT"}, claims()),
        "unsigned, in capitals": written({"alg": "NONE"}, claims()),
        "signature left off": f"{head}.{body}.",
        "another algorithm": signed(algorithm="HS384"),
        "algorithm of the other family": written({"alg": "RS256", "kid": "x"}, claims(), signature),
        "body exchanged": f"{head}.{written({}, claims()).split('.')[1]}.{signature}",
        "no expiry": signed(exp=None),
        "expiry in words": signed(exp="9999999999"),
        "expiry beyond counting": written({"alg": "HS256"}, "x", signature),
        "no subject": signed(sub=None),
        "subject that is no id": signed(sub="admin"),
        "not yet valid": signed(nbf=int(time.time()) + 600),
        "no role": signed(role=None),
        "unknown role": signed(role="root"),
        "several roles": signed(role=["admin"]),
        "long": "x" * 8_000,
    }
