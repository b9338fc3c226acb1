"""Tokens: what proves nothing, how long one holds, and keys that are fetched."""

import asyncio
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hub.domain.errors import HubError, Refused, Unavailable
from hub.identity import KeySet, TokenVerifier, issue
from hub.sockets.connection import Connection
from tests.e2e.world import SECRET, World
from tests.security.tokens import claims, signed, worthless

FAR = [4e9, 1e11, 1e18, 1e300]


@pytest.mark.parametrize("flaw", list(worthless()))
async def test_worthless_tokens_open_no_socket(world: World, flaw: str) -> None:
    socket = await world.socket()
    await socket.send({"type": "hello", "token": worthless()[flaw]})
    assert await socket.closed() == 4401
    assert (await socket.other("error"))["code"] == "unauthorized"


@pytest.mark.parametrize("audience", [None, "another", ["another"]])
async def test_the_audience_must_be_the_hub_s_where_it_has_one(audience: Any) -> None:
    verifier = TokenVerifier(secret=SECRET, audience="hub")
    with pytest.raises(Refused, match="unauthorized"):
        await verifier.verify(signed(aud=audience))
    assert await verifier.verify(signed(aud=["another", "hub"]))


async def test_that_a_token_has_expired_is_told_only_to_who_had_it() -> None:
    verifier = TokenVerifier(secret=SECRET)
    codes = []
    for secret in (SECRET, SECRET[::-1]):
        with pytest.raises(Refused) as refusal:
            await verifier.verify(signed(secret, exp=1))
        codes.append(refusal.value.code)
    assert codes == ["token_expired", "unauthorized"]


async def test_times_of_tokens_are_compared_with_the_clock_that_is_given() -> None:
    for now, code in ((90, "unauthorized"), (91, None), (199, None), (200, "token_expired")):
        verifier = TokenVerifier(secret=SECRET, now=lambda now=now: now)  # type: ignore[misc]  # bound now
        token = signed(nbf=101, iat=500, exp=200)
        if code is None:
            assert await verifier.verify(token)
        else:
            with pytest.raises(Refused, match=code):
                await verifier.verify(token)


@pytest.mark.parametrize("exp", FAR)
async def test_a_far_expiry_overflows_nothing(world: World, exp: float) -> None:
    mia = world.customer()
    mia.token = signed(sub=mia.id, role="customer", exp=exp)
    at_mia = await mia.online()
    refreshed = await at_mia.request("refresh", token=signed(sub=mia.id, role="customer", exp=exp + 1))
    assert refreshed["ok"], refreshed
    assert refreshed["expires_at"] <= "9999-12-31T23:59:59.000Z"
    await mia.get("/api/customer/active-session")
    await at_mia.quiet()


async def test_a_long_wait_is_made_of_shorter_ones() -> None:
    """A loop's clock counts milliseconds in few bits: what is too long for it would end at once."""
    loop = asyncio.get_running_loop()
    connection: Any = object.__new__(Connection)
    connection._expiry = None
    connection.expire_in(1e12)
    assert connection._expiry.when() <= loop.time() + 86_401
    connection._expiry.cancel()


async def test_what_was_refreshed_ends_when_the_new_token_does(world: World) -> None:
    ana = await world.mechanic()
    ana.token = issue(SECRET, role="mechanic", user_id=ana.id, ttl=60)
    at_ana = await ana.online()
    assert (await at_ana.request("refresh", token=signed(sub=ana.id, role="mechanic", exp=time.time() + 1)))[
        "ok"
    ]
    assert await at_ana.closed() == 4401
    assert (await at_ana.other("error"))["code"] == "token_expired"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"role": "admin"}, "forbidden"),
        ({"role": "customer"}, "forbidden"),
        ({"sub": "00000000-0000-4000-8000-000000000000"}, "forbidden"),
        ({"exp": 1}, "token_expired"),
    ],
)
async def test_a_refresh_makes_nobody_somebody_else(world: World, changed: Any, code: str) -> None:
    ana = await world.mechanic()
    at_ana = await ana.online()
    token = signed(**{"sub": ana.id, "role": "mechanic", **changed})
    assert (await at_ana.request("refresh", token=token))["error"]["code"] == code
    assert (await at_ana.request("status", status="away"))["status"] == "away"


