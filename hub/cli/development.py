"""The supervisor behind `hub dev`: starts the stores and the nodes, keeps them up, stops what it started."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import click
from msgspec import Struct

from hub.app import EmbeddedPostgres, EmbeddedStoreError, EmbeddedValkey, flag_store, load_demo, migrator
from hub.cli.greeting import greet, greet_payers, greet_watchers
from hub.cli.serve import spawn_node
from hub.cli.workspace import Workspace
from hub.domain.errors import Unavailable
from hub.domain.flags import FAVORITES_PRIORITY
from hub.settings import Settings

logger = logging.getLogger("hub.cli.dev")

_DRAIN_S = 3.0
_READY_S = 60.0
_LOOK_S = 0.25
_ANSWER_S = 2.0
_NODES_END_S = 7.0
_SIMULATED_WINDOW_S = 8

Process = subprocess.Popen[bytes]


class Options(Struct, frozen=True, kw_only=True):
    host: str
    data_dir: Path
    fresh: bool
    simulate: bool
    as_json: bool


class Development:
    def __init__(self, options: Options, settings: Settings, listeners: list[socket.socket]) -> None:
        self._options = options
        self._settings = settings
        self._listeners = listeners
        self._workspace = Workspace(options.data_dir)
        self._stores: list[EmbeddedValkey | EmbeddedPostgres] = []
        self._nodes: list[Process] = []
        self._simulation: Process | None = None
        self._told_to_stop = asyncio.Event()
        self._urls = [f"http://{_in_url(options.host)}:{s.getsockname()[1]}" for s in listeners]
        self._redis_url = settings.redis_url
        self._postgres_url = settings.postgres_url

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, self._tell_to_stop)
        try:
            await self._start()
            return await self._watch()
        except (EmbeddedStoreError, Unavailable, click.ClickException, OSError) as error:
            logger.error("cannot_start", extra={"reason": str(error)})
            return 1
        finally:
            await self._stop()

    def _tell_to_stop(self) -> None:
        """A second time, it is passed on: a node that is told twice does not wait for its sockets."""
        if self._told_to_stop.is_set():
            for node in self._nodes:
                node.terminate()
        self._told_to_stop.set()

    async def _start(self) -> None:
        await asyncio.to_thread(self._start_stores)
        if self._told_to_stop.is_set():
            return
        await migrator(self._postgres_url).up()
        people = await load_demo(self._postgres_url)
        async with flag_store(self._postgres_url) as flags:
            await flags.set_flag(FAVORITES_PRIORITY, is_enabled=True)
        environment = self._environment()
        for listener in self._listeners:
            self._nodes.append(spawn_node(listener, environment))
            listener.close()
        if not await self._all_ready():
            return
        addresses = {
            "ready": True,
            "urls": self._urls,
            "redis_url": self._redis_url,
            "postgres_url": self._postgres_url,
            "pids": [node.pid for node in self._nodes],
        }
        self._workspace.write_addresses(addresses)
        if self._options.as_json:
            print(json.dumps(addresses), flush=True)
        elif self._options.simulate:
            greet_watchers(addresses)
        else:
            greet(addresses, people, self._secret(), self._settings)
            greet_payers(self._urls[0], people, self._stripe_secrets()[0], self._options.data_dir)
        if self._options.simulate:
            self._simulation = self._spawn_simulation(environment)

    def _start_stores(self) -> None:
        """Those that the environment does not name. A fresh start ends what an earlier run left running."""
        directory = self._options.data_dir.absolute()
        stores: list[EmbeddedValkey | EmbeddedPostgres] = [
            EmbeddedValkey(directory / "valkey"),
            EmbeddedPostgres(directory / "postgres"),
        ]
        if not self._workspace.enter(alone=self._options.fresh):
            raise EmbeddedStoreError(f"Another `hub dev` uses {directory}: stop it first.")
        if self._options.fresh:
            for store in stores:
                store.stop()
            self._workspace.wipe()
            self._workspace.enter()
        for store, url in zip(stores, (self._redis_url, self._postgres_url), strict=True):
            if not url:
                self._stores.append(store)
                store.start()
        self._redis_url = self._redis_url or stores[0].url
        self._postgres_url = self._postgres_url or stores[1].url

    def _secret(self) -> str:
        return self._settings.jwt_secret or ("" if self._settings.jwks_url else self._workspace.secret())

    def _stripe_secrets(self) -> tuple[str, ...]:
        return self._settings.stripe_webhook_secrets or (self._workspace.stripe_secret(),)

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        environment["HUB_REDIS_URL"] = self._redis_url
        environment["HUB_POSTGRES_URL"] = self._postgres_url
        environment["HUB_DRAIN_SECONDS"] = str(min(_DRAIN_S, self._settings.drain_seconds))
        if secret := self._secret():
            environment["HUB_JWT_SECRET"] = secret
        environment["HUB_STRIPE_WEBHOOK_SECRETS"] = ",".join(self._stripe_secrets())
        if self._options.simulate:
            environment.setdefault("HUB_PRIORITY_WINDOW_SECONDS", str(_SIMULATED_WINDOW_S))
        return environment

    def _spawn_simulation(self, environment: dict[str, str]) -> Process:
        command = [sys.executable, "-m", "hub", "simulate", "--duration", "0"]
        for url in self._urls:
            command += ["--url", url]
        out = sys.stderr.fileno() if self._options.as_json else None
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out, start_new_session=True
        )

    async def _all_ready(self) -> bool:
        """Whether every node is, before time runs out or somebody wants us to stop."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _READY_S
        waiting = list(self._urls)
        while waiting and not self._told_to_stop.is_set():
            if any(node.poll() is not None for node in self._nodes):
                raise click.ClickException("A node could not start; its log is above.")
            if loop.time() > end:
                raise click.ClickException(f"Not ready after {_READY_S:.0f} s: {', '.join(waiting)}.")
            if await asyncio.to_thread(_is_ready, waiting[0]):
                waiting.pop(0)
            else:
                await self._pause(0.05)
        return not waiting

    async def _watch(self) -> int:
        """Until told to stop: a store that dies is started again; a node that is killed stays down."""
        gone: set[int] = set()
        while not self._told_to_stop.is_set():
            for store in self._stores:
                if not store.alive() and await asyncio.to_thread(store.restart_if_dead):
                    logger.warning("store_restarted", extra={"store": type(store).__name__})
            for node in self._nodes:
                if node.poll() is not None and node.pid not in gone:
                    gone.add(node.pid)
                    logger.warning("node_gone", extra={"pid": node.pid, "exit": node.returncode})
            if self._simulation is not None and (code := self._simulation.poll()) is not None:
                logger.error("simulation_ended", extra={"exit": code})
                self._simulation = None
            if len(gone) == len(self._nodes):
                logger.error("no_node_left")
                return 1
            await self._pause(_LOOK_S)
        return 0

    async def _stop(self) -> None:
        """Simulated people first, then the nodes, which drain, then the stores."""
        for group in ([self._simulation] if self._simulation else [], self._nodes):
            await asyncio.gather(*(_end(process) for process in group))
        if self._workspace.enter(alone=True):
            await asyncio.gather(*(asyncio.to_thread(store.stop) for store in self._stores))
            self._workspace.forget_addresses()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._told_to_stop.wait()


async def _end(process: Process) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, _NODES_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)


def _is_ready(url: str) -> bool:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=_ANSWER_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):  # not listening yet
        return False
    finally:
        connection.close()


def _in_url(host: str) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"[{shown}]" if ":" in shown and not shown.startswith("[") else shown
