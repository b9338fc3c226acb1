"""A session as the readable fields of a Redis hash, and back."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

import msgspec
from msgspec.structs import astuple, fields

from hub.domain.model import Session, Wave

FIELDS = Session.__struct_fields__
_DEFAULTS = tuple(field.default for field in fields(Session))
_WORDED = frozenset({"is_urgent", "wait_if_offline", "waves"})
"""Fields that are neither text nor a number."""
_NOTHING = (None,) * len(FIELDS)


class _Core(msgspec.Struct):
    """What no session is without, whatever its words are."""

    id: str
    customer_id: str
    status: str
    assignment_status: str
    version: int
    created_at: int
    updated_at: int
    orphan_at: int


def fields_of(session: Session) -> dict[str, str]:
    """Field → text; what is absent has no field."""
    return {name: text for name in FIELDS if (text := _text(getattr(session, name))) is not None}


def parted_fields(sessions: Sequence[Session]) -> tuple[list[str], list[tuple[str, ...]]]:
    """([field, value, …] that all have in common, the same of what each has besides). What is a default need
    not be there to be read again. By columns, which costs half of looking at every session's fields."""
    common: list[str] = []
    besides: list[Iterable[Any]] = []
    gaps = False
    for name, default, column in zip(
        FIELDS, _DEFAULTS, zip(*map(astuple, sessions), strict=True), strict=True
    ):
        first = column[0]
        if column.count(first) == len(column):
            if first != default and (text := _text(first)) is not None:
                common += (name, text)
        else:
            gapped = None in column
            besides += (repeat(name), map(_text if gapped or name in _WORDED else str, column))
            gaps = gaps or gapped
    if not besides:
        return common, [()] * len(sessions)
    own = list(zip(*besides, strict=False))
    return common, list(map(_filled, own)) if gaps else own


def _filled(pairs: Sequence[Any]) -> tuple[str, ...]:
    return tuple(
        part
        for name, text in zip(pairs[::2], pairs[1::2], strict=True)
        if text is not None
        for part in (name, text)
    )


def changes(before: Session | None, after: Session) -> tuple[list[str], list[str]]:
    """(field, value, … to write; fields to drop)."""
    write: list[str] = []
    drop: list[str] = []
    olds = astuple(before) if before is not None else _NOTHING
    for name, old, value in zip(FIELDS, olds, astuple(after), strict=True):
        if value is old or value == old:
            continue
        text = _text(value)
        if text is not None:
            write += (name, text)
        elif old is not None:
            drop.append(name)
    return write, drop


def session_from(fields: Sequence[str] | Mapping[str, str]) -> Session | None:
    """From the reply to HGETALL, which is a flat list out of a script and a map otherwise."""
    if not fields:
        return None
    values = _values(fields)
    values["waves"] = _waves(values.get("waves", ""))
    return msgspec.convert(values, Session, strict=False)


def whole(fields: Sequence[str] | Mapping[str, str]) -> bool:
    """Whether it has what every version of the hub writes: what else is unreadable is a newer one's."""
    try:
        msgspec.convert(_values(fields), _Core, strict=False)
    except msgspec.ValidationError:
        return False
    return True


def _values(fields: Sequence[str] | Mapping[str, str]) -> dict[str, Any]:
    return dict(fields if isinstance(fields, Mapping) else zip(fields[::2], fields[1::2], strict=True))


def _text(value: Any) -> str | None:
    if value is None or value == ():
        return None
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, tuple):
        return " ".join(f"{wave.mechanic_id}={wave.window_ms}" for wave in value)
    return str(value)


def _waves(text: str) -> tuple[Wave, ...]:
    turns = (turn.split("=") for turn in text.split())
    return tuple(Wave(mechanic_id, int(window_ms)) for mechanic_id, window_ms in turns)
