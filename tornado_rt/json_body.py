"""Read JSON into attrs classes: strictly, within bounds, with faults in words for a person.

A list's length is looked at before its items, an object's names before its values, and an integer
is never taken for a string. The reported faults are always few and short.

It is long because the readers of all types call each other.
"""

import functools
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import attrs
import orjson

from tornado_rt.bounds import LEAST_INTEGER, MOST_INTEGER, OutOfBounds, check_json
from tornado_rt.problems import Problem
from tornado_rt.work.params.faults import (
    MOST_FAULTS,
    NAMES,
    TOLD_CHARACTERS,
    TOLD_FAULTS,
    TOLD_NAME_CHARACTERS,
    and_more,
    listed,
)
from tornado_rt.work.params.reading import EXAMPLES as EXAMPLES
from tornado_rt.work.params.reading import MOST_ITEMS as MOST_ITEMS
from tornado_rt.work.params.reading import TITLE as TITLE
from tornado_rt.work.params.reading import TITLES as TITLES
from tornado_rt.work.texts import phrase
from tornado_rt.work.values import cut

T = TypeVar("T")

# Keys of a field's metadata, beside `MOST_ITEMS`: the bound of a value of any shape [B], and its
# name in JSON where Python has a word of that name.
MOST_BYTES = "most_bytes"
JSON_NAME = "json_name"
DEFAULT_MOST_ITEMS = 1000
DEFAULT_MOST_BYTES = 65536
# Each is an object that the garbage collector looks at.
MOST_CONTAINERS = 100_000
STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
# orjson makes most integers of more than 64 bits floats, which are other numbers. Those of 64 bits
# have at most this many characters, and none of fewer than 19 digits has more bits.
INTEGER_CHARACTERS = 20
MANY_DIGITS = re.compile(rb"\d{19}")
LONG_INTEGER = re.compile(rb"(?:^|[\[:,\s])(-?\d{19,}+)(?![.eE])")


SCALARS = (str, int, float, bool)


class _Wrong:
    """Stands for a value that a reader has found fault with."""


WRONG = _Wrong()


