"""Kinds: their modules, their parameters, their schemas, and those of other processes."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from services.kinds import (
    BadSchema,
    KindError,
    KindRegistry,
    KindUnknown,
    KnownKind,
    NotDescribed,
    ParamsFault,
    ParamsReader,
    SchemaReader,
    describe,
    entry_of,
    has_label_everywhere,
    load_kinds,
    reader_of,
    schema_of,
)
from services.kinds.known import LocalKind, SharedKind
from services.queue import QueueService
from services.queue.models import KindEntry, KindLimits, KindState
from settings import Settings
from tests.kinds_of_tests import Codec, Cut, Nothing, Report, Transcode, bare, report, transcode
from tests.modules import GOOD, Write
from tests.timing import cpu_seconds
from tornado_rt.bounds import name_of
from tornado_rt.json_body import TOLD_CHARACTERS, TOLD_FAULTS
from tornado_rt.work import Kind, first_fragment

# Processor time of the loop that parameters may cost [s].
LOOP_SECONDS = 0.35

FILM = {"path": "a.mov"}


def faults_of(reader: ParamsReader | SchemaReader, params: Any, **more: Any) -> list[str]:
    """Return what is told of wrong parameters."""
    with pytest.raises(ParamsFault) as refused:
        reader.read(params, **more)
    assert str(refused.value) == "; ".join(refused.value.faults)
    return refused.value.faults


# The faults that both readers find: that of the class, and that of its schema.
FAULTS: list[tuple[Any, str]] = [
    ([1], "params must be a JSON object"),
    (None, "params must be a JSON object"),
    ("x", "params must be a JSON object"),
    ({}, "params.path is required"),
    ({"path": 5}, "params.path must be a string"),
    ({"path": None}, "params.path must be a string"),
    (FILM | {"preset": "4k"}, "params.preset must be one of 720p, 1080p"),
    (FILM | {"preset": 5}, "params.preset must be one of 720p, 1080p"),
    (FILM | {"codec": "vp9"}, "params.codec must be one of h264, av1"),
    (FILM | {"codec": ["h264"]}, "params.codec must be one of h264, av1"),
    (FILM | {"crf": "23"}, "params.crf must be an integer"),
    (FILM | {"crf": True}, "params.crf must be an integer"),
    (FILM | {"crf": 23.0}, "params.crf must be an integer"),
    (FILM | {"scale": "1"}, "params.scale must be a number"),
    (FILM | {"scale": False}, "params.scale must be a number"),
    (FILM | {"cuts": {}}, "params.cuts must be a list"),
    (FILM | {"cuts": "ab"}, "params.cuts must be a list"),
    (FILM | {"cuts": [5]}, "params.cuts[0] must be a JSON object"),
    (FILM | {"cuts": [{"begin": 1}]}, "params.cuts[0].end is required"),
    (
        FILM | {"cuts": [{"begin": 1, "end": 2}, {"begin": 1, "end": "2"}]},
        "params.cuts[1].end must be a number",
    ),
    (
        FILM | {"cuts": [{"begin": 1, "end": 2, "by": 3}]},
        "params.cuts[0] has unknown fields: by",
    ),
    (FILM | {"labels": []}, "params.labels must be a JSON object"),
    (FILM | {"labels": {"de": 5}}, "params.labels.de must be a string"),
    (FILM | {"size": [1]}, "params.size must have 2 items"),
    (FILM | {"size": [1, 2, 3]}, "params.size must have 2 items"),
    (FILM | {"size": [1, "2"]}, "params.size[1] must be an integer"),
    (FILM | {"size": 5}, "params.size must be a list"),
    (FILM | {"starts": "soon"}, "params.starts must be a time such as 2026-01-02T03:04:05Z"),
    (FILM | {"starts": 5}, "params.starts must be a string"),
    (FILM | {"poster": 5}, "params.poster must be a string"),
    (FILM | {"z": 1, "y": 2}, "params has unknown fields: z, y"),
    (FILM | {"z" * 99: 1}, f"params has unknown fields: {'z' * 39}…"),
    (FILM | {"a\nb": 1}, "params has unknown fields: a b"),
]


@pytest.mark.parametrize(("params", "told"), FAULTS)
def test_fault_is_told_in_the_same_words_by_class_and_by_schema(params: Any, told: str) -> None:
    assert faults_of(reader_of(Transcode), params) == [told]
    assert faults_of(SchemaReader(schema_of(Transcode)), params) == [told]


def test_every_fault_is_told_at_its_place() -> None:
    params = {
        "path": "",
        "preset": 1,
        "crf": 99,
        "cuts": [{"begin": "x"}, {}],
        "size": ["a", 2],
        "other": None,
    }
    assert faults_of(reader_of(Transcode), params) == [
        "params has unknown fields: other",
        "params.preset must be one of 720p, 1080p",
        "params.cuts[0].begin must be a number",
        "params.cuts[0].end is required",
        "params.cuts[1].begin is required",
        "params.cuts[1].end is required",
        "params.size[0] must be an integer",
        "params.path must have 1 to 200 characters",
        "params.crf must be from 0 to 51",
    ]


def test_what_a_class_refuses_by_itself_is_told_at_its_place() -> None:
    cuts = [{"begin": 1, "end": 2}, {"begin": 5, "end": 2}]
    assert faults_of(reader_of(Transcode), FILM | {"cuts": cuts}) == [
        "params.cuts[1] is not valid: a cut ends after it begins"
    ]


def test_place_may_be_another() -> None:
    assert faults_of(reader_of(Transcode), {}, place="items[3].params") == [
        "items[3].params.path is required"
    ]


def test_parameters_are_read_into_the_class_and_written_with_their_defaults() -> None:
    params = {
        "path": "a.mov",
        "codec": "av1",
        "cuts": [{"begin": 1, "end": 2.5}],
        "scale": 2,
        "labels": {"de": "Film"},
        "size": [640, 480],
        "starts": "2026-01-02T03:04:05Z",
        "poster": "/tmp/a.png",
        "extra": [1, {"a": None}],
    }
    read, written = reader_of(Transcode).read(params)
    assert read == Transcode(
        path="a.mov",
        codec=Codec.AV1,
        cuts=[Cut(1.0, 2.5)],
        scale=2.0,
        labels={"de": "Film"},
        size=(640, 480),
        starts=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        poster=Path("/tmp/a.png"),
        extra=[1, {"a": None}],
    )
    assert written == params | {
        "preset": "1080p",
        "crf": 23,
        "starts": "2026-01-02T03:04:05+00:00",
    }
    assert list(written) == [field.name for field in attrs.fields(Transcode)]
    assert reader_of(Transcode).read(written) == (read, written)


def test_reading_does_not_change_what_it_is_given() -> None:
    params = {"path": "a", "extra": {"list": [1]}}
    read, written = reader_of(Transcode).read(params)
    written["extra"]["list"].append(2)
    assert params == {"path": "a", "extra": {"list": [1]}}
    assert read.extra == {"list": [1]}


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


UserId = NewType("UserId", str)


@attrs.frozen
class Node:
    name: str
    children: "list[Node]" = attrs.Factory(list)


@attrs.frozen
class Wide:
    """One field of each type."""

    level: Level | None = None
    colours: frozenset[Colour] = frozenset()
    weights: dict[Colour, float] = attrs.Factory(dict)
    rates: dict[Codec, float] = attrs.Factory(dict)
    one: Literal[1, True, "x", None] = 1
    either: int | str | list[int] | None = None
    number: float | int = 1
    node: Node | None = None
    day: date | None = None
    key: UUID | None = None
    user: UserId = UserId("u")
    meant: Annotated[int, "a note"] = 0
    pairs: tuple[tuple[str, int], ...] = ()
    tags: set[str] = attrs.Factory(set)
    free: dict = attrs.Factory(dict)  # type: ignore[type-arg]
    many: list = attrs.Factory(list)  # type: ignore[type-arg]
    anything: object = None
    made: int = attrs.field(default=1, init=False)


WIDE: list[tuple[str, Any, Any]] = [
    ("level", 2, Level.HIGH),
    ("colours", ["red", "red"], frozenset({Colour.RED})),
    ("weights", {"red": 1}, {Colour.RED: 1.0}),
    ("rates", {"av1": 1}, {Codec.AV1: 1.0}),
    ("one", True, True),
    ("one", None, None),
    ("either", "x", "x"),
    ("either", 3, 3),
    ("either", [3], [3]),
    ("number", 2, 2),
    ("number", 2.5, 2.5),
    ("node", {"name": "a", "children": [{"name": "b"}]}, Node("a", [Node("b")])),
    ("day", "2026-01-02", date(2026, 1, 2)),
    ("key", "12345678-1234-5678-1234-567812345678", UUID("12345678123456781234567812345678")),
    ("user", "bob", "bob"),
    ("meant", 5, 5),
    ("pairs", [["a", 1], ["b", 2]], (("a", 1), ("b", 2))),
    ("tags", ["b", "a"], {"a", "b"}),
    ("free", {"a": [1]}, {"a": [1]}),
    ("many", [1, "a"], [1, "a"]),
    ("anything", [None], [None]),
]


@pytest.mark.parametrize(("name", "value", "read"), WIDE)
def test_each_type_is_read_and_written(name: str, value: Any, read: Any) -> None:
    reader = reader_of(Wide)
    found, written = reader.read({name: value})
    assert getattr(found, name) == read
    assert type(getattr(found, name)) is type(read)
    assert reader.read(written) == (found, written)
    assert orjson.loads(orjson.dumps(written)) == written
    assert SchemaReader(schema_of(Wide)).read({name: value})[name] == value


WIDE_FAULTS: list[tuple[str, Any, str]] = [
    ("level", 3, "params.level must be one of 1, 2"),
    ("level", 1.0, "params.level must be one of 1, 2"),
    ("colours", ["green"], "params.colours[0] must be one of red, blue"),
    ("weights", {"green": 1}, "params.weights has unknown fields: green"),
    ("weights", {"red": "1"}, "params.weights.red must be a number"),
    ("one", "y", "params.one must be one of 1, true, x, null"),
    ("either", 1.5, "params.either must be a string or an integer or a list"),
    ("either", ["x"], "params.either[0] must be an integer"),
    ("number", "1", "params.number must be a number"),
    ("node", {"name": "a", "children": [{"nam": "b"}]}, "params.node.children[0] has unknown"),
    ("day", "tomorrow", "params.day must be a date such as 2026-01-02"),
    ("key", "xyz", "params.key must be a UUID"),
    ("user", 5, "params.user must be a string"),
    ("pairs", [["a"]], "params.pairs[0] must have 2 items"),
    ("tags", "ab", "params.tags must be a list"),
    ("free", [], "params.free must be a JSON object"),
    ("many", {}, "params.many must be a list"),
    ("made", 2, "params has unknown fields: made"),
]


@pytest.mark.parametrize(("name", "value", "told"), WIDE_FAULTS)
def test_fault_of_each_type_is_told_the_same_by_class_and_by_schema(
    name: str, value: Any, told: str
) -> None:
    [fault, *_] = faults_of(reader_of(Wide), {name: value})
    assert fault.startswith(told)
    assert faults_of(SchemaReader(schema_of(Wide)), {name: value})[0] == fault


@attrs.frozen
class Checked:
    """Validators and converters of attrs, and an author's own."""

    count: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    name: str = attrs.field(default="a", validator=attrs.validators.matches_re("[a-z]+"))
    kind: str = attrs.field(default="a", validator=attrs.validators.in_(["a", "b"]))
    tags: list[str] = attrs.field(
        factory=list, validator=attrs.validators.deep_iterable(name_of(3))
    )
    even: int = attrs.field(default=2)
    below: int = attrs.field(default=0)
    port: str = attrs.field(default="1", converter=lambda text: str(int(text)))
    size: float = attrs.field(default=1.0, validator=attrs.validators.instance_of(float))
    key: str = attrs.field(default="a", validator=lambda _, __, value: {"a": 1}[value])

    @even.validator
    def _check_even(self, _: Any, value: int) -> None:
        if value % 2:
            raise ValueError("an odd number")

    @below.validator
    def _check_below(self, field: Any, value: int) -> None:
        if value >= self.count:
            raise ValueError(f"{field.name} must be less than count")


