"""The overview, with the record and without it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from starlette.requests import Request

from hub.api.operation import Ask
from hub.api.oversight import OversightApi
from hub.clock import StoreClock
from hub.domain.errors import StoreFailed
from hub.domain.flags import Flag
from hub.domain.overview import StripeInbox
from hub.loops.mender import Mend
from hub.wire.admin import Overview
from persistence.redis.inspection import RedisInspection
from tests.dispatch.office import Office
from tests.domain.samples import ANA, online, wish
from tests.redis.bench import SHARDS, Bench

ASK: Ask[Any, Any] = Ask(Request({"type": "http"}), None, None, None)


class FakeRecord:
    """Flags and the Stripe inbox: there, gone, silent, or silent and slow to be cancelled."""

    def __init__(self, state: str) -> None:
        self._state = state
        self.freed = asyncio.Event()

    async def stripe_inbox(self) -> StripeInbox:
        await self._answer()
        return StripeInbox(unhandled=1, needs_attention=2)

    async def flags(self) -> Sequence[Flag]:
        await self._answer()
        return [Flag(key="F")]

    async def _answer(self) -> None:
        if self._state == "gone":
            raise StoreFailed("Postgres does not answer.", maybe_done=True)
        if self._state == "silent":
            await asyncio.Event().wait()
        if self._state == "slow":
            try:
                await asyncio.Event().wait()
            finally:
                await self.freed.wait()

    async def report(self, name: str, days: int) -> Sequence[Mapping[str, object]]:
        raise NotImplementedError

    async def set_flag(self, key: str, **changes: Any) -> Flag | None:
        raise NotImplementedError

    async def settings(self) -> Mapping[str, object]:
        raise NotImplementedError

    async def set_settings(self, values: Mapping[str, object]) -> Mapping[str, object]:
        raise NotImplementedError


async def overview(bench: Bench, state: str, *mended: Mend) -> Overview:
    record = FakeRecord(state)
    api = OversightApi(
        inspection=RedisInspection(bench.client, SHARDS),
        switches=record,
        analytics=record,
        clock=StoreClock(),
        journal_max=7,
        mended=lambda: mended,
    )
    return await api.overview(ASK)


async def test_with_the_record_it_is_whole(bench: Bench) -> None:
    seen = await overview(bench, "there")

    assert seen.stripe == StripeInbox(unhandled=1, needs_attention=2)
    assert seen.flags is not None
    assert [flag.flag_key for flag in seen.flags] == ["F"]


@pytest.mark.parametrize("state", ["gone", "silent", "slow"])
async def test_without_the_record_it_shows_the_live_state(bench: Bench, office: Office, state: str) -> None:
    session = await office.book(asked=wish(online(ANA)))

    seen = await overview(bench, state)

    assert (seen.stripe, seen.flags) == (None, None)
    assert [offer.session_id for offer in seen.offers.items] == [session.id]
    assert (seen.offers.total, seen.sessions.pending, seen.journal.max) == (1, 1, 7)


async def test_what_was_mended_last_comes_first(bench: Bench) -> None:
    mends = [Mend(what="claim_left", subject=f"{at}", version=1, at=at) for at in range(80)]

    seen = await overview(bench, "there", *mends)

    assert [mend.id for mend in seen.mended] == [f"{at}" for at in range(79, 29, -1)]
