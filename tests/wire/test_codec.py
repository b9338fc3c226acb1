"""Whatever bytes arrive, the codecs answer with a message or a documented refusal, and what they made can be
written again."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.domain.errors import Refused
from hub.wire import codec
from hub.wire.client import ClientMessage
from hub.wire.examples import client_examples
from hub.wire.http import IntakeRequest
from hub.wire.server import Reply

CODES = {"malformed", "invalid_request"}
BOOKING = msgspec.json.Decoder(IntakeRequest)
GOOD = [message for made in client_examples().values() for message in made]

often = settings(deadline=None, max_examples=300, derandomize=True)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**65)
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["hello", "accept", "watch", "status", "online", "\x00", "\ud800"])
)
names = st.sampled_from(["type", "id", "token", "assignment_id", "mechanic_ids", "status", "x"]) | st.text(
    max_size=5
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


def decoded(data: bytes, *, binary: bool) -> ClientMessage | None:
    """The message, or None where it was properly refused."""
    try:
        message = codec.decode_message(data, binary=binary)
    except Refused as refusal:
        reply = Reply(id=getattr(refusal, "request_id", None), ok=False, error=codec.error_body(refusal))
        shown = [json.loads(codec.encode_json(reply)), msgspec.msgpack.decode(codec.encode_msgpack(reply))]
        if any(each["error"]["code"] not in CODES for each in shown):
            raise
        return None
    assert msgspec.json.decode(codec.encode_json(message), type=type(message)) == message
    assert msgspec.msgpack.decode(codec.encode_msgpack(message), type=type(message)) == message
    return message


@often
@given(st.binary(max_size=200), st.booleans())
@example(b"", True)
@example(b"\xc1", True)
@example(b"\x80", True)
@example(b"\x82\xa4type\xa5dance\x80\x01", True)
@example(b"\x82\xa4type\xa5dance\xa1x\xc7\x0c\xff" + b"\xff" * 12, True)
@example(b"\xef\xbb\xbf{}", False)
@example(b'{"type": "dance", "id": ' + b"9" * 5_000 + b"}", False)
@example(b'{"type": "heartbeat", "id": 1e400}', False)
@example(b'{"type": "heartbeat", "id": "\\ud800"}', False)
@example(b'{"type": "heartbeat", "id": 99999999999999999999999}', False)
@example(b'{"type": "heartbeat", "id": true}', False)
def test_any_bytes(data: bytes, binary: bool) -> None:
    decoded(data, binary=binary)


@often
@given(st.sampled_from(GOOD), st.booleans(), st.data())
def test_good_messages_with_a_few_bytes_changed(message: Any, binary: bool, data: st.DataObject) -> None:
    sent = bytearray(codec.encode_msgpack(message) if binary else codec.encode_json(message))
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(sent) - 1))
        match data.draw(st.sampled_from(["change", "drop", "double", "cut"])):
            case "change":
                sent[place] = data.draw(st.integers(0, 255))
            case "drop":
                del sent[place : place + 1]
            case "double":
                sent[place:place] = sent[place:]
            case "cut":
                del sent[place + 1 :]
        if not sent:
            break
    decoded(bytes(sent), binary=binary)


@often
@given(st.dictionaries(names, values, max_size=5), st.booleans())
def test_objects_of_every_shape(value: dict[str, Any], binary: bool) -> None:
    try:
        data = msgspec.msgpack.encode(value) if binary else json.dumps(value).encode()
    except (OverflowError, UnicodeEncodeError):
        return
    decoded(data, binary=binary)


@pytest.mark.parametrize("message", GOOD, ids=lambda m: m.__struct_config__.tag)
@pytest.mark.parametrize("binary", [False, True])
def test_good_messages(message: ClientMessage, binary: bool) -> None:
    sent = codec.encode_msgpack(message) if binary else codec.encode_json(message)
    assert decoded(sent, binary=binary) == message


# Nesting

DEPTHS = [33, 100, 400, 900, 990, 1_000, 2_000, 8_000]


def nested(depth: int, *, binary: bool, bad: bool = False) -> bytes:
    if binary:
        return b"\x83\xa4type\xa9heartbeat\xa2id\x01\xa1x" + b"\x91" * depth + b"\xc0"
    text = b'"\\ud800"' if bad else b"1"
    return b'{"type": "heartbeat", "id": 1, "x": ' + b"[" * depth + text + b"]" * depth + b"}"


def from_deep_below(frames: int, data: bytes, *, binary: bool) -> None:
    """As if there were little of the stack left."""
    if frames:
        from_deep_below(frames - 1, data, binary=binary)
    else:
        assert decoded(data, binary=binary) is None


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("binary", "bad"), [(False, False), (False, True), (True, False)])
def test_deep_messages_are_refused(depth: int, binary: bool, bad: bool) -> None:
    for frames in (0, 100, 300):
        from_deep_below(frames, nested(depth, binary=binary, bad=bad), binary=binary)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("inner", [b"1", b'"\\ud800"'])
def test_deep_bodies_are_refused(depth: int, inner: bytes) -> None:
    body = b'{"plan_code": "free", "metadata": {"x": ' + b"[" * depth + inner + b"]" * depth + b"}}"
    with pytest.raises(Refused) as refusal:
        codec.decode_body(body, BOOKING)
    assert refusal.value.code in CODES
    assert len(refusal.value.detail) < 500


def test_what_people_write_is_not_deep() -> None:
    body = b'{"plan_code": "free", "metadata": {"x": ' + b"[" * 29 + b"1" + b"]" * 29 + b"}}"
    assert codec.decode_body(body, BOOKING).plan_code == "free"
