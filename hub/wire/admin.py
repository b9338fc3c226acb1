"""Bodies of what admins ask and are told."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from hub.domain.model import EventType, Role
from hub.domain.overview import PresenceCounts, SessionCounts, StripeInbox
from hub.domain.reports import REPORTS
from hub.domain.run_time import OfflinePolicy, Split, WindowSeconds
from hub.domain.timeline import OfferOutcome
from hub.wire.http import Short
from hub.wire.views import AssignmentView, SessionView, Timestamp, Uuid

Percentage = Annotated[int, Meta(ge=0, le=100)]
EventData = Annotated[
    dict[str, Any],
    Meta(description="What there is to say for its `type`: `mechanic_id`, `reason`, `wave`, `expires_at`…"),
]
ReportName = Annotated[str, Meta(extra_json_schema={"enum": list(REPORTS)})]
ReportRow = Annotated[
    dict[str, Any],
    Meta(description="A row with the columns of the SQL function `analytics_<name>`: numbers, text, times."),
]


class FlagView(Struct, frozen=True, kw_only=True):
    """A flag is on for the roles, and for that share of their users."""

    flag_key: str
    flag_name: str
    description: str
    is_enabled: bool
    enabled_for_roles: tuple[str, ...]
    rollout_percentage: int


class FlagList(Struct, frozen=True, kw_only=True):
    """All flags; there is one page of them."""

    items: list[FlagView]
    next_cursor: str | None


class FlagBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to change; the rest stays."""

    is_enabled: bool | None = None
    enabled_for_roles: list[Role] | None = None
    rollout_percentage: Percentage | None = None


class SettingsBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to change; the rest stays. The shares of `sequence_split` are at most 1 together."""

    default_window_seconds: WindowSeconds | None = None
    sequence_split: Split | None = None
    offline_policy: OfflinePolicy | None = None


class AssignBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is to have the request."""

    mechanic_id: Short


class ActorView(Struct, frozen=True, kw_only=True):
    """Who did something; `name` null: nobody knows it."""

    id: Uuid
    role: Role
    name: str | None


class HappeningView(Struct, frozen=True, kw_only=True):
    """An event; `actor` null: the hub itself."""

    event_id: Uuid
    type: EventType
    at: Timestamp
    version: int
    actor: ActorView | None
    data: EventData


class OfferView(Struct, frozen=True, kw_only=True):
    """One mechanic's turn. `response_ms`: from the notification to the mechanic's own answer."""

    mechanic_id: Uuid
    mechanic_name: str | None
    wave: int
    offered_at: Timestamp
    notified_at: Timestamp | None
    delivered_at: Timestamp | None
    seen_at: Timestamp | None
    ended_at: Timestamp | None
    outcome: OfferOutcome
    reason: str | None
    response_ms: int | None


class TimelineAnswer(Struct, frozen=True, kw_only=True):
    """A booking with everything that happened to it, oldest first."""

    session: SessionView
    assignment: AssignmentView
    events: list[HappeningView]
    offers: list[OfferView]
    server_time: Timestamp
    expires_in_ms: int | None


class NodeView(Struct, frozen=True, kw_only=True):
    """A node that runs; what it has not told of itself yet is null."""

    id: str
    host: str | None
    pid: int | None
    version: str | None
    started_at: Timestamp | None
    lease_expires_in_ms: int
    connections: int


class RunningOffer(Struct, frozen=True, kw_only=True):
    """A mechanic's turn that goes on now."""

    session_id: Uuid
    assignment_id: Uuid
    customer_name: str | None
    mechanic_id: Uuid
    mechanic_name: str | None
    wave: int
    notified_at: Timestamp | None
    expires_at: Timestamp
    expires_in_ms: int


class RunningOffers(Struct, frozen=True, kw_only=True):
    """Those of the `total` that end soonest, at most 100."""

    items: list[RunningOffer]
    total: int


class OpenView(Struct, frozen=True, kw_only=True):
    """Requests that are open to everyone."""

    count: int
    oldest_age_ms: int | None


class DeadlinesView(Struct, frozen=True, kw_only=True):
    """What is to happen by itself, and when the next of it is due."""

    count: int
    next_due_in_ms: int | None


class JournalView(Struct, frozen=True, kw_only=True):
    """Entries that wait for Postgres, those it refused, and how many may wait."""

    waiting: int
    dead: int
    max: int


class MendView(Struct, frozen=True, kw_only=True):
    """What was wrong in the store and was put right; `id` is the session's or the mechanic's."""

    what: str
    id: str
    at: Timestamp


class Overview(Struct, frozen=True, kw_only=True):
    """The live state. `stripe` and `flags` are null where Postgres is away and they are not known.

    `mended`: by this node, newest first."""

    server_time: Timestamp
    nodes: list[NodeView]
    presence: PresenceCounts
    sessions: SessionCounts
    offers: RunningOffers
    open: OpenView
    deadlines: DeadlinesView
    journal: JournalView
    stripe: StripeInbox | None
    flags: list[FlagView] | None
    mended: list[MendView]


class LetterEvent(Struct, frozen=True, kw_only=True):
    """An event that Postgres has not got."""

    event_id: Uuid
    type: EventType
    at: Timestamp
    version: int
    actor_id: Uuid | None
    data: EventData


class DeadLetterView(Struct, frozen=True, kw_only=True):
    """An entry that Postgres refused; `session` null: it brought events alone."""

    id: str
    shard: int
    entry: str
    error: str
    at: Timestamp
    command_id: str
    session_id: Uuid | None
    session: SessionView | None
    events: list[LetterEvent]


class DeadLetterList(Struct, frozen=True, kw_only=True):
    """Entries that Postgres refused, newest first."""

    items: list[DeadLetterView]
    next_cursor: str | None


class RetryAnswer(Struct, frozen=True, kw_only=True):
    """`entry`: as what it stands in the journal now."""

    id: str
    entry: str


class ReportQuery(Struct, frozen=True, kw_only=True):
    """`days`: how far to look back."""

    days: Annotated[int, Meta(ge=1, le=3650)] = 30


class ReportAnswer(Struct, frozen=True, kw_only=True):
    """A report over the last `days`."""

    name: ReportName
    days: int
    rows: list[ReportRow]
