"""Everything that can be refused, each with the stable code that clients see on HTTP and on the socket.

HubError
├── Refused                what was asked is against the rules; nothing happened
│   └── ActiveSessionExists
└── Unavailable            not now; nothing happened and nothing will: retry
    ├── Recovering         Redis has lost data, which is being restored
    └── StoreFailed        a store did not answer; whether a write happened is for the caller to find out
"""

from typing import ClassVar

from hub.domain.model import Session


class HubError(Exception):
    """Carries `code`, the HTTP status and a sentence for the person who reads it."""

    STATUS: ClassVar[dict[str, int]] = {}

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    @property
    def http_status(self) -> int:
        return self.STATUS[self.code]


class Refused(HubError):
    STATUS: ClassVar[dict[str, int]] = {
        "malformed": 400,
        "invalid_signature": 400,
        "unauthorized": 401,
        "token_expired": 401,
        "payment_required": 402,
        "no_credit": 402,
        "forbidden": 403,
        "priority_window": 403,
        "mechanic_not_approved": 403,
        "not_found": 404,
        "feature_not_enabled": 404,
        "method_not_allowed": 405,
        "taken": 409,
        "cancelled": 409,
        "expired": 409,
        "at_capacity": 409,
        "invalid_state": 409,
        "active_session_exists": 409,
        "too_many_favorites": 409,
        "gone": 410,
        "too_large": 413,
        "invalid_request": 422,
        "idempotency_key_reused": 422,
        "too_fast": 429,
    }

    def __init__(self, code: str, detail: str, *, field: str | None = None) -> None:
        super().__init__(code, detail)
        self.field = field


class ActiveSessionExists(Refused):
    """The customer has a session that is pending, waiting, live or scheduled."""

    def __init__(self, session: Session | None) -> None:
        super().__init__("active_session_exists", "You already have an active session.")
        self.session = session


class Unavailable(HubError):
    STATUS: ClassVar[dict[str, int]] = {
        "unavailable": 503,
        "recovering": 503,
        "journal_full": 503,
        "draining": 503,
    }

    def __init__(self, code: str, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(code, detail)
        self.retry_after = retry_after


class Recovering(Unavailable):
    """Redis has lost data: what it says now, or does not say, is not the truth."""

    def __init__(self) -> None:
        super().__init__("recovering", "Live data is being restored; try again shortly.", retry_after=2)


class StoreFailed(Unavailable):
    """A store did not answer, or refused. `maybe_done`: whether a write could have happened all the same.
    `reason`: why it refused, for whoever runs the hub; empty where it is merely away."""

    def __init__(self, detail: str, *, maybe_done: bool, reason: str = "") -> None:
        super().__init__("unavailable", detail)
        self.maybe_done = maybe_done
        self.reason = reason
