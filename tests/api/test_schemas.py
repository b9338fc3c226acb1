"""Both specifications as whoever generates a client reads them: what is a set of words says so, and what
something is."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.api.documents import document

Json = dict[str, Any]


@pytest.fixture(scope="module", params=["/openapi.json", "/asyncapi.json"])
def specification(request: pytest.FixtureRequest) -> Json:
    found: Json = document(request.param)
    return found


def parts(part: Any) -> Iterator[Json]:
    """It and every object in it."""
    if isinstance(part, dict):
        yield part
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    for each in inner:
        yield from parts(each)


def test_enums_of_text_are_text(specification: Json) -> None:
    enums = [part for part in parts(specification) if isinstance(part.get("enum"), list)]
    assert len(enums) > 10
    assert [part for part in enums if part.get("type") != "string"] == []


def test_every_schema_says_what_it_is(specification: Json) -> None:
    schemas = specification["components"]["schemas"]
    assert [name for name, schema in schemas.items() if not schema.get("description")] == []


def test_free_objects_say_what_is_in_them(specification: Json) -> None:
    objects = [part for part in parts(specification["components"]) if part.get("type") == "object"]
    free = [part for part in objects if not part.keys() & {"properties", "additionalProperties"}]
    assert free
    assert [part for part in free if not part.get("description")] == []


def test_nothing_is_described_in_the_words_of_a_base_class(specification: Json) -> None:
    texts = [text for part in parts(specification) for text in part.values() if isinstance(text, str)]
    first = (msgspec.Struct.__doc__ or "").strip().partition("\n")[0]
    assert first
    assert [text for text in texts if first in text] == []


def test_sessions_have_closed_sets_where_the_record_has() -> None:
    for path in ("/openapi.json", "/asyncapi.json"):
        schemas = document(path)["components"]["schemas"]
        assert {name: schemas[name]["enum"] for name in ("SessionType", "RequestType", "Payment")} == {
            "SessionType": ["chat", "diagnostic", "video"],
            "RequestType": ["brand_specialist", "general"],
            "Payment": ["credit", "free", "paid"],
        }
