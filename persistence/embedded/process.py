"""What every embedded server needs of the operating system: ports, locks, pid files, spawning, signalling.

A store outlives the run that started it when that run is killed, so nothing here relies on being its parent.
"""

import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from persistence.embedded import launcher

_POLL_SECONDS = 0.01
_LOG_TAIL_LINES = 15

# Below every system's ephemeral range: a client that keeps reconnecting to a dead store could otherwise be
# given the store's port as its own local one, connect to itself, and keep the store from binding it again.
_PORTS = range(15_000, 32_000)


class EmbeddedStoreError(Exception):
    """An embedded server could not be started or stopped; the message says why, with its log's tail."""


@dataclass(frozen=True, slots=True)
class Record:
    """One started server: what its pid file holds."""

    pid: int
    started: str
    port: int

    def running(self) -> bool:
        state = launcher.process_state(self.pid)
        if state is None or state[1] != self.started:
            return False
        if state[0] in "ZX":
            # Where it was our own child nobody else will ever collect it.
            with suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)
            return False
        return True

    def signal(self, number: signal.Signals) -> None:
        if self.running():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def read_record(pid_file: Path) -> Record | None:
    """The server that the pid file names, running or not; None for an absent or unreadable file."""
    try:
        pid, started, port = pid_file.read_text().split()
        return Record(int(pid), started, int(port))
    except (OSError, ValueError):
        return None


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do: connections of an earlier run in TIME_WAIT do not keep a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    # Unseeded, so that tests which fix the global seed do not all walk to the same ports.
    chance = random.SystemRandom()
    for port in chance.sample(_PORTS, 200):
        if port_is_free(port):
            return port
    raise EmbeddedStoreError("no free port on 127.0.0.1")


@contextmanager
def exclusively(path: Path, *, seconds: float) -> Iterator[None]:
    """Holds a lock file against every other process and thread."""
    with path.open("a") as file:

        def taken() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not wait_until(taken, seconds):
            raise EmbeddedStoreError(
                f"another program has been starting or stopping this store for {seconds} s"
            )
        yield


def lock_is_free(path: Path) -> bool:
    """Whether no process holds the lock that the launcher takes for a server and its children."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def launcher_command(
    command: Sequence[str],
    *,
    lock: Path,
    pid_file: Path | None = None,
    port: int = 0,
    owner: tuple[int, int] | None = None,
    needed: Sequence[Path] = (),
) -> list[str]:
    """The arguments that run `command` through the launcher script; see there."""
    return [
        sys.executable,
        *("-I", "-S", launcher.__file__),
        str(lock),
        str(pid_file or ""),
        str(port),
        f"{owner[0]}:{owner[1]}" if owner else "",
        *map(str, needed),
        "--",
        *command,
    ]


def spawn(arguments: Sequence[str], *, log: Path, environment: Mapping[str, str], port: int) -> Record:
    """Starts a process in a session of its own with everything it prints in `log`.

    Not subprocess.Popen: its object would warn when dropped, and a store is meant to outlive who started it.
    """
    with log.open("wb") as output, Path(os.devnull).open("rb") as nothing:
        pid = os.posix_spawn(
            arguments[0],
            list(arguments),
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, nothing.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 2),
            ],
            # A shell starts background jobs with SIGINT ignored, and a server would inherit that.
            setsigdef=[signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP],
            setsigmask=[],
        )
    state = launcher.process_state(pid)
    return Record(pid, state[1] if state else "", port)


def command_line(pid: int) -> str:
    """The arguments of a process, joined by spaces; "" where there is no such process."""
    return dict(_command_lines([pid])).get(pid, "")


def processes_marked(marker: str) -> list[Record]:
    """The live processes whose command line carries a store's marker: found without any pid file."""
    found = []
    for pid, line in _command_lines():
        state = launcher.process_state(pid) if marker in line else None
        if state is not None:
            found.append(Record(pid, state[1], 0))
    return found


def _command_lines(pids: Sequence[int] | None = None) -> Iterator[tuple[int, str]]:
    if sys.platform == "linux":
        for pid in pids or [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
            with suppress(OSError):
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                yield pid, arguments.decode(errors="replace")
    else:
        which = ["-p", ",".join(map(str, pids))] if pids else ["-ax"]
        shown = subprocess.run(
            ["/bin/ps", "-ww", "-o", "pid=,args=", *which],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        for line in shown.stdout.splitlines():
            pid_shown, _, shown_arguments = line.strip().partition(" ")
            yield int(pid_shown), shown_arguments


def log_tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "".join(f"\n  {line}" for line in lines[-_LOG_TAIL_LINES:])
