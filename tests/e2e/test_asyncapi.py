"""Every frame of the AsyncAPI document, for real: what clients may send is sent and understood, what the hub
says is provoked and is what the document says. Objects may have no field that the document does not name."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hub.domain.ids import session_of
from hub.wire import examples
from tests.api.documents import document
from tests.e2e.world import Body, Hub, Person, Socket, World, world_of

DOCUMENT = document("/asyncapi.json")
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]


def strict(schemas: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"additionalProperties": False, **schema} if "properties" in schema else schema
        for name, schema in schemas.items()
    }


VALIDATORS = {
    name: Draft202012Validator(
        {**message["payload"], "components": {"schemas": strict(DOCUMENT["components"]["schemas"])}},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )
    for name, message in MESSAGES.items()
}


def of_group(group: str) -> set[str]:
    return {name for name, message in MESSAGES.items() if message["tags"] == [{"name": group}]}


def check(name: str, message: Body) -> None:
    errors = [f"{error.json_path}: {error.message}" for error in VALIDATORS[name].iter_errors(message)]
    assert errors == [], f"{name}: {message}"


def check_events(*sockets: Socket) -> set[str]:
    """All events that came; their names."""
    for socket in sockets:
        for event in socket.events:
            check(event["event"], event)
    return {event["event"] for socket in sockets for event in socket.events}


@pytest.mark.parametrize("name", MESSAGES)
def test_examples_are_what_the_document_says(name: str) -> None:
    for example in MESSAGES[name]["examples"]:
        check(name, example["payload"])


def test_a_wrong_frame_is_found() -> None:
    message = MESSAGES["presence_update"]["examples"][0]["payload"]
    for wrong in (
        {**message, "event": "searching"},
        {**message, "at": "now"},
        {**message, "payload": {**message["payload"], "mood": "good"}},
        {**message, "payload": {**message["payload"], "mechanic_id": "ana"}},
    ):
        assert not VALIDATORS["presence_update"].is_valid(wrong)


class Replay:
    """Sends the examples of requests as a mechanic does, with ids of a real scene in place of theirs."""

    def __init__(self, world: World, ana: Person, socket: Socket) -> None:
        self._world = world
        self._ana = ana
        self._socket = socket
        self.replayed: set[str] = set()

    async def all(self, name: str) -> None:
        for example in MESSAGES[name]["examples"]:
            await self.one(name, example["payload"])

    async def one(self, name: str, message: Body) -> None:
        self.replayed.add(name)
        filled = self._filled(message, await self._assignment(name))
        await self._socket.send(filled)
        if "id" in filled:
            check(f"{name}_reply", await self._socket.reply(filled["id"]))
        else:
            find = "SELECT 1 FROM session_events WHERE type = $1 AND session_id = $2"
            await self._world.row(find, filled["stage"], session_of(filled["assignment_id"]))

    async def hello(self) -> None:
        """One with a token in it, one whose token is in the handshake."""
        self.replayed.add("hello")
        for example in MESSAGES["hello"]["examples"]:
            in_header = "token" not in example["payload"]
            headers = {"Authorization": f"Bearer {self._ana.token}"} if in_header else {}
            socket = await self._world.socket(additional_headers=headers)
            await socket.send(self._filled(example["payload"], ""))
            check("welcome", await socket.other("welcome"))
            await socket.close()

    def _filled(self, message: Body, assignment_id: str) -> Body:
        text = json.dumps(message).replace(examples.ASSIGNMENT, assignment_id)
        filled: Body = json.loads(
            text.replace(examples.MECHANIC, self._ana.id).replace(examples.TOKEN, self._ana.token)
        )
        return filled

    async def _assignment(self, name: str) -> str:
        if name not in ("accept", "decline", "release", "ack"):
            return ""
        mia = self._world.customer()
        booked = await mia.book(self._ana, priority_window_minutes=5)
        assignment_id: str = booked["assignment"]["id"]
        if name == "release":
            await self._socket.request("accept", assignment_id=assignment_id)
        return assignment_id


@pytest.mark.parametrize("binary", [False, True])
async def test_every_request_is_understood(world: World, binary: bool) -> None:
    ana = await world.mechanic()
    replay = Replay(world, ana, await ana.online(binary=binary))
    await replay.hello()
    for name in ("heartbeat", "watch", "unwatch", "refresh", "ack", "decline", "accept", "release", "status"):
        await replay.all(name)
    assert replay.replayed == of_group("request")


async def test_refusals_and_errors(world: World) -> None:
    at_ana = await (await world.mechanic()).online()
    check("refused", await at_ana.request("accept", assignment_id=examples.ASSIGNMENT))
    check("refused", await at_ana.request("accept"))
    await at_ana.send({"type": "dance"})
    check("error", await at_ana.other("error"))


async def test_every_event_comes_as_documented(world: World, tmp_path: Path) -> None:
    seen = await one_session(world) | await one_withdrawn(world) | await last_words(tmp_path)
    assert seen == of_group("event")


async def one_session(world: World) -> set[str]:
    """A favourite declines, another mechanic takes the request and begins."""
    ana, ben, mia = await world.mechanic(), await world.mechanic("Ben Okafor"), world.customer()
    at_ana, at_ben, at_mia = await ana.online(), await ben.online(binary=True), await mia.online()
    check("welcome", at_ana.welcome)
    await at_mia.request("watch", mechanic_ids=[ben.id])
    booked = await mia.book(ana, priority_window_minutes=5)
    await at_ana.event("priority_session_request")
    await at_mia.event("favorite_notified")
    await at_ana.request("decline", assignment_id=booked["assignment"]["id"])
    await at_ana.event("offer_ended")
    await at_ben.event("new_assignment")
    await at_ben.request("accept", assignment_id=booked["assignment"]["id"])
    await ben.post(f"/api/mechanic/sessions/{booked['session']['id']}/start")
    await at_mia.event("session_updated")
    await at_mia.event("presence_update")
    return check_events(at_ana, at_ben, at_mia)


async def one_withdrawn(world: World) -> set[str]:
    ana, mia = await world.mechanic(), world.customer()
    at_ana = await ana.online()
    booked = await mia.book()
    await at_ana.event("new_assignment")
    await mia.post(f"/api/customer/sessions/{booked['session']['id']}/end")
    await at_ana.event("assignment_cancelled")
    return check_events(at_ana)


async def last_words(tmp_path: Path) -> set[str]:
    """Of a hub whose requests expire at once, and which stops."""
    hub = Hub(tmp_path / "data", HUB_ORPHAN_SECONDS="0.2")
    try:
        async with world_of(hub) as world:
            mia = world.customer()
            at_mia = await mia.online()
            await mia.book()
            await at_mia.event("assignment_expired")
            hub.process.send_signal(signal.SIGTERM)
            check("going_away", await at_mia.other("going_away"))
            return check_events(at_mia)
    finally:
        assert hub.stop() == 0


def test_every_close_code_is_documented() -> None:
    codes = {close["code"] for close in DOCUMENT["channels"]["socket"]["x-close-codes"]}
    prose = (Path(__file__).parents[2] / "docs" / "socket.md").read_text()
    assert {code for code in codes if f"| {code} |" not in prose} == set()
