"""What people asked of the hub and what they were told: everything that is held against it afterwards."""

from typing import Any, Literal

from msgspec import Struct

Body = dict[str, Any]

Outcome = Literal["done", "refused", "unknown"]


class Operation(Struct, frozen=True, kw_only=True):
    """Something that somebody asked for, with its last answer. `subject` is the session's id.

    `unknown`: however often it was asked, no answer came; it may have happened.
    """

    who: str
    what: str
    subject: str
    outcome: Outcome
    code: str = ""


class Sight(Struct, frozen=True):
    """One version of a session as somebody saw it."""

    session_id: str
    version: int
    status: str
    assignment_status: str
    mechanic_id: str | None


class Frame(Struct, frozen=True, kw_only=True):
    """An event that came to somebody's socket. `addressees`: the people of whom it speaks."""

    to: str
    role: str
    name: str
    event_id: str
    customer_id: str | None
    target_id: str | None


class History:
    """Grows while people use the hub."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.sights: set[Sight] = set()
        self.frames: list[Frame] = []

    def note(self, who: str, what: str, subject: str, outcome: Outcome, code: str = "") -> None:
        self.operations.append(Operation(who=who, what=what, subject=subject, outcome=outcome, code=code))

    def saw(self, body: Body) -> None:
        """A session with its assignment, wherever it was shown."""
        session, assignment = body.get("session"), body.get("assignment")
        if session is not None and assignment is not None:
            self.sights.add(
                Sight(
                    session["id"],
                    session["version"],
                    session["status"],
                    assignment["status"],
                    session["mechanic_id"],
                )
            )

    def heard(self, to: str, role: str, event: Body) -> None:
        payload = event["payload"]
        request = payload.get("request", payload)
        self.saw(request)
        session = request.get("session") or {}
        self.frames.append(
            Frame(
                to=to,
                role=role,
                name=event["event"],
                event_id=event["event_id"],
                customer_id=session.get("customer_id"),
                target_id=payload.get("target_mechanic_id"),
            )
        )
