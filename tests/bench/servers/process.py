"""One server program: started on a free port with a log of its own, and ended whatever it does."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_START_S = 30.0


class ServerError(Exception):
    """A server did not start; the message says which and shows the end of its log."""


class Process:
    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    async def listening(self, port: int) -> None:
        async with asyncio.timeout(_START_S):
            while not _answers(port):
                self.check()
                await asyncio.sleep(0.05)

    def check(self) -> None:
        """Raises where it has ended."""
        if self._process.poll() is not None:
            end = self.log.read_text(errors="replace")[-2000:]
            raise ServerError(f"{self.name} ended with {self._process.returncode}:\n{end}")

    async def ended(self, within_s: float) -> None:
        """Returns when it has done what it was started for; raises where it failed."""
        code = await asyncio.to_thread(self._process.wait, within_s)
        if code:
            self.check()

    async def kill(self) -> None:
        """With its children: nothing of a benchmark is worth an orderly end."""
        # All of them are in the session that it was started in.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.to_thread(self._process.wait)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