CHECKED: list[tuple[dict[str, Any], list[str]]] = [
    ({"count": 0, "below": -1}, ["params.count must be at least 1"]),
    ({"name": "A"}, ["params.name must match the pattern [a-z]+"]),
    ({"kind": "c"}, ["params.kind must be one of a, b"]),
    (
        {"tags": ["long", "ab", ""]},
        [
            "params.tags[0] must have 1 to 3 characters",
            "params.tags[2] must have 1 to 3 characters",
        ],
    ),
    ({"even": 3}, ["params.even: an odd number"]),
    ({"below": 5}, ["params.below must be less than count"]),
    ({"port": "x"}, ["params.port is not valid: invalid literal for int() with base 10: 'x'"]),
    ({"key": "b"}, ["params.key is not valid: KeyError b"]),
    # The value of `count` is not known.
    ({"below": 5, "count": "x"}, ["params.count must be an integer"]),
]


@pytest.mark.parametrize(("params", "told"), CHECKED)
def test_validators_are_told_without_objects_of_python(
    params: dict[str, Any], told: list[str]
) -> None:
    found = faults_of(reader_of(Checked), params)
    assert len(found) == len(told)
    for fault, words in zip(found, told, strict=True):
        assert fault.startswith(words)


v = attrs.validators


@attrs.frozen
class Worded:
    """The validators of attrs, of which each has words for a person."""

    other: int = attrs.field(default=1, validator=v.not_(v.in_([5])))
    named: int = attrs.field(default=1, validator=v.not_(v.in_([5]), msg="five is taken"))
    either: int = attrs.field(default=1, validator=v.or_(v.in_([1]), v.ge(10)))
    each: list[int] = attrs.field(factory=list, validator=v.deep_iterable(v.ge(0)))
    pairs: list[list[int]] = attrs.field(
        factory=list, validator=v.deep_iterable(v.deep_iterable(v.lt(9)), v.max_len(2))
    )
    ages: dict[str, int] = attrs.field(
        factory=dict, validator=v.deep_mapping(v.matches_re("[a-z]+"), v.ge(0))
    )
    line: str = attrs.field(default="a", validator=v.matches_re(r"[^\r\n]+"))
    day: date = attrs.field(default=date(2026, 1, 1), validator=v.ge(date(2026, 1, 1)))
    few: set[str] = attrs.field(factory=set, validator=v.max_len(1))
    hue: Colour = attrs.field(default=Colour.RED, validator=v.in_([Colour.RED]))
    typed: Any = attrs.field(default=1, validator=v.instance_of((int, str)))
    maybe: int | None = attrs.field(
        default=None, validator=v.optional([v.instance_of(int), v.ge(2**60)])
    )
    null: int | None = attrs.field(default=1, validator=v.ge(0))


