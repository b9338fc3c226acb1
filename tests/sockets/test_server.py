"""How a node is served."""

import asyncio
import re
from pathlib import Path

from hub.sockets.server import server_config

NGINX = Path(__file__).parents[2] / "deploy" / "nginx.conf"


def test_the_balancer_gives_up_idle_connections_before_the_node() -> None:
    found = re.search(r"keepalive_timeout (\d+)s;", NGINX.read_text())
    assert found
    assert server_config(None, asyncio.Protocol).timeout_keep_alive > int(found[1])
