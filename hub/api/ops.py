"""For operators and balancers: liveness, readiness, metrics."""

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.responses import Response

from hub.api.operation import Ask, Operation, operation
from hub.api.web import answer
from hub.wire.http import Liveness, Obstacle, Readiness


class OpsApi:
    """`obstacles` names what keeps the node from being ready."""

    def __init__(
        self, *, obstacles: Callable[[], list[Obstacle]], metrics: CollectorRegistry, node: str
    ) -> None:
        self._obstacles = obstacles
        self._metrics = metrics
        self._node = node

    def operations(self) -> list[Operation]:
        return [
            operation("GET", "/healthz", self.live, None, stores=False),
            operation(
                "GET", "/readyz", self.ready, None, answer=Readiness, also={503: Readiness}, stores=False
            ),
            operation(
                "GET", "/metrics", self.show_metrics, None, answer=str, media_type=CONTENT_TYPE_LATEST,
                stores=False,
            ),
        ]  # fmt: skip

    async def live(self, ask: Ask[None, None]) -> Liveness:
        """The process answers."""
        return Liveness(status="alive", node=self._node)

    async def ready(self, ask: Ask[None, None]) -> Response:
        """The node may be sent work; 503 while it is recovering, draining or deaf to Redis."""
        obstacles = self._obstacles()
        if obstacles:
            body = Readiness(status="not_ready", node=self._node, because=obstacles)
            return answer(body, 503, {"Retry-After": "1"})
        return answer(Readiness(status="ready", node=self._node, because=[]))

    async def show_metrics(self, ask: Ask[None, None]) -> Response:
        """Counters and gauges in Prometheus' text format."""
        return Response(generate_latest(self._metrics), media_type=CONTENT_TYPE_LATEST)
