"""`hub serve`: production nodes."""

import asyncio
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import click
import uvloop

from hub import app, logs
from hub.cli.workspace import settings_or_usage_error
from hub.domain.errors import Unavailable
from hub.settings import Settings, SettingsError

logger = logging.getLogger("hub.cli.serve")

_PARENT_LOOK_S = 0.5
_RESPAWN_S = 1.0
_COLLECT_AFTER = (5_000, 3, 1_000)
_WORKERS_LOOK_S = 0.1


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, envvar="HUB_HOST")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, envvar="HUB_PORT")
@click.option(
    "--workers",
    type=click.IntRange(1, 128),
    default=1,
    show_default=True,
    envvar="HUB_WORKERS",
    help="Nodes to run in this command, on one port.",
)
@click.option("--fd", type=int, hidden=True, help="A listening socket from the parent process.")
def serve(host: str, port: int, workers: int, fd: int | None) -> None:
    """Run one production node, or several on one port."""
    settings = settings_or_usage_error()
    if missing := settings.missing():
        raise click.UsageError(f"Not set: {', '.join(missing)}.")
    logs.set_up(settings.log_format)
    if fd is not None:
        listener = socket.socket(fileno=fd)
        sys.exit(uvloop.run(run_node(settings, listener, watch_parent=True)))
    try:
        listener = listen(host, port)
    except OSError as error:
        raise click.ClickException(f"Cannot listen on {host}:{port}: {error.strerror}.") from None
    logger.info("listening", extra={"host": host, "port": listener.getsockname()[1]})
    sys.exit(uvloop.run(run_node(settings, listener)) if workers == 1 else run_workers(listener, workers))


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(4096)
    except OSError:
        listener.close()
        raise
    return listener


async def run_node(settings: Settings, listener: socket.socket, *, watch_parent: bool = False) -> int:
    """Serve until a signal; the exit code."""
    node = app.node(settings)
    server = node.server(drain_seconds=settings.drain_seconds)
    starting = asyncio.create_task(_start(node))
    starting.add_done_callback(
        lambda task: None if task.cancelled() or not task.exception() else server.stop()
    )
    watcher = asyncio.create_task(_watch_parent(server.begin_drain)) if watch_parent else None
    try:
        await server.serve(sockets=[listener])
    finally:
        if watcher is not None:
            watcher.cancel()
        starting.cancel()
        (failure,) = await asyncio.gather(starting, return_exceptions=True)
        await node.stop()
    if isinstance(failure, SettingsError):
        logger.error("cannot_start", extra={"reason": str(failure)})
    elif isinstance(failure, Exception):
        logger.error("cannot_start", exc_info=failure)
    return 1 if isinstance(failure, Exception) else 0


def spawn_node(
    listener: socket.socket, environment: dict[str, str], log: int | None = None
) -> "subprocess.Popen[bytes]":
    """A node in a process and a session of its own, on a socket that is listening already."""
    fd = listener.fileno()
    return subprocess.Popen(
        [sys.executable, "-m", "hub", "serve", "--fd", str(fd)],
        pass_fds=[fd],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log if log is not None else sys.stderr.fileno(),
        stderr=log,
        start_new_session=True,
    )


def run_workers(listener: socket.socket, count: int) -> int:
    """Nodes that share a socket; one that dies is replaced. Signals are passed on: the first one drains."""
    environment = dict(os.environ)
    workers: list[subprocess.Popen[bytes]] = []
    signals = told = 0
    spawn_at = 0.0

    def note(sig: int, frame: object) -> None:
        nonlocal signals
        signals += 1

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)
    while not told or any(worker.poll() is None for worker in workers):
        if told < signals:
            told = signals
            for worker in workers:
                worker.terminate()
        elif not told:
            for worker in [worker for worker in workers if worker.poll() is not None]:
                logger.error("worker_died", extra={"pid": worker.pid, "exit": worker.returncode})
                if worker.returncode == 1:
                    signals += 1
                else:
                    workers.remove(worker)
            if not signals and len(workers) < count and time.monotonic() >= spawn_at:
                spawn_at = time.monotonic() + _RESPAWN_S
                workers += [spawn_node(listener, environment) for _ in range(count - len(workers))]
        time.sleep(_WORKERS_LOOK_S)
    # One that was told before it could listen for it died of the signal, and had nothing to drain.
    return 0 if all(worker.returncode in (0, -signal.SIGTERM) for worker in workers) else 1


async def _start(node: app.Node) -> None:
    """The stores may come up after us; until then we are alive, but not ready."""
    while True:
        try:
            await node.start()
            _settle_memory()
            return
        except Unavailable as error:
            logger.warning("waiting_for_stores", extra={"detail": error.detail})
            await asyncio.sleep(0.5)


def _settle_memory() -> None:
    """What is there after the start stays, and need not be looked through for garbage again and again; nor
    need every few hundred new objects, which takes an eighth of a busy node's time, and most of a storm's.
    But often enough: what a crowd of sockets leaves behind would take 400 ms in one go."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


async def _watch_parent(orphaned: Callable[[], None]) -> None:
    """A node that a command started goes when the command has gone, however it went."""
    parent = os.getppid()
    while True:
        await asyncio.sleep(_PARENT_LOOK_S)
        if os.getppid() != parent:
            orphaned()
            return
