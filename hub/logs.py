"""Logs are events with fields, one line each. No token, no query string and no e-mail is ever among them."""

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}

# What a library, a traceback or a mistake of ours may still bring along.
_PRIVATE = (
    (re.compile(r"\beyJ[\w-]+(\.[\w-]*)*"), "[token]"),
    (re.compile(r"(?i)\bbearer\s+[^\s\"'\\]+"), "Bearer [token]"),
    (re.compile(r"(\w://)[^\s/@]+@"), r"\1[user]@"),
    (re.compile(r"[^\s@\"'<>()=,;:\\]+@[\w-]+(\.[\w-]+)+"), "[e-mail]"),
    (re.compile(r"(/[\w./%~-]*)\?[^\s\"'\\]+"), r"\1?[query]"),
    # Postgres quotes whole rows there.
    (re.compile(r"^DETAIL:.*$", re.MULTILINE), "DETAIL: [row]"),
)


class ConsoleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        line = f"{time} {record.levelname.lower():7} {record.name} {record.getMessage()} {fields}".rstrip()
        if record.exc_info and record.exc_info[1] is not None:
            line += "\n" + "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        return redacted(line)


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": redacted(record.getMessage()),
            **{name: _redacted_field(value) for name, value in _fields(record).items()},
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = redacted("".join(traceback.format_exception(record.exc_info[1])))
        return json.dumps(line, default=str)


def redacted(text: str) -> str:
    """The text without tokens, e-mails, passwords and query strings."""
    for pattern, replacement in _PRIVATE:
        text = pattern.sub(replacement, text)
    return text


def _redacted_field(value: Any) -> Any:
    return value if isinstance(value, int | float | None) else redacted(str(value))


def set_up(log_format: str, level: int = logging.INFO) -> None:
    """Everything goes to stderr; stdout belongs to the commands."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("hub").setLevel(level)
    # Its warnings are about what strangers send, and anybody could fill the log with them.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    # They show requests whole.
    for name in ("uvicorn.access", "uvicorn.asgi"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}
