"""Counting what comes to a crowd, by the C program beside this where there is a compiler."""

import asyncio
import contextlib
import ctypes
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.bench.wire import Crowd

_SOURCE = Path(__file__).with_suffix(".c")
_BUILT = Path(__file__).parents[2] / ".bench" / "counter.so"


class Counter:
    """While it lives, the crowd's own listeners hear nothing."""

    def __init__(self, crowd: Crowd, library: ctypes.CDLL) -> None:
        self._crowd = crowd
        self._count = library.count
        self._count.restype = ctypes.c_long
        self._count.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_long]
        self._poll = select.epoll()
        for listener in crowd.listeners:
            listener.transport.pause_reading()  # type: ignore[attr-defined]  # it reads as well as writes
            self._poll.register(listener.transport.get_extra_info("socket").fileno(), select.EPOLLIN)

    def expect(self, messages: int, within_s: float) -> "asyncio.Future[int]":
        """How many have come: those expected, or fewer when time is up."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(None, self._expect, messages, within_s)

    def _expect(self, messages: int, within_s: float) -> int:
        found = int(self._count(self._poll.fileno(), messages, int(within_s * 1000)))
        if found < 0:
            raise RuntimeError("frames came in pieces that cannot be told apart")
        return found

    def close(self) -> None:
        self._poll.close()
        for listener in self._crowd.listeners:
            listener.transport.resume_reading()  # type: ignore[attr-defined]


@contextlib.contextmanager
def counter(crowd: Crowd) -> Iterator[Counter | None]:
    """None where there is no compiler: then the crowd counts for itself, at some microseconds a frame."""
    if not built():
        yield None
        return
    opened = Counter(crowd, ctypes.CDLL(str(_BUILT)))
    try:
        yield opened
    finally:
        opened.close()


def built() -> bool:
    if _BUILT.exists() and _BUILT.stat().st_mtime > _SOURCE.stat().st_mtime:
        return True
    compiler = shutil.which("cc")
    if compiler is None:
        return False
    _BUILT.parent.mkdir(exist_ok=True)
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(_BUILT), str(_SOURCE)], check=True)
    return True
