"""Sessions as fields that a person can read on a dashboard, and back."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.domain import commands as cmd
from hub.domain.model import Session
from persistence.redis.codec import FIELDS, changes, fields_of, session_from
from tests.domain.samples import ANA, BEN, after, booked, online
from tests.redis.strategies import sessions

# A session has forty fields, and drawing one takes longer than what is tried with it.
enough = settings(max_examples=60, deadline=None)


@enough
@given(sessions())
def test_every_session_survives_the_hash(session: Session) -> None:
    assert session_from(fields_of(session)) == session


@enough
@given(sessions())
def test_a_script_answers_with_a_flat_list(session: Session) -> None:
    assert session_from([part for pair in fields_of(session).items() for part in pair]) == session


@enough
@given(sessions(), sessions(version=2))
def test_the_changes_lead_from_one_session_to_the_other(before: Session, after: Session) -> None:
    write, drop = changes(before, after)
    fields = fields_of(before)
    for name in drop:
        del fields[name]
    written = dict(zip(write[::2], write[1::2], strict=True))

    assert fields | written == fields_of(after)
    assert all(fields_of(before).get(name) != text for name, text in written.items())


@enough
@given(sessions())
def test_a_new_session_is_written_whole(session: Session) -> None:
    write, drop = changes(None, session)

    assert dict(zip(write[::2], write[1::2], strict=True)) == fields_of(session)
    assert drop == []


@enough
@given(st.sampled_from(["commands", "unknown"]), sessions())
def test_fields_that_are_not_the_session_are_passed_over(name: str, session: Session) -> None:
    assert session_from({**fields_of(session), name: "x"}) == session


def test_no_fields_are_no_session() -> None:
    assert session_from([]) is None
    assert session_from({}) is None


def test_the_fields_are_readable() -> None:
    session = replace(booked(online(ANA), online(BEN), sequence=True), is_urgent=True, notes="Squeaks")
    fields = fields_of(after(session, cmd.Notified(f"phone-of-{ANA}", 7)))

    assert fields["status"] == "pending"
    assert fields["assignment_status"] == "offered"
    assert fields["routing_type"] == "favorites_sequence"
    assert fields["waves"] == f"{ANA}=300000 {BEN}=180000"
    assert fields["is_urgent"] == "1"
    assert fields["wait_if_offline"] == "0"
    assert fields["notes"] == "Squeaks"
    assert fields["priority_notified_at"] == "7"
    assert fields["version"] == "2"
    assert "mechanic_id" not in fields
    assert "notify_by" not in fields
    assert fields.keys() <= set(FIELDS)
