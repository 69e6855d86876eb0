"""Answers and frames of the server, held against docs/openapi.yaml and docs/asyncapi.yaml.

The clients of tests/api.py hold every answer, frame and event against them. In this reading an
object has no members but those that the document names: what is not documented fails.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import attrs
import jsonschema_rs

DOCS = Path(__file__).resolve().parent.parent / "docs"
PROBLEM = "application/problem+json"
NOWHERE = b"there is nothing at this address"
EVENTS = "text/event-stream"
# Where the documents are, as references between them see it.
BASE = "https://server.example/api/"
# Headers of an answer that a client acts on: those of the others are the same everywhere.
TOLD = ("etag", "location", "retry-after", "set-cookie", "www-authenticate", "x-accel-buffering")
# Credentials, and names of the last id that clients send who send no header.
ANYWHERE = {
    "ticket",
    "token",
    "last_id",
    "lasteventid",
    "evs_last_event_id",
    "last_event_id",
    "locale",
}
# Parameters that the kinds of the tests show in their snapshots.
SHOWN = ("symbol", "preset", "size")
# Bounds that depend on the settings: tests/test_openapi_bodies.py looks at the usual ones.
MOST = {"maximum", "maxLength", "maxItems"}


def load(name: str) -> dict[str, Any]:
    """Return a document; the JSON says the same as the YAML (tests/test_openapi.py)."""
    document: dict[str, Any] = json.loads((DOCS / f"{name}.json").read_bytes())
    return document


def closed(schema: Any) -> Any:
    """Return a schema whose objects have no members but those that it names."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    read = {name: closed(one) for name, one in schema.items() if name not in MOST}
    if isinstance(properties := read.get("properties"), dict):
        further = read.get("additionalProperties", False)
        if isinstance(further, dict):
            # A snapshot, which has what its kind shows.
            properties, further = {**dict.fromkeys(SHOWN, True), **properties}, False
        read |= {"properties": properties, "additionalProperties": further}
    return read


@functools.cache
def registry() -> jsonschema_rs.Registry:
    """Return the two documents, closed, by their names."""
    documents = [(f"{BASE}{name}.json", closed(load(name))) for name in ("openapi", "asyncapi")]
    return jsonschema_rs.Registry(documents)


def pointer(*names: str) -> str:
    """Return a JSON pointer (RFC 6901) as a fragment (RFC 3986)."""
    escaped = (one.replace("~", "~0").replace("/", "~1").replace("{", "%7B") for one in names)
    return "#/" + "/".join(one.replace("}", "%7D").replace("*", "%2A") for one in escaped)


@functools.cache
def validator(document: str, *names: str) -> jsonschema_rs.Validator:
    """Return what holds values against the schema at a place in a document."""
    schema = {"$ref": f"{BASE}{document}.json{pointer(*names)}"}
    return jsonschema_rs.Draft202012Validator(schema, registry=registry(), validate_formats=True)


def hold(value: Any, what: str, document: str, *names: str) -> None:
    """Fail for a value that a schema does not take, and say why."""
    faults = [
        f"{'.'.join(map(str, one.instance_path))}: {one.message[:300]}"
        for one in validator(document, *names).iter_errors(value)
    ]
    assert not faults, f"{what} is not as docs/{document}.yaml says: {faults[:5]}"


