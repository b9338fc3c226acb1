"""The one factory of sessions: every booking, whoever pays and however, is made here."""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from hub.dispatch import Dispatcher
from hub.domain import commands as cmd
from hub.domain.epoch import lost_since
from hub.domain.errors import HubError, Refused, StoreFailed, Unavailable
from hub.domain.flags import FAVORITES_PRIORITY
from hub.domain.ids import canonical, derived_session_id, new_session_id, shard_of_user
from hub.domain.model import (
    KEY_LIVES_MS,
    AssignmentStatus,
    Payment,
    Plan,
    RequestType,
    Role,
    RoutingType,
    Session,
    SessionStatus,
    SessionType,
)
from hub.domain.plan import Wish
from hub.domain.records import BookingSnapshot
from hub.domain.run_time import OfflinePolicy, run_time_settings
from hub.ports import Directory, Ledger, Record

logger = logging.getLogger("hub.booking")

_METADATA_BYTES = 4096
_DEBIT_HOLDS_MS = 30_000
"""How long a debit may be booked with."""
_OTHERS_ASKED = 30
_OTHERS_EVERY_S = 0.1


class BookingRequest(Struct, frozen=True, kw_only=True):
    """What is asked for. Absent values take the plan's or the hub's; ids are as the client wrote them."""

    customer_id: str
    plan_code: str
    actor_id: str
    actor_role: Role = Role.CUSTOMER
    customer_name: str | None = None
    customer_email: str | None = None
    session_type: SessionType | None = None
    payment: Payment = Payment.FREE
    preferred_mechanic_id: str | None = None
    routing_type: RoutingType = RoutingType.BROADCAST
    priority_window_minutes: int | None = None
    wait_if_offline: bool | None = None
    workshop_id: str | None = None
    is_urgent: bool = False
    request_type: RequestType = RequestType.GENERAL
    requested_brand: str | None = None
    notes: str | None = None
    metadata: Mapping[str, object] = {}


