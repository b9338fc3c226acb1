"""Where an acknowledgement has to wait for replicas, nothing is acknowledged that they do not have."""

import asyncio
from collections.abc import Iterator

import pytest

from hub.domain import commands as cmd
from hub.settings import SettingsError, read_settings
from persistence.embedded import EmbeddedValkey
from tests.dispatch.office import Office
from tests.domain.samples import CUSTOMER
from tests.patience import until
from tests.redis.bench import Bench, open_bench


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    other = EmbeddedValkey(tmp_path_factory.mktemp("replica"))
    other.start()
    yield other
    other.stop()


@pytest.mark.parametrize("wait", ["WAIT 1", "WAITAOF 1 1", "WAITAOF 0 1"])
async def test_a_booking_is_acknowledged_when_a_replica_has_it(
    bench: Bench, other: EmbeddedValkey, wait: str
) -> None:
    await bench.raw.config_set("repl-diskless-sync-delay", 0)
    async with open_bench(bench.url, wait) as careful, open_bench(other.url) as replica:
        await bench.raw.config_resetstat()
        booking = asyncio.create_task(Office(careful).book())

        async def asked_again() -> bool:
            stats = await bench.raw.info("commandstats")
            return bool(stats.get(f"cmdstat_{wait.split()[0].lower()}", {}).get("calls", 0) > 1)

        await until(asked_again)
        assert not booking.done()

        await replica.raw.replicaof("127.0.0.1", bench.url.rpartition(":")[2].partition("/")[0])
        session = await booking
        assert await replica.raw.hget(replica.key(session), "version") == "1"

        ended = await Office(careful).execute(session.id, cmd.Cancel(CUSTOMER))
        assert await replica.raw.hget(replica.key(session), "version") == str(ended.version)


@pytest.mark.parametrize("wait", ["WAIT", "WAIT 0", "WAITAOF 1", "WAITAOF 2 1", "FLUSHALL"])
def test_only_what_waits_is_taken(wait: str) -> None:
    with pytest.raises(SettingsError, match="HUB_REDIS_WAIT"):
        read_settings({"HUB_REDIS_WAIT": wait})
