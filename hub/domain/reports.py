"""The reports by name; each is a function `analytics_<name>` of the database."""

REPORTS = (
    "priority_requests_by_favorite",
    "priority_success_by_mechanic",
    "priority_response_time",
    "priority_timeout_rate",
    "fallback_effectiveness",
    "favorite_share",
    "notification_delay",
    "revenue_by_routing",
    "repeat_customers",
    "sessions_by_type",
    "acceptance_time",
    "queue_bottlenecks",
)
