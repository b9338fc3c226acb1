"""The SQL that the repositories speak, read once from the package: `queries/*.sql`, each query by name."""

import re
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_WRITES = re.compile(r"^(insert|update|delete)\b", re.MULTILINE)
_PARAMETER = re.compile(r"\$(\d+)")


def load(file: str) -> dict[str, str]:
    """Name → text of every query of one file. What stands above the first name is for readers."""
    text = (resources.files(__package__) / "queries" / f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    return {name: query.strip() for name, query in zip(parts[::2], parts[1::2], strict=True)}


def together(*queries: str) -> str:
    """One statement for several, each of which would cost a round trip. It takes the parameters of all, and
    answers with how many rows each found or changed. All see the data as it was before: none may build on
    what another writes, nor change the same row."""
    parts = []
    before = 0
    for number, query in enumerate(queries):
        end = "\nreturning 1" if _WRITES.search(query) else ""
        parts.append(f"part{number} as (\n{_renumbered(query, before)}{end}\n)")
        before += parameters(query)
    counts = ", ".join(f"(select count(*) from part{number})" for number in range(len(queries)))
    return f"with {', '.join(parts)}\nselect array[{counts}]"


def parameters(query: str) -> int:
    return max(int(number) for number in _PARAMETER.findall(query))


def _renumbered(query: str, before: int) -> str:
    return _PARAMETER.sub(lambda found: f"${before + int(found[1])}", query)
