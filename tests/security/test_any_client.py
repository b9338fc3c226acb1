"""Whatever a client says, in whatever order: each request gets its one reply, and what ends the socket is a
documented code. What it says comes from the messages that there are, right, bent and broken."""

import asyncio
import json
import uuid
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hub.domain.errors import Refused, Unavailable
from hub.wire import codec
from hub.wire.closing import Close
from hub.wire.examples import client_examples
from tests.e2e.world import World
from tests.security.bare import PATIENCE_S
from tests.security.tokens import signed

CODES = Refused.STATUS.keys() | Unavailable.STATUS.keys()
CLOSES = {*map(int, Close)}
GOOD: list[dict[str, Any]] = [
    msgspec.json.decode(codec.encode_json(message)) for made in client_examples().values() for message in made
]
FIELDS = sorted({name for message in GOOD for name in message} - {"id", "type"})

plain = st.text(st.characters(codec="utf-8"), max_size=8)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**62) | st.just(0.5) | plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=5,
)
bent = st.builds(
    lambda message, name, value: {**message, name: value},
    st.sampled_from(GOOD),
    st.sampled_from([*FIELDS, "x"]),
    anything,
)
spoken = st.sampled_from(GOOD) | bent | st.fixed_dictionaries({"type": plain})
steps = st.one_of(
    st.tuples(st.just("object"), spoken),
    st.tuples(st.just("object without id"), spoken),
    st.tuples(st.sampled_from(["object", "pieces"]), st.just({"type": "heartbeat"})),
    st.tuples(st.just("ping"), st.none()),
    st.tuples(st.just("raw"), st.binary(max_size=20) | plain),
)
talks = st.tuples(
    st.booleans(), st.sampled_from(["customer", "mechanic", "admin"]), st.lists(steps, max_size=7)
)


class Talk:
    """A socket that knows which replies it is owed."""

    def __init__(self, connection: ClientConnection, *, binary: bool) -> None:
        self._connection = connection
        self._binary = binary
        self._owed: set[int] = set()

    async def say(self, kind: str, what: Any) -> None:
        match kind:
            case "object" | "pieces":
                number = len(self._owed) + 1
                self._owed.add(number)
                packed = self._packed({**what, "id": number})
                await self._connection.send([packed[:3], packed[3:]] if kind == "pieces" else packed)
            case "object without id":
                await self._connection.send(self._packed({k: v for k, v in what.items() if k != "id"}))
            case "ping":
                await self._connection.ping()
            case "raw":
                await self._connection.send(what)

    async def end(self) -> int | None:
        """The code that it was closed with; None where every reply came."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while self._owed:
                    data = await self._connection.recv()
                    assert isinstance(data, bytes) is self._binary
                    self._hear(msgspec.msgpack.decode(data) if isinstance(data, bytes) else json.loads(data))
        except ConnectionClosed:
            return self._connection.close_code
        return None

    def _hear(self, message: Any) -> None:
        match message["type"]:
            case "reply":
                assert message["ok"] is ("error" not in message)
                assert message["ok"] or message["error"]["code"] in CODES
                self._owed.remove(message["id"])
            case "error":
                assert message["code"] in CODES
            case other:
                assert other in ("welcome", "event")

    def _packed(self, message: Any) -> Any:
        return msgspec.msgpack.encode(message) if self._binary else json.dumps(message)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(talk=talks, welcome=st.booleans())
async def test_every_talk_comes_to_a_good_end(world: World, talk: Any, welcome: bool) -> None:
    binary, role, said = talk
    url = world.hub.urls[0].replace("http", "ws", 1) + "/ws"
    subprotocols: Any = [codec.MSGPACK if binary else codec.JSON]
    async with connect(url, subprotocols=subprotocols, proxy=None, compression=None) as connection:
        client = Talk(connection, binary=binary)
        token = signed(sub=str(uuid.uuid4()), role=role)
        try:
            if welcome:
                await client.say("object without id", {"type": "hello", "token": token})
            for kind, what in said:
                await client.say(kind, what)
            await client.say("object", {"type": "heartbeat"})
        except ConnectionClosed:
            assert connection.close_code in CLOSES
            return
        code = await client.end()
        assert code is None or code in CLOSES
        broken = not welcome or any(kind == "raw" for kind, _ in said) or len(said) > 6
        assert code is None or broken, (code, said)
