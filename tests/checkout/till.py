"""What the tests of paid bookings share: events as Stripe sends them, and a desk over real stores."""

import json
from typing import Any

from hub.booking import BookingDesk
from hub.checkout import COMPLETED, CheckoutDesk
from hub.domain.model import Session
from persistence.postgres.directory import PostgresDirectory
from persistence.postgres.inbox import PostgresInbox
from persistence.postgres.ledger import PostgresLedger
from persistence.postgres.pool import Postgres
from persistence.postgres.record import PostgresRecord
from tests.dispatch.office import Office
from tests.domain.samples import CUSTOMER, ORPHAN_MS


def stripe_event(
    event_id: str = "evt_1",
    kind: str = COMPLETED,
    *,
    checkout: str | None = None,
    payment_status: str | None = "paid",
    details: Any = None,
    **metadata: Any,
) -> bytes:
    """Without metadata: somebody's expert video. Each event is of a checkout of its own."""
    content = {
        "id": event_id,
        "object": "event",
        "api_version": "2025-03-31.basil",
        "type": kind,
        "data": {
            "object": {
                "id": checkout or f"cs_of_{event_id}",
                "object": "checkout.session",
                "amount_total": 2999,
                "payment_status": payment_status,
                "customer_details": details,
                "metadata": {"customer_id": CUSTOMER, "plan_code": "video15", **metadata},
            }
        },
    }
    return json.dumps(content).encode()


class Till:
    """One node's desk. Its office commits to Redis; nothing goes to the record by itself."""

    def __init__(self, office: Office, postgres: Postgres) -> None:
        self.office = office
        self.inbox = PostgresInbox(postgres)
        self.record = PostgresRecord(postgres, orphan_ms=ORPHAN_MS)
        self.alarms: list[str] = []
        self.desk = CheckoutDesk(
            inbox=self.inbox,
            booking=BookingDesk(
                dispatcher=office.dispatcher,
                directory=PostgresDirectory(postgres),
                record=self.record,
                ledger=PostgresLedger(postgres),
                default_window_seconds=600,
            ),
            record=self.record,
            alarm=self.alarms.append,
        )

    async def active(self, customer_id: str = CUSTOMER) -> Session | None:
        return await self.office.bench.sessions.active_of(customer_id)

    def booked(self) -> list[str]:
        """The sessions that were made, one entry for each time."""
        return [event.session_id for event in self.office.events if event.type == "created"]
