"""The reader of a class and that of its schema give the same verdict in the same words.

A process that has a kind's module reads parameters by the class; another validates them by the
schema that it finds in Redis. Nobody who submits should be able to tell which of them answered.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import attrs
import msgspec
import pytest
from attrs import validators

from services.kinds import ParamsFault, ParamsReader, SchemaReader, describe
from tests.kinds_of_tests import Codec


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Odd(Enum):
    """Values of several types."""

    TEXT = "a"
    ONE = 1
    HALF = 0.5
    NONE = None


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Tone(str, Enum):  # noqa: UP042
    """As one wrote it before there was StrEnum."""

    RED = "red"


@attrs.frozen
class Cut:
    begin: float
    end: float = 1.0


@attrs.frozen
class Node:
    name: str
    parent: "Node | None" = None
    children: "list[Node]" = attrs.Factory(list)


def other_cut() -> Any:
    """Return another class of the same name."""

    @attrs.frozen
    class Cut:
        place: str = ""

    return Cut


DAY, MOMENT, ID = "2026-01-02", "2026-01-02T03:04:05Z", "12345678-1234-5678-1234-567812345678"
DEEP: Any = 1
for _ in range(40):
    DEEP = [DEEP]

# Values to try where any of the types below is wanted.
VALUES: list[Any] = [
    *(None, True, False, 0, 1, 2, -1, 1.0, 0.5, -0.0, 1e308, 2**53, 2**63 - 1, -(2**63)),
    *("", "a", "b", "1", "x\ny", "x" * 5000, "red", "h264", "né", DAY, MOMENT, MOMENT[:-1], ID),
    *([], [1], ["a"], [1, 2], ["a", 1], [1, "a"], [[1]], [None], [{}], [DAY], ["red", "red"]),
    *({}, {"a": 1}, {"a": "x"}, {"": 1}, {"red": 1}, {"red": 1, "green": "x"}, {"place": "x"}),
    *({"begin": 1}, {"begin": True}, {"begin": 1, "end": None, "by": 3}, {"end": "x"}),
    *([{"begin": 1}, {"begin": "x"}, 5], {"name": "a"}, {"name": "a", "parent": 5}),
    *({"name": "a", "parent": {"nam": 1}}, {"name": 1, "children": [{}, 5, {"children": {}}]}),
    # No JSON, or none that can be kept.
    *(float("nan"), float("inf"), 2**63, 10**30, "\ud800", {1: 2}, object(), {1}, DEEP),
]

SHAPES: list[Any] = [
    *(str, int, float, bool, None, Any, object, datetime, date, UUID, Path),
    *(
        Codec,
        Level,
        Odd,
        Colour,
        Tone,
        Cut,
        Node,
        Literal["a"],
        Literal[1],
        Literal[1, True, "x", None],
    ),
    *(list, list[int], list[Any], list[Cut], list[list[int]], Sequence[str], list[int | None]),
    *(tuple, tuple[()], tuple[int], tuple[int, str], tuple[int, ...], set[str], set[Colour]),
    *(
        dict,
        dict[str, int],
        dict[Colour, float],
        dict[Tone, int],
        dict[Literal["a", "b"], int],
        dict[Any, int],
    ),
    *(dict[str, Cut], Mapping[str, Any], dict[str, dict[str, int]]),
    *(int | None, str | None, Codec | None, Cut | None, Node | None, date | None, Path | None),
    *(list[int] | None, tuple[int, str] | None, dict[str, int] | None),
    *(int | str, int | bool, int | float, float | bool, str | int | None, list[int] | int),
    *(list[int] | dict[str, int], Cut | list[Cut], Cut | str, Cut | int | None, Node | bool),
    *(Codec | int, Codec | str, Codec | Level, Literal["a"] | int, Literal["a"] | date),
    *(Literal["a"] | Codec, date | datetime, datetime | date, datetime | UUID, date | str),
    *(Path | int, UUID | int | None, Level | str, Level | float, Level | bool),
    *(Annotated[int, "a note"], NewType("UserId", str), list[Cut | None], dict[str, date | int]),
]


def class_of(shape: Any, **about: Any) -> Any:
    """Return a class with one field `x`."""
    made = attrs.make_class("Params", {"x": attrs.field(**about)})
    made.__annotations__ = {"x": shape}
    return made


def told(reader: ParamsReader | SchemaReader, params: Any) -> list[str] | None:
    """Return the faults of parameters; None: there are none."""
    try:
        reader.read(params)
    except ParamsFault as fault:
        return fault.faults
    return None


def differences(cls: Any, bodies: Sequence[Any]) -> list[tuple[Any, Any, Any]]:
    """Return the bodies of which class and schema say something else, with what each says."""
    by_class, by_schema = ParamsReader(cls), SchemaReader(describe(cls))
    both = [(body, told(by_class, body), told(by_schema, body)) for body in bodies]
    return [one for one in both if one[1] != one[2]]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_value_of_any_sort_is_judged_alike(shape: Any) -> None:
    assert differences(class_of(shape), [{"x": value} for value in VALUES]) == []


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_type_takes_some_value_and_refuses_another(shape: Any) -> None:
    """Else the test above would hold also where a schema takes anything."""
    reader = SchemaReader(describe(class_of(shape)))
    taken = [told(reader, {"x": value}) is None for value in VALUES]
    assert any(taken)
    assert not all(taken)


def test_root_of_any_sort_is_judged_alike() -> None:
    assert differences(class_of(int), VALUES) == []


@attrs.frozen
class Mixed:
    first: int
    _private: str
    third: list[int] = attrs.Factory(list)
    fourth: str = attrs.field(kw_only=True)
    aliased: int = attrs.field(default=1, alias="other")
    made: int = attrs.field(default=1, init=False)
    cut: Cut | None = attrs.field(factory=lambda: Cut(1))


GOOD = {"first": 1, "_private": "a", "fourth": "b"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        GOOD,
        GOOD | {"first": "x", "z": 1, "third": [None, "x"]},
        GOOD | {"private": "x"},
        GOOD | {"other": 1},
        GOOD | {"aliased": "x"},
        GOOD | {"made": 1},
        GOOD | {"cut": None},
        GOOD | {"cut": {"begin": "x", "by": 1}},
        {"third": 5, "fourth": 1, "first": None},
        {"_private": 1},
        GOOD | {f"z{n}": n for n in range(9)},
        GOOD | {"z" * 99: 1, "a\nb": 2},
        GOOD | {"third": ["x"] * 30},
        GOOD | {"third": ["x"] * 3000},
    ],
)
def test_faults_of_several_fields_are_told_in_the_same_order(body: Any) -> None:
    assert differences(Mixed, [body]) == []


def test_parameters_without_a_bound_may_be_large() -> None:
    """A schema may then take as many steps as they have need of."""
    cls, body = class_of(list[int]), {"x": [0] * 300_000}
    for reader in (ParamsReader(cls), SchemaReader(describe(cls))):
        reader.read(body, most_bytes=0)


def test_two_classes_of_one_name_are_kept_apart() -> None:
    both = attrs.make_class("Both", ["one", "two"])
    both.__annotations__ = {"one": Cut, "two": other_cut()}
    bodies = [
        {"one": {"begin": 1}, "two": {"place": "x"}},
        {"one": {"place": 1}, "two": {"end": 1}},
    ]
    assert differences(both, bodies) == []
    assert told(SchemaReader(describe(both)), bodies[0]) is None


ge, gt, le, lt = validators.ge, validators.gt, validators.le, validators.lt
min_len, max_len, in_ = validators.min_len, validators.max_len, validators.in_
optional, all_of = validators.optional, validators.and_

# The type of a field, its validator, a value that is out of its bound, and what is told of it.
BOUNDS: list[tuple[Any, Any, Any, str]] = [
    (int, ge(1), 0, "must be at least 1"),
    (int, gt(1), 1, "must be more than 1"),
    (int, le(9), 10, "must be at most 9"),
    (int, lt(9), 9, "must be less than 9"),
    (float, all_of(ge(0.5), le(2)), 0, "must be at least 0.5"),
    (float, [gt(0), gt(1)], 1, "must be more than 1"),
    (int, all_of(le(5), le(3)), 4, "must be at most 3"),
    (int | None, optional(ge(1)), 0, "must be at least 1"),
    (str | list[int], max_len(2), "abc", "must have at most 2 characters"),
    (str | list[int], max_len(2), [1, 2, 3], "must have at most 2 items"),
    (str, min_len(2), "a", "must have at least 2 characters"),
    (str, all_of(min_len(2), max_len(2)), "a", "must have 2 characters"),
    (str | None, optional([min_len(1), max_len(2)]), "", "must have at least 1 characters"),
    (list[int], max_len(1), [1, "x"], "must have at most 1 items"),
    (list[Cut], min_len(1), [], "must have at least 1 items"),
    (tuple[int, ...], max_len(1), [1, 2], "must have at most 1 items"),
    (dict[str, int], max_len(1), {"a": 1, "b": 2}, "must have at most 1 fields"),
    (Mapping[str, Any], min_len(1), {}, "must have at least 1 fields"),
    (str, in_(["a", "b"]), "c", "must be one of a, b"),
    (int, in_((1, 2)), 3, "must be one of 1, 2"),
    (str | None, optional(in_(["a"])), "b", "must be one of a, null"),
    (str, all_of(in_(["a", "b"]), in_(["b", "c"])), "a", "must be one of b"),
    (str, in_({"b", "a"}), "c", "must be one of a, b"),
    (int, in_(frozenset({10, 9, 1})), 2, "must be one of 1, 9, 10"),
    (str, in_({"b": 1, "a": 2}), "c", "must be one of b, a"),
    (int, in_(range(3)), 3, "must be at most 2"),
    (int, in_(range(5, 10**9)), 4, "must be at least 5"),
    (int, in_(range(0, 9, 4)), 2, "must be one of 0, 4, 8"),
]


@pytest.mark.parametrize(("shape", "validator", "wrong", "words"), BOUNDS)
def test_bound_of_a_validator_of_attrs_is_in_the_schema(
    shape: Any, validator: Any, wrong: Any, words: str
) -> None:
    cls = class_of(shape, validator=validator)
    assert told(ParamsReader(cls), {"x": wrong}) == [f"params.x {words}"]
    # A validator that is not `optional` says itself what it has against null.
    values = [one for one in VALUES if one is not None or "optional" in repr(validator)]
    assert differences(cls, [{"x": value} for value in (*values, wrong)]) == []


# Validators of which a schema says nothing: it takes what the class refuses.
IN_PYTHON: list[tuple[Any, Any, Any]] = [
    (str, validators.matches_re("[a-z]+"), "A"),
    (list[int], validators.deep_iterable(ge(1)), [0]),
    (int, validators.not_(in_([0])), 0),
    (int, validators.or_(in_([1]), ge(10)), 2),
    (str, in_("abc"), "d"),
    (float, in_([1.5]), 2.0),
    (int | bool, in_([0, 2]), 1),
    (int, ge(2**60), 2),
    (int, ge(Decimal("1.5")), 1),
    (date, ge(date(2026, 1, 1)), "2025-01-01"),
    (set[str], max_len(1), ["a", "b"]),
    (Colour, in_([Colour.RED]), "blue"),
    (Any, max_len(1), "ab"),
]


Few = Annotated[list[Annotated[int, msgspec.Meta(lt=5)]], msgspec.Meta(max_length=2)]
# A type with what `msgspec.Meta` asks of it, a value that is out of it, and what is told.
METAS: list[tuple[Any, Any, str]] = [
    (Annotated[int, msgspec.Meta(gt=0)], 0, "must be more than 0"),
    (Annotated[float, msgspec.Meta(ge=0.5, le=1)], 2, "must be at most 1"),
    (Annotated[str, msgspec.Meta(min_length=1, max_length=2)], "abc", "must have at most 2 char"),
    (Annotated[int, msgspec.Meta(gt=0)] | None, 0, "must be more than 0"),
    (Few, [1, 2, 3], "must have at most 2 items"),
    (dict[str, Annotated[int, msgspec.Meta(ge=1)]], {"a": 0}, ".a must be at least 1"),
    (NewType("Size", Annotated[int, msgspec.Meta(ge=1)]), 0, "must be at least 1"),  # type: ignore[valid-newtype]
]


@pytest.mark.parametrize(("shape", "wrong", "words"), METAS)
def test_bound_of_a_type_holds_for_both(shape: Any, wrong: Any, words: str) -> None:
    cls = class_of(shape)
    [fault] = told(ParamsReader(cls), {"x": wrong}) or []
    assert fault.startswith(f"params.x{'' if words[0] == '.' else ' '}{words}")
    assert differences(cls, [{"x": value} for value in (*VALUES, wrong)]) == []


@pytest.mark.parametrize(("shape", "validator", "wrong"), IN_PYTHON)
def test_what_python_alone_can_say_is_left_to_the_class(
    shape: Any, validator: Any, wrong: Any
) -> None:
    cls = class_of(shape, validator=validator)
    assert told(ParamsReader(cls), {"x": wrong}) is not None
    assert told(SchemaReader(describe(cls)), {"x": wrong}) is None


def test_validator_behind_a_converter_is_left_to_the_class() -> None:
    """It sees another value than the JSON has."""
    cls = class_of(int, converter=lambda value: -value, validator=le(0))
    for reader in (ParamsReader(cls), SchemaReader(describe(cls))):
        assert told(reader, {"x": 5}) is None


def test_bound_is_told_of_a_default_too() -> None:
    cls = class_of(int, default=0, validator=ge(1))
    assert ParamsReader(cls).default_faults() == ["params.x must be at least 1"]


def test_schema_is_the_same_whenever_it_is_made() -> None:
    """Processes that run the same code announce the same."""
    cls = class_of(str | list[int], validator=all_of(min_len(1), max_len(5)))
    assert describe(cls)["properties"]["x"] == {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}],
        "minItems": 1,
        "minLength": 1,
        "maxItems": 5,
        "maxLength": 5,
    }
