"""Bytes to messages and back. Whatever arrives, the answer is a message or a `Refused` with a stable code."""

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct

from hub.domain.errors import HubError, Refused, Unavailable
from hub.wire.client import AnyClientMessage, RequestId
from hub.wire.server import ErrorBody

JSON = "hub.v1.json"
MSGPACK = "hub.v1.msgpack"
SUBPROTOCOLS = (JSON, MSGPACK)

_T = TypeVar("_T")

_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
_FIELD_IN_MESSAGE = re.compile(r"field `([^`]+)`")
_PATH_IN_MESSAGE = re.compile(r"at `(?:key in )?\$\.?([^`]*)`")

_from_json = msgspec.json.Decoder(AnyClientMessage)
_from_msgpack = msgspec.msgpack.Decoder(AnyClientMessage)
_to_json = msgspec.json.Encoder()
_to_msgpack = msgspec.msgpack.Encoder()


class InvalidMessage(Refused):
    """A readable message that is not what the protocol says; `request_id` is the one to reply to."""

    def __init__(self, refusal: Refused, request_id: RequestId | None) -> None:
        super().__init__(refusal.code, refusal.detail, field=refusal.field)
        self.request_id = request_id


def decode_message(data: bytes, *, binary: bool) -> AnyClientMessage:
    """Raises `Refused` (malformed) where this is no message, `InvalidMessage` where it is a wrong one."""
    decode: Callable[[bytes], AnyClientMessage] = _from_msgpack.decode if binary else _from_json.decode
    try:
        message = decode(data)
    except msgspec.ValidationError as error:
        loose = _loose(data, binary=binary)
        if not isinstance(loose, dict) or not isinstance(loose.get("type"), str):
            raise Refused("malformed", "A message is one object with a type.") from None
        request_id = loose.get("id")
        known = request_id if isinstance(request_id, str | int) else None
        raise InvalidMessage(invalid(error), known) from None
    except _UNREADABLE:
        if not binary and (refusal := _surrogates(data)):
            raise InvalidMessage(refusal, None) from None
        raise Refused("malformed", "The frame cannot be decoded.") from None
    if refusal := _unfit_text(message):
        raise InvalidMessage(refusal, message.id)
    return message


def _surrogates(data: bytes) -> Refused | None:
    """The refusal where the text is JSON but for lone surrogates, which the decoder takes for none at all."""
    try:
        return _unfit_text(json.loads(data))
    except (ValueError, RecursionError):
        return None


def _loose(data: bytes, *, binary: bool) -> Any:
    """What the frame holds, whatever it is; None where that cannot be told either."""
    try:
        return msgspec.msgpack.decode(data) if binary else msgspec.json.decode(data)
    except _UNREADABLE:
        return None


def decode_body(data: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    """The body of an HTTP request as what the decoder makes of it; raises `Refused`."""
    try:
        body = decoder.decode(data)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except _UNREADABLE:
        raise _surrogates(data) or Refused("malformed", "The body is not JSON.") from None
    if refusal := _unfit_text(body):
        raise refusal
    return body


def encode_json(message: Any) -> bytes:
    return _to_json.encode(message)


def encode_msgpack(message: Any) -> bytes:
    """A `Raw` holds JSON and is taken apart first."""
    return _to_msgpack.encode(msgspec.json.decode(message) if isinstance(message, Raw) else message)


def error_body(error: HubError) -> ErrorBody:
    return ErrorBody(
        code=error.code,
        detail=error.detail,
        field=error.field if isinstance(error, Refused) else None,
        retry_after=error.retry_after if isinstance(error, Unavailable) else None,
    )


def invalid(error: msgspec.ValidationError) -> Refused:
    """The refusal for a wrong message or body, naming the field."""
    text = str(error)
    path = _PATH_IN_MESSAGE.search(text)
    name = _FIELD_IN_MESSAGE.search(text)
    parts = [match.group(1) for match in (path, name) if match and match.group(1)]
    return Refused("invalid_request", text, field=".".join(parts) or None)


def _unfit_text(value: Any, path: str = "") -> Refused | None:
    """A refusal where any text holds what Postgres or UTF-8 cannot: NUL characters, lone surrogates."""
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
            return Refused("invalid_request", f"{path} holds a character that is not allowed.", field=path)
        return None
    if isinstance(value, Struct):
        items: Any = ((name, getattr(value, name)) for name in value.__struct_fields__)
    elif isinstance(value, dict):
        items = [(str(key), each) for key, part in value.items() for each in (key, part)]
    elif isinstance(value, list | tuple):
        items = ((str(index), part) for index, part in enumerate(value))
    else:
        return None
    for name, part in items:
        if part is not UNSET and (refusal := _unfit_text(part, f"{path}.{name}" if path else name)):
            return refusal
    return None
