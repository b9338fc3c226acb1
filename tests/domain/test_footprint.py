"""Where sessions of each state stand in the store."""

import pytest

from hub.domain import commands as cmd
from hub.domain.footprint import NOWHERE, Footprint, footprint
from hub.domain.model import Session
from tests.domain.samples import ANA, MINUTE, NOTIFY_MS, NOW, ORPHAN_MS, after, booked, offline, online

OPEN = booked()
OFFERED = booked(online(ANA))
QUEUED = booked(offline(ANA), wait=True)
NOTIFIED = after(OFFERED, cmd.Notified(f"phone-of-{ANA}", NOW))
ACCEPTED = after(OFFERED, cmd.Accept(mechanic_id=ANA))
LIVE = after(ACCEPTED, cmd.Start(ANA))

ORPHAN = {f"orphan:{OPEN.id}": NOW + ORPHAN_MS}
OFFER = {f"offer:{OPEN.assignment_id}": NOW + 10 * MINUTE}
NOTIFY = {f"notify:{OPEN.assignment_id}": NOW + NOTIFY_MS}


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        (None, NOWHERE),
        (OPEN, Footprint(claim=True, open_at=NOW, deadlines=ORPHAN)),
        (QUEUED, Footprint(claim=True, offered_to=ANA, deadlines=ORPHAN | OFFER)),
        (OFFERED, Footprint(claim=True, offered_to=ANA, deadlines=ORPHAN | OFFER | NOTIFY)),
        (NOTIFIED, Footprint(claim=True, offered_to=ANA, deadlines=ORPHAN | OFFER)),
        (ACCEPTED, Footprint(claim=True, held_by=ANA, deadlines=ORPHAN)),
        (LIVE, Footprint(claim=True, held_by=ANA, live=True)),
        (after(ACCEPTED, cmd.Release(ANA)), Footprint(claim=True, open_at=NOW + 1, deadlines=ORPHAN)),
        (after(LIVE, cmd.End(ANA)), Footprint(ended=True)),
        (after(OFFERED, cmd.Cancel()), Footprint(ended=True)),
        (after(ACCEPTED, cmd.OrphanDue(), now=NOW + ORPHAN_MS), Footprint(ended=True)),
    ],
    ids=lambda value: "" if isinstance(value, Footprint) else f"{value and value.status}",
)
def test_footprint(session: Session | None, expected: Footprint) -> None:
    assert footprint(session) == expected
