"""What an application says of itself, asked without running it: the documents need no store."""

import asyncio
from typing import Any

import httpx

from hub.app import Node, node
from hub.settings import Settings

SECRET = "x" * 32


def idle_node() -> Node:
    """A node that was never started."""
    return node(Settings(redis_url="redis://nowhere", postgres_url="postgresql://nowhere", jwt_secret=SECRET))


def document(path: str) -> Any:
    async def ask() -> Any:
        transport = httpx.ASGITransport(app=idle_node().http)
        async with httpx.AsyncClient(transport=transport, base_url="http://hub") as http:
            return (await http.get(path)).json()

    return asyncio.run(ask())
