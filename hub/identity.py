"""Who somebody is: bearer tokens, checked by one pinned algorithm."""

import asyncio
import contextlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import jwt
from msgspec import Struct

from hub.domain.errors import Refused, Unavailable
from hub.domain.ids import canonical
from hub.domain.model import Role

_REMEMBERED = 20_000
_END_OF_TIME = 253_402_300_799.0
"""The last second of the year 9999, which is the last that the wire can show."""
_LEEWAY_S = 10.0
"""How far the issuer's clock may be ahead of the store's."""
_FETCH_S = 5.0
_KEYS_HOLD_S = 300.0
_ASK_AGAIN_S = 10.0


class Identity(Struct, frozen=True, kw_only=True):
    """`expires_at` in seconds since the epoch."""

    user_id: str
    role: Role
    expires_at: float
    name: str | None = None
    email: str | None = None


class KeySet:
    """The issuer's public keys by id. They are fetched anew every few minutes, and for an id that nobody
    knows at most every few seconds, whoever asks; while the issuer is away the last known ones are used."""

    def __init__(self, url: str, now: Callable[[], float] = time.monotonic) -> None:
        self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=_FETCH_S)
        self._now = now
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = -math.inf
        self._fetching = asyncio.Lock()

    async def key(self, key_id: str | None) -> jwt.PyJWK:
        """Raises `jwt.PyJWTError` where there is no such key, `Unavailable` where none was ever fetched."""
        known = self._keys.get(key_id or "")
        if self._is_old(known) and not (known and self._fetching.locked()):
            async with self._fetching:
                if self._is_old(self._keys.get(key_id or "")):
                    await self._fetch()
            known = self._keys.get(key_id or "")
        if self._fetched_at == -math.inf:
            raise Unavailable("unavailable", "The signing keys cannot be fetched now.")
        if known is None:
            raise jwt.InvalidKeyError("no such key")
        return known

    def _is_old(self, known: jwt.PyJWK | None) -> bool:
        now = self._now()
        return now - self._tried_at >= _ASK_AGAIN_S and (
            known is None or now - self._fetched_at >= _KEYS_HOLD_S
        )

    async def _fetch(self) -> None:
        try:
            with contextlib.suppress(jwt.PyJWTError, OSError, ValueError):
                found = await asyncio.to_thread(self._client.get_signing_keys)
                self._keys = {str(key.key_id): key for key in found}
                self._fetched_at = self._now()
        finally:
            self._tried_at = self._now()


class TokenVerifier:
    """Checks tokens and remembers those that it found good until they expire. `now` in seconds."""

    def __init__(
        self,
        *,
        secret: str = "",
        jwks_url: str = "",
        audience: str = "",
        role_claim: str = "role",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._secret = secret
        self._keys = KeySet(jwks_url) if jwks_url else None
        self._algorithms = ["RS256", "ES256"] if jwks_url else ["HS256"]
        self._audience = audience or None
        self._role_path = role_claim.split(".")
        self._now = now
        self._good: OrderedDict[str, Identity] = OrderedDict()

    async def verify(self, token: str) -> Identity:
        """Raises `Refused` (unauthorized, token_expired), `Unavailable` where the key set cannot be had."""
        known = self._good.get(token)
        if known is not None:
            if known.expires_at > self._now():
                return known
            del self._good[token]
        try:
            identity = self._identity(self._claims(token, await self._key(token)))
        except (jwt.PyJWTError, ValueError, TypeError):
            raise Refused("unauthorized", "The token is not valid.") from None
        if identity.expires_at <= self._now():
            raise Refused("token_expired", "The token has expired.")
        self._good[token] = identity
        if len(self._good) > _REMEMBERED:
            self._good.popitem(last=False)
        return identity

    async def _key(self, token: str) -> Any:
        if self._keys is None:
            return self._secret
        return await self._keys.key(jwt.get_unverified_header(token).get("kid"))

    def _claims(self, token: str, key: Any) -> dict[str, Any]:
        # Times are compared with the given clock, which the library does not take.
        options: Any = {
            "require": ["exp", "sub"],
            "verify_aud": self._audience is not None,
            **dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat"), False),
        }
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=self._algorithms, audience=self._audience, options=options
        )
        if float(claims.get("nbf", 0)) > self._now() + _LEEWAY_S:
            raise jwt.ImmatureSignatureError("not yet valid")
        return claims

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        user_id = canonical(str(claims["sub"]))
        if user_id is None:
            raise ValueError("sub is not a UUID")
        role: Any = claims
        for part in self._role_path:
            role = role.get(part) if isinstance(role, Mapping) else None
        if isinstance(claims["exp"], bool | str):
            raise ValueError("exp is not a number")
        name, email = claims.get("name"), claims.get("email")
        return Identity(
            user_id=user_id,
            role=Role(role),
            expires_at=min(float(claims["exp"]), _END_OF_TIME),
            name=_clean(name),
            email=_clean(email),
        )


def bearer(header: str | None) -> str | None:
    """The token of an Authorization header."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def issue(
    secret: str,
    *,
    role: str,
    user_id: str,
    ttl: float,
    name: str | None = None,
    role_claim: str = "role",
    audience: str = "",
) -> str:
    """A token signed with the shared secret."""
    claims: dict[str, Any] = {"sub": user_id, "iat": int(time.time()), "exp": int(time.time() + ttl)}
    place = claims
    *path, last = role_claim.split(".")
    for part in path:
        place = place.setdefault(part, {})
    place[last] = role
    if name:
        claims["name"] = name
    if audience:
        claims["aud"] = audience
    return jwt.encode(claims, secret, algorithm="HS256")


def _clean(text: object) -> str | None:
    """Names end up in Postgres and in frames, which take neither NUL nor lone surrogates."""
    if not isinstance(text, str):
        return None
    return text.encode("utf-8", "ignore").decode().replace("\x00", "")[:200].strip() or None
