"""Requests that the OpenAPI document allows, and many that it forbids, against a running hub: the answers are
those in the document. The hub is one of its own, since admins may change everything in it."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from hub.identity import issue
from tests.api.documents import document
from tests.e2e.world import SECRET, Hub

DEMO_MECHANIC = "5b1f6f0e-0c38-4d8e-9a57-1f1f6a2f0a01"

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture(scope="module")
def own_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("contract") / "data", HUB_STRIPE_WEBHOOK_SECRETS="whsec_of_the_tests")
    yield hub
    assert hub.stop() == 0
    assert "Traceback" not in hub.log.read_text()


def token(role: str, user_id: str | None = None) -> dict[str, str]:
    issued = issue(SECRET, role=role, user_id=user_id or str(uuid.uuid4()), ttl=600)
    return {"Authorization": f"Bearer {issued}"}


DOCUMENT = document("/openapi.json")
operations = schemathesis.openapi.from_dict(
    DOCUMENT,
    config=SchemathesisConfig.from_dict({"generation": {"with-security-parameters": False}}),
)
ADMIN, CUSTOMER, MECHANIC, SERVICE = map(token, ("admin", "customer", "mechanic", "service"))


def test_the_running_hub_has_this_document(own_hub: Hub) -> None:
    assert httpx.get(f"{own_hub.urls[0]}/openapi.json", trust_env=False).json() == DOCUMENT


def each(*tags: str) -> pytest.MarkDecorator:
    """A test of every operation, or of those with one of the tags: by sensible requests and, where anything
    can be wrong with them (any text may stand in a path or a header), by others."""
    found = [result.ok() for result in operations.get_all_operations() if isinstance(result, Ok)]
    return pytest.mark.parametrize(
        ("operation", "mode"),
        [
            (operation, mode)
            for operation in found
            if not tags or set(tags) & set(operation.tags or ())
            for mode in GenerationMode
            if mode.is_positive or len(operation.query) + len(operation.body)
        ],
        ids=lambda value: value.label if isinstance(value, APIOperation) else value.value,
    )


def try_out(hub: Hub, operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, caller: Any) -> None:
    @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def attempt(case: Case[Any]) -> None:
        case.call_and_validate(base_url=hub.urls[0], headers=caller, checks=CHECKS)

    attempt()


@each()
def test_answers_to_an_admin(own_hub: Hub, operation: Any, mode: GenerationMode) -> None:
    try_out(own_hub, operation, mode, ADMIN)


@each("customer", "favorites", "credits", "mechanic", "presence")
def test_answers_to_a_customer(own_hub: Hub, operation: Any, mode: GenerationMode) -> None:
    try_out(own_hub, operation, mode, CUSTOMER)


@each("customer", "mechanic", "statistics")
def test_answers_to_a_mechanic(own_hub: Hub, operation: Any, mode: GenerationMode) -> None:
    try_out(own_hub, operation, mode, MECHANIC)


@each("customer", "presence")
def test_answers_to_a_service(own_hub: Hub, operation: Any, mode: GenerationMode) -> None:
    try_out(own_hub, operation, mode, SERVICE)


def test_a_booking_from_its_start_to_its_end(own_hub: Hub) -> None:
    def call(method: str, path: str, headers: dict[str, str], **more: Any) -> Any:
        case = operations[path][method].Case(**more)
        answer = case.call_and_validate(base_url=own_hub.urls[0], headers=headers, checks=CHECKS)
        assert answer.status_code < 300, answer.text
        return answer.json()

    mia, ana = token("customer"), token("mechanic", DEMO_MECHANIC)
    booked = call("POST", "/api/intake/start", mia, body={"plan_code": "free"})
    assignment, session = ({"id": booked[part]["id"]} for part in ("assignment", "session"))
    call("GET", "/api/mechanic/queue", ana)
    call("POST", "/api/mechanic/assignments/{id}/accept", ana, path_parameters=assignment, body={})
    call("POST", "/api/mechanic/sessions/{id}/start", ana, path_parameters=session)
    held = call("GET", "/api/mechanic/active-session", ana)
    assert held["session"]["status"] == "live"
    call("GET", "/api/customer/active-session", mia)
    call("PUT", "/api/favorites/{mechanic_id}", mia, path_parameters={"mechanic_id": DEMO_MECHANIC}, body={})
    call("GET", "/api/favorites", mia)
    ended = call("POST", "/api/customer/sessions/{id}/end", mia, path_parameters=session)
    assert ended["session"]["status"] == "completed"


def test_without_a_token_nothing_that_needs_one_is_answered(own_hub: Hub) -> None:
    with httpx.Client(base_url=own_hub.urls[0], trust_env=False) as http:
        for path, methods in DOCUMENT["paths"].items():
            for method, operation in methods.items():
                answer = http.request(method, path)
                assert (answer.status_code == 401) is bool(operation["security"]), (method, path)
