"""Where references live and how they get there: a virtual environment and a `node_modules` of their own under
`.bench/`, since some of them need other versions of what the hub needs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from persistence.embedded.valkey import allocator
from tests.bench.servers.server import TOOLS

PYTHON = TOOLS / "python" / "bin" / "python"
ARQ_PYTHON = TOOLS / "arq" / "bin" / "python"
"""Apart: no version of redis-py suits both ARQ and Celery."""

NODE_MODULES = TOOLS / "node" / "node_modules"

_PYTHON_PACKAGES = (
    "celery[redis]", "channels", "channels-redis", "django", "httptools", "packaging", "python-socketio",
    "redis>=6.1", "starlette", "uvicorn", "uvloop", "websockets",
)  # fmt: skip
_NODE_MODULES = ("socket.io", "@socket.io/redis-adapter", "redis", "bullmq", "ioredis")
_NODE_PACKAGES = ("socket.io@4", "@socket.io/redis-adapter@8", "redis@6", "bullmq@6", "ioredis")
_DEBIAN_PACKAGES = ("nginx-core", "libnginx-mod-nchan", "libjemalloc2")

Say = Callable[[str], None]


def python_missing(*modules: str, python: Path = PYTHON) -> str | None:
    lib = next((python.parents[1] / "lib").glob("python3*"), None)
    absent = [m for m in modules if lib is None or not (lib / "site-packages" / m).exists()]
    return f"not installed: {', '.join(absent)} (`scripts/bench --install`)" if absent else None


def node_missing(*packages: str) -> str | None:
    if shutil.which("node") is None:
        return "Node.js is not installed"
    absent = [name for name in packages if not (NODE_MODULES / name / "package.json").exists()]
    return f"not installed: {', '.join(absent)} (`scripts/bench --install`)" if absent else None


def install(say: Say) -> None:
    """Whatever can be installed; what cannot is told and later missing."""
    TOOLS.mkdir(exist_ok=True)
    if python_missing("celery", "channels", "channels_redis", "django", "redis", "socketio"):
        _install_python(say, PYTHON, _PYTHON_PACKAGES)
    if python_missing("arq", python=ARQ_PYTHON):
        _install_python(say, ARQ_PYTHON, ["arq"])
    if shutil.which("npm") and node_missing(
        "socket.io", "@socket.io/redis-adapter", "redis", "bullmq", "ioredis"
    ):
        (TOOLS / "node").mkdir(exist_ok=True)
        (TOOLS / "node" / "package.json").write_text('{"private": true}\n')
        npm = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(TOOLS / "node"), *_NODE_PACKAGES]
        _try(say, "the Node references", npm)
    if (shutil.which("nginx") is None or allocator() is None) and shutil.which("apt-get"):
        if os.geteuid() != 0:
            say(f"nchan and jemalloc need root to install: apt-get install {' '.join(_DEBIAN_PACKAGES)}")
        else:
            _try(say, "the list of packages", ["apt-get", "-qq", "update"])
            # Its own start-up script would serve a page on port 80.
            policy = {"RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
            _try(say, "nchan and jemalloc", ["apt-get", "-qq", "-y", "install", *_DEBIAN_PACKAGES], policy)


def _install_python(say: Say, python: Path, packages: Sequence[str]) -> None:
    _try(say, "a virtual environment", [sys.executable, "-m", "venv", str(python.parents[1])])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _try(say, f"{', '.join(packages)}", [*pip, *packages])


def _try(say: Say, what: str, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    say(f"Installing {what} …")
    try:
        done = subprocess.run(
            command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
        )
    except OSError as error:
        say(f"Could not install {what}: {error}")
        return
    if done.returncode:
        say(f"Could not install {what}:\n{(done.stderr or done.stdout)[-1500:]}")
