"""The one factory of sessions: every booking, whoever pays and however, is made here."""

import hashlib
import logging
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from hub.dispatch import Dispatcher
from hub.domain import commands as cmd
from hub.domain.errors import HubError, Refused, Unavailable
from hub.domain.flags import FAVORITES_PRIORITY
from hub.domain.ids import canonical, derived_session_id, new_session_id
from hub.domain.model import AssignmentStatus, Plan, Role, RoutingType, Session, SessionStatus
from hub.domain.plan import SEQUENCE_SPLIT, Wish
from hub.ports import Directory, Record

logger = logging.getLogger("hub.booking")

_METADATA_BYTES = 4096


class BookingRequest(Struct, frozen=True, kw_only=True):
    """What is asked for. Absent values take the plan's or the hub's; ids are as the client wrote them."""

    customer_id: str
    plan_code: str
    actor_id: str
    customer_name: str | None = None
    customer_email: str | None = None
    session_type: str | None = None
    payment: str = "free"
    preferred_mechanic_id: str | None = None
    routing_type: RoutingType = RoutingType.BROADCAST
    priority_window_minutes: int | None = None
    wait_if_offline: bool = False
    workshop_id: str | None = None
    is_urgent: bool = False
    request_type: str = "general"
    requested_brand: str | None = None
    notes: str | None = None
    metadata: Mapping[str, object] = {}


class BookingDesk:
    def __init__(
        self, *, dispatcher: Dispatcher, directory: Directory, record: Record, default_window_ms: int
    ) -> None:
        self._dispatcher = dispatcher
        self._directory = directory
        self._record = record
        self._default_window_ms = default_window_ms

    async def book(self, request: BookingRequest, idempotency_key: str | None = None) -> Session:
        """The session, or the one that the same key made before; raises `Refused` or `Unavailable`."""
        plan = await self._plan(request.plan_code)
        _check_payment(request, plan)
        draft = _draft(request, plan, idempotency_key)
        command = cmd.Book(
            draft=draft,
            wish=await self._wish(request, plan),
            actor_id=request.actor_id,
            orphan_ms=self._dispatcher.policy.orphan_ms,
        )
        session, _ = await self._dispatcher.book(command)
        session = session or await self._record.session(draft.id)
        if session is None:
            raise Unavailable("unavailable", "This booking is being recorded; ask again shortly.")
        return session

    async def _plan(self, code: str) -> Plan:
        plan = await self._directory.plan(code)
        if plan is None or not plan.active:
            raise Refused("invalid_request", "There is no such plan.", field="plan_code")
        return plan

    async def _wish(self, request: BookingRequest, plan: Plan) -> Wish:
        run_time = await self._directory.settings()
        default_ms = self._default_window_ms
        if isinstance(seconds := run_time.get("default_window_seconds"), int | float):
            default_ms = round(seconds * 1000)
        minutes = request.priority_window_minutes
        wish = Wish(
            routing_type=request.routing_type,
            preferred=bool(request.preferred_mechanic_id),
            workshop=request.workshop_id is not None,
            wait=request.wait_if_offline,
            window_ms=minutes * 60_000 if minutes else None,
            default_window_ms=plan.window_minutes * 60_000 if plan.window_minutes else default_ms,
            split=_split(run_time.get("sequence_split")),
        )
        if request.routing_type is RoutingType.BROADCAST:
            return wish
        try:
            return await self._with_candidates(request, wish)
        except Exception as error:
            # Whatever fails on the way to the favourite must not cost the customer the booking.
            logger.error("priority_path_failed", exc_info=None if isinstance(error, HubError) else error)
            return msgspec.structs.replace(wish, candidates=(None,))

    async def _with_candidates(self, request: BookingRequest, wish: Wish) -> Wish:
        flag = await self._directory.flag(FAVORITES_PRIORITY)
        if request.routing_type is RoutingType.SEQUENCE:
            wanted = list(await self._directory.favorites(request.customer_id))
        else:
            wanted = [request.preferred_mechanic_id] if request.preferred_mechanic_id else []
        ids = [canonical(mechanic_id) for mechanic_id in wanted]
        known = await self._dispatcher.candidates([mechanic_id for mechanic_id in ids if mechanic_id])
        return msgspec.structs.replace(
            wish,
            enabled=flag.enabled_for(Role.CUSTOMER, request.customer_id),
            candidates=tuple(known.get(mechanic_id) if mechanic_id else None for mechanic_id in ids),
        )


def _check_payment(request: BookingRequest, plan: Plan) -> None:
    if request.payment == "free" and plan.price_cents:
        raise Refused("payment_required", f"The plan {plan.code} is not free.")
    if request.payment == "credit":
        raise Refused("no_credit", "You do not have enough credits.")


def _draft(request: BookingRequest, plan: Plan, idempotency_key: str | None) -> Session:
    """All that does not depend on time or on other people."""
    try:
        msgspec.msgpack.encode(request.metadata)
    except (OverflowError, RecursionError):
        detail = "metadata holds a number or a depth that MessagePack cannot carry."
        raise Refused("invalid_request", detail, field="metadata") from None
    metadata = msgspec.json.encode(request.metadata)
    if len(metadata) > _METADATA_BYTES:
        raise Refused("invalid_request", "metadata is larger than 4 KB.", field="metadata")
    customer_id = request.customer_id
    keyed = idempotency_key is not None
    return Session(
        id=derived_session_id(customer_id, idempotency_key or "") if keyed else new_session_id(customer_id),
        customer_id=customer_id,
        customer_name=request.customer_name,
        customer_email=request.customer_email,
        session_type=request.session_type or plan.session_type,
        plan_code=plan.code,
        payment=request.payment,
        status=SessionStatus.PENDING,
        notes=request.notes,
        is_urgent=request.is_urgent,
        request_type=request.request_type,
        requested_brand=request.requested_brand,
        workshop_id=request.workshop_id,
        metadata=metadata.decode(),
        created_at=0,
        updated_at=0,
        orphan_at=0,
        version=0,
        assignment_status=AssignmentStatus.OPEN,
        fingerprint=_fingerprint(request) if keyed else None,
    )


def _fingerprint(request: BookingRequest) -> str:
    body = msgspec.structs.replace(request, customer_name=None, customer_email=None, actor_id="")
    return hashlib.blake2b(msgspec.json.encode(body, order="sorted"), digest_size=16).hexdigest()


def _split(value: object) -> tuple[float, ...]:
    if isinstance(value, list) and value and all(isinstance(share, int | float) for share in value):
        return tuple(float(share) for share in value)
    return SEQUENCE_SPLIT
