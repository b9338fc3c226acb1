"""HTTP for a crowd: httpcore's pool, which looks through all of its connections for every request, takes more
of a machine than what it is to measure."""

import asyncio
from collections import defaultdict
from typing import NamedTuple

import httpx


class _Line(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Lines(httpx.AsyncBaseTransport):
    """Plain HTTP/1.1 with answers of a known length. A line that is free is taken again."""

    def __init__(self) -> None:
        self._free: dict[tuple[str, int | None], list[_Line]] = defaultdict(list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        place = request.url.host, request.url.port
        patience_s = request.extensions.get("timeout", {}).get("read")
        line: _Line | None = None
        try:
            async with asyncio.timeout(patience_s):
                line = self._take(place) or _Line(*await asyncio.open_connection(*place))
                response = await _exchange(line, request)
        except TimeoutError as error:
            raise httpx.ReadTimeout("no answer in time", request=request) from error
        except (OSError, EOFError) as error:
            raise httpx.ReadError(str(error), request=request) from error
        else:
            if response.headers.get("connection") != "close":
                self._free[place].append(line)
                line = None
            return response
        finally:
            if line is not None:
                line.writer.transport.abort()

    async def aclose(self) -> None:
        for lines in self._free.values():
            for line in lines:
                line.writer.transport.abort()
        self._free.clear()

    def _take(self, place: tuple[str, int | None]) -> _Line | None:
        lines = self._free[place]
        while lines:
            line = lines.pop()
            if not (line.reader.at_eof() or line.writer.is_closing()):
                return line
            line.writer.transport.abort()
        return None


async def _exchange(line: _Line, request: httpx.Request) -> httpx.Response:
    head = b"%b %b HTTP/1.1\r\n" % (request.method.encode(), request.url.raw_path)
    head += b"".join(b"%b: %b\r\n" % pair for pair in request.headers.raw)
    line.writer.write(head + b"\r\n" + await request.aread())
    first, *rest = (await line.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
    fields = (field.partition(b": ") for field in rest)
    headers = httpx.Headers([(name, value) for name, _, value in fields])
    body = await line.reader.readexactly(int(headers.get("content-length", 0)))
    return httpx.Response(int(first.split()[1]), headers=headers, content=body, request=request)
