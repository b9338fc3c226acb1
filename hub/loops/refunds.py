"""The refunds loop: gives back credits whose session never came to be.

A debit commits before its session is dispatched. A node that dies in between leaves it; so does one that
finds Postgres gone when it would refund.
"""

import logging
from collections.abc import Callable

from hub.dispatch import Gate
from hub.domain.ids import new_id
from hub.domain.model import Payment
from hub.domain.records import Debit
from hub.loops import drift
from hub.loops.periodic import every
from hub.loops.ranks import Ranks
from hub.ports import JournalStore, Ledger, SessionStore

logger = logging.getLogger("hub.loops.refunds")

ABANDONED_S = 60.0
"""Nobody books with a debit of this age any more."""

_EVERY_S = 20.0
_LATELY_S = 86_400.0
_ALL_EVERY = 180
_PAGE = 500


class Refunds:
    """`mended` is told what was given back, for the metrics."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        sessions: SessionStore,
        journal: JournalStore,
        ranks: Ranks,
        gate: Gate,
        mended: Callable[[str], None] = lambda what: None,
        lag_ms: int = drift.LAG_MS,
    ) -> None:
        self._ledger = ledger
        self._sessions = sessions
        self._journal = journal
        self._ranks = ranks
        self._gate = gate
        self._mended = mended
        self._lag_ms = lag_ms
        self._looks = 0
        self._refused: set[str] = set()

    async def run(self) -> None:
        await every(_EVERY_S, self.step, logger)

    async def step(self) -> int:
        """Give back what was abandoned at the shards at which this node is first; how many debits.

        The journal is looked at before Postgres is asked: what Redis ever had of sessions so old is then on
        record, unless the shard is behind or the record refused it. Most looks go over the last day's debits,
        the first one and one an hour over all.
        """
        if not self._gate.is_open:
            return 0
        now = (await self._sessions.load(new_id())).now
        mine = set(self._ranks.first()) - drift.behind(await self._journal.oldest(), now, self._lag_ms)
        # What was refused at the last look may be on its way through the journal again.
        last, self._refused = self._refused, await self._journal.refused()
        refused = last | self._refused
        younger_than_s = _LATELY_S if self._looks % _ALL_EVERY else None
        self._looks += 1
        given, after = 0, 0
        while mine:
            page = await self._ledger.abandoned(
                older_than_s=ABANDONED_S, younger_than_s=younger_than_s, limit=_PAGE, after=after
            )
            for debit in page:
                if self._sessions.shard(debit.session_id) in mine:
                    given += await self._give_back(debit, refused)
            if len(page) < _PAGE:
                break
            after = page[-1].id
        return given

    async def _give_back(self, debit: Debit, refused: set[str]) -> bool:
        found = await self._sessions.load(debit.session_id)
        session = found.session
        if session is None:
            spent = debit.session_id in refused
        else:
            spent = session.payment == Payment.CREDIT and not session.refundable
        # Without an epoch it is not Redis that says there is no session, but the loss of its data.
        if spent or not found.epoch or not await self._ledger.refund(debit.id):
            return False
        logger.warning("debit_refunded", extra={"session": debit.session_id, "debit": debit.id})
        self._mended("debit_abandoned")
        return True
