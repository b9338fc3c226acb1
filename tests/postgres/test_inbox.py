"""The inbox: an event is stored once, ends once, and is found by what became of it."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from hub.domain.checkout import EventOutcome, StripeEvent, Verdict
from hub.domain.ids import new_id
from persistence.postgres.inbox import PostgresInbox
from persistence.postgres.pool import Postgres
from tests.postgres.databases import Connection

DISPATCHED, IGNORED, NEEDS_ATTENTION = EventOutcome
THEN = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)


@pytest.fixture
def inbox(postgres: Postgres) -> PostgresInbox:
    return PostgresInbox(postgres)


async def stored(inbox: PostgresInbox, event_id: str, checkout: str = "cs_1") -> StripeEvent:
    return await inbox.store(event_id, "x", json.dumps({"data": {"object": {"id": checkout}}}))


async def test_an_event_is_stored_as_it_first_came(inbox: PostgresInbox, committed: Connection) -> None:
    checkout = {
        "id": "cs_1",
        "payment_status": "paid",
        "customer_details": {"name": "Mia", "email": "mia@example.com"},
        "metadata": {"customer_id": "c", "n": 1, "none": None, "odd": {"a": [1]}},
    }
    first = await inbox.store("evt_1", "x", json.dumps({"data": {"object": checkout}, "more": [1.5]}))
    assert first == StripeEvent(
        event_id="evt_1",
        type="x",
        received_at=first.received_at,
        checkout_id="cs_1",
        payment_status="paid",
        customer_name="Mia",
        customer_email="mia@example.com",
        metadata={"customer_id": "c", "n": 1, "none": None, "odd": {"a": [1]}},
    )
    assert await inbox.store("evt_1", "y", "{}") == first
    assert await inbox.get("evt_1") == first
    assert await inbox.get("evt_2") is None
    payload = await committed.fetchval("select payload from stripe_events")
    assert json.loads(payload) == {"data": {"object": checkout}, "more": [1.5]}


@pytest.mark.parametrize(
    ("full_name", "email", "expected"),
    [
        ("Mia Berg", "mia@example.com", ("Mia Berg", "mia@example.com")),
        ("Mia Berg", None, ("Mia Berg", "card@example.com")),
        ("", "", ("Card Holder", "card@example.com")),
    ],
)
async def test_who_pays_is_the_customer_only_where_the_customer_is_not_known(
    inbox: PostgresInbox, committed: Connection, full_name: str, email: str, expected: tuple[str, str]
) -> None:
    mia = new_id()
    await committed.execute(
        "insert into customers (id, full_name, email) values ($1, $2, $3)", mia, full_name, email
    )
    checkout = {
        "customer_details": {"name": "Card Holder", "email": "card@example.com"},
        "metadata": {"customer_id": f" {mia.upper()}\n"},
    }
    event = await inbox.store("evt_1", "x", json.dumps({"data": {"object": checkout}}))
    assert (event.customer_name, event.customer_email) == expected


SOMEBODY = "5b1f6f0e-0c38-4d8e-9a57-1f1f6a2f0a01"


@pytest.mark.parametrize("customer_id", ["", "x", f"{{{SOMEBODY}}}", f"{SOMEBODY}0", 7, None, [SOMEBODY]])
async def test_a_customer_id_of_any_shape_is_as_good_as_nobody(
    inbox: PostgresInbox, customer_id: object
) -> None:
    checkout = {"customer_details": {"name": "Card Holder"}, "metadata": {"customer_id": customer_id}}
    event = await inbox.store("evt_1", "x", json.dumps({"data": {"object": checkout}}))
    assert event.customer_name == "Card Holder"


@pytest.mark.parametrize("payload", ["{}", "[]", "1", '{"data": {"object": {"metadata": [1]}}}'])
async def test_any_shape_can_be_read(inbox: PostgresInbox, payload: str) -> None:
    event = await inbox.store("evt_1", "x", payload)
    assert (event.checkout_id, event.payment_status, event.metadata) == (None, None, {})


@pytest.mark.parametrize("before", [None, *EventOutcome])
@pytest.mark.parametrize("after", EventOutcome)
async def test_an_event_ends_once_but_for_a_booking(
    inbox: PostgresInbox, before: EventOutcome | None, after: EventOutcome
) -> None:
    await stored(inbox, "evt_1")
    first = await inbox.finish("evt_1", Verdict(outcome=before, detail="first")) if before else None
    session_id = new_id() if after is DISPATCHED else None
    second = await inbox.finish("evt_1", Verdict(outcome=after, session_id=session_id, detail="second"))
    if before is None or (before, after) == (NEEDS_ATTENTION, DISPATCHED):
        assert second is not None
        assert (second.outcome, second.session_id, second.detail) == (after, session_id, "second")
        assert second.handled_at is not None
    else:
        assert second is None
        assert await inbox.get("evt_1") == first


async def test_only_what_needs_attention_is_opened_again(inbox: PostgresInbox) -> None:
    for outcome in EventOutcome:
        fresh = await stored(inbox, outcome)
        assert await inbox.reopen(outcome) is None
        await inbox.finish(outcome, Verdict(outcome=outcome, detail="why"))
        assert await inbox.reopen(outcome) == (fresh if outcome is NEEDS_ATTENTION else None)
    assert await inbox.reopen("evt_9") is None


async def test_what_is_left_comes_in_order_and_in_parts(inbox: PostgresInbox, committed: Connection) -> None:
    for event_id in ("evt_a", "evt_b", "evt_c", "evt_d", "evt_new", "evt_done"):
        await stored(inbox, event_id)
    await inbox.finish("evt_done", Verdict(outcome=IGNORED))
    await committed.execute("update stripe_events set received_at = $1 where event_id <> 'evt_new'", THEN)
    await committed.execute(
        "update stripe_events set received_at = $1 where event_id = 'evt_d'", THEN - timedelta(seconds=1)
    )
    first = await inbox.left(older_than_s=10, limit=3)
    assert [event.event_id for event in first] == ["evt_d", "evt_a", "evt_b"]
    place = (first[-1].received_at, first[-1].event_id)
    assert [e.event_id for e in await inbox.left(older_than_s=10, limit=3, after=place)] == ["evt_c"]


async def test_lists_are_newest_first_and_lose_nothing_between_pages(
    inbox: PostgresInbox, committed: Connection
) -> None:
    ids = [f"evt_{n}" for n in range(8)]
    for n, event_id in enumerate(ids):
        await stored(inbox, event_id)
        at = THEN + timedelta(milliseconds=n // 4)
        await committed.execute("update stripe_events set received_at = $2 where event_id = $1", event_id, at)
    for event_id, outcome in zip(ids, [*EventOutcome, *EventOutcome], strict=False):
        await inbox.finish(event_id, Verdict(outcome=outcome))

    async def pages(outcome: EventOutcome | None = None, unhandled: bool = False) -> list[str]:
        found: list[str] = []
        place = None
        while page := await inbox.page(2, outcome=outcome, unhandled=unhandled, before=place):
            found += [event.event_id for event in page]
            place = (page[-1].received_at, page[-1].event_id)
        return found

    assert await pages() == ids[::-1]
    assert await pages(unhandled=True) == ["evt_7", "evt_6"]
    assert await pages(IGNORED) == ["evt_4", "evt_1"]


async def test_a_checkout_id_of_any_length_is_kept(inbox: PostgresInbox) -> None:
    long = "".join(new_id() for _ in range(250))
    mine = await stored(inbox, "evt_1", long)
    await stored(inbox, "evt_2", long)
    assert [event.event_id for event in await inbox.siblings(mine)] == ["evt_2"]


async def test_siblings_are_of_the_same_checkout(inbox: PostgresInbox) -> None:
    mine = await stored(inbox, "evt_1", "cs_1")
    await stored(inbox, "evt_2", "cs_2")
    await stored(inbox, "evt_3", "cs_1")
    assert [event.event_id for event in await inbox.siblings(mine)] == ["evt_3"]
    lonely = await inbox.store("evt_4", "x", "{}")
    assert await inbox.siblings(lonely) == []
