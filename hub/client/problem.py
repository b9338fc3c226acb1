"""What a client gets instead of an answer."""

import json
from collections.abc import Mapping


class HubProblem(Exception):
    """The hub refused: `code` is stable, `retry_after` (seconds) is set where asking again may help."""

    def __init__(self, code: str, detail: str, *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.status = status
        self.retry_after = retry_after


def problem_of(status: int, headers: Mapping[str, str], body: bytes | bytearray, reason: str) -> HubProblem:
    """The problem that an HTTP answer tells of; a proxy's own error page is `unreadable`."""
    try:
        problem = json.loads(body)
        code, detail = str(problem["code"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        code, detail = "unreadable", reason
    try:
        retry_after = float(headers["retry-after"])
    except (KeyError, ValueError):
        retry_after = None
    return HubProblem(code, detail, status=status, retry_after=retry_after)