@attrs.frozen
class Operation:
    """An operation of openapi.yaml, and the places of it and of its answers in the document."""

    method: str
    path: str
    form: re.Pattern[str]
    content: Mapping[str, Any]
    parameters: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name: method and path."""
        return f"{self.method.upper()} {self.path}"

    @property
    def place(self) -> tuple[str, ...]:
        """Where it stands."""
        return ("paths", self.path, self.method)

    def answer(self, status: int) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """Return what is said of a status, and where."""
        said = self.content["responses"].get(str(status))
        assert said is not None, f"{self.name} answered {status}, which docs/openapi.yaml has not"
        if "$ref" in said:
            name = said["$ref"].rpartition("/")[2]
            return load_once("openapi")["components"]["responses"][name], (
                "components",
                "responses",
                name,
            )
        return said, (*self.place, "responses", str(status))


load_once = functools.cache(load)


@functools.cache
def operations() -> list[Operation]:
    """Return the operations of openapi.yaml, those of plain addresses first."""
    document = load_once("openapi")
    known = document["components"]["parameters"]
    found = []
    for path, item in document["paths"].items():
        form = re.sub(
            r"\\\{\w+\\\}", ".+" if path.startswith("/static") else "[^/]+", re.escape(path)
        )
        for method, content in item.items():
            given = (
                known[one["$ref"].rpartition("/")[2]] if "$ref" in one else one
                for one in content.get("parameters", [])
            )
            parameters = {one["name"].lower(): one for one in given}
            found.append(Operation(method, path, re.compile(form), content, parameters))
    return sorted(found, key=lambda one: one.path.count("{"))


def operation_of(method: str, path: str) -> Operation | None:
    """Return the operation of a request; None for an address or a method that there is not."""
    method = "get" if method == "HEAD" else method.lower()
    return next((o for o in operations() if o.method == method and o.form.fullmatch(path)), None)


def hold_answer(
    method: str, address: str, sent: bytes | None, status: int, headers: Any, body: bytes
) -> None:
    """Fail for an answer, or for a request that was taken, which openapi.yaml does not have."""
    if method == "OPTIONS":
        return
    path, query = split(address)
    media = headers.get("Content-Type", "").partition(";")[0]
    operation = operation_of(method, path)
    if operation is None and "/api/" not in f"{path}/":
        # A route of the test's own application.
        return
    if operation is None or status in (405, 500) or NOWHERE in body:
        # No address of this server, no method of its, or a fault of ours that a test has made.
        assert status >= 400, f"{method} {path} answered {status}: docs/openapi.yaml has no such"
        if method == "HEAD":
            return
        hold(json.loads(body), f"{method} {path}", "openapi", "components", "schemas", "Problem")
        return
    said, place = operation.answer(status)
    told = {name.lower() for name in headers} & set(TOLD)
    unsaid = told - {name.lower() for name in said.get("headers", {})}
    assert not unsaid, f"{operation.name} answered {status} with {unsaid}, which is not documented"
    if status < 300:
        _hold_request(operation, query, sent, body)
    content = said.get("content", {})
    if not content or not body:
        assert not body, f"{operation.name} answered {status} with a body, which is not documented"
        return
    assert media in content or "*/*" in content, f"{operation.name}: {media} is not documented"
    if media in (PROBLEM, "application/json"):
        what = f"the answer {status} to {operation.name}"
        hold(json.loads(body), what, "openapi", *place, "content", media, "schema")


def _hold_request(operation: Operation, query: str, sent: bytes | None, body: bytes) -> None:
    names = {name.lower() for name, value in parse_qsl(query)}
    unsaid = {name for name in names - ANYWHERE if name not in operation.parameters}
    assert not unsaid, f"{operation.name} took {unsaid}, which is not documented"
    said = operation.content.get("requestBody")
    # A worker is told what is wrong with an item; the others are taken.
    refused = operation.path.startswith("/api/worker/") and b'"bad_request"' in body
    if said is not None and sent and not refused:
        place = (*operation.place, "requestBody", "content", "application/json", "schema")
        hold(json.loads(sent), f"the body of {operation.name}", "openapi", *place)


def split(address: str) -> tuple[str, str]:
    """Return the path of an address, without a prefix, and its query."""
    path, _, query = address.partition("?")
    return path[path.find("/api/") :] if "/api/" in path else path, query


def hold_event(address: str, event: Mapping[str, str]) -> None:
    """Fail for an event of a stream that openapi.yaml does not have."""
    operation = operation_of("GET", split(address)[0])
    assert operation is not None, address
    content = operation.answer(200)[0]["content"][EVENTS]
    # On a stream of many topics any other message names its topic.
    name = event["event"] if event["event"] in content["x-events"] else "*"
    assert name in content["x-events"], f"{operation.name} sent {event['event']}"
    place = (*operation.place, "responses", "200", "content", EVENTS, "x-events", name)
    hold(json.loads(event["data"]), f"{event['event']} of {operation.name}", "openapi", *place)


@functools.cache
def channels() -> list[tuple[re.Pattern[str], str, Mapping[str, Any]]]:
    """Return the channels of asyncapi.yaml: the form of the address, the name, and the content."""
    found = load_once("asyncapi")["channels"]
    formed = (
        (re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(one["address"])), n) for n, one in found.items()
    )
    return [(re.compile(form), name, found[name]) for form, name in formed]


def hold_frame(address: str, frame: Mapping[str, Any]) -> None:
    """Fail for a frame from the server that asyncapi.yaml does not have."""
    path, _ = split(address)
    found = [(name, content) for form, name, content in channels() if form.fullmatch(path)]
    assert found, f"docs/asyncapi.yaml has no channel {path}"
    [(channel, content)] = found
    sent = sent_types(channel)
    assert frame.get("type") in sent, f"docs/asyncapi.yaml has no {frame.get('type')} of {path}"
    message = content["messages"][sent[frame["type"]]]["$ref"].rpartition("/")[2]
    what = f"{frame['type']} of {path}"
    hold(frame, what, "asyncapi", "components", "messages", message, "payload")


@functools.cache
def sent_types(channel: str) -> Mapping[str, str]:
    """Return what the server sends on a channel: the names of the messages, by their types."""
    document = load_once("asyncapi")
    listed = [
        one["$ref"].rpartition("/")[2]
        for operation in document["operations"].values()
        if operation["action"] == "send" and operation["channel"]["$ref"].endswith(f"/{channel}")
        for one in operation["messages"]
    ]
    messages = document["components"]["messages"]
    return {type_of(messages[_name_of(document, channel, one)]): one for one in listed}


def type_of(message: Mapping[str, Any]) -> str:
    """Return the `type` of a message's frames."""
    type_: str = message["payload"]["properties"]["type"]["const"]
    return type_


def _name_of(document: Mapping[str, Any], channel: str, message: str) -> str:
    name: str = document["channels"][channel]["messages"][message]["$ref"].rpartition("/")[2]
    return name


def references(value: Any) -> Iterator[str]:
    """Yield every `$ref` in a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from references(one)