WORDED: list[tuple[dict[str, Any], list[str]]] = [
    ({"other": 5}, ["params.other is not allowed"]),
    ({"named": 5}, ["params.named: five is taken"]),
    ({"either": 5}, ["params.either must be one of 1 or must be at least 10"]),
    (
        {"each": [-1, 1, -2]},
        ["params.each[0] must be at least 0", "params.each[2] must be at least 0"],
    ),
    ({"pairs": [[1], [1, 9]]}, ["params.pairs[1][1] must be less than 9"]),
    ({"pairs": [[1]] * 3}, ["params.pairs must have at most 2 items"]),
    (
        {"ages": {"a": -1, "B": 1}},
        ["params.ages.a must be at least 0", "params.ages.B must match the pattern [a-z]+"],
    ),
    ({"line": ""}, [r"params.line must match the pattern [^\r\n]+"]),
    ({"day": "2025-01-01"}, ["params.day must be at least 2026-01-01"]),
    ({"few": ["a", "b"]}, ["params.few must have at most 1 items"]),
    ({"hue": "blue"}, ["params.hue must be one of red"]),
    ({"typed": 1.5}, ["params.typed must be a string or an integer"]),
    ({"maybe": 3}, [f"params.maybe must be at least {2**60}"]),
    ({"null": None}, ["params.null must be at least 0"]),
    # All of them at once.
    (
        {"other": "x", "each": [-1], "line": ""},
        [
            "params.other must be an integer",
            "params.each[0] must be at least 0",
            r"params.line must match the pattern [^\r\n]+",
        ],
    ),
]


@pytest.mark.parametrize(("params", "told"), WORDED)
def test_validators_of_attrs_are_told_in_words_at_the_place(
    params: dict[str, Any], told: list[str]
) -> None:
    assert faults_of(reader_of(Worded), params) == told


def count_from_1(_: Any, __: Any, value: int) -> None:
    if value < 1:
        # As `assert` does without pytest.
        raise AssertionError("it counts from 1")


def bare_assert(_: Any, __: Any, value: int) -> None:
    if value < 1:
        raise AssertionError


def look_up(_: Any, __: Any, value: str) -> None:
    {"a": 1}[value]


def at_most(instance: Any, _: Any, value: int) -> None:
    if value > instance.most():
        raise RuntimeError("it is too large")


@attrs.frozen
class Raising:
    """Validators that raise anything, and look at the object."""

    n: int = attrs.field(default=1, validator=count_from_1)
    m: int = attrs.field(default=1, validator=bare_assert)
    key: str = attrs.field(default="a", validator=look_up)
    last: int = attrs.field(default=0, validator=at_most)

    def most(self) -> int:
        """Return how large `last` may be."""
        return self.n * 10


RAISING: list[tuple[dict[str, Any], list[str]]] = [
    ({"n": 0}, ["params.n is not valid: it counts from 1"]),
    ({"m": 0}, ["params.m is not valid: AssertionError"]),
    ({"last": 11}, ["params.last is not valid: RuntimeError it is too large"]),
    # It needs `n`, which could not be read.
    ({"n": "x", "last": 11}, ["params.n must be an integer"]),
    (
        {"m": "x", "n": 0, "key": "b", "last": 11},
        [
            "params.m must be an integer",
            "params.n is not valid: it counts from 1",
            "params.key is not valid: KeyError b",
            "params.last is not valid: RuntimeError it is too large",
        ],
    ),
]


@pytest.mark.parametrize(("params", "told"), RAISING)
def test_whatever_a_validator_raises_is_told_at_its_place(
    params: dict[str, Any], told: list[str]
) -> None:
    assert faults_of(reader_of(Raising), params) == told


def test_default_that_json_cannot_hold_is_told_at_its_place() -> None:
    @attrs.frozen
    class Endless:
        size: float = float("inf")

    assert reader_of(Endless).default_faults() == [
        "params.size holds a number that JSON does not have: inf"
    ]


def test_default_that_its_class_refuses_is_told_at_its_place() -> None:
    @attrs.frozen
    class Odd:
        name: str
        size: int = attrs.field(default=0, validator=attrs.validators.gt(0))

    assert faults_of(reader_of(Odd), {"name": "a"}) == ["params.size must be more than 0"]


def test_no_class_of_python_is_told() -> None:
    @attrs.frozen
    class Wrong:
        size: int = attrs.field(default=1, validator=attrs.validators.instance_of(str))

    [told] = faults_of(reader_of(Wrong), {"size": 5})
    assert told == "params.size must be a string"


def test_first_faults_are_told_and_the_others_counted() -> None:
    told = faults_of(reader_of(Node), {"name": "a", "children": [{}] * 100})
    assert len(told) == TOLD_FAULTS + 1
    assert told[0] == "params.children[0].name is required"
    assert told[-1] == "and 80 more"
    assert faults_of(SchemaReader(schema_of(Node)), {"name": "a", "children": [{}] * 100}) == told
    assert faults_of(reader_of(Node), {"name": "a", "children": [{}] * 9000})[-1] == "and more"


def test_each_fault_is_short() -> None:
    @attrs.frozen
    class Deep:
        inner: "dict[str, Deep] | None" = None

    deep: dict[str, Any] = {"inner": 5}
    for _ in range(12):
        deep = {"inner": {"n" * 90: deep}}
    Deep.__annotations__["inner"] = dict[str, Deep] | None
    [told] = faults_of(reader_of(Deep), deep)
    assert len(told) == TOLD_CHARACTERS


BOUNDS: list[tuple[Any, str]] = [
    ({"extra": "x" * 65536}, "params has 65563 bytes as JSON; at most 65536 are allowed"),
    ({"extra": float("nan")}, "params holds a number that JSON does not have: nan"),
    ({"extra": 2**70}, "params holds an integer of more than 64 bits"),
    ({"extra": "\ud800"}, "params holds a lone surrogate, which is no text"),
    ({"extra": {1: 2}}, "params is not JSON: Dict key must be str"),
    ({"extra": object()}, "params is not JSON: Type is not JSON serializable: object"),
]


@pytest.mark.parametrize(("params", "told"), BOUNDS)
def test_parameters_are_json_within_bounds(params: Any, told: str) -> None:
    assert faults_of(reader_of(Transcode), FILM | params) == [told]
    assert faults_of(SchemaReader(schema_of(Transcode)), FILM | params) == [told]


def test_parameters_nest_within_bounds() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    told = ["params nests deeper than 32 levels"]
    assert faults_of(reader_of(Transcode), FILM | {"extra": deep}) == told
    assert faults_of(SchemaReader(schema_of(Transcode)), FILM | {"extra": deep}) == told


def test_defaults_count_too() -> None:
    """So that a small request cannot become a large task."""

    @attrs.frozen
    class Long:
        text: str = "x" * 1000

    @attrs.frozen
    class Many:
        items: list[Any] = attrs.Factory(list)

    Many.__annotations__["items"] = list[Long]
    [told] = faults_of(ParamsReader(Many), {"items": [{}] * 100})
    assert told == "params with its defaults has 101211 bytes as JSON; at most 65536 are allowed"
    assert ParamsReader(Many).read({"items": [{}] * 100}, most_bytes=0)


LARGE: list[Any] = [
    {"name": "a", "children": [{"name": "b"}] * 4500},
    {"name": "a", "children": [{}] * 21_000},
    {"name": "a", "children": [1] * 32_000},
    {"name": "a", "children": ["x"] * 16_000},
    {str(n): 1 for n in range(7000)},
    [{}] * 21_000,
]


@pytest.mark.parametrize("params", LARGE)
def test_large_parameters_do_not_hold_up_the_loop(params: Any) -> None:
    for reader in (reader_of(Node), SchemaReader(schema_of(Node))):
        with cpu_seconds() as taken:
            with contextlib.suppress(ParamsFault):
                reader.read(params)
            assert taken() < LOOP_SECONDS


