"""Messages that clients send on `/ws`. One object a frame, always with `type`; unknown fields are refused."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from hub.domain.model import Status

RequestId = Annotated[str, Meta(max_length=64)] | Annotated[int, Meta(ge=-(2**53), le=2**53)]
AnyUuid = Annotated[str, Meta(min_length=1, max_length=64)]
Token = Annotated[str, Meta(min_length=1, max_length=8192)]
Note = Annotated[str, Meta(max_length=500)]

MAX_WATCHED = 500


class ClientMessage(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type"
):
    """Anything a client may send."""

    id: RequestId | None = None


class Hello(ClientMessage, tag="hello", frozen=True):
    """First of all. `token` may be missing where the handshake carried one; no `status` means online."""

    token: Token | None = None
    status: Status | None = None
    device: Annotated[str, Meta(max_length=200)] | None = None


class SetStatus(ClientMessage, tag="status", frozen=True):
    """The presence that others see of a mechanic; `offline` means to appear so. The reply to `online` carries
    everything that is open."""

    status: Status


class Heartbeat(ClientMessage, tag="heartbeat", frozen=True):
    """For clients that cannot answer pings."""


class Accept(ClientMessage, tag="accept", frozen=True):
    """Take a request."""

    id: RequestId
    assignment_id: AnyUuid
    reason: Note | None = None


class Decline(ClientMessage, tag="decline", frozen=True):
    """Say no: in one's own turn the request moves on at once, an open one is not shown again."""

    id: RequestId
    assignment_id: AnyUuid
    reason: Note | None = None


class Release(ClientMessage, tag="release", frozen=True):
    """Give back a request that one has accepted and cannot do: it is broadcast."""

    id: RequestId
    assignment_id: AnyUuid
    reason: Note | None = None


class Ack(ClientMessage, tag="ack", frozen=True):
    """A priority request was received or shown; replied to only where it has an `id` or fails."""

    assignment_id: AnyUuid
    stage: Literal["delivered", "seen"]


MechanicIds = Annotated[list[AnyUuid], Meta(max_length=MAX_WATCHED)]


class Watch(ClientMessage, tag="watch", frozen=True):
    """See these mechanics' presence now, and its changes as `presence_update`."""

    id: RequestId
    mechanic_ids: MechanicIds


class Unwatch(ClientMessage, tag="unwatch", frozen=True):
    """See their changes no longer."""

    id: RequestId
    mechanic_ids: MechanicIds


class Refresh(ClientMessage, tag="refresh", frozen=True):
    """A newer token for the same user, before the old one expires."""

    id: RequestId
    token: Token


AnyClientMessage = (
    Hello | SetStatus | Heartbeat | Accept | Decline | Release | Ack | Watch | Unwatch | Refresh
)
