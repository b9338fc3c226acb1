"""What operators watch: counters and gauges in Prometheus' terms."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from hub.domain.model import Event, EventType, Payment, Session

_LATENESS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5)


class Metrics:
    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # its library leaves it untyped
        self.registry = CollectorRegistry()
        self.events = Counter("hub_events", "Events of sessions.", ["type"], registry=self.registry)
        self.bookings = Counter(
            "hub_bookings",
            "Bookings by routing and, for a broadcast, its reason.",
            ["routing", "reason"],
            registry=self.registry,
        )
        self.fallbacks = Counter(
            "hub_fallbacks",
            "Requests that fell back to everyone, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.frames = Counter("hub_frames_sent", "Frames handed to sockets.", registry=self.registry)
        self.lateness = Histogram(
            "hub_deadline_lateness_seconds",
            "How late deadlines were applied.",
            buckets=_LATENESS,
            registry=self.registry,
        )
        self.journalled = Counter(
            "hub_journal_entries", "Journal entries written to Postgres.", registry=self.registry
        )
        self.alarms = Counter(
            "hub_alarms", "Conditions that somebody should look at.", ["what"], registry=self.registry
        )
        self.mended = Counter(
            "hub_mended",
            "Differences between Redis and Postgres that were mended.",
            ["what"],
            registry=self.registry,
        )
        self._connections = Gauge("hub_connections", "Sockets of this node.", registry=self.registry)
        self._kept = Gauge(
            "hub_commits_unrecorded",
            "Commits of this node that Postgres does not have yet.",
            registry=self.registry,
        )

    def watch(self, *, connections: Callable[[], int], kept: Callable[[], int]) -> None:
        """Gauges that are read when somebody asks."""
        self._connections.set_function(connections)
        self._kept.set_function(kept)

    def event(self, event: Event, session: Session) -> None:
        self.events.labels(event.type).inc()
        if event.type is EventType.CREATED:
            self.bookings.labels(session.routing_type, session.routing_reason or "").inc()
        elif event.type is EventType.BROADCAST and (reason := event.data.get("reason")):
            self.fallbacks.labels(reason).inc()
        elif session.payment == Payment.PAID and not session.active and session.started_at is None:
            # The hub moves no money; somebody must.
            self.alarm("paid_not_served")

    def late(self, ms: int) -> None:
        self.lateness.observe(max(0, ms) / 1000)

    def alarm(self, what: str) -> None:
        self.alarms.labels(what).inc()

    def mend(self, what: str) -> None:
        self.mended.labels(what).inc()