UNREADABLE: list[tuple[Any, str]] = [
    (bytes, "x: no JSON is read into bytes"),
    (complex, "x: no JSON is read into complex"),
    (list[bytes], "x: no JSON is read into bytes"),
    (dict[int, str], "x: no JSON is read into dict"),
    (set[list[int]], "x: no JSON is read into set"),
    (Callable, "x: no JSON is read into"),
    (Literal[b"a"], "x: no JSON is read into"),
    (Enum("Pair", {"ONE": (1, 2)}), "x: no JSON is read into Pair"),
    (Enum("Listed", {"ONE": [1, 2]}), "x: no JSON is read into Listed"),
    (Node | Cut, "x: JSON does not tell apart what"),
    (list[int] | tuple[str, str], "x: JSON does not tell apart what"),
    ("Nowhere", "a type in Odd is not to be found: name 'Nowhere' is not defined"),
    ("attrs.Nowhere", "a type in Odd is not to be found: module attrs has no attribute"),
    ("list[", "a type in Odd cannot be read: "),
]


@pytest.mark.parametrize(("shape", "told"), UNREADABLE)
def test_class_that_json_has_nothing_for_is_refused(shape: Any, told: str) -> None:
    odd = attrs.make_class("Odd", {"x": attrs.field(type=shape)})
    odd.__annotations__ = {"x": shape}
    for _ in range(2):
        with pytest.raises(TypeError) as refused:
            ParamsReader(odd)
        assert str(refused.value).startswith(told)
    with pytest.raises(NotDescribed):
        describe(odd)
    schema = schema_of(odd)
    assert schema["title"] == "Odd"
    assert told.split(":")[0] in schema["$comment"]
    assert SchemaReader(schema).read({"any": 1}) == {"any": 1}


def test_schema_is_an_object_with_what_it_refers_to_beside() -> None:
    schema = schema_of(Transcode)
    assert (schema["title"], schema["type"]) == ("Transcode", "object")
    assert schema["description"] == "A film to be written in another size."
    assert schema["required"] == ["path"]
    assert schema["additionalProperties"] is False
    assert list(schema["properties"]) == [field.name for field in attrs.fields(Transcode)]
    assert schema["properties"]["codec"] == {
        "enum": ["h264", "av1"],
        "default": "h264",
    }
    assert schema["properties"]["poster"] == {
        "type": "string",
        "format": "path",
        "default": "poster.png",
    }
    assert schema["properties"]["cuts"]["default"] == []
    assert list(schema["$defs"]) == ["Cut"]
    assert schema["$defs"]["Cut"]["additionalProperties"] is False
    Draft202012Validator.check_schema(schema)


@attrs.frozen
class Titled:
    """Choices of each sort, some with titles."""

    codec: Codec = attrs.field(default=Codec.H264, metadata={"titles": {Codec.AV1: "AV1 (slow)"}})
    depth: Literal[1, True, None] | str = attrs.field(
        default=1, metadata={"titles": {True: "as deep as can be"}}
    )
    many: list[Codec | None] = attrs.field(factory=list, metadata={"titles": {"h264": "H.264"}})
    each: dict[Codec, int] = attrs.field(factory=dict, metadata={"titles": {"h264": "H.264"}})
    size: str = attrs.field(
        default="s", validator=attrs.validators.in_(["s", "l"]), metadata={"titles": {"l": "Large"}}
    )


def test_schema_names_choices_beside_their_values() -> None:
    """A value without a title is its own; the values that are read are the same."""
    schema = describe(Titled)
    found = schema["properties"]
    codecs = {"enum": ["h264", "av1"], "enumNames": ["H.264", "av1"]}
    assert found["codec"]["enumNames"] == ["h264", "AV1 (slow)"]
    assert found["depth"]["anyOf"][0] == {
        "enum": [1, True, None],
        "enumNames": ["1", "as deep as can be", "null"],
    }
    assert found["many"]["items"]["anyOf"][0] == found["each"]["propertyNames"] == codecs
    assert (found["size"]["enum"], found["size"]["enumNames"]) == (["s", "l"], ["s", "Large"])
    Draft202012Validator.check_schema(schema)
    for reader in (reader_of(Titled), SchemaReader(schema)):
        assert faults_of(reader, {"codec": "AV1 (slow)"}) == [
            "params.codec must be one of h264, av1"
        ]
        reader.read({"codec": "av1", "size": "l"})


@pytest.mark.parametrize(
    ("titles", "told"),
    [
        ({"h265": "H.265"}, "codec has a title of 'h265', which it does not take"),
        ({1: "One"}, "codec has a title of 1, which it does not take"),
        ({"av1": 1}, "codec has a title that is no text: 1"),
    ],
)
def test_title_of_no_choice_is_told(titles: Any, told: str) -> None:
    cls = attrs.make_class(
        "Params", {"codec": attrs.field(type=Codec, metadata={"titles": titles})}
    )
    with pytest.raises(NotDescribed) as refused:
        describe(cls)
    assert str(refused.value) == f"Params cannot be described: {told}"


