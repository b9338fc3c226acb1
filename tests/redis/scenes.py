"""Commits of every kind, decided and about to be sent."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.decide import Decision, decide
from hub.domain.model import Candidate
from hub.domain.records import Snapshot
from tests.domain.samples import ANA, BEN, CUSTOMER, NOTIFY_MS, ORPHAN_MS, by_id, draft, online, wish
from tests.redis.bench import Bench, book


class Scene(NamedTuple):
    snapshot: Snapshot
    decision: Decision


Prepare = Callable[[Bench], Awaitable[Scene]]

FAVOURITES = (online(ANA), online(BEN))


async def booking(bench: Bench) -> Scene:
    """Takes a claim, keeps a fingerprint, offers to a favourite."""
    asked_for = replace(draft(), fingerprint="abc")
    asked = wish(*FAVOURITES, sequence=True)
    snapshot = await bench.sessions.load_booking(CUSTOMER, asked_for.id)
    command = cmd.Book(draft=asked_for, wish=asked, actor_id=CUSTOMER, orphan_ms=ORPHAN_MS)
    decision = decide(None, command, snapshot.now, candidates=by_id(FAVOURITES), notify_timeout_ms=NOTIFY_MS)
    return Scene(snapshot, decision)


async def next_wave(bench: Bench) -> Scene:
    """The offer moves from one favourite to the next."""
    return await _after(bench, cmd.Decline(ANA), favourites=FAVOURITES)


async def opening(bench: Bench) -> Scene:
    return await _after(bench, cmd.Broadcast("admin"), favourites=FAVOURITES)


async def accepting(bench: Bench) -> Scene:
    return await _after(bench, cmd.Accept(mechanic_id=ANA))


async def releasing(bench: Bench) -> Scene:
    return await _after(bench, cmd.Accept(mechanic_id=ANA), cmd.Release(ANA, "flat tyre"))


async def finishing(bench: Bench) -> Scene:
    return await _after(bench, cmd.Decline(BEN), cmd.Cancel("admin", "asked to"))


async def history(bench: Bench) -> Scene:
    """A decline of what is everyone's: takes no version."""
    return await _after(bench, cmd.Decline(BEN))


async def _after(bench: Bench, *commands: cmd.Command, favourites: tuple[Candidate, ...] = ()) -> Scene:
    session = await book(bench, *favourites)
    for command in commands[:-1]:
        snapshot = await bench.sessions.load(session.id)
        decision = decide(snapshot.session, command, snapshot.now)
        await bench.sessions.commit(snapshot, decision, command_id=repr(command))
    snapshot = await bench.sessions.load(session.id)
    candidates = by_id(favourites)
    return Scene(snapshot, decide(snapshot.session, commands[-1], snapshot.now, candidates=candidates))


CHANGES: tuple[Prepare, ...] = (booking, next_wave, opening, accepting, releasing, finishing)
KINDS: tuple[Prepare, ...] = (*CHANGES, history)
