"""What earlier clients called: each answers 410 with the path that replaced it, whatever the method."""

from urllib.parse import quote

from starlette.responses import Response

from hub.api.operation import Ask, Operation, operation
from hub.api.web import problem
from hub.wire.http import PROBLEM_JSON, Problem

_ASSIGNMENTS = "/api/mechanic/assignments"


class GoneApi:
    def operations(self) -> list[Operation]:
        return [
            operation(
                method, path, handler, None, any_method=True, status=410, answer=Problem,
                media_type=PROBLEM_JSON, refuses=("gone",), stores=False, deprecated=True,
            )
            for method, path, handler in (
                ("GET", "/api/mechanics/requests", self.queue),
                ("GET", "/api/mechanics/requests/history", self.queue),
                ("GET", "/api/requests", self.queue),
                ("POST", "/api/cron/expire-requests", self.queue),
                ("POST", "/api/mechanics/requests/{id}/accept", self.accept),
                ("POST", "/api/mechanic/accept", self.accept),
                ("POST", "/api/mechanics/requests/{id}/cancel", self.decline),
            )
        ]  # fmt: skip

    async def queue(self, ask: Ask[None, None]) -> Response:
        """Gone: a mechanic's requests are at `/api/mechanic/queue`; they expire by themselves."""
        return _gone("/api/mechanic/queue")

    async def accept(self, ask: Ask[None, None]) -> Response:
        """Gone: accept at `/api/mechanic/assignments/{id}/accept`."""
        return _gone(f"{_ASSIGNMENTS}/{_id(ask)}/accept")

    async def decline(self, ask: Ask[None, None]) -> Response:
        """Gone: decline at `/api/mechanic/assignments/{id}/decline`."""
        return _gone(f"{_ASSIGNMENTS}/{_id(ask)}/decline")


def _id(ask: Ask[None, None]) -> str:
    """As in a path; `{id}` where the earlier path had none."""
    found: str | None = ask.request.path_params.get("id")
    return "{id}" if found is None else quote(found, safe="")


def _gone(path: str) -> Response:
    # A link target is a URI (RFC 8288), where braces have to be encoded.
    link = f'<{quote(path, safe="/%")}>; rel="successor-version"'
    return problem(410, "gone", f"This is now at {path}.", headers={"Link": link})
