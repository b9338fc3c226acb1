"""`hub serve`: production nodes."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
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
    """Nodes that share a socket; one that dies is replaced until we are told to stop."""
    stopping = threading.Event()

    def stop(sig: int, frame: object) -> None:
        stopping.set()
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                worker.send_signal(signal.SIGTERM)

    environment = dict(os.environ)
    workers = [spawn_node(listener, environment) for _ in range(count)]
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    failed = 0
    while not stopping.is_set():
        stopping.wait(0.1)
        for index, worker in enumerate(workers):
            if stopping.is_set() or worker.poll() is None:
                continue
            if worker.returncode == 1:
                stop(signal.SIGTERM, None)
                break
            logger.error("worker_died", extra={"pid": worker.pid, "exit": worker.returncode})
            if stopping.wait(_RESPAWN_S):
                break
            workers[index] = spawn_node(listener, environment)
    for worker in workers:
        failed |= worker.wait()
    return 1 if failed else 0


async def _start(node: app.Node) -> None:
    """The stores may come up after us; until then we are alive, but not ready."""
    while True:
        try:
            await node.start()
            return
        except Unavailable as error:
            logger.warning("waiting_for_stores", extra={"detail": error.detail})
            await asyncio.sleep(0.5)


async def _watch_parent(orphaned: Callable[[], None]) -> None:
    """A node that a command started goes when the command has gone, however it went."""
    parent = os.getppid()
    while True:
        await asyncio.sleep(_PARENT_LOOK_S)
        if os.getppid() != parent:
            orphaned()
            return
