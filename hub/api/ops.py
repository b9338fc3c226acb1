"""For operators and balancers: liveness, readiness, metrics."""

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.api.web import answer


class OpsApi:
    """`obstacles` names what keeps the node from being ready: recovering, draining, deaf."""

    def __init__(self, *, obstacles: Callable[[], list[str]], metrics: CollectorRegistry, node: str) -> None:
        self._obstacles = obstacles
        self._metrics = metrics
        self._node = node

    def routes(self) -> list[Route]:
        return [
            Route("/healthz", self.live, methods=["GET"]),
            Route("/readyz", self.ready, methods=["GET"]),
            Route("/metrics", self.show_metrics, methods=["GET"]),
        ]

    async def live(self, request: Request) -> Response:
        return answer({"status": "alive", "node": self._node})

    async def ready(self, request: Request) -> Response:
        obstacles = self._obstacles()
        if obstacles:
            body = {"status": "not_ready", "node": self._node, "because": obstacles}
            return answer(body, 503, {"Retry-After": "1"})
        return answer({"status": "ready", "node": self._node})

    async def show_metrics(self, request: Request) -> Response:
        return Response(generate_latest(self._metrics), media_type=CONTENT_TYPE_LATEST)
