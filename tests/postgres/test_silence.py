"""A server that does not answer keeps nobody who is told to end."""

import asyncio
from urllib.parse import urlsplit

import pytest

from persistence.postgres.pool import Postgres
from tests.proxy import Proxy


async def test_whoever_is_cancelled_while_postgres_is_silent_ends(database_url: str) -> None:
    port = urlsplit(database_url).port
    assert port is not None
    proxy = await Proxy.start(port)
    postgres = Postgres(database_url.replace(f":{port}/", f":{proxy.port}/"))
    await postgres.connect()
    try:
        sprung = proxy.trap(b"Hush!", pass_on=False)
        asking = asyncio.create_task(postgres.fetch("select 'Hush!'"))
        await sprung.wait()

        asking.cancel()

        with pytest.raises(asyncio.CancelledError):
            await asking
    finally:
        await proxy.close()
        await postgres.close()
