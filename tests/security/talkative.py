"""`hub serve` as nobody should run it: every logger of every library says all that it can."""

import logging
import sys

from hub import logs
from hub.cli import main

LOUD = (
    "",
    "asyncio",
    "asyncpg",
    "hub",
    "hub.sockets.protocol",
    "redis",
    "uvicorn",
    "uvicorn.error",
    "websockets",
)


def everything(log_format: str, level: int = logging.INFO) -> None:
    set_up(log_format, level)
    for name in LOUD:
        logging.getLogger(name).setLevel(1)


set_up = logs.set_up
logs.set_up = everything
sys.exit(main(["serve", "--port", "0"]))
