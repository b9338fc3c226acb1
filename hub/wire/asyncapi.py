"""The AsyncAPI document of the socket, made from the types of its messages."""

from typing import Any, get_args

import msgspec
from msgspec import UNSET, Struct

from hub.wire import codec, examples
from hub.wire.client import AnyClientMessage, ClientMessage, Hello
from hub.wire.closing import Close
from hub.wire.schemas import Json, own_doc, schemas_of
from hub.wire.server import EVENTS, ErrorMessage, EventMessage, Reply, ServerEvent, ServerMessage, Welcome

CLIENT_MESSAGES: tuple[type[ClientMessage], ...] = get_args(AnyClientMessage)
SERVER_MESSAGES: tuple[type[ServerMessage], ...] = tuple(examples.server_examples())

_REFUSED = "refused"
_ABOUT = f"""\
One object a frame, always with `type`. The subprotocol `{codec.JSON}` (also where none is asked for) carries
JSON in text frames. `{codec.MSGPACK}` carries the same objects as MessagePack maps in binary frames: the same
names and values, times as text.

A request's `id` comes back on its reply. Without an `id` only a failure is answered, by an `error`. Unknown
fields are refused. The first message is `hello`; its token is in it or in the handshake's `Authorization`
header, never in the URL. Events come at least once, in no promised order between sessions: `event_id` is the
same on every repeat, and what is older than the `version` that one has is to be dropped.

Apps send no `Origin`; a browser's must be the hub's own or one that it allows, else the upgrade gets 403. A
node that is shutting down answers upgrades with 503 and `Retry-After`."""


def asyncapi(version: str) -> Json:
    """AsyncAPI 3.0, from the hub's side: it receives what clients send."""
    schema_of, schemas = _schemas()
    messages = {
        **{_tag(kind): _client_message(kind, schema_of[kind]) for kind in CLIENT_MESSAGES},
        **_server_messages(schema_of),
        **{event.name: _event(event, schema_of) for event in EVENTS},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Dispatch hub",
            "version": version,
            "description": "The socket for presence, offers and assignments. HTTP is in `/openapi.json`.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "hub": {
                "host": "{host}",
                "protocol": "ws",
                "description": "Any node; `wss` behind TLS.",
                "variables": {"host": {"default": "127.0.0.1:8000"}},
                "security": [{"$ref": "#/components/securitySchemes/bearer"}],
            }
        },
        "channels": {"socket": _channel(messages)},
        "operations": _operations(messages),
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "In the handshake's `Authorization` header, or as the `token` of `hello`.",
                }
            },
        },
    }


def _schemas() -> tuple[dict[Any, Json], Json]:
    kinds = [*CLIENT_MESSAGES, *SERVER_MESSAGES, EventMessage, *{event.payload for event in EVENTS}]
    schemas, components = schemas_of(kinds)
    return dict(zip(kinds, schemas, strict=True)), dict(sorted(components.items()))


def _channel(messages: Json) -> Json:
    return {
        "address": "/ws",
        "title": "The socket",
        "description": _ABOUT,
        "servers": [{"$ref": "#/servers/hub"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "ws": {
                "method": "GET",
                "headers": {
                    "type": "object",
                    "properties": {
                        "Authorization": {"type": "string", "description": "`Bearer` and the token."},
                        "Sec-WebSocket-Protocol": {"type": "string", "enum": list(codec.SUBPROTOCOLS)},
                    },
                },
                "bindingVersion": "0.1.0",
            }
        },
        "x-close-codes": [
            {"code": int(close), "meaning": close.meaning, "reconnect": close.reconnect} for close in Close
        ],
    }


def _operations(messages: Json) -> Json:
    operations: Json = {}
    for kind in CLIENT_MESSAGES:
        name = _tag(kind)
        answers = [_tag(Welcome), _tag(ErrorMessage)] if kind is Hello else [f"{name}_reply", _REFUSED]
        operations[f"receive_{name}"] = {
            **_operation("receive", name, messages),
            "reply": {"channel": _CHANNEL, "messages": [_in_channel(answer) for answer in answers]},
        }
    for name in list(messages)[len(CLIENT_MESSAGES) :]:
        operations[f"send_{name}"] = _operation("send", name, messages)
    return operations


def _operation(action: str, name: str, messages: Json) -> Json:
    return {
        "action": action,
        "channel": _CHANNEL,
        "summary": messages[name]["summary"],
        "messages": [_in_channel(name)],
    }


def _client_message(kind: type[ClientMessage], schema: Json) -> Json:
    return _message(_tag(kind), "request", _doc(kind), schema, examples.client_examples()[kind])


def _server_messages(schema_of: dict[Any, Json]) -> Json:
    messages: Json = {}
    for kind, made in examples.server_examples().items():
        if kind is not Reply:
            messages[_tag(kind)] = _message(_tag(kind), "notice", _doc(kind), schema_of[kind], made)
    for asked, replies in examples.reply_examples().items():
        summary = f"`{_tag(asked)}` was done."
        always = sorted(set.intersection(*map(_filled, replies)))
        narrowed = _narrowed(schema_of[Reply], {"ok": {"const": True}}, always)
        messages[f"{_tag(asked)}_reply"] = _message("reply", "reply", summary, narrowed, replies)
    refused = _narrowed(schema_of[Reply], {"ok": {"const": False}}, ["error"])
    summary = "What was asked did not happen."
    return {
        **messages,
        _REFUSED: _message("reply", "reply", summary, refused, examples.server_examples()[Reply]),
    }


def _event(event: ServerEvent[Any], schema_of: dict[Any, Json]) -> Json:
    fixed = {"event": {"const": event.name}, "payload": schema_of[event.payload]}
    schema = _narrowed(schema_of[EventMessage], fixed, [])
    made = examples.event_examples()[event.name]
    return {**_message(event.name, "event", event.about, schema, made), "description": f"To {event.to}."}


def _message(name: str, group: str, summary: str, payload: Json, made: list[Any]) -> Json:
    """`made`: instances, which the document shows as the codec encodes them."""
    return {
        "name": name,
        "summary": summary,
        "tags": [{"name": group}],
        "payload": payload,
        "examples": [{"payload": msgspec.json.decode(codec.encode_json(each))} for each in made],
    }


def _narrowed(schema: Json, properties: Json, required: list[str]) -> Json:
    return {"allOf": [schema, {"properties": properties, "required": required}]}


def _filled(message: Struct) -> set[str]:
    return {name for name in message.__struct_fields__ if getattr(message, name) is not UNSET}


def _tag(kind: type[Struct]) -> str:
    return str(kind.__struct_config__.tag)


def _doc(kind: type[Struct]) -> str:
    return " ".join(own_doc(kind).split())


_CHANNEL = {"$ref": "#/channels/socket"}


def _in_channel(name: str) -> Json:
    return {"$ref": f"#/channels/socket/messages/{name}"}