def test_class_that_holds_itself_refers_to_itself() -> None:
    schema = schema_of(Node)
    assert schema["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}
    assert list(schema["$defs"]) == ["Node"]
    assert schema_of(Nothing) == {
        "title": "Nothing",
        "description": "No parameters.",
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }


def test_default_that_is_made_anew_is_not_in_the_schema() -> None:
    @attrs.frozen
    class Daily:
        day: date = attrs.Factory(date.today)
        cut: Cut = attrs.Factory(lambda: Cut(1, 2))
        nodes: list[int] = attrs.Factory(list)

    schema = describe(Daily)
    assert "required" not in schema or schema["required"] == []
    assert ["default" in one for one in schema["properties"].values()] == [False, False, True]
    assert SchemaReader(schema).read({}) == {"nodes": []}


def test_schema_that_is_too_large_takes_any_object() -> None:
    fields = {f"field_{n}": attrs.field(type=str, default="x" * 50) for n in range(1000)}
    schema = schema_of(attrs.make_class("Large", fields))
    assert "the schema has" in schema["$comment"]
    assert SchemaReader(schema).read({"a": 1}) == {"a": 1}


def test_default_is_what_its_converter_makes_of_it() -> None:
    """For its type, by class and by schema; it is no fault of the class."""

    def refuse(_: Any) -> str:
        raise RuntimeError("never")

    @attrs.frozen
    class Converted:
        port: str = attrs.field(default=80, converter=str)
        many: list[int] = attrs.field(factory=tuple, converter=list)
        own: int = attrs.field(
            default="5", converter=attrs.Converter(lambda one, _: int(one), takes_self=True)
        )

    assert reader_of(Converted).default_faults() == []
    assert reader_of(Converted).read({})[1] == {"port": "80", "many": [], "own": 5}
    assert SchemaReader(describe(Converted)).read({}) == {"port": "80", "many": []}
    bad = attrs.make_class("Bad", {"x": attrs.field(default="a", converter=refuse)})
    bad.__annotations__ = {"x": str}
    assert ParamsReader(bad).default_faults() == ["params.x is not valid: RuntimeError never"]
    assert SchemaReader(describe(bad)).read({}) == {}


def test_class_as_deep_as_parameters_may_be_is_known_to_all() -> None:
    """Its schema stands some levels down in what a process tells of the kind."""
    shape: Any = int
    for _ in range(29):
        shape = list[shape]  # type: ignore[valid-type]
    deep = attrs.make_class("Deep", ["x"])
    deep.__annotations__ = {"x": shape}
    for known in both(handled(Kind("deep", deep))):
        assert known.read_params({"x": []}) == {"x": []}
        with pytest.raises(ParamsFault, match=r"^params.x must be a list$"):
            known.read_params({"x": 5})


def test_list_with_a_bound_has_it_in_the_schema() -> None:
    @attrs.frozen
    class Few:
        names: list[str] = attrs.field(factory=list, metadata={"most_items": 2})

    for reader in (ParamsReader(Few), SchemaReader(describe(Few))):
        assert faults_of(reader, {"names": [1, 2, 3]}) == ["params.names must have at most 2 items"]


# Right and wrong values of each field of the class below.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b", "", 0.5]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "name", "children"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@attrs.frozen
class Mixed:
    a: Literal["a", 1] | None = None
    b: list[int] | int | None = None
    name: str = "a"
    children: list[Node] = attrs.Factory(list)
    c: dict[str, float] = attrs.Factory(dict)
    d: tuple[int, str] | str = "b"
    e: Node | list[Node] | bool = False


def takes(reader: ParamsReader | SchemaReader, params: Any) -> bool:
    try:
        reader.read(params)
    except ParamsFault:
        return False
    return True


@given(st.dictionaries(st.sampled_from(["a", "b", "name", "children", "c", "d", "e", "f"]), VALUES))
def test_class_and_schema_take_what_jsonschema_takes(params: dict[str, Any]) -> None:
    schema = schema_of(Mixed)
    expected = Draft202012Validator(schema).is_valid(params)
    assert takes(reader_of(Mixed), params) == expected
    assert takes(SchemaReader(schema), params) == expected


def test_schema_fills_in_defaults_in_its_order() -> None:
    reader = SchemaReader(schema_of(Transcode))
    read = reader.read({"crf": 5, "path": "a"})
    assert read == reader_of(Transcode).read({"crf": 5, "path": "a"})[1]
    assert list(read)[:4] == ["path", "preset", "codec", "crf"]
    read["cuts"].append(1)
    assert reader.read({"path": "a"})["cuts"] == []
    assert faults_of(reader, {"path": "a"}, most_bytes=50) == [
        "params with its defaults has 148 bytes as JSON; at most 50 are allowed"
    ]


FOREIGN: list[tuple[dict[str, Any], Any, list[str]]] = [
    ({"minimum": 3}, 2, ["params.x must be at least 3"]),
    ({"maximum": 3.5}, 4, ["params.x must be at most 3.5"]),
    ({"exclusiveMinimum": 3}, 3, ["params.x must be more than 3"]),
    ({"exclusiveMaximum": 3}, 3, ["params.x must be less than 3"]),
    ({"minimum": 3}, True, []),
    ({"minLength": 3}, "ab", ["params.x must have at least 3 characters"]),
    ({"maxLength": 1}, "ab", ["params.x must have at most 1 characters"]),
    ({"minLength": 2, "maxLength": 2}, "a", ["params.x must have 2 characters"]),
    ({"minItems": 1}, [], ["params.x must have at least 1 items"]),
    ({"minProperties": 1}, {}, ["params.x must have at least 1 fields"]),
    ({"const": [1, {"a": 2}]}, [1, {"a": 2}], []),
    ({"const": 5}, 6, ["params.x must be one of 5"]),
    ({"enum": [1, True]}, True, []),
    ({"enum": [1]}, True, ["params.x must be one of 1"]),
    ({"allOf": [{"type": "integer"}, {"minimum": 3}]}, 2, ["params.x must be at least 3"]),
    ({"allOf": [{"type": "integer"}, {"minimum": 3}]}, "a", ["params.x must be an integer"]),
    ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, [], ["params.x must be a string or an"]),
    ({"type": ["string", "null"]}, 5, ["params.x must be a string"]),
    ({"type": ["string", "null"]}, None, []),
    ({"additionalProperties": {"type": "string"}}, {"a": 1}, ["params.x.a must be a string"]),
    (
        {"prefixItems": [{"type": "string"}], "items": False},
        ["a", 1],
        ["params.x must have at most"],
    ),
    ({"prefixItems": [{"type": "string"}]}, [1, 1], ["params.x[0] must be a string"]),
    (
        {"anyOf": [{"type": "object", "required": ["a"]}, {"type": "null"}]},
        {},
        ["params.x.a is req"],
    ),
    ({"pattern": "^(a+)+$"}, "a" * 40 + "b", []),
    ({"patternProperties": {"^(a+)+$": False}}, {"a" * 40 + "b": 1}, []),
    ({"$ref": "#/$defs/even"}, 5, []),
    ({"not": {}}, 5, []),
]


@pytest.mark.parametrize(("part", "value", "told"), FOREIGN)
def test_schema_of_another_program_is_understood(
    part: dict[str, Any], value: Any, told: list[str]
) -> None:
    """Its worker checks the rest."""
    schema = {"type": "object", "properties": {"x": part}, "$defs": {"even": {"multipleOf": 2}}}
    reader = SchemaReader(schema)
    found = [] if not told else faults_of(reader, {"x": value})
    assert len(found) == len(told)
    assert all(one.startswith(words) for one, words in zip(found, told, strict=True))
    if not told:
        assert reader.read({"x": value}) == {"x": value}


BAD_SCHEMAS: list[tuple[Any, str]] = [
    ({"$ref": "http://127.0.0.1:9/schema"}, "the schema refers to http://127.0.0.1:9/schema"),
    (
        {"properties": {"a": {"$ref": "file:///etc/passwd"}}},
        "the schema refers to file:///etc/pass",
    ),
    ({"$ref": "#/$defs/none"}, "the schema refers to #/$defs/none, which is not in it"),
    ({"$ref": "#"}, "the schema refers to #"),
    ({"$ref": 5}, "the schema refers to 5"),
    ({"properties": []}, "properties of a schema is no JSON object"),
    ({"properties": {"a": 5}}, "a schema is no JSON object"),
    ({"type": "text"}, "the schema names a type that JSON does not have: text"),
    ({"type": [5]}, "the schema names a type that JSON does not have: [5]"),
    ({"enum": "ab"}, "enum of a schema is no list"),
    ({"anyOf": {}}, "anyOf of a schema is no list"),
    ({"required": "a"}, "required of a schema is no list"),
    ({"maxItems": "5"}, "a bound in the schema is no number"),
    ({"title": "x" * 70_000}, "the schema has 70012 bytes as JSON; at most 65536 are allowed"),
    ({"required": ["a"], "properties": 5}, "properties of a schema is no JSON object"),
    ({"anyOf": []}, "anyOf of a schema has no options"),
    ({"type": []}, "the schema names a type that JSON does not have: []"),
    (5, "the schema is no JSON object"),
]


@pytest.mark.parametrize(("schema", "told"), BAD_SCHEMAS)
def test_schema_that_cannot_be_used_is_refused(schema: Any, told: str) -> None:
    with pytest.raises(BadSchema) as refused:
        SchemaReader(schema)
    assert str(refused.value).startswith(told)


def chain(count: int, last: dict[str, Any]) -> dict[str, Any]:
    """Return definitions, each of which asks twice for the next."""
    links = {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(count)}
    return links | {f"a{count}": last}


HOSTILE: list[tuple[dict[str, Any], Any]] = [
    ({"$ref": "#/$defs/a0", "$defs": chain(40, {"minProperties": 5})}, {}),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, {}),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}] * 2}}}, {}),
    (
        {"properties": {"x": {"items": {"enum": [[n] for n in range(9000)]}}}},
        {"x": [[8999]] * 9000},
    ),
    ({"properties": {"x": {"anyOf": [{"type": "null"}] * 3300}}}, {"x": [1.5] * 12_000}),
    ({"properties": {"x": {"anyOf": [{"minItems": 10**6}] * 2800}}}, {"x": [1] * 30_000}),
    (
        {"properties": {"x": {"items": {"required": [f"n{n}" for n in range(6000)]}}}},
        {"x": [{}] * 20_000},
    ),
    (
        {
            "properties": {"x": {"$ref": "#/$defs/a"}},
            "$defs": {
                "a": {
                    "anyOf": [
                        *[{"type": "array", "items": {"$ref": "#/$defs/a"}}] * 2,
                        {"const": 7},
                    ]
                }
            },
        },
        {"x": [[[[[[[[[[[[[[[[[[[[[[8]]]]]]]]]]]]]]]]]]]]]]},
    ),
]


