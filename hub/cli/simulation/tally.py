"""What a simulation counts, and how it adds up."""

from collections import Counter
from typing import Any

from msgspec import Struct


class Summary(Struct, frozen=True, kw_only=True):
    """`lost` are acknowledged bookings without a row, or that the hub denied later; `double` are sessions
    that two mechanics were told they have. Latencies are ms from sending the booking to the frame at a
    mechanic (p50, p99)."""

    seconds: float
    bookings: int
    routing: dict[str, int]
    accepted: dict[str, int]
    released: int
    fallbacks: dict[str, int]
    ended: dict[str, int]
    refused: dict[str, int]
    offer_ms: tuple[float, float]
    broadcast_ms: tuple[float, float]
    sessions: int
    assignments: int
    events: int
    lost: int
    double: int

    @property
    def sound(self) -> bool:
        return not self.lost and not self.double


class Tally:
    def __init__(self) -> None:
        self.booked: dict[str, float] = {}
        self.routing: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.released = 0
        self.fallbacks: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.offer_ms: list[float] = []
        self.broadcast_ms: list[float] = []
        self.sockets = 0
        self.double = 0
        self._sent: dict[str, float] = {}
        self._holders: dict[str, str] = {}
        self._fell: set[tuple[str, str]] = set()
        self._reached: set[str] = set()
        self._ended: set[str] = set()
        self._denied: set[str] = set()

    def sending(self, customer_id: str, at: float) -> None:
        """A customer is about to book: the clock starts."""
        self._sent[customer_id] = at

    def book(self, answer: dict[str, Any], at: float) -> None:
        routing = answer["routing"]
        self.booked[answer["session"]["id"]] = at
        self.routing[routing["reason"] or routing["type"]] += 1

    def frame(self, event: dict[str, Any], at: float, since: float = 0.0) -> None:
        """A mechanic, who could be reached `since`, got a priority request or heard a broadcast. The first
        time counts; what was booked before comes late by right and does not."""
        payload = event["payload"]
        session = payload["request"]["session"]
        reason = payload.get("fallback_reason")
        if reason is not None:
            if (session["id"], reason) not in self._fell:
                self._fell.add((session["id"], reason))
                self.fallbacks[reason] += 1
            return
        sent = self._sent.get(session["customer_id"])
        if sent is not None and sent > since and session["id"] not in self._reached:
            self._reached.add(session["id"])
            times = self.offer_ms if event["event"] == "priority_session_request" else self.broadcast_ms
            times.append((at - sent) * 1000)

    def accept(self, session: dict[str, Any], assignment: dict[str, Any], mechanic_id: str) -> None:
        holder = self._holders.setdefault(session["id"], mechanic_id)
        self.double += holder != mechanic_id
        favourite = assignment["preferred_mechanic_id"]
        who = (
            "the favourite"
            if favourite == mechanic_id
            else "another mechanic"
            if favourite
            else "any mechanic"
        )
        self.accepted[who] += 1

    def release(self, session_id: str) -> None:
        """It is accepted once more, and by somebody else."""
        self.released += 1
        self._holders.pop(session_id, None)

    def end(self, session: dict[str, Any]) -> None:
        """However many people end it, it ends once."""
        if session["id"] in self.booked and session["id"] not in self._ended:
            self._ended.add(session["id"])
            self.ended[session["status"]] += 1

    def lose(self, session_id: str) -> None:
        """The hub denies what it had acknowledged."""
        self._denied.add(session_id)

    def refuse(self, code: str) -> None:
        self.refused[code] += 1

    def summary(self, seconds: float, rows: set[str], assignments: int, events: int) -> Summary:
        return Summary(
            seconds=round(seconds, 1),
            bookings=len(self.booked),
            routing=dict(self.routing),
            accepted=dict(self.accepted),
            released=self.released,
            fallbacks=dict(self.fallbacks),
            ended=dict(self.ended),
            refused=dict(self.refused),
            offer_ms=quantiles(self.offer_ms),
            broadcast_ms=quantiles(self.broadcast_ms),
            sessions=len(rows),
            assignments=assignments,
            events=events,
            lost=len((self.booked.keys() - rows) | self._denied),
            double=self.double,
        )


def quantiles(values: list[float]) -> tuple[float, float]:
    """(median, 99th percentile); zeros where there is nothing."""
    if not values:
        return (0.0, 0.0)
    ordered = sorted(values)
    last = len(ordered) - 1
    return round(ordered[round(last * 0.5)], 1), round(ordered[round(last * 0.99)], 1)
