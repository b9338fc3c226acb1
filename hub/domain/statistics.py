"""What a mechanic's work has come to, as it is counted on record."""

from msgspec import Struct


class ResponseSeconds(Struct, frozen=True, kw_only=True):
    """From the notification of a priority offer to its accept or decline."""

    average: float
    median: float
    min: float
    max: float


class PriorityNumbers(Struct, frozen=True, kw_only=True):
    """`offers`: sessions in which the mechanic was notified of, or answered, a priority offer; those neither
    answered nor `expired` are pending, or ended before the answer. `accept_rate`: accepted of offers."""

    offers: int
    accepted: int
    declined: int
    expired: int
    accept_rate: float | None
    response_seconds: ResponseSeconds | None


class SessionNumbers(Struct, frozen=True, kw_only=True):
    """Bookings that the mechanic accepted and did not release, and those of them that are completed."""

    accepted: int
    completed: int


class RepeatCustomers(Struct, frozen=True, kw_only=True):
    """Customers served more than once, these sessions, and today's plan prices of those that were paid."""

    customers: int
    sessions: int
    value_cents: int


class MechanicNumbers(Struct, frozen=True, kw_only=True):
    """`favorited_by` customers, of whom the newest with a name are listed."""

    favorited_by: int
    favorited_by_customers: list[str]
    priority: PriorityNumbers
    sessions: SessionNumbers
    repeat_customers: RepeatCustomers
