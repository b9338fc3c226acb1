"""Nodes that recover: each with a client, a memory and loops of its own, over the same two stores."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from hub.domain.model import Session
from hub.domain.records import JournalEntry
from hub.loops.journal_writer import JournalWriter
from hub.loops.kept import KeptTail
from hub.loops.ranks import Ranks
from hub.loops.recovery import Recovery
from persistence.postgres.pool import Postgres
from persistence.postgres.record import PostgresRecord
from tests.dispatch.office import Office
from tests.domain.samples import ORPHAN_MS
from tests.redis.bench import SHARDS, open_bench


class Node:
    """`nodes`: all there are, by name, this one included. What one says, the others hear at once."""

    def __init__(self, name: str, office: Office, postgres: Postgres, nodes: "dict[str, Node]") -> None:
        self.name = name
        self.office = office
        self.bench = office.bench
        self.nodes = nodes
        self.kept = KeptTail(SHARDS)
        self.alarms: list[str] = []
        self.announced: list[Session] = []
        self.asked = asyncio.Event()
        self.record = PostgresRecord(postgres, orphan_ms=ORPHAN_MS)
        office.dispatcher._on_commit = self.kept.keep
        self.writer = JournalWriter(
            journal=self.bench.journal,
            live=self.bench.live,
            record=self.record,
            ranks=Ranks(name, SHARDS),
            alarm=self.alarms.append,
        )
        self.recovery = Recovery(
            gate=office.gate,
            live=self.bench.live,
            sessions=self.bench.sessions,
            journal=self.bench.journal,
            record=self.record,
            kept=self.kept,
            others=lambda: [other for other in nodes if other != name],
            ask_others=self._ask,
            say=self._say,
            announce_all=self._nothing,
            announce=self._announce,
            wait_s=1.0,
            alarm=self.alarms.append,
        )
        nodes[name] = self

    async def _ask(self) -> None:
        for node in self.nodes.values():
            node.asked.set()

    async def _say(self, ahead: Collection[int] | None) -> None:
        for node in self.nodes.values():
            node.recovery.remembered(self.name, ahead)

    async def asked_times(self, times: int) -> None:
        """Whoever waits asks every 50 ms."""
        for _ in range(times):
            self.asked.clear()
            await self.asked.wait()

    async def _nothing(self) -> None:
        return

    async def _announce(self, session: Session) -> None:
        self.announced.append(session)

    async def recorded(self) -> None:
        """Everything there is, is on record, and this node knows it."""
        await self.writer.flush()
        self.kept.drop(self.kept.all())

    async def found(self, session: Session) -> Session:
        (found,) = await self.bench.sessions.get([session.id])
        assert found is not None
        return found


@asynccontextmanager
async def open_node(url: str, name: str, postgres: Postgres, nodes: dict[str, Node]) -> AsyncIterator[Node]:
    async with open_bench(url) as bench:
        yield Node(name, Office(bench), postgres, nodes)


async def refused(entry: JournalEntry, error: str) -> None:
    raise AssertionError(error)
