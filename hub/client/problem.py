"""What a client gets instead of an answer."""


class HubProblem(Exception):
    """The hub refused: `code` is stable, `retry_after` is set where asking again may help."""

    def __init__(self, code: str, detail: str, *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.status = status
        self.retry_after = retry_after