class Faults:
    """The faults of a body, each once."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}

    @property
    def count(self) -> int:
        """The number of faults."""
        return len(self._texts)

    def add(self, text: str) -> _Wrong:
        """Add a fault. Raise Problem 422 when there are too many to go on."""
        self._texts[cut(text, TOLD_CHARACTERS)] = None
        if self.count >= MOST_FAULTS:
            raise self.problem()
        return WRONG

    def settle(self) -> None:
        """Raise Problem 422 when there are faults."""
        if self.count:
            raise self.problem()

    def problem(self) -> Problem:
        """Return what is raised for them: the first, and the number of the others."""
        told, rest = list(self._texts), self.count - TOLD_FAULTS
        if rest > 0:
            told = [*told[:TOLD_FAULTS], and_more(rest if self.count < MOST_FAULTS else None)]
        return Problem(422, phrase("the body is not valid"), errors=told)


# Reads a value at a place in the body. The number bounds the items of a list, or the bytes of a
# value of any shape: 0 is no bound, None the usual one.
ReadValue = Callable[[Any, str, Faults, int | None], Any]


@attrs.frozen
class _Named:
    """A field as a validator sees it, named by its place in the body."""

    name: str


@attrs.frozen
class _Field:
    """A field of a shape."""

    attribute: "attrs.Attribute[Any]"
    reader: ReadValue

    @property
    def most(self) -> int | None:
        """The bound of its list, or of its bytes."""
        metadata = self.attribute.metadata
        most: int | None = metadata.get(MOST_ITEMS, metadata.get(MOST_BYTES))
        return most

    def check(self, value: Any, place: str, faults: Faults) -> None:
        """Add what its validator says."""
        if self.attribute.validator is not None:
            _holds(self.attribute.validator, value, place, faults)


def parse(text: bytes) -> Any:
    """Return what JSON text says.

    Raise Problem 400, or 422 for too many lists and objects, or an integer of more than 64 bits.
    """
    check_size(text)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Problem(400, phrase("the body is not JSON: {error}", error=error)) from None
    check_integers(text)
    return value


def check_size(text: bytes) -> None:
    """Raise Problem 422 for JSON text of too many lists and objects."""
    if _count_containers(text) > MOST_CONTAINERS and (
        _count_containers(STRING.sub(b"", text)) > MOST_CONTAINERS
    ):
        raise Problem(
            422,
            phrase(
                "the body holds more than {most} lists and objects",
                most=MOST_CONTAINERS,
            ),
        )


def check_integers(text: bytes) -> None:
    """Raise Problem 422 for JSON text with an integer of more than 64 bits."""
    if MANY_DIGITS.search(text) and _holds_long_integer(STRING.sub(b'""', text)):
        raise Problem(422, phrase("the body holds an integer of more than 64 bits"))


def _holds_long_integer(text: bytes) -> bool:
    """Say whether JSON text, without its strings, holds an integer that Redis or BSON cannot."""
    found = (match[1] for match in LONG_INTEGER.finditer(text))
    return any(
        len(digits) > INTEGER_CHARACTERS or not LEAST_INTEGER <= int(digits) <= MOST_INTEGER
        for digits in found
    )


def _count_containers(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{")


def structure(value: Any, shape: type[T], most: Mapping[str, int] | None = None) -> T:
    """Read a JSON object into an attrs class, or into a `dict` with any fields.

    `most` has other bounds of lists than the class, by the names of its fields; 0 is none. Raise
    Problem 422 that names the faults.
    """
    faults = Faults()
    read = read_body(value, shape, faults, most)
    faults.settle()
    structured: T = read  # type: ignore[assignment]
    return structured


def read_body(
    value: Any, shape: type[T], faults: Faults, most: Mapping[str, int] | None = None
) -> T | None:
    """Do as `structure`, but for the faults, which are added to others; None: there are some."""
    target: Any = shape
    read: Any
    if not isinstance(value, dict):
        read = faults.add(phrase("the body must be a JSON object"))
    elif attrs.has(shape):
        read = _read_object(value, "", faults, shape, most or {})
    else:
        read = reader_of(target)(value, phrase("the body"), faults, None)
    return None if read is WRONG else read


@functools.cache
def reader_of(shape: Any) -> ReadValue:
    """Return what reads values of a type. Raise TypeError for one that JSON has nothing for."""
    if shape in SCALARS:
        return functools.partial(_read_scalar, shape=shape)
    if shape is Any:
        return _read_anything
    if isinstance(shape, type) and issubclass(shape, Enum):
        return functools.partial(_read_choice, choices={one.value: one for one in shape})
    if attrs.has(shape):
        return functools.partial(_read_nested, shape=shape)
    origin, inner = get_origin(shape), get_args(shape)
    if origin is Annotated:
        return functools.partial(_read_held, reader=reader_of(inner[0]), validators=inner[1:])
    if origin is list:
        return functools.partial(_read_list, reader=reader_of(inner[0]))
    if origin is dict:
        if inner[1] is Any:
            return _read_free_object
        return functools.partial(_read_map, reader=reader_of(inner[1]))
    if origin in (Union, types.UnionType):
        others = [one for one in inner if one is not types.NoneType]
        if len(others) == 1:
            return functools.partial(_read_optional, reader=reader_of(others[0]))
    raise TypeError(f"no JSON is read into {shape}")


def _read_scalar(value: Any, place: str, faults: Faults, _: int | None, shape: type[Any]) -> Any:
    if type(value) is shape:
        return value
    if shape is float and type(value) is int:
        return float(value)
    return faults.add(phrase("{place} must be {kind}", place=place, kind=NAMES[shape]))


def _read_held(
    value: Any,
    place: str,
    faults: Faults,
    most: int | None,
    reader: ReadValue,
    validators: Sequence[Callable[..., object]],
) -> Any:
    """Read a value and hold it against validators of attrs, such as each item of a list."""
    read = reader(value, place, faults, most)
    if read is WRONG or not all(_holds(one, read, place, faults) for one in validators):
        return WRONG
    return read


def _holds(validator: Callable[..., object], value: Any, place: str, faults: Faults) -> bool:
    """Say whether a validator of attrs takes a value; add what it says."""
    try:
        validator(None, _Named(place), value)
    except (ValueError, TypeError) as error:
        faults.add(_words_of(error))
        return False
    return True


def _read_choice(
    value: Any, place: str, faults: Faults, _: int | None, choices: dict[str, Any]
) -> Any:
    if isinstance(value, str) and value in choices:
        return choices[value]
    return faults.add(phrase("{name} must be one of {choices}", name=place, choices=list(choices)))


def _read_anything(value: Any, place: str, faults: Faults, most: int | None) -> Any:
    try:
        check_json(place, value, DEFAULT_MOST_BYTES if most is None else most)
    except OutOfBounds as error:
        return faults.add(str(error))
    return value


def _read_free_object(value: Any, place: str, faults: Faults, most: int | None) -> Any:
    if not isinstance(value, dict):
        return faults.add(phrase("{place} must be a JSON object", place=place))
    return _read_anything(value, place, faults, most)


def _read_map(value: Any, place: str, faults: Faults, most: int | None, reader: ReadValue) -> Any:
    """Read an object with any names whose values are all of one type."""
    if not isinstance(value, dict):
        return faults.add(phrase("{place} must be a JSON object", place=place))
    most = DEFAULT_MOST_ITEMS if most is None else most
    if most and len(value) > most:
        return faults.add(phrase("{place} must have at most {most} fields", place=place, most=most))
    read = {
        name: reader(one, f"{place}.{cut(name, TOLD_NAME_CHARACTERS)}", faults, None)
        for name, one in value.items()
    }
    return WRONG if any(one is WRONG for one in read.values()) else read


def _read_optional(
    value: Any, place: str, faults: Faults, most: int | None, reader: ReadValue
) -> Any:
    return None if value is None else reader(value, place, faults, most)


def _read_list(value: Any, place: str, faults: Faults, most: int | None, reader: ReadValue) -> Any:
    if not isinstance(value, list):
        return faults.add(phrase("{place} must be a list", place=place))
    most = DEFAULT_MOST_ITEMS if most is None else most
    if most and len(value) > most:
        return faults.add(phrase("{place} must have at most {most} items", place=place, most=most))
    read = [reader(one, f"{place}[{n}]", faults, None) for n, one in enumerate(value)]
    return WRONG if any(one is WRONG for one in read) else read


def _read_nested(value: Any, place: str, faults: Faults, _: int | None, shape: type[Any]) -> Any:
    if not isinstance(value, dict):
        return faults.add(phrase("{place} must be a JSON object", place=place))
    return _read_object(value, place, faults, shape, {})


def _read_object(
    value: dict[str, Any], place: str, faults: Faults, shape: Any, most: Mapping[str, int]
) -> Any:
    fields, read, whole = _fields_of(shape), {}, True
    if unknown := [name for name in value if name not in fields]:
        names = listed([cut(one, TOLD_NAME_CHARACTERS) for one in unknown])
        faults.add(
            phrase("{place} has unknown fields: {fields}", place=place, fields=names)
            if place
            else phrase("unknown fields: {fields}", fields=names)
        )
        whole = False
    for name, field in fields.items():
        where = f"{place}.{name}" if place else name
        if name in value:
            read[name] = field.reader(value[name], where, faults, most.get(name, field.most))
        elif field.attribute.default is attrs.NOTHING:
            read[name] = faults.add(phrase("{place} is required", place=where))
    whole = whole and not any(one is WRONG for one in read.values())
    return _make(shape, read, place, faults) if whole else _check(shape, read, place, faults)


def _make(shape: Any, read: dict[str, Any], place: str, faults: Faults) -> Any:
    fields = _fields_of(shape)
    try:
        return shape(**{fields[name].attribute.name: value for name, value in read.items()})
    except (ValueError, TypeError) as error:
        before = faults.count
        _check(shape, read, place, faults)
        return WRONG if faults.count > before else faults.add(_words_of(error))


def _check(shape: Any, read: dict[str, Any], place: str, faults: Faults) -> _Wrong:
    """Add what the validators say of each field that could be read."""
    for name, value in read.items():
        if value is not WRONG:
            where = f"{place}.{name}" if place else name
            _fields_of(shape)[name].check(value, where, faults)
    return WRONG


@functools.cache
def _fields_of(shape: Any) -> dict[str, _Field]:
    hints = typing.get_type_hints(shape, include_extras=True)
    return {
        one.metadata.get(JSON_NAME, one.name): _Field(one, reader_of(hints[one.name]))
        for one in attrs.fields(shape)
    }


def _words_of(error: Exception) -> str:
    # attrs' validators put the message first and their own objects after it.
    return str(error.args[0]) if error.args else phrase("the body is not valid")