@pytest.mark.parametrize(("schema", "params"), HOSTILE)
def test_hostile_schema_cannot_hold_up_the_loop(schema: dict[str, Any], params: Any) -> None:
    with cpu_seconds() as taken:
        told = faults_of(SchemaReader(schema), params)
        assert taken() < LOOP_SECONDS
    assert len(told) <= TOLD_FAULTS + 1


def test_schema_with_a_title_and_nothing_else_takes_any_object() -> None:
    assert SchemaReader({"type": "object"}).read({"a": [1]}) == {"a": [1]}
    assert faults_of(SchemaReader({}), [1]) == ["params must be a JSON object"]


# Loading.


def load_faults(*names: str) -> list[str]:
    """Return why modules cannot be used."""
    with pytest.raises(KindError) as refused:
        load_kinds(names)
    assert str(refused.value) == "\n".join(refused.value.faults)
    assert all("\n" not in fault for fault in refused.value.faults)
    return refused.value.faults


def test_kinds_are_loaded_by_module_by_file_and_from_a_package(write: Write) -> None:
    write("kinds_one.py", GOOD.format(name="one"))
    write("films/kinds_two.py", GOOD.format(name="two"))
    write("kinds_pkg/__init__.py", "")
    write("kinds_pkg/three.py", GOOD.format(name="three"))
    write("kinds_four.py", GOOD.format(name="four"))
    absolute = str(write("elsewhere/kinds_five.py", GOOD.format(name="five")))
    names = ["kinds_one", "films/kinds_two.py", "kinds_pkg.three", "./kinds_four.py", absolute]
    found = load_kinds(names)
    assert list(found) == ["one", "two", "three", "four", "five"]
    assert all(name == kind.name for name, kind in found.items())
    # So that a process of its own can import it too.
    assert {"kinds_two", "kinds_four", "kinds_five"} <= set(sys.modules)


def test_no_module_loads_no_kind() -> None:
    assert load_kinds([]) == {}


def test_kind_is_collected_once_whatever_its_names(write: Write) -> None:
    write("kinds_base.py", GOOD.format(name="base") + "\nalias = kind\n")
    write("kinds_more.py", "from kinds_base import kind\nimport kinds_base as base\n")
    assert list(load_kinds(["kinds_base", "kinds_more", "kinds_base", "./kinds_base.py"])) == [
        "base"
    ]
    assert list(load_kinds(["kinds_more"])) == ["base"]


def test_a_file_beside_a_module_can_be_imported_by_it(write: Write) -> None:
    write("films/kinds_helper.py", "NAME = 'helped'")
    write("films/kinds_main.py", GOOD.replace('"{name}"', "__import__('kinds_helper').NAME"))
    assert list(load_kinds(["films/kinds_main.py"])) == ["helped"]


def test_current_folder_never_shadows_ours(write: Write) -> None:
    write("settings.py", "raise SystemExit('shadowed')")
    write("kinds_late.py", "from settings import Settings\n" + GOOD.format(name="late"))
    assert list(load_kinds(["kinds_late"])) == ["late"]


def test_file_named_as_a_module_that_is_there_is_refused(write: Write) -> None:
    for name in ("settings.py", "wave.py", "time.py"):
        path = write(name, GOOD.format(name="taken"))
        [told] = load_faults(name)
        assert told.startswith(f"{path} cannot be module '{path.stem}': there is ")
        assert told.endswith("; rename it")
    path = write("my.kinds.py", GOOD.format(name="dotted"))
    assert load_faults("my.kinds.py") == [f"{path} cannot be module 'my.kinds'; rename it"]


def test_two_files_of_one_name_are_refused(write: Write) -> None:
    write("a/kinds_same.py", GOOD.format(name="a"))
    path = write("b/kinds_same.py", GOOD.format(name="b"))
    [told] = load_faults("a/kinds_same.py", "b/kinds_same.py")
    assert told.startswith(f"{path} cannot be module 'kinds_same': there is ")


def test_every_fault_of_every_module_is_told(write: Write) -> None:
    write("kinds_empty.py", "")
    write("kinds_bad.py", "x = 1\ny = = 2\n")
    told = load_faults("kinds_none", "kinds_empty", "kinds_bad", "none.py", "kinds_none.inner")
    assert told[0] == "there is no module 'kinds_none'"
    assert told[1].startswith("kinds_empty has no kind; it is /")
    assert told[2].endswith("kinds_bad.py, line 2: invalid syntax")
    assert told[3] == "there is no Python file none.py"
    assert told[4] == "there is no module 'kinds_none.inner'"


RAISES = [
    ("raise ValueError('two\\nlines')", "line 1: ValueError: two lines"),
    ("\n\nraise SystemExit(2)", "line 3: SystemExit: 2"),
    ("raise KeyboardInterrupt", "line 1: KeyboardInterrupt"),
    ("import kinds_nowhere", "line 1: ModuleNotFoundError: No module named 'kinds_nowhere'"),
    ("exec('x = = 1')", "line 1: invalid syntax"),
    ("raise SyntaxError('odd')", "line 1: SyntaxError: odd"),
    (
        "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd",
        "line 3: Odd: <Odd: ValueError in its text>",
    ),
    (
        "import attrs\nfrom tornado_rt.work import Kind\nKind('A b', attrs.make_class('P', []))",
        "line 3: ValueError: the name of a kind is 1 to 64 of a-z",
    ),
    (
        GOOD.format(name="x").replace("def run(params, run)", "def run(params)"),
        "line 11: ValueError: kind 'x': the handler takes (params, run)",
    ),
]


@pytest.mark.parametrize(("source", "told"), RAISES)
def test_module_that_raises_is_told_with_its_line(write: Write, source: str, told: str) -> None:
    write("kinds_raising.py", source)
    [fault] = load_faults("kinds_raising")
    assert fault.startswith("kinds_raising cannot be imported: ")
    assert told in fault


def test_kind_without_a_handler_is_refused(write: Write) -> None:
    write("kinds_idle.py", GOOD.format(name="idle").replace("@kind.handler", ""))
    assert load_faults("kinds_idle") == ["kind 'idle' of kinds_idle has no handler"]


def test_two_kinds_of_one_name_are_refused(write: Write) -> None:
    write("kinds_a.py", GOOD.format(name="same"))
    write("kinds_b.py", GOOD.format(name="same"))
    assert load_faults("kinds_a", "kinds_b") == ["both kinds_a and kinds_b have a kind 'same'"]
    write("kinds_c.py", GOOD.format(name="same") + "\nkind2 = kind" + GOOD.format(name="same"))
    assert load_faults("kinds_c") == ["kinds_c has two kinds 'same'"]


def test_kind_whose_parameters_cannot_be_read_is_refused(write: Write) -> None:
    write("kinds_bytes.py", GOOD.format(name="odd").replace("n: int = 1", "n: bytes = b''"))
    assert load_faults("kinds_bytes") == [
        "kind 'odd' of kinds_bytes: Params.n: no JSON is read into bytes"
    ]
    write("kinds_lost.py", GOOD.format(name="odd").replace("n: int = 1", "n: 'Lost' = 1"))
    assert load_faults("kinds_lost") == [
        "kind 'odd' of kinds_lost: a type in Params is not to be found: name 'Lost' is not defined"
    ]


