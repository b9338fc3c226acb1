"""Stripe's events: what is booked, what is not, and that nothing is booked twice or dropped."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from hub.checkout import PAID_LATER, booking_request
from hub.domain import commands as cmd
from hub.domain.checkout import EventOutcome, StripeEvent
from hub.domain.epoch import new_epoch
from hub.domain.errors import Refused
from hub.domain.ids import derived_session_id
from hub.domain.model import Payment, Role, RoutingType
from persistence.redis import keys
from tests.checkout.till import Till, stripe_event
from tests.domain.samples import ANA, CUSTOMER, STRANGER
from tests.postgres.databases import Connection
from tests.redis.bench import SHARDS

DISPATCHED, IGNORED, NEEDS_ATTENTION = EventOutcome


def of(**metadata: Any) -> StripeEvent:
    return StripeEvent(
        event_id="evt_1",
        type="x",
        received_at=0,
        metadata={"customer_id": CUSTOMER, "plan_code": "video15", **metadata},
    )


@pytest.mark.parametrize(
    ("name", "said", "taken"),
    [
        ("customer_id", CUSTOMER.upper(), CUSTOMER),
        ("customer_id", f" {CUSTOMER}\n", CUSTOMER),
        ("session_type", "chat", "chat"),
        ("session_type", "dance", None),
        ("session_type", "", None),
        ("routing_type", "priority_broadcast", RoutingType.PRIORITY),
        ("routing_type", "favorites_sequence", RoutingType.SEQUENCE),
        ("routing_type", "by pigeon", RoutingType.BROADCAST),
        ("routing_type", None, RoutingType.BROADCAST),
        ("preferred_mechanic_id", ANA, ANA),
        ("preferred_mechanic_id", "not a uuid", "not a uuid"),
        ("preferred_mechanic_id", "x" * 500, "x" * 200),
        ("preferred_mechanic_id", {"id": 1}, "{'id': 1}"),
        ("preferred_mechanic_id", " ", None),
        ("priority_window_minutes", "15", 15),
        ("priority_window_minutes", 15, 15),
        ("priority_window_minutes", "15.9", 15),
        ("priority_window_minutes", "0", 1),
        ("priority_window_minutes", "-5", 1),
        ("priority_window_minutes", "61", 60),
        ("priority_window_minutes", "9" * 300, 60),
        ("priority_window_minutes", "nan", None),
        ("priority_window_minutes", "inf", None),
        ("priority_window_minutes", "ten", None),
        ("priority_window_minutes", True, None),
        ("priority_window_minutes", [5], None),
    ],
)
def test_wishes_that_make_no_sense_are_none(name: str, said: object, taken: object) -> None:
    request = booking_request(of(**{name: said}))
    assert getattr(request, name) == taken
    assert request.payment == Payment.PAID


async def test_a_paid_checkout_is_booked_once_however_often_it_comes(till: Till) -> None:
    details = {"name": " Zoë\x00 \ud800Berg " + "x" * 300, "email": "zoe@example.com"}
    payload = stripe_event(details=details, session_type="chat")
    first = await till.desk.receive(payload)
    assert (first.outcome, first.detail) == (DISPATCHED, None)
    assert first.session_id == derived_session_id(CUSTOMER, "stripe\nevt_1")
    session = await till.active()
    assert session is not None
    assert (session.id, session.payment, session.session_type) == (first.session_id, "paid", "chat")
    assert session.customer_name == ("Zoë Berg " + "x" * 300)[:200]
    assert session.customer_email == "zoe@example.com"

    again = await asyncio.gather(*(till.desk.receive(payload) for _ in range(20)))
    assert again == [first] * 20
    assert till.booked() == [first.session_id]


async def test_many_at_once_are_one_booking(till: Till) -> None:
    found = await asyncio.gather(*(till.desk.receive(stripe_event()) for _ in range(20)))
    assert {(event.outcome, event.session_id) for event in found} == {(DISPATCHED, till.booked()[0])}
    assert len(till.booked()) == 1


async def test_a_delayed_payment_is_booked_when_it_succeeds(till: Till) -> None:
    unpaid = await till.desk.receive(stripe_event("evt_1", checkout="cs_1", payment_status="unpaid"))
    assert unpaid.outcome is IGNORED
    assert till.booked() == []
    paid = await till.desk.receive(stripe_event("evt_2", PAID_LATER, checkout="cs_1"))
    assert paid.outcome is DISPATCHED
    assert till.alarms == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_one_checkout_is_booked_once_in_any_order(till: Till, order: tuple[int, int]) -> None:
    payloads = (stripe_event("evt_1", checkout="cs_1"), stripe_event("evt_2", PAID_LATER, checkout="cs_1"))
    first = await till.desk.receive(payloads[order[0]])
    second = await till.desk.receive(payloads[order[1]])
    assert (first.outcome, second.outcome) == (DISPATCHED, IGNORED)
    assert second.detail == f"Already booked by {first.event_id}."

    assert first.session_id is not None
    await till.office.execute(first.session_id, cmd.End(CUSTOMER))
    third = await till.desk.receive(stripe_event("evt_3", checkout="cs_1"))
    assert third.outcome is IGNORED
    assert len(till.booked()) == 1


async def test_a_sibling_that_was_booked_but_is_not_finished_counts(
    till: Till, committed: Connection
) -> None:
    await till.desk.receive(stripe_event("evt_1", checkout="cs_1"))
    await committed.execute("update stripe_events set handled_at = null, outcome = null, session_id = null")
    second = await till.desk.receive(stripe_event("evt_2", PAID_LATER, checkout="cs_1"))
    assert (second.outcome, second.detail) == (IGNORED, "Already booked by evt_1.")
    assert till.alarms == []


@pytest.mark.parametrize(
    "kind", ["checkout.session.expired", "checkout.session.async_payment_failed", "invoice.paid", "x"]
)
async def test_other_events_are_ignored(till: Till, kind: str) -> None:
    assert (await till.desk.receive(stripe_event(kind=kind))).outcome is IGNORED
    assert (till.booked(), till.alarms) == ([], [])


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        ({"customer_id": "c-1"}, "customer_id: "),
        ({"customer_id": None}, "customer_id: "),
        ({"customer_id": 7}, "customer_id: "),
        ({"plan_code": "gold"}, "plan_code: There is no such plan."),
        ({"plan_code": None}, "plan_code: "),
        ({"payment_status": None}, "payment_status: "),
        ({"payment_status": "maybe"}, "payment_status: "),
        ({"kind": PAID_LATER, "payment_status": "unpaid"}, "payment_status: "),
    ],
)
async def test_what_is_paid_but_cannot_be_booked_is_kept_for_a_person(
    till: Till, changed: Any, detail: str
) -> None:
    for _ in range(2):
        event = await till.desk.receive(stripe_event(**changed))
        assert event.outcome is NEEDS_ATTENTION
        assert (event.detail or "").startswith(detail)
    assert till.alarms == ["stripe_needs_attention"]
    assert [e.event_id for e in await till.inbox.page(10, outcome=NEEDS_ATTENTION)] == ["evt_1"]


async def test_a_customer_who_is_busy_is_booked_later_by_an_admin(till: Till) -> None:
    first = await till.desk.receive(stripe_event("evt_1"))
    second = await till.desk.receive(stripe_event("evt_2"))
    assert second.outcome is NEEDS_ATTENTION
    assert first.session_id is not None
    assert first.session_id in (second.detail or "")
    again = await till.desk.retry("evt_2", STRANGER)
    assert (again.outcome, again.detail) == (second.outcome, second.detail)

    await till.office.execute(first.session_id, cmd.End(CUSTOMER))
    booked = await till.desk.retry("evt_2", STRANGER)
    assert booked.outcome is DISPATCHED
    (created,) = [e for e in till.office.events if e.session_id == booked.session_id and e.type == "created"]
    assert (created.actor_id, created.data["actor_role"]) == (STRANGER, Role.ADMIN)
    assert await till.desk.retry("evt_2", STRANGER) == booked
    assert await till.desk.retry("evt_1", STRANGER) == first


@pytest.mark.parametrize("unknown", ["evt_9", "", "evt\x00"])
async def test_an_event_that_nobody_sent_is_not_found(till: Till, unknown: str) -> None:
    with pytest.raises(Refused) as refusal:
        await till.desk.retry(unknown, STRANGER)
    assert refusal.value.code == "not_found"


async def test_while_bookings_are_impossible_events_are_kept(till: Till) -> None:
    till.office.gate.shut()
    event = await till.desk.receive(stripe_event())
    assert (event.handled_at, event.outcome) == (None, None)
    till.office.gate.open()
    assert (await till.desk.receive(stripe_event())).outcome is DISPATCHED
    assert len(till.booked()) == 1


async def test_what_only_the_record_knows_is_not_booked_again(till: Till, committed: Connection) -> None:
    """The node died before the outcome was stored; a day later Redis knows nothing of the session."""
    first = await till.desk.receive(stripe_event())
    assert first.session_id is not None
    await till.office.execute(first.session_id, cmd.End(CUSTOMER))

    async def bury(*_: object) -> None:
        raise AssertionError

    await till.record.write(till.office.commits, bury=bury)
    raw, shard = till.office.bench.raw, till.office.bench.sessions.shard(first.session_id)
    await raw.delete(keys.session(shard, first.session_id), keys.idempotency(shard, first.session_id))
    await committed.execute("update stripe_events set handled_at = null, outcome = null, session_id = null")
    again = await till.desk.receive(stripe_event())
    assert (again.outcome, again.session_id) == (DISPATCHED, first.session_id)
    assert till.booked() == [first.session_id]


@pytest.mark.parametrize("lost_before", [False, True], ids=["in a life", "between two"])
async def test_a_loss_after_the_look_at_the_record_is_noticed(
    till: Till, monkeypatch: pytest.MonkeyPatch, lost_before: bool
) -> None:
    looked = till.inbox.siblings
    if lost_before:
        await till.office.bench.raw.delete(*map(keys.epoch, range(SHARDS)))

    async def siblings(event: StripeEvent) -> Sequence[StripeEvent]:
        found = await looked(event)
        for shard in range(SHARDS):
            await till.office.bench.raw.set(keys.epoch(shard), new_epoch(0))
        return found

    monkeypatch.setattr(till.inbox, "siblings", siblings)
    assert (await till.desk.receive(stripe_event())).handled_at is None
    monkeypatch.undo()
    assert (await till.desk.receive(stripe_event())).outcome is DISPATCHED
    assert len(till.booked()) == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b'"evt_1"',
        b"\xff\xfe",
        b'{"id": "evt_1"}',
        b'{"id": 1, "type": "x"}',
        b'{"id": "", "type": "x"}',
        b'{"id": "\\u0000", "type": "x"}',
        b'{"id": "evt/1", "type": "x"}',
        b'{"id": "%s", "type": "x"}' % (b"e" * 300),
        b'{"id": "evt_1", "type": "x", "n": NaN}',
        b'{"id": "evt_1", "type": "x", "n": -Infinity}',
        b'{"id": "evt_1", "type": "x", "n": 1e999}',
        b'{"id": "evt_1", "type": "x", "n": %s}' % (b"9" * 5000),
        b'{"id": "evt_1", "type": "x", "n": %s}' % (b"[" * 100_000 + b"]" * 100_000),
    ],
)
async def test_what_is_no_event_is_refused(till: Till, payload: bytes) -> None:
    with pytest.raises(Refused) as refusal:
        await till.desk.receive(payload)
    assert refusal.value.code == "malformed"
    assert await till.inbox.page(10) == []


@pytest.mark.parametrize(
    "data",
    [None, 7, [], {"object": None}, {"object": []}, {"object": {"metadata": "x", "customer_details": 3}}],
)
async def test_an_event_of_another_shape_is_kept_for_a_person(till: Till, data: object) -> None:
    content = json.loads(stripe_event(kind="checkout.session.completed")) | {"data": data}
    assert (await till.desk.receive(json.dumps(content).encode())).outcome is NEEDS_ATTENTION
