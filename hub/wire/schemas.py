"""JSON schemas of the wire's types, as both specifications have them."""

import inspect
from collections.abc import Iterable
from typing import Any

import msgspec

Json = dict[str, Any]


def schemas_of(kinds: Iterable[Any]) -> tuple[list[Json], Json]:
    """A schema for each type, and by name those that they refer to."""
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return [_typed(schema) for schema in schemas], _typed(components)


def own_doc(kind: type) -> str:
    """A class's own docstring; that of its base says nothing about it."""
    return inspect.cleandoc(kind.__doc__ or "")


def _typed(part: Any) -> Any:
    """The same with a type beside every enum of text: generators make anything of one that has none."""
    match part:
        case {"enum": [*values]} if all(isinstance(value, str) for value in values):
            return {"type": "string", **part}
        case dict():
            return {name: _typed(value) for name, value in part.items()}
        case list():
            return [_typed(each) for each in part]
    return part