def test_module_is_configured_before_its_kinds_are_collected(
    write: Write, settings: Settings
) -> None:
    body = GOOD.format(name="made").replace("\n", "\n    ")
    write(
        "kinds_made.py",
        f"def configure(settings):\n    global kind, port; port = settings.server.port\n{body}",
    )
    with pytest.raises(KindError):
        load_kinds(["kinds_made"])
    assert list(load_kinds(["kinds_made"], settings)) == ["made"]
    assert sys.modules["kinds_made"].port == 0


def test_configure_that_fails_is_told(write: Write, settings: Settings) -> None:
    write(
        "kinds_off.py", GOOD.format(name="x") + "\ndef configure(s):\n    raise SystemExit('off')"
    )
    with pytest.raises(KindError, match=r"^configure\(\) of kinds_off failed: SystemExit: off$"):
        load_kinds(["kinds_off"], settings)


# Known kinds.


def first_of(known: KnownKind, params: dict[str, Any]) -> dict[str, Any]:
    """Return the first fragment of a task's snapshot."""
    outline = known.outline(params)
    fragment: dict[str, Any] = orjson.loads(
        b"{" + first_fragment(outline.plan, outline.expected) + b"}"
    )
    return fragment


def both(kind: Kind) -> list[LocalKind | SharedKind]:
    """Return a kind as its own process sees it, and as another one does, by way of JSON."""
    entry = entry_of(kind)
    description = orjson.loads(orjson.dumps(entry.description))
    return [LocalKind(kind), SharedKind(attrs.evolve(entry, description=description))]


def test_kind_is_the_same_to_its_own_process_and_to_another() -> None:
    for known in both(transcode):
        assert (known.name, known.title) == ("video.transcode", "Transcode a film")
        assert (known.entry.version, known.max_attempts) == (3, 5)
        assert known.entry.description["timeout"] == 3600.0
        assert known.read_params(FILM) == reader_of(Transcode).read(FILM)[1]
        with pytest.raises(ParamsFault) as refused:
            known.read_params({"path": 5}, place="items[0].params")
        assert refused.value.faults == ["items[0].params.path must be a string"]
        with pytest.raises(ParamsFault, match=r"has 14 bytes as JSON; at most 5 are allowed"):
            known.read_params({"path": "abc"}, most_bytes=5)


def test_known_kind_makes_the_label_plan_and_first_snapshot_of_a_task() -> None:
    for known in both(transcode):
        params = known.read_params(FILM)
        assert known.label(params) == "a.mov as 1080p"
        assert known.shown(params) == {"path": "a.mov", "codec": "h264"}
        assert known.expected(params) == 120.0
        plan = known.plan(params)
        assert plan is not None
        assert [leaf.name for leaf in plan.leaves] == ["probe", "transcode", "upload"]
        first = first_of(known, params)
        assert first["progress"] == 0
        assert first["message"] == "Waiting"
        assert first["plan"] == plan.digest
        assert first["marks"] == "ppp"
        assert first["remaining_time"] == 120.0


def test_what_functions_make_is_known_to_their_own_process_alone() -> None:
    local, shared = both(report)
    params = local.read_params({"pages": 2})
    plan = local.plan(params)
    assert plan is not None
    assert [leaf.name for leaf in plan.leaves] == ["page 0", "page 1"]
    assert local.plan(params) is plan
    assert local.plan(dict(params)) == plan
    assert local.label(params) == "Sales of today"
    assert local.expected(params) == 4.0
    assert shared.read_params({"pages": 2}) == params
    assert shared.plan(params) is None
    assert shared.label(params) == "report.nightly"
    assert shared.expected(params) is None
    assert first_of(shared, params)["plan"] is None


@attrs.frozen
class Inner:
    a: float = 1.0


@attrs.frozen
class Told:
    """A parameter of each type whose JSON is not what its class has."""

    path: Path = Path("a/b")
    at: datetime | None = None
    day: date = date(2026, 1, 2)
    key: UUID | None = None
    hue: Colour = Colour.RED
    level: Level = Level.LOW
    scale: float = 5.0
    sizes: list[float] = attrs.Factory(list)
    inner: Inner = Inner()
    choice: Literal["never"] | date = "never"


TOLD: list[tuple[str, dict[str, Any], str]] = [
    ("{path}", {"path": "x//y/"}, "x/y"),
    ("{at}", {"at": "2026-01-02T03:04:05Z"}, "2026-01-02T03:04:05+00:00"),
    ("{at}", {}, "None"),
    ("{day}", {}, "2026-01-02"),
    (
        "{key}",
        {"key": "AAAAAAAA-0000-0000-0000-000000000001"},
        "aaaaaaaa-0000-0000-0000-000000000001",
    ),
    ("{hue} {level}", {"level": 2}, "red 2"),
    ("{hue:>5}", {}, "  red"),
    ("{scale}", {"scale": 5}, "5"),
    ("{scale} {scale:.1f}", {}, "5 5.0"),
    ("{scale}", {"scale": 0.5}, "0.5"),
    ("{sizes}", {"sizes": [1, 2.5]}, "[1, 2.5]"),
    ("{inner}", {"inner": {"a": 1}}, "{'a': 1}"),
    ("{choice}", {}, "never"),
    ("{choice}", {"choice": "20260102"}, "2026-01-02"),
]


@pytest.mark.parametrize(("label", "given", "told"), TOLD)
def test_label_is_the_same_in_each_process(label: str, given: dict[str, Any], told: str) -> None:
    kind = handled(Kind("x", Told, title="A title", label=label))
    assert has_label_everywhere(kind)
    assert [known.label(known.read_params(given)) for known in both(kind)] == [told, told]


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("{path} on {day:%d.%m.%Y}", "a/b on 02.01.2026"),
        (lambda params: params.path.name, "b"),
        ("{path:>120}", " " * 117 + "a/b"),
    ],
)
def test_label_that_takes_the_code_is_the_title_elsewhere(label: Any, told: str) -> None:
    kind = handled(Kind("x", Told, title="A title", label=label))
    assert not has_label_everywhere(kind)
    assert [known.label(known.read_params({})) for known in both(kind)] == [told, "A title"]


def test_reading_others_between_does_not_mix_them_up() -> None:
    known = LocalKind(report)
    first, second = known.read_params({"pages": 1}), known.read_params({"pages": 2})
    counts = [len(plan.leaves) for one in (first, second, first) if (plan := known.plan(one))]
    assert counts == [1, 2, 1]


def handled(kind: Kind) -> Kind:
    kind.handler(lambda params, run: None)
    return kind


def test_function_of_an_author_that_fails_costs_no_task() -> None:
    def fail(_: Any) -> Any:
        raise KeyError("x")

    known = LocalKind(
        handled(Kind("x", Report, title="A report", label=fail, steps=fail, expected_seconds=fail))
    )
    params = known.read_params({})
    assert known.label(params) == "A report"
    assert known.plan(params) is None
    assert known.expected(params) is None
    assert first_of(known, params)["marks"] == ""


@pytest.mark.parametrize("seconds", [1e308, 10**400, float("nan"), -1, "5"])
def test_time_that_no_record_can_hold_is_not_expected(seconds: Any) -> None:
    known = LocalKind(handled(Kind("x", Report, expected_seconds=lambda _: seconds)))
    assert known.expected(known.read_params({})) is None


def test_parameter_named_as_a_field_of_the_snapshot_is_not_shown() -> None:
    """A process of an earlier version may have told such a kind."""
    entry = entry_of(handled(Kind("x", Named, shown=["path"])))
    told = attrs.evolve(entry, description={**entry.description, "shown": ["user_id", "path"]})
    known = SharedKind(told)
    assert known.shown(known.read_params({"user_id": "root"})) == {"path": "a"}


def test_label_is_one_short_line() -> None:
    kind = handled(Kind("x", Report, label=lambda params: "a\tb\0" + "c" * 500))
    label = LocalKind(kind).label({"title": "t", "pages": 1})
    assert label.startswith("a b\ufffdc")
    assert label.endswith("c…")
    assert len(label) == 200


