"""Bytes to messages and back. Whatever arrives, the answer is a message or a `Refused` with a stable code."""

import json
import re
from collections.abc import Callable, Mapping
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
_Query = TypeVar("_Query", bound=Struct)

_DEPTH = 32
_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
_FIELD_IN_MESSAGE = re.compile(r"field `([^`]+)`")
_PATH_IN_MESSAGE = re.compile(r"at `(?:key in )?\$\.?([^`\[]*)[^`]*`")

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
        raise InvalidMessage(invalid(error), _request_id(loose)) from None
    except _UNREADABLE:
        loose = None if binary else _with_surrogates(data)
        if refusal := _unfit(loose):
            raise InvalidMessage(refusal, _request_id(loose)) from None
        raise Refused("malformed", "The frame cannot be decoded.") from None
    if refusal := _unfit(message):
        raise InvalidMessage(refusal, message.id)
    return message


def _with_surrogates(data: bytes) -> Any:
    """What the text is where it is JSON but for lone surrogates, which the decoder takes for none at all."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _request_id(loose: Any) -> RequestId | None:
    """The id to reply to, if a wrong message has one that can be repeated."""
    try:
        found: RequestId = msgspec.convert(loose.get("id") if isinstance(loose, dict) else None, RequestId)
    except msgspec.ValidationError:
        return None
    return None if _unfit(found) else found


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
        refusal = _unfit(_with_surrogates(data))
        raise refusal or Refused("malformed", "The body is not JSON.") from None
    if refusal := _unfit(body):
        raise refusal
    return body


def convert_query(parameters: Mapping[str, str], kind: type[_Query]) -> _Query:
    """The parameters of a query as this type; what it does not name is nobody's business."""
    try:
        query = msgspec.convert(parameters, kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    for name in parameters.keys() & kind.__struct_fields__:
        # msgspec takes the text `null` for none, where a client has a mistake.
        if getattr(query, name) is None:
            raise Refused("invalid_request", f"{name} is not what it may be.", field=name)
    if refusal := _unfit(query):
        raise refusal
    return query


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


def _unfit(value: Any, path: str = "", depth: int = 0) -> Refused | None:
    """A refusal where any text holds what Postgres or UTF-8 cannot (NUL characters, lone surrogates), or
    where it is nested so deep that some store or client could not follow."""
    if depth > _DEPTH:
        return Refused("invalid_request", f"More than {_DEPTH} levels are nested.", field=path[:200])
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
            # A name in the path may be what holds it.
            shown = path.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")[:200]
            return Refused("invalid_request", f"{shown} holds a character that is not allowed.", field=shown)
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
        if part is not UNSET and (refusal := _unfit(part, f"{path}.{name}" if path else name, depth + 1)):
            return refusal
    return None
