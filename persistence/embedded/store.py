"""The life of one embedded server on one directory: started, found again, restarted, stopped, never twice.

Whatever ended an earlier run (Ctrl-C, kill -9 of the supervisor or of the server, a power cut) the next start
finds either a running server, which it reuses, or a directory that is safe to start on.
"""

import contextlib
import hashlib
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from threading import RLock
from typing import ClassVar

from persistence.embedded.process import (
    EmbeddedStoreError,
    Record,
    exclusively,
    free_port,
    launcher_command,
    lock_is_free,
    log_tail,
    port_is_free,
    processes_marked,
    read_record,
    spawn,
    wait_until,
)

# Long enough to replay a large append-only file or write-ahead log after a crash.
_START_SECONDS = 60.0
_FOUND_SECONDS = 5.0
_PORT_SECONDS = 5.0
_KILL_SECONDS = 3.0
_LOCK_SECONDS = 90.0


class EmbeddedStore(ABC):
    """A server on 127.0.0.1 whose data, log, pid and port files are in `directory`.

    Every method blocks and may be called from any thread. Two objects on one directory, in one process or in
    several, share one server. Methods raise `EmbeddedStoreError`.
    """

    name: ClassVar[str]
    # From the most orderly way to end to the least, each with the seconds it gets. SIGKILL comes after them.
    endings: ClassVar[Sequence[tuple[signal.Signals, float]]]

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        """`port`: the only port acceptable; by default the one used last if it is free, else any free one."""
        self.directory = directory.resolve()
        self.data = self.directory / "data"
        self.log = self.directory / f"{self.name}.log"
        # Shown on the server's command line: one whose pid file was lost can still be told from others.
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()
        self.marker = f"hub-{self.name}-{digest[:16]}"
        self._port_asked = port
        self._record: Record | None = None
        self._mutex = RLock()
        self._pid_file = self.directory / f"{self.name}.pid"
        self._port_file = self.directory / f"{self.name}.port"
        self._lock_file = self.directory / f"{self.name}.lock"

    @property
    @abstractmethod
    def url(self) -> str: ...

    @property
    def port(self) -> int:
        return self._started().port

    @property
    def pid(self) -> int:
        started = self._started()
        # Whoever shares the server may have restarted it meanwhile.
        return (self._running_record() or started).pid

    def start(self) -> None:
        """Returns once the server accepts connections; reuses one that already runs on the directory."""
        with self._mutex:
            self.directory.mkdir(parents=True, exist_ok=True)
            with self._alone():
                self._start(self._port_asked)

    def alive(self) -> bool:
        """Whether the process is there. Cheap, and says nothing of whether it answers."""
        return self._running_record() is not None

    def restart_if_dead(self) -> bool:
        """Brings a server that died back on the port it had; True if it had to.

        False without doing anything before `start()` and after `stop()`.
        """
        with self._mutex:
            if self._record is None or self.alive():
                return False
            with self._alone():
                # Whoever shares this server may have been first.
                found = self._running_record() is not None
                self._start(self._record.port)
            return not found

    def stop(self) -> None:
        """Ends the server and all its children, whoever started it; nothing to do where none runs."""
        with self._mutex:
            if self.directory.is_dir():
                with self._alone():
                    running = self._running_record()
                    if running is not None:
                        self._end(running)
                    self._end_strays()
                    self._pid_file.unlink(missing_ok=True)
            self._record = None

    @abstractmethod
    def _prepare(self) -> None:
        """Makes the data directory ready for `_command`. No server runs on it at this time."""

    @abstractmethod
    def _command(self, port: int) -> Sequence[str]:
        """What to execute. `marker` must show on the command lines of the server and of all its children."""

    @abstractmethod
    def _answers(self, server: Record) -> bool:
        """Whether exactly this server, and no stranger on its port, is ready for clients."""

    def _environment(self) -> Mapping[str, str]:
        return os.environ

    def _owner(self) -> tuple[int, int] | None:
        """The (uid, gid) that the server runs as; None: ours."""
        return None

    def _needed(self) -> Sequence[Path]:
        """What the server must be able to read as that user."""
        return ()

    def _started(self) -> Record:
        if self._record is None:
            raise EmbeddedStoreError(f"{self.name} in {self.directory} has not been started")
        return self._record

    def _alone(self) -> AbstractContextManager[None]:
        return exclusively(self.directory / f"{self.name}.start.lock", seconds=_LOCK_SECONDS)

    def _running_record(self) -> Record | None:
        for record in (read_record(self._pid_file), self._record):
            if record is not None and record.running():
                return record
        return None

    def _start(self, only_port: int | None) -> None:
        found = self._running_record()
        if found is not None:
            if only_port not in (None, found.port):
                raise EmbeddedStoreError(
                    f"{self.name} already runs on port {found.port}, not {only_port}: stop it"
                )
            if self._answers_within(_FOUND_SECONDS, found):
                self._record = found
                return
            self._end(found)
        self._end_strays()
        self._prepare()
        while True:
            port = self._choose_port(only_port)
            server = self._spawn(port)
            if self._answers_within(_START_SECONDS, server):
                self._record = server
                return
            died = not server.running()
            self._end(server)
            # Another program may have taken the port since we looked; any other reason would repeat itself.
            if only_port is None and died and not port_is_free(port):
                continue
            reason = "did not start" if died else f"did not answer within {_START_SECONDS:.0f} s"
            raise EmbeddedStoreError(f"{self.name} {reason} in {self.directory}{log_tail(self.log)}")

    def _choose_port(self, only_port: int | None) -> int:
        if only_port is not None:
            if not wait_until(lambda: port_is_free(only_port), _PORT_SECONDS):
                raise EmbeddedStoreError(
                    f"{self.name} cannot start: port {only_port} is taken by another program"
                )
            return only_port
        with contextlib.suppress(OSError, ValueError):  # no earlier run, or its note is spoilt
            remembered = int(self._port_file.read_text())
            if 0 < remembered < 65536 and port_is_free(remembered):
                return remembered
        return free_port()

    def _spawn(self, port: int) -> Record:
        self._port_file.write_text(f"{port}\n")
        if self.log.exists():
            # The last words of a server that died survive its restart, and the logs stay bounded.
            self.log.replace(self.log.with_suffix(".log.old"))
        command = launcher_command(
            self._command(port),
            lock=self._lock_file,
            pid_file=self._pid_file,
            port=port,
            owner=self._owner(),
            needed=self._needed(),
        )
        return spawn(command, log=self.log, environment=self._environment(), port=port)

    def _answers_within(self, seconds: float, server: Record) -> bool:
        return wait_until(lambda: self._answers(server) or not server.running(), seconds) and server.running()

    def _end(self, server: Record) -> None:
        self._signal_until(lambda: [server] if server.running() else [], lambda: not server.running())

    def _end_strays(self) -> None:
        """Ends what an earlier server left: its children, or itself where the pid file was lost."""

        def free() -> bool:
            return lock_is_free(self._lock_file)

        # Orphans of a killed server notice by themselves, nearly always at once.
        if wait_until(free, 0.5):
            return
        self._signal_until(lambda: processes_marked(self.marker), free)
        if not free():
            raise EmbeddedStoreError(f"a process that cannot be ended still uses {self.directory}")

    def _signal_until(self, servers: Callable[[], Sequence[Record]], gone: Callable[[], bool]) -> None:
        for number, seconds in (*self.endings, (signal.SIGKILL, _KILL_SECONDS)):
            for server in servers():
                server.signal(number)
            if wait_until(gone, seconds):
                return
