"""Becomes the server: a script that takes the directory's lock, writes the pid file, sheds root, and execs.

All of this happens in the server's own process before the server exists. A supervisor that is killed at any
instant therefore never leaves a server without a pid file, and the kernel holds the lock (a descriptor that
the server and its children inherit) for exactly as long as any of them lives: two servers on one directory
are impossible, whatever became of the pid file.

Run by path under `python -I -S`, so it may import the standard library only.

    launcher.py LOCK PIDFILE PORT UID:GID [PATH-IT-MUST-REACH ...] -- COMMAND ...

PIDFILE may be empty (no pid file), and so may UID:GID (stay who we are).
"""

import fcntl
import os
import signal
import sys
from collections.abc import Sequence
from functools import cache

_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2


@cache
def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123 - pathlib is as slow to import as all the rest
            return file.read().strip()
    except OSError:
        return ""


def process_state(pid: int) -> tuple[str, str] | None:
    """(state letter, start mark) of a process, or None where there is none.

    The start mark tells a process from a later one under the same pid. It does not come from the wall clock,
    which steps after a suspended machine wakes up and would make every running server look like a stranger.
    """
    shown = _linux_state(pid) if sys.platform == "linux" else _other_state(pid)
    return (shown[0], shown[1]) if len(shown) == 2 else None


def _linux_state(pid: int) -> Sequence[str]:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - as above
            # The command's name stands in parentheses and may itself contain spaces and parentheses.
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ()
    return fields[0], f"{_boot_id()}:{fields[19]}"


def _other_state(pid: int) -> Sequence[str]:
    import subprocess  # a third of the script's start-up time, and not needed on Linux

    shown = subprocess.run(
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        env={"LC_ALL": "C", "TZ": "UTC"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split(maxsplit=1)
    return (shown[0][0], "_".join(shown[1].split())) if len(shown) == 2 else ()


def _take_lock(path: str) -> None:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("another server is already running on this directory")
    os.set_inheritable(lock, True)


def _write_pid_file(path: str, port: str) -> None:
    state = process_state(os.getpid())
    if state is None:
        sys.exit("/proc is not mounted: a server could not be told from another process")
    draft = f"{path}.{os.getpid()}"
    with open(draft, "w") as file:  # noqa: PTH123 - as above
        file.write(f"{os.getpid()} {state[1]} {port}\n")
    os.replace(draft, path)  # noqa: PTH105 - as above


def _set_capabilities(capabilities: Sequence[int]) -> None:
    """Keeps these capabilities and no others, through an exec too (capabilities(7), the ambient set)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    mask = sum(1 << number for number in capabilities)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # (effective, permitted, inheritable) for capabilities 0-31, then the same for 32-63.
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    if libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    for number in capabilities:
        raised = libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, *map(ctypes.c_ulong, (number, 0, 0)))
        if raised != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_CAP_AMBIENT_RAISE)")


def _reachable(paths: Sequence[str]) -> bool:
    return all(os.access(path, os.R_OK | os.X_OK, effective_ids=True) for path in paths)


def _become(uid: int, gid: int, needed: Sequence[str]) -> None:
    """Turns root into an ordinary user that still reaches `needed`, without changing any file's mode.

    A project below a 0700 home is closed to everyone but root. Rather than opening that home, the server
    keeps the least capability that gets it through: none where the way is open anyway, else to search and
    read, else (containers withhold that one; a strict umask hides the binaries) to override file modes.
    """
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_KEEPCAPS, *map(ctypes.c_ulong, (1, 0, 0, 0)))
    os.setgroups([])
    os.setregid(gid, gid)
    os.setreuid(uid, uid)
    with open("/proc/self/status") as file:  # noqa: PTH123 - as above
        permitted = int(next(line for line in file if line.startswith("CapPrm:")).split()[1], 16)
    for wanted in ([], [_CAP_DAC_READ_SEARCH], [_CAP_DAC_OVERRIDE]):
        # A set that was given up cannot be had again, so a forked child tries it out.
        if any(not permitted >> number & 1 for number in wanted):
            continue
        if _works_in_a_child(wanted, needed):
            _set_capabilities(wanted)
            return
    sys.exit(f"user {uid} cannot reach {' or '.join(needed)}")


def _works_in_a_child(capabilities: Sequence[int], needed: Sequence[str]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            _set_capabilities(capabilities)
            os._exit(0 if _reachable(needed) else 1)
        except OSError:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def main(arguments: Sequence[str]) -> None:
    options_end = arguments.index("--")
    lock, pid_file, port, owner, *needed = arguments[:options_end]
    command = arguments[options_end + 1 :]
    # The supervisor's listening sockets may be inheritable: a store that held one would keep its port taken.
    os.closerange(3, 65536)
    # Ctrl-C at a terminal signals the whole foreground group, which a store must not belong to.
    os.setsid()
    # Python ignores these, and what is ignored stays ignored across an exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    _take_lock(lock)
    if pid_file:
        _write_pid_file(pid_file, port)
    if owner:
        uid, gid = map(int, owner.split(":"))
        _become(uid, gid, needed)
    os.execv(command[0], list(command))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"could not be started: {error}")
