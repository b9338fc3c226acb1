"""A line to a server that breaks where a test wants it to."""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit


class Line:
    """Breaks when a commit passes, on its way there or its reply's way back. `mark`: what tells a commit."""

    def __init__(self, server_url: str, mark: bytes) -> None:
        self._target = urlsplit(server_url)
        self._mark = mark
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self.cuts: list[str] = []
        """Where the next commits are lost: 'request' or 'reply'."""
        self.url = ""

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        user, at, _ = self._target.netloc.rpartition("@")
        self.url = self._target._replace(netloc=f"{user}{at}{host}:{port}").geturl()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, near: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        far, server = await asyncio.open_connection(self._target.hostname, self._target.port)
        back = asyncio.create_task(self._answers(far, client))
        try:
            while request := await near.read(65_536):
                cut = self.cuts.pop(0) if self._mark in request and self.cuts else ""
                if cut == "request":
                    break
                if cut == "reply":
                    back.cancel()
                    with suppress(asyncio.CancelledError):
                        await back
                    server.write(request)
                    await far.read(1)
                    break
                server.write(request)
        finally:
            back.cancel()
            for writer in (client, server):
                writer.transport.abort()
            self._calls.discard(task)

    async def _answers(self, far: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while reply := await far.read(65_536):
            client.write(reply)
