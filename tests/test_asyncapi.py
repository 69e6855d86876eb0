"""`docs/asyncapi.yaml` is valid, and has every WebSocket, message and close code."""

import json
from typing import Any

import jsonschema
import pytest

from handlers.feeds import NotificationFeed, ProgressFeed, TasksFeed, TopicFeed
from services.notifications import Verb
from tests.conftest import ROOT
from tests.documents import (
    BASE,
    channels,
    hold,
    hold_frame,
    load,
    load_once,
    references,
    sent_types,
)
from tests.test_openapi import from_yaml, plain
from tests.test_security import served
from tornado_rt import __version__
from tornado_rt.protocol import (
    CLOSE_CODES,
    RECONNECT,
    ClientMessageType,
    ErrorCode,
    MessageType,
    ResyncReason,
)

# The schema of the specification (asyncapi/spec-json-schemas, Apache-2.0), without its texts.
SCHEMA = ROOT / "tests" / "fixtures" / "asyncapi-3.0.0.schema.json"
# A message between processes, which no client gets.
INTERNAL = {"cancel", "answer", "wake", "replaced", "settings", "ask", "drain", "undrain"}


def messages(action: str) -> dict[str, dict[str, Any]]:
    """Return the messages of each channel by their types, that the server sends or receives."""
    document = load("asyncapi")
    found: dict[str, dict[str, Any]] = {}
    for operation in document["operations"].values():
        if operation["action"] == action:
            channel = operation["channel"]["$ref"].rpartition("/")[2]
            names = [one["$ref"].split("/") for one in operation["messages"]]
            assert {parts[2] for parts in names} == {channel}
            known = [document["components"]["messages"][parts[4]] for parts in names]
            by_type = {one["payload"]["properties"]["type"]["const"]: one for one in known}
            assert len(by_type) == len(known), "a type twice"
            found[channel] = by_type
    return found


def test_document_is_valid() -> None:
    schema = json.loads(SCHEMA.read_text())
    faults = jsonschema.Draft7Validator(schema).iter_errors(from_yaml("asyncapi"))
    assert [f"{list(one.absolute_path)}: {one.message[:200]}" for one in faults] == []
    assert load("asyncapi")["info"]["version"] == __version__


def test_an_invalid_document_is_noticed() -> None:
    schema = json.loads(SCHEMA.read_text())
    wrong = from_yaml("asyncapi")
    wrong["operations"]["sendTask"]["action"] = "shout"
    assert list(jsonschema.Draft7Validator(schema).iter_errors(wrong))


def test_references_lead_somewhere() -> None:
    for name in ("openapi", "asyncapi"):
        for reference in set(references(load_once(name))):
            file, _, place = reference.partition("#")
            target: Any = load_once(file.removeprefix("./").removesuffix(".json") or name)
            for part in place.strip("/").split("/"):
                target = target[part.replace("~1", "/")]
            assert target, reference
    assert BASE.endswith("/")


def test_document_has_every_websocket_and_no_other() -> None:
    found = {plain(one["address"]) for one in load("asyncapi")["channels"].values()}
    assert found == {plain(name[3:]) for name in served() if name.startswith("WS ")}


def test_channels_have_what_their_operations_name() -> None:
    document = load("asyncapi")
    used = set()
    for name, channel in document["channels"].items():
        named = {
            one["$ref"].rpartition("/")[2]
            for operation in document["operations"].values()
            if operation["channel"]["$ref"] == f"#/channels/{name}"
            for one in operation["messages"]
        }
        assert named == channel["messages"].keys()
        used |= {one["$ref"].rpartition("/")[2] for one in channel["messages"].values()}
    assert used == document["components"]["messages"].keys()


def test_every_message_of_the_server_is_there() -> None:
    sent = {type_ for channel in messages("send").values() for type_ in channel}
    assert sent == {one.value for one in MessageType} - INTERNAL


def test_every_message_of_a_client_is_there() -> None:
    received = messages("receive")
    taken = {type_ for channel in received.values() for type_ in channel}
    assert taken == {one.value for one in ClientMessageType} | {one.value for one in Verb}


def test_channels_take_what_their_feeds_do() -> None:
    everywhere = {ClientMessageType.PING.value, ClientMessageType.AUTH.value}
    received = {name: set(found) - everywhere for name, found in messages("receive").items()}
    nothing: Any = None
    inbox = set(NotificationFeed(nothing, "alice").actions())
    task = set(ProgressFeed(nothing, nothing, "task", "t", nothing, nothing).actions())
    none = [TasksFeed(nothing, nothing, "a").actions(), TopicFeed(nothing, "a").actions()]
    assert received["notifications"] == inbox
    assert received["task"] == task
    assert none == [{}, {}]
    assert received["topics"] == {"subscribe", "unsubscribe"} | inbox | task


def test_codes_are_those_of_the_protocol() -> None:
    codes = load("asyncapi")["x-close-codes"]
    assert {code: said["reconnect"] for code, said in codes.items()} == RECONNECT
    assert {code: codes[code]["meaning"] for code in CLOSE_CODES} == CLOSE_CODES
    schemas = load("openapi")["components"]["schemas"]
    assert schemas["ErrorMessage"]["properties"]["code"]["enum"] == [one.value for one in ErrorCode]
    assert schemas["Resync"]["properties"]["reason"]["enum"] == [one.value for one in ResyncReason]


def test_examples_are_as_their_schemas_say() -> None:
    count = 0
    for name, message in load("asyncapi")["components"]["messages"].items():
        for example in message.get("examples", []):
            place = ("components", "messages", name, "payload")
            hold(example["payload"], f"an example of {name}", "asyncapi", *place)
            count += 1
    assert count > 30


def test_what_a_client_sends_has_an_example() -> None:
    for channel in messages("receive").values():
        for type_, message in channel.items():
            assert message["examples"], type_


def test_what_is_not_documented_fails() -> None:
    beat = {"type": "heartbeat", "data": {"timestamp": "2030-01-02T03:04:05.000Z"}}
    for address in ("/api/ws", "/rt/api/ws/tasks/t1?last_id=a-1", "/api/ws/worker"):
        hold_frame(address, beat)
    for frame in (
        beat | {"id": "a-1"},
        beat | {"data": {}},
        beat | {"type": "shout"},
        {"type": "heartbeat"},
    ):
        with pytest.raises(AssertionError, match="docs/asyncapi"):
            hold_frame("/api/ws", frame)
    with pytest.raises(AssertionError, match="no channel"):
        hold_frame("/api/ws/nothing", beat)


def test_types_are_looked_up_for_each_channel() -> None:
    assert {name for _, name, _ in channels()} == set(load("asyncapi")["channels"])
    assert "progress" in sent_types("task")
    assert "progress" not in sent_types("notifications")
