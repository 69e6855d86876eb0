"""`docs/openapi.yaml` is valid, is about the routes that there are, and is served."""

import json
import re
from typing import Any

import pytest
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

from settings import Settings
from tests.api import serving
from tests.conftest import ROOT
from tests.documents import (
    closed,
    hold,
    hold_answer,
    load,
    load_once,
    operation_of,
    operations,
    references,
)
from tests.test_security import ACTORS, SCOPES, served, table
from tornado_rt import __version__

Token = Any
NAMES = ("openapi", "asyncapi")
SECURE = ("bearer", "ticket", "token", "session")


def plain(name: str) -> str:
    """Return a request with all of its path's parameters named alike."""
    return re.sub(r"\{\w+\}", "{}", name)


def from_yaml(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load((ROOT / "docs" / f"{name}.yaml").read_text(), Loader)
    return document


class Loader(yaml.CSafeLoader):
    """Reads YAML, and takes no name twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {name for name in names if names.count(name) > 1}
        assert not twice, f"{twice} twice: {node.start_mark}"
        return super().construct_mapping(node, deep)


def responses() -> list[tuple[str, str, dict[str, Any]]]:
    """Return each answer of each operation, its status before it."""
    return [
        (operation.name, status, dict(operation.answer(int(status))[0]))
        for operation in operations()
        for status in operation.content["responses"]
    ]


def test_document_is_valid() -> None:
    OpenAPIV31SpecValidator(from_yaml("openapi")).validate()
    assert load("openapi")["info"]["version"] == __version__


def test_document_has_every_route_and_no_other() -> None:
    found = {plain(one.name) for one in operations()}
    assert found == {plain(name) for name in served() if not name.startswith("WS ")}


def test_no_two_paths_are_one() -> None:
    paths = [plain(path) for path in load("openapi")["paths"]]
    assert len(paths) == len(set(paths))


def test_every_operation_is_whole() -> None:
    names = [one.content["operationId"] for one in operations()]
    assert len(names) == len(set(names))
    tags = {one["name"] for one in load("openapi")["tags"]}
    for one in operations():
        assert one.content["summary"], one.name
        assert set(one.content["tags"]) <= tags, one.name
        in_path = {name for name, said in one.parameters.items() if said["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", one.path)), one.name
        assert "422" in one.content["responses"] or "requestBody" not in one.content, one.name


def test_parameters_are_bounded() -> None:
    """Each has a length, a form, a range, or a few values."""
    bounds = {"maxLength", "pattern", "maximum", "enum", "const", "format", "maxItems", "items"}
    for one in operations():
        for name, said in one.parameters.items():
            schema = said["schema"]
            free = schema.get("type") == "boolean" or name in ("topics", "path")
            assert free or bounds & schema.keys(), f"{one.name}: {name}"


def test_every_refusal_is_a_problem_document() -> None:
    for name, status, said in responses():
        if int(status) >= 400:
            assert list(said["content"]) == ["application/problem+json"], f"{name} {status}"
        if status in ("429", "503"):
            assert "Retry-After" in said["headers"], f"{name} {status}"


def test_security_is_that_of_the_table() -> None:
    """The scope that an operation names is the one without which docs/security.md has 403."""
    rows = {plain(name): dict(zip(ACTORS, cells, strict=True)) for name, cells in table("Routes")}
    for one in operations():
        cells = rows[plain(one.name)]
        given = one.content.get("security", load_once("openapi")["security"])
        scopes = {scope for way in given for named in way.values() for scope in named}
        if given and {} not in given:
            assert {name for way in given for name in way} == set(SECURE), one.name
            assert cells["anonymous"] == "401", one.name
        else:
            assert cells["anonymous"] != "401", one.name
        if scopes and "rt:admin" not in scopes:
            assert {cells[actor] for actor, scope in SCOPES.items() if scope in scopes} != {"403"}
        refused = cells["owner"] == "403"
        assert refused == bool(scopes), f"{one.name}: {scopes}"
        if scopes == {"rt:admin"}:
            assert cells["publisher"] == cells["worker"] == "403", one.name


def examples() -> list[tuple[str, tuple[str, ...], Any]]:
    """Return every example: where its content stands, and the value."""
    found = []
    for one in operations():
        places = [(("requestBody", "content"), one.content.get("requestBody", {}))]
        places += [(("responses", s, "content"), r) for s, r in one.content["responses"].items()]
        for place, said in places:
            for media, content in said.get("content", {}).items():
                values = [e["value"] for e in content.get("examples", {}).values()]
                values += [content["example"]] if "example" in content else []
                found += [(one.name, (*one.place, *place, media, "schema"), v) for v in values]
    return found


def test_examples_are_as_their_schemas_say() -> None:
    assert len(examples()) > 30
    for name, place, value in examples():
        hold(value, f"an example of {name}", "openapi", *place)


def test_every_json_body_has_an_example() -> None:
    named = {name for name, place, _ in examples() if "requestBody" in place}
    assert named == {one.name for one in operations() if "requestBody" in one.content}


def test_nothing_in_the_document_is_unused() -> None:
    document, others = load("openapi"), load("asyncapi")
    used = {one.rpartition("#")[2] for one in [*references(document), *references(others)]}
    for section in ("schemas", "parameters", "headers", "responses"):
        have = {f"/components/{section}/{name}" for name in document["components"][section]}
        assert have - used == set(), section


@pytest.mark.gen_test
async def test_documents_are_served_to_everybody_and_named_by_their_content(
    settings: Settings,
) -> None:
    async with serving(settings, "") as client:
        for name in NAMES:
            as_yaml = await client.get(f"/api/{name}.yaml")
            assert as_yaml.headers["Content-Type"] == "application/yaml"
            assert as_yaml.body == (ROOT / "docs" / f"{name}.yaml").read_bytes()
            as_json = await client.get(f"/api/{name}.json")
            assert as_json.headers["Content-Type"] == "application/json"
            assert as_json.body == load(name)
            for path, answer in (("yaml", as_yaml), ("json", as_json)):
                again = {"If-None-Match": answer.headers["Etag"]}
                assert (await client.get(f"/api/{name}.{path}", **again)).status == 304


@pytest.mark.gen_test
async def test_documents_name_the_prefix_that_they_are_under(settings: Settings) -> None:
    async with serving(settings.changed(prefix="/rt"), "") as client:
        described = (await client.get("/api/openapi.json")).body
        assert described["servers"] == [{"url": "/rt"}]
        described = (await client.get("/api/asyncapi.json")).body
        assert described["servers"]["server"]["pathname"] == "/rt"
        as_yaml = yaml.load((await client.get("/api/openapi.yaml")).body, yaml.CSafeLoader)
        assert as_yaml["servers"] == [{"url": "/rt"}]


HEADERS = {"Content-Type": "application/json"}


def test_what_is_not_documented_fails() -> None:
    """The clients of the tests notice a member, a status, a header and an argument too many."""
    stats = dict.fromkeys(("queued", "processing", "completed", "failed", "cancelled"), 0)
    stats |= {"dead": 0, "delayed": 0}
    hold_answer("GET", "/api/queue/stats", None, 200, HEADERS, as_body(stats))
    for status, headers, query, body in (
        (200, HEADERS, "", stats | {"lost": 0}),
        (200, HEADERS, "", stats | {"dead": -1}),
        (200, HEADERS, "", {"dead": 0}),
        (201, HEADERS, "", stats),
        (200, HEADERS | {"Location": "/"}, "", stats),
        (200, HEADERS, "?limit=1", stats),
        (200, {"Content-Type": "text/plain"}, "", stats),
    ):
        with pytest.raises(AssertionError, match=r"docs/openapi|documented"):
            hold_answer("GET", f"/api/queue/stats{query}", None, status, headers, as_body(body))
    with pytest.raises(AssertionError, match="has no such"):
        hold_answer("GET", "/api/nothing", None, 200, HEADERS, b"{}")
    assert operation_of("PUT", "/api/queue/stats") is None


def as_body(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_closed_reading_reaches_every_object() -> None:
    def objects(value: Any) -> list[Any]:
        inner = value.values() if isinstance(value, dict) else value
        found = (
            [one for part in inner for one in objects(part)]
            if isinstance(value, dict | list)
            else []
        )
        is_one = isinstance(value, dict) and isinstance(value.get("properties"), dict)
        return [value, *found] if is_one else found

    found = objects(closed(load("openapi")))
    assert len(found) > 100
    opened = [one for one in found if one["additionalProperties"] is not False]
    assert opened == []
