"""Ids carry their shard, repeat where they must and nowhere else."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.ids import (
    assignment_of,
    canonical,
    crc16,
    derived_session_id,
    event_id,
    new_id,
    new_session_id,
    session_of,
    shard_of_session,
    shard_of_user,
)
from hub.domain.model import UNVERSIONED, Event, EventType
from tests.domain.samples import ANA, BEN, CUSTOMER

CUSTOMERS = st.uuids().map(str)
SHARDS = st.sampled_from([1, 2, 16, 64, 1000])


@pytest.mark.parametrize(("text", "checksum"), [("123456789", 0x31C3), ("", 0), ("A", 0x58E5)])
def test_crc16_is_the_one_of_redis(text: str, checksum: int) -> None:
    assert crc16(text) == checksum


@given(CUSTOMERS, st.text(max_size=50), SHARDS)
def test_a_session_lies_with_its_customer(customer_id: str, key: str, shards: int) -> None:
    shard = shard_of_user(customer_id, shards)
    for session_id in (new_session_id(customer_id), derived_session_id(customer_id, key)):
        assert shard_of_session(session_id, shards) == shard
        assert shard_of_session(assignment_of(session_id), shards) == shard
        assert canonical(session_id) == session_id
        assert UUID(session_id).version == 8
        assert UUID(session_id).variant == UUID(ANA).variant


@given(st.uuids().map(str))
def test_an_assignment_and_its_session_name_each_other(session_id: str) -> None:
    assert assignment_of(session_id) != session_id
    assert session_of(assignment_of(session_id)) == session_id
    assert UUID(assignment_of(session_id)).int ^ UUID(session_id).int == 1 << 127


@given(CUSTOMERS, CUSTOMERS, st.text(max_size=50), st.text(max_size=50))
def test_a_derived_id_belongs_to_one_customer_and_one_key(a: str, b: str, key: str, other: str) -> None:
    assert derived_session_id(a, key) == derived_session_id(a, key)
    assert (derived_session_id(a, key) == derived_session_id(b, key)) == (a == b)
    assert (derived_session_id(a, key) == derived_session_id(a, other)) == (key == other)


def test_a_derived_id_is_the_same_in_every_release() -> None:
    assert derived_session_id(CUSTOMER, "a key") == "17a057fc-e765-8895-ae55-283c8c41f64e"


def test_new_ids_are_new() -> None:
    assert len({new_id() for _ in range(100)} | {new_session_id(CUSTOMER) for _ in range(100)}) == 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ANA, ANA),
        (ANA.upper(), ANA),
        ("", None),
        ("not a uuid", None),
        (ANA.replace("-", ""), None),
        (f"{{{ANA}}}", None),
        ("x" * 36, None),
        (f" {ANA[:-1]}", None),
        (f"{ANA[:-1]}\n", None),
        (f"{ANA}\n", None),
        (f"0x{ANA[2:]}", None),
        (f"+{ANA[1:]}", None),
        (ANA.replace("00000000", "000_0000"), None),
        (ANA.replace("0", "\u0660"), None),
        (f"----{ANA.replace('-', '')}", None),
        (f"urn:{ANA.replace('-', '')}", None),
    ],
)
def test_canonical(text: str, expected: str | None) -> None:
    assert canonical(text) == expected


def _event(kind: EventType, version: int = 1, actor_id: str | None = ANA, at: int = 0) -> str:
    return Event(session_id=CUSTOMER, type=kind, at=at, version=version, actor_id=actor_id).id


def test_an_event_is_the_same_whenever_and_wherever_it_is_computed() -> None:
    assert _event(EventType.ACCEPTED) == _event(EventType.ACCEPTED, at=5)
    assert event_id(CUSTOMER, 1, "accepted") == _event(EventType.ACCEPTED)
    assert canonical(_event(EventType.ACCEPTED)) == _event(EventType.ACCEPTED)


def test_events_differ_by_version_and_type_and_the_unversioned_ones_by_actor() -> None:
    assert len({_event(kind, version) for kind in EventType for version in (1, 2)}) == 2 * len(EventType)
    for kind in EventType:
        assert (_event(kind, actor_id=ANA) != _event(kind, actor_id=BEN)) == (kind in UNVERSIONED)
