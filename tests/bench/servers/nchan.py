"""nchan: pub/sub over WebSockets as a module of nginx, in C. One worker, messages are not stored."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.bench.servers.server import Place, Reference
from tests.bench.wire import Joining

_MODULES = (
    Path("/usr/lib/nginx/modules"),
    Path("/usr/lib64/nginx/modules"),
    Path("/usr/local/lib/nginx/modules"),
)

_CONFIGURATION = """
load_module {module};
daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile 20000;
error_log {directory}/nginx-error.log error;
pid {directory}/nginx.pid;
events {{ worker_connections 19900; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  keepalive_requests 100000000;
  nchan_max_reserved_memory 256m;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /ws {{
      nchan_subscriber websocket;
      nchan_channel_id all $arg_user;
      nchan_subscriber_first_message newest;
    }}
    location = /publish {{
      nchan_publisher;
      nchan_channel_id all;
      nchan_store_messages off;
    }}
    location ~ ^/to/(.*)$ {{
      nchan_publisher;
      nchan_channel_id $1;
      nchan_store_messages off;
    }}
  }}
}}
"""


class Nchan(Reference):
    name = "nchan"

    @classmethod
    def missing(cls) -> str | None:
        if shutil.which("nginx") is None:
            return "nginx is not installed (Debian: apt-get install nginx-core libnginx-mod-nchan)"
        if module() is None:
            return "nginx has no module nchan (Debian: apt-get install libnginx-mod-nchan)"
        return None

    def command(self, place: Place) -> Sequence[str]:
        file = place.directory / "nginx.conf"
        file.write_text(
            _CONFIGURATION.format(module=module(), directory=place.directory.resolve(), port=self.port)
        )
        return [shutil.which("nginx") or "nginx", "-c", str(file.resolve())]

    def joining(self, user: str) -> Joining:
        return Joining(path=f"/ws?user={user}")


def module() -> Path | None:
    found = [directory / "ngx_nchan_module.so" for directory in _MODULES]
    return next((path for path in found if path.exists()), None)