class BookingDesk:
    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        directory: Directory,
        record: Record,
        ledger: Ledger,
        default_window_seconds: float,
    ) -> None:
        self._dispatcher = dispatcher
        self._directory = directory
        self._record = record
        self._ledger = ledger
        self._default_window_seconds = default_window_seconds

    async def book(
        self, request: BookingRequest, idempotency_key: str | None = None, *, epoch: str | None = None
    ) -> Session:
        """The session, or the one that the same key made before; raises `Refused` or `Unavailable`. `epoch`:
        the life of the data that the record was looked at in."""
        plan = await self._plan(request.plan_code)
        draft = _draft(request, plan, idempotency_key)
        known, wish = await asyncio.gather(  # in one round trip, and in this order
            self._dispatcher.before_booking(draft), self._wish(request, plan)
        )
        return await self._book(request, draft, plan, wish, known, known.epoch if epoch is None else epoch)

    async def _book(
        self,
        request: BookingRequest,
        draft: Session,
        plan: Plan,
        wish: Wish,
        known: BookingSnapshot,
        epoch: str,
    ) -> Session:
        """`known`: what was loaded for it just now."""
        command = cmd.Book(
            draft=draft,
            wish=wish,
            actor_id=request.actor_id,
            actor_role=request.actor_role,
            orphan_ms=self._dispatcher.policy.orphan_ms,
            epoch=epoch,
        )
        if draft.payment == Payment.CREDIT:
            session = await self._book_for_credits(command, plan.credits, known)
        else:
            session, _ = await self._dispatcher.book(command, known)
        session = session or await self._record.session(draft.id)
        if session is None:
            raise Unavailable("unavailable", "This booking is being made; ask again shortly.")
        return session

    async def book_for_a_day(self, request: BookingRequest, key: str) -> Session:
        """Book with a client's key, which names another booking a day later.

        It could not name one for ever: what is left of a finished session in Redis goes after a day, and the
        record would take a second session of the same id for the first.
        """
        today = self._dispatcher.clock.now() // KEY_LIVES_MS
        yesterdays, todays = f"{today - 1}\n{key}", f"{today}\n{key}"
        earlier_id = derived_session_id(request.customer_id, yesterdays)
        plan = await self._plan(request.plan_code)
        before, wish = await asyncio.gather(  # in one round trip, and in this order
            self._before(request.customer_id, todays, earlier_id), self._wish(request, plan)
        )
        if before.earlier:
            return await self.book(request, yesterdays, epoch=before.epoch)
        if lost_since(before.epoch, before.now - KEY_LIVES_MS):
            # Redis may have known the key: what it has forgotten, the record knows.
            for each in (todays, yesterdays):
                recorded = await self._record.session(derived_session_id(request.customer_id, each))
                if recorded is not None and recorded.created_at > before.now - KEY_LIVES_MS:
                    known = await self._before(request.customer_id, each)
                    return await self.book(request, each, epoch=known.epoch) if known.booked else recorded
        draft = _draft(request, plan, todays)
        return await self._book(request, draft, plan, wish, before, before.epoch)

    async def life(self, customer_id: str) -> str:
        """The `epoch` to book in after a look at the record."""
        sessions = self._dispatcher.sessions
        return (await sessions.epochs())[shard_of_user(customer_id, sessions.shards)] or ""

    async def _before(self, customer_id: str, key: str, earlier_id: str | None = None) -> BookingSnapshot:
        sessions = self._dispatcher.sessions
        session_id = derived_session_id(customer_id, key)
        return await sessions.load_booking(customer_id, session_id, earlier_id=earlier_id)

    async def _book_for_credits(
        self, command: cmd.Book, credits: int, known: BookingSnapshot
    ) -> Session | None:
        """Debit, then dispatch; None where only the record can know the session.

        A node that dies or is cancelled in between, or finds Postgres gone when it would refund, leaves a
        debit without a session, which the refunds loop gives back once it is 60 s old. Nothing comes of such
        a debit any more: a decision is made at most 30 s after the load that preceded it, and its commit is
        void 3 s later.
        """
        draft = command.draft
        before = await self._dispatcher.before_booking(draft, known)
        if before.booked:
            return before.session
        try:
            debit_id = await self._ledger.debit(
                draft.customer_id, draft.id, credits, name=draft.customer_name, email=draft.customer_email
            )
        except Refused:
            # Another booking took the credits meanwhile: where it stands, that is the lasting reason.
            await self._dispatcher.before_booking(draft)
            raise
        if debit_id is None:
            return await self._booked_by_another(draft)
        command = msgspec.structs.replace(command, not_after=before.now + _DEBIT_HOLDS_MS)
        try:
            session, _ = await self._dispatcher.book(command)
        except (Refused, Unavailable):
            with contextlib.suppress(StoreFailed):
                await self._ledger.refund(debit_id)
            raise
        return session

    async def _booked_by_another(self, draft: Session) -> Session | None:
        """What comes of a repeat of this booking that was faster."""
        for _ in range(_OTHERS_ASKED):
            found = await self._dispatcher.before_booking(draft)
            if found.booked:
                return found.session
            await asyncio.sleep(_OTHERS_EVERY_S)
        return None

    async def _plan(self, code: str) -> Plan:
        plan = await self._directory.plan(code)
        if plan is None or not plan.active:
            raise Refused("invalid_request", "There is no such plan.", field="plan_code")
        return plan

    async def _wish(self, request: BookingRequest, plan: Plan) -> Wish:
        run_time = run_time_settings(await self._directory.settings(), self._default_window_seconds)
        default_ms = round(run_time.default_window_seconds * 1000)
        minutes = request.priority_window_minutes
        wait = request.wait_if_offline
        wish = Wish(
            routing_type=request.routing_type,
            preferred=bool(request.preferred_mechanic_id),
            workshop=request.workshop_id is not None,
            wait=run_time.offline_policy is OfflinePolicy.WAIT if wait is None else wait,
            window_ms=minutes * 60_000 if minutes else None,
            default_window_ms=plan.window_minutes * 60_000 if plan.window_minutes else default_ms,
            split=run_time.sequence_split,
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


def _payment(request: BookingRequest, plan: Plan) -> Payment:
    """How the session is paid for: what costs nothing is free, even where credits were offered."""
    payment = request.payment
    if payment is Payment.CREDIT and not plan.credits:
        if plan.price_cents:
            raise Refused("payment_required", f"The plan {plan.code} is not sold for credits.")
        return Payment.FREE
    if payment is Payment.FREE and plan.price_cents:
        raise Refused("payment_required", f"The plan {plan.code} is not free.")
    return payment


def _draft(request: BookingRequest, plan: Plan, idempotency_key: str | None) -> Session:
    """All that does not depend on time or on other people."""
    payment = _payment(request, plan)
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
        payment=payment,
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
    """Of what is asked for, whoever asks."""
    anyones = msgspec.structs.replace(request, customer_name=None, customer_email=None, actor_id="")
    body = msgspec.to_builtins(anyones)
    del body["actor_role"]
    return hashlib.blake2b(msgspec.json.encode(body, order="sorted"), digest_size=16).hexdigest()
