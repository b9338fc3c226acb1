"""The live state and the reports, for consoles."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from hub.api.operation import ADMINS, Ask, Operation, operation
from hub.api.switches import flag_view
from hub.domain.errors import Refused, Unavailable
from hub.domain.model import Session
from hub.domain.overview import LiveState, NodeState, StripeInbox
from hub.domain.reports import REPORTS
from hub.ports import Analytics, Clock, Inspection, Switches
from hub.wire.admin import (
    DeadlinesView,
    FlagView,
    JournalView,
    MendView,
    NodeView,
    OpenView,
    Overview,
    ReportAnswer,
    ReportQuery,
    RunningOffer,
    RunningOffers,
)
from hub.wire.views import maybe_rfc3339, remaining, rfc3339

_OFFERS = 100
_MENDS = 50
_POSTGRES_S = 1.0
"""How long an overview waits for what Postgres has to say."""

Answer = TypeVar("Answer")


class Mend(Protocol):
    @property
    def what(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def at(self) -> int: ...


class OversightApi:
    """`mended`: what this node mended lately, oldest first. `journal_max`: how many entries may wait."""

    def __init__(
        self,
        *,
        inspection: Inspection,
        switches: Switches,
        analytics: Analytics,
        clock: Clock,
        journal_max: int,
        mended: Callable[[], Iterable[Mend]],
    ) -> None:
        self._inspection = inspection
        self._switches = switches
        self._analytics = analytics
        self._clock = clock
        self._journal_max = journal_max
        self._mended = mended

    def operations(self) -> list[Operation]:
        return [
            operation("GET", "/api/admin/overview", self.overview, ADMINS),
            operation("GET", "/api/admin/analytics/{name}", self.report, ADMINS, refuses=("not_found",)),
        ]

    async def overview(self, ask: Ask[None, None]) -> Overview:
        """What goes on now: nodes, people, sessions, running offers, and what waits."""
        state, stripe, flags = await asyncio.gather(
            self._inspection.overview(_OFFERS),
            _in_time(self._analytics.stripe_inbox()),
            _in_time(self._flags()),
        )
        self._clock.learn(state.now)
        return _overview(state, stripe, flags, list(self._mended()), self._journal_max)

    async def report(self, ask: Ask[ReportQuery, None]) -> ReportAnswer:
        """One of the reports over the last `days`."""
        name = ask.path("name")
        if name not in REPORTS:
            raise Refused("not_found", f"There is no such report. There are: {', '.join(REPORTS)}.")
        rows = await self._analytics.report(name, ask.query.days)
        return ReportAnswer(name=name, days=ask.query.days, rows=[dict(row) for row in rows])

    async def _flags(self) -> list[FlagView]:
        return [flag_view(flag) for flag in await self._switches.flags()]


async def _in_time(asking: Coroutine[Any, Any, Answer]) -> Answer | None:
    """What Postgres says, None where it does not in time: to cancel a query may take longer than to ask."""
    task = asyncio.create_task(asking)
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    if not (await asyncio.wait({task}, timeout=_POSTGRES_S))[0]:
        task.cancel()
        return None
    try:
        return task.result()
    except Unavailable:
        return None


def _overview(
    state: LiveState,
    stripe: StripeInbox | None,
    flags: list[FlagView] | None,
    mended: list[Mend],
    journal_max: int,
) -> Overview:
    now, oldest = state.now, state.oldest_open_at
    return Overview(
        server_time=rfc3339(now),
        nodes=[_node_view(node, now) for node in state.nodes],
        presence=state.presence,
        sessions=state.sessions,
        offers=RunningOffers(
            items=[_running(offer, now) for offer in state.offers], total=state.offers_total
        ),
        open=OpenView(count=state.open, oldest_age_ms=None if oldest is None else max(0, now - oldest)),
        deadlines=DeadlinesView(count=state.deadlines, next_due_in_ms=remaining(state.next_due, now)),
        journal=JournalView(waiting=state.unrecorded, dead=state.dead, max=journal_max),
        stripe=stripe,
        flags=flags,
        mended=[
            MendView(what=mend.what, id=mend.subject, at=rfc3339(mend.at))
            for mend in mended[: -_MENDS - 1 : -1]
        ],
    )


def _node_view(node: NodeState, now: int) -> NodeView:
    return NodeView(
        id=node.id,
        host=node.host,
        pid=node.pid,
        version=node.version,
        started_at=maybe_rfc3339(node.started_at),
        lease_expires_in_ms=remaining(node.lease_expires_at, now) or 0,
        connections=node.connections,
    )


def _running(session: Session, now: int) -> RunningOffer:
    due = session.expires_at or now
    return RunningOffer(
        session_id=session.id,
        assignment_id=session.assignment_id,
        customer_name=session.customer_name,
        mechanic_id=session.offered_to or "",
        mechanic_name=session.preferred_mechanic_name,
        wave=session.wave,
        notified_at=maybe_rfc3339(session.priority_notified_at),
        expires_at=rfc3339(due),
        expires_in_ms=max(0, due - now),
    )