# Keys that are fetched

KEY, NEXT, STRANGER = (rsa.generate_private_key(65_537, 2_048) for _ in range(3))
CURVE = ec.generate_private_key(ec.SECP256R1())


class Issuer:
    """Serves a key set."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {"one": KEY, "curve": CURVE}
        self.asked = 0
        self.away = False
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                self.send_response(500 if issuer.away else 200)
                self.end_headers()
                self.wfile.write(issuer.document())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def document(self) -> bytes:
        found = []
        for name, key in self.keys.items():
            kind = (
                jwt.algorithms.RSAAlgorithm
                if isinstance(key, rsa.RSAPrivateKey)
                else jwt.algorithms.ECAlgorithm
            )
            public = kind.to_jwk(key.public_key(), as_dict=True)
            found.append({**public, "kid": name, "use": "sig"})
        found.append({"kty": "oct", "k": "c2VjcmV0", "kid": "symmetric", "use": "sig"})
        return json.dumps({"keys": found}).encode()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()


def by(key: Any, kid: str | None, algorithm: str = "RS256") -> str:
    return jwt.encode(claims(), key, algorithm=algorithm, headers={"kid": kid} if kid else None)


async def test_keys_of_the_issuer_and_of_nobody_else(issuer: Issuer) -> None:
    verifier = TokenVerifier(jwks_url=issuer.url)
    assert await verifier.verify(by(KEY, "one"))
    assert await verifier.verify(by(CURVE, "curve", "ES256"))
    for token in (
        by(STRANGER, "one"),
        by(STRANGER, "unknown"),
        by(KEY, None),
        by(KEY, "one", "RS512"),
        by(b"secret" * 8, "symmetric", "HS256"),
        by(b"a public key, used as a secret, of some length", "one", "HS256"),
        by(CURVE, "one", "ES256"),
        "garbage",
    ):
        with pytest.raises(Refused, match="unauthorized"):
            await verifier.verify(token)


async def test_strangers_do_not_make_us_ask_the_issuer(issuer: Issuer) -> None:
    verifier = TokenVerifier(jwks_url=issuer.url)
    await verifier.verify(by(KEY, "one"))
    for kid in range(50):
        with pytest.raises(Refused):
            await verifier.verify(by(STRANGER, str(kid)))
    assert issuer.asked == 1


class Watch:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def test_keys_come_and_go_with_the_issuer_s(issuer: Issuer) -> None:
    watch = Watch()
    keys = KeySet(issuer.url, watch)
    assert await keys.key("one")
    issuer.keys = {"two": NEXT}
    with pytest.raises(jwt.PyJWTError):
        await keys.key("two")
    watch.now += 10
    assert await keys.key("two")
    with pytest.raises(jwt.PyJWTError):
        await keys.key("one")
    issuer.keys = {"three": NEXT}
    watch.now += 300
    with pytest.raises(jwt.PyJWTError):
        await keys.key("two")


async def test_while_the_issuer_is_away_known_keys_hold(issuer: Issuer) -> None:
    watch = Watch()
    keys = KeySet(issuer.url, watch)
    issuer.away = True
    for _ in range(3):
        with pytest.raises(Unavailable):
            await keys.key("one")
    assert issuer.asked == 1
    issuer.away = False
    watch.now += 10
    assert await keys.key("one")
    issuer.away = True
    watch.now += 10_000
    assert await keys.key("one")
    with pytest.raises(jwt.PyJWTError):
        await keys.key("two")


async def test_a_crowd_asks_once(issuer: Issuer) -> None:
    keys = KeySet(issuer.url)
    found = await asyncio.gather(*(keys.key("one") for _ in range(50)))
    assert len(found) == 50
    assert issuer.asked == 1


async def test_a_verifier_without_any_key_is_not_ready_to_judge(issuer: Issuer) -> None:
    issuer.away = True
    with pytest.raises(HubError) as failure:
        await TokenVerifier(jwks_url=issuer.url).verify(by(KEY, "one"))
    assert failure.value.code == "unavailable"