@attrs.frozen
class Named:
    """A field of a name that snapshots have too."""

    user_id: str = ""
    path: str = "a"


TEMPLATES = [
    ("{title}", "Sales"),
    ("{title!r}", "'Sales'"),
    ("{pages:>5}", "    3"),
    ("{pages:.1f}", "3.0"),
    ("{title.__class__}", "x"),
    ("{title[0]}", "x"),
    ("{pages:>999999999}", "x"),
    ("{pages:>9999999}", "x"),
    ("{pages:{title}}", "x"),
    ("{0}", "x"),
    ("{}", "x"),
    ("{missing}", "x"),
    ("{", "x"),
    ("{title:d}", "x"),
    ("{pages}" * 20, "3" * 20),
    ("{pages}" * 21, "x"),
    ("{pages}" + "a" * 994, "x"),
    ("", "x"),
]


@pytest.mark.parametrize(("template", "label"), TEMPLATES)
def test_template_of_another_process_only_names_parameters(template: str, label: str) -> None:
    entry = entry_of(attrs.evolve(handled(Kind("x", Report))))
    told = attrs.evolve(entry, description={**entry.description, "label": template})
    known = SharedKind(told)
    assert known.label(known.read_params({})) == label


def test_entry_says_all_that_others_need() -> None:
    entry = entry_of(transcode)
    assert (entry.kind, entry.title, entry.version) == ("video.transcode", "Transcode a film", 3)
    assert entry.limits == KindLimits(limit=8, user_limit=2, rate="10/m")
    assert set(entry.description) == {
        "params_schema",
        "label",
        "plan",
        "shown",
        "telling",
        "max_attempts",
        "timeout",
        "expected_seconds",
    }
    assert orjson.loads(orjson.dumps(entry.description)) == entry.description
    assert entry_of(bare).description["plan"] == ""


# The registry.


class Board:
    """Entries of kinds by other processes; it counts how often it is read."""

    def __init__(self, *entries: KindEntry) -> None:
        self.entries = entries
        self.readings = 0

    async def read_kinds(self) -> list[KindState]:
        self.readings += 1
        return [
            KindState(
                entry=one,
                limits={},
                changed={},
                paused=False,
                queued=0,
                running=0,
                workers=1,
                oldest_seconds=None,
            )
            for one in self.entries
        ]


@pytest.mark.gen_test
async def test_own_kind_is_found_without_asking() -> None:
    board = Board(entry_of(transcode))
    registry = KindRegistry({"video.transcode": transcode})
    assert isinstance(await registry.find("video.transcode", board), LocalKind)
    assert board.readings == 0
    assert registry.entries() == [entry_of(transcode)]


@pytest.mark.gen_test
async def test_kind_of_another_process_is_asked_for_once_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board, registry = Board(entry_of(transcode), entry_of(report)), KindRegistry({})
    found = await asyncio.gather(*(registry.find("video.transcode", board) for _ in range(50)))
    assert all(one is found[0] for one in found)
    assert isinstance(found[0], SharedKind)
    assert board.readings == 1
    await registry.find("report.nightly", board)
    await registry.find("video.transcode", board)
    assert board.readings == 2
    monkeypatch.setattr("services.kinds.registry.FRESH_SECONDS", -1.0)
    old = KindRegistry({})
    first = await old.find("video.transcode", board)
    assert await old.find("video.transcode", board) is first
    assert board.readings == 4


@pytest.mark.gen_test
async def test_unknown_kind_names_those_that_are_close() -> None:
    board, registry = Board(entry_of(report)), KindRegistry({"video.transcode": transcode})
    await registry.find("report.nightly", board)
    for name, told in [
        ("video.transcod", "there is no kind video.transcod; did you mean video.transcode?"),
        ("report.nighly", "there is no kind report.nighly; did you mean report.nightly?"),
        ("mail", "there is no kind mail"),
        ("Not a\nname", "there is no kind Not a name"),
        ("x" * 10_000, f"there is no kind {'x' * 39}…"),
        ("", "there is no kind "),
    ]:
        with pytest.raises(KindUnknown) as unknown:
            await registry.find(name, board)
        assert str(unknown.value) == told
    # A text that can be no name is not looked up.
    assert board.readings == 4


@pytest.mark.gen_test
async def test_who_gives_up_takes_nothing_from_the_others() -> None:
    opened = asyncio.Event()

    class Slow(Board):
        async def read_kinds(self) -> list[KindState]:
            await opened.wait()
            return await super().read_kinds()

    registry, board = KindRegistry({}), Slow(entry_of(transcode))
    first, second = (asyncio.create_task(registry.find("video.transcode", board)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    opened.set()
    assert (await second).name == "video.transcode"
    assert board.readings == 1


@pytest.mark.gen_test
async def test_reading_that_fails_is_tried_again() -> None:
    class Away(Board):
        async def read_kinds(self) -> list[KindState]:
            read = await super().read_kinds()
            if self.readings == 1:
                raise ConnectionError("away")
            return read

    registry, board = KindRegistry({}), Away(entry_of(transcode))
    with pytest.raises(ConnectionError):
        await registry.find("video.transcode", board)
    assert (await registry.find("video.transcode", board)).name == "video.transcode"


BAD_ENTRIES: list[tuple[dict[str, Any], str]] = [
    ({"params_schema": 5}, "its description.params_schema must be a JSON object"),
    ({"params_schema": {"$ref": "http://x"}}, "the schema refers to http://x, which is not in it"),
    ({"plan": "[5]"}, "not a plan: "),
    ({"plan": "x"}, "Expecting value"),
    ({"shown": [1]}, "its description.shown[0] must be a string"),
    ({"max_attempts": 10**15}, "its description.max_attempts must be from 1 to 999999999999999"),
    ({"timeout": 1e300}, "its description.timeout must be from 0 to 3153600000"),
    ({"expected_seconds": 1e300}, "its description.expected_seconds must be from 0 to 3153600000"),
]


@pytest.mark.gen_test
async def test_kind_whose_description_cannot_be_used_is_told() -> None:
    good = entry_of(transcode)
    for changes, told in BAD_ENTRIES:
        board = Board(attrs.evolve(good, description={**good.description, **changes}))
        with pytest.raises(KindUnknown) as unknown:
            await KindRegistry({}).find("video.transcode", board)
        assert str(unknown.value).startswith(f"kind video.transcode cannot be used: {told}")


@pytest.mark.gen_test
async def test_description_of_a_later_version_may_say_more() -> None:
    good = entry_of(transcode)
    board = Board(attrs.evolve(good, description={**good.description, "colour": "red"}))
    assert (await KindRegistry({}).find("video.transcode", board)).max_attempts == 5


@pytest.mark.gen_test
async def test_names_that_are_asked_for_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.kinds.registry.FRESH_SECONDS", -1.0)
    monkeypatch.setattr("services.kinds.registry.MOST_REMEMBERED", 10)
    registry = KindRegistry({})
    for n in range(100):
        with pytest.raises(KindUnknown):
            await registry.find(f"kind-{n}", Board())
    assert len(registry._asked) <= 10


@pytest.mark.gen_test
async def test_kind_is_found_in_the_queue_where_its_worker_has_told_it(
    make_queue: Callable[..., QueueService],
) -> None:
    queue = make_queue()
    await queue.register_kinds([entry_of(transcode), entry_of(report)])
    registry = KindRegistry({})
    known = await registry.find("video.transcode", queue)
    assert isinstance(known, SharedKind)
    assert known.read_params(FILM) == LocalKind(transcode).read_params(FILM)
    with pytest.raises(KindUnknown):
        await registry.find("mail", queue)
