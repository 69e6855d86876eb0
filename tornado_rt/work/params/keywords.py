"""Bounds of a value under the keywords of JSON Schema, and the words for what is out of them.

A class has them from the validators of attrs, and its schema says them: who has only the schema
refuses the same values in the same words. Of any other validator a schema knows nothing.
"""

import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import EnumType
from typing import Any

import attrs
import msgspec
from attrs import validators

from tornado_rt.work.params.faults import one_of, wrong
from tornado_rt.work.params.shapes import about_of, json_types, unchanged_types
from tornado_rt.work.texts import Text, msgid
from tornado_rt.work.values import MOST_COUNT, is_number

ENUM = "enum"
# The names of the values of an enum for people, in its order. JSON Schema has no keyword of its own
# for them; forms made of schemas know this one.
ENUM_NAMES = "enumNames"
Fits = Callable[[Any, Any], bool]

# Attrs names each comparison by its sign.
COMPARISONS = {
    ">=": "minimum",
    "<=": "maximum",
    ">": "exclusiveMinimum",
    "<": "exclusiveMaximum",
}
# As `msgspec.Meta` names them.
META_NUMBERS = {
    "ge": "minimum",
    "le": "maximum",
    "gt": "exclusiveMinimum",
    "lt": "exclusiveMaximum",
}
NUMBERS: dict[str, tuple[Fits, str]] = {
    "minimum": (operator.ge, msgid("must be at least {bound}")),
    "maximum": (operator.le, msgid("must be at most {bound}")),
    "exclusiveMinimum": (operator.gt, msgid("must be more than {bound}")),
    "exclusiveMaximum": (operator.lt, msgid("must be less than {bound}")),
}


@attrs.frozen
class Counted:
    """The words for a length that is not exactly, or below, or above a bound."""

    exactly: str
    at_least: str
    at_most: str


ITEMS = Counted(
    msgid("must have {bound} items"),
    msgid("must have at least {bound} items"),
    msgid("must have at most {bound} items"),
)
CHARACTERS = Counted(
    msgid("must have {bound} characters"),
    msgid("must have at least {bound} characters"),
    msgid("must have at most {bound} characters"),
)
FIELDS = Counted(
    msgid("must have {bound} fields"),
    msgid("must have at least {bound} fields"),
    msgid("must have at most {bound} fields"),
)
# The keywords that bound a length, from below and from above, and the words for what is counted.
LENGTHS: dict[type, tuple[str, str, Counted]] = {
    list: ("minItems", "maxItems", ITEMS),
    str: ("minLength", "maxLength", CHARACTERS),
    dict: ("minProperties", "maxProperties", FIELDS),
}
# A larger value of these bounds is stricter; a smaller value of the others is.
LEAST = {"minimum", "exclusiveMinimum", *(least for least, _, _ in LENGTHS.values())}
BOUNDS = {*NUMBERS, *(name for least, most, _ in LENGTHS.values() for name in (least, most))}
# A longer range is not listed.
MOST_CHOICES = 1000
# The types of choices that JSON and Python tell apart alike.
CHOSEN = {str, int, type(None)}


@attrs.frozen
class _Bound:
    """A bound of the values of some types."""

    types: tuple[type, ...]
    fits: Callable[[Any], bool]
    words: str


class Bounds:
    """The bounds that some keywords set."""

    def __init__(self, keywords: Mapping[str, Any]) -> None:
        self._bounds = [*_lengths(keywords), *_numbers(keywords), *_choices(keywords)]

    def hold(self, value: Any) -> None:
        """Raise Wrong for a value that is out of bounds; one of another type is in them."""
        for one in self._bounds:
            if type(value) in one.types and not one.fits(value):
                raise wrong(one.words)


def keywords_of(validator: Any, shape: Any) -> dict[str, Any]:
    """Return what a validator asks of the JSON that is read into a type, as far as keywords can."""
    read = READERS.get(type(validator))
    found: dict[str, Any] = {}
    for name, bound in read(validator, shape) if read else ():
        found[name] = _stricter(name, found[name], bound) if name in found else bound
    return found


def meta_keywords_of(shape: Any) -> dict[str, Any]:
    """Return what the `msgspec.Meta` of a type asks for, which its schema says too."""
    found: dict[str, Any] = {}
    for meta in about_of(shape):
        if isinstance(meta, msgspec.Meta):
            asked = {name: getattr(meta, given) for given, name in META_NUMBERS.items()}
            for least, most, _ in _lengths_of(shape):
                asked |= {least: meta.min_length, most: meta.max_length}
            found |= {name: bound for name, bound in asked.items() if bound is not None}
    return found


def _stricter(name: str, one: Any, other: Any) -> Any:
    """Return what two of the same keyword ask for together."""
    if name == ENUM:
        return [choice for choice in one if choice in other]
    return max(one, other) if name in LEAST else min(one, other)


Reader = Callable[[Any, Any], Iterable[tuple[str, Any]]]


def _read_all(validator: Any, shape: Any) -> Iterable[tuple[str, Any]]:
    return [one for part in validator._validators for one in keywords_of(part, shape).items()]


def _read_optional(validator: Any, shape: Any) -> Iterable[tuple[str, Any]]:
    # Null has no length and is no number.
    found = keywords_of(validator.validator, shape)
    if ENUM in found:
        found[ENUM] = list(dict.fromkeys([*found[ENUM], None]))
    return found.items()


def _read_number(validator: Any, shape: Any) -> Iterable[tuple[str, Any]]:
    if unchanged_types(shape) & {int, float} and is_number(
        validator.bound, -MOST_COUNT, MOST_COUNT
    ):
        yield COMPARISONS[validator.compare_op], validator.bound


def _read_least_length(validator: Any, shape: Any) -> Iterable[tuple[str, Any]]:
    for least, _, _ in _lengths_of(shape):
        yield least, validator.min_length


def _read_most_length(validator: Any, shape: Any) -> Iterable[tuple[str, Any]]:
    for _, most, _ in _lengths_of(shape):
        yield most, validator.max_length


def _lengths_of(shape: Any) -> list[tuple[str, str, Counted]]:
    types = unchanged_types(shape)
    return [names for kind, names in LENGTHS.items() if kind in types]


def _read_choices(validator: Any, shape: Any) -> Iterable[tuple[str, Any]]:
    types, options = unchanged_types(shape), validator._original_options
    if types != json_types(shape) or not types <= CHOSEN:
        return
    if isinstance(options, range) and options.step == 1 and options and types == {int}:
        # It may be long.
        yield "minimum", options.start
        yield "maximum", options.stop - 1
    elif (choices := options_of(options)) is not None and {*map(type, choices)} <= CHOSEN:
        yield ENUM, choices


def _order_of(option: Any) -> tuple[str, Any]:
    return str(type(option)), option if type(option) in (str, int) else str(option)


def options_of(options: Any) -> list[Any] | None:
    """Return what may be chosen, each once; None when it cannot be listed."""
    if isinstance(options, set | frozenset):
        # They have no order, and a schema must be the same in each process.
        return sorted(options, key=_order_of)
    if isinstance(options, EnumType):
        # Python 3.11 finds no value in an Enum, but its members alone.
        members: list[Any] = list(options)
        return [one.value for one in members] if sys.version_info >= (3, 12) else members
    if isinstance(options, list | tuple | dict) or (
        isinstance(options, range) and len(options) <= MOST_CHOICES
    ):
        return list({(type(one), str(one)): one for one in options}.values())
    return None


# Attrs gives no name to the classes of its validators.
READERS: dict[type, Reader] = {
    type(validators.and_()): _read_all,
    type(validators.optional(validators.ge(0))): _read_optional,
    type(validators.ge(0)): _read_number,
    type(validators.min_len(0)): _read_least_length,
    type(validators.max_len(0)): _read_most_length,
    type(validators.in_(())): _read_choices,
}


def _lengths(keywords: Mapping[str, Any]) -> Iterator[_Bound]:
    for kind, (least, most, counted) in LENGTHS.items():
        types = (list, tuple) if kind is list else (kind,)
        is_exact = keywords.get(least) == keywords.get(most)
        for name, fits, words in (
            (least, operator.ge, counted.at_least),
            (most, operator.le, counted.at_most),
        ):
            if name in keywords:
                told = bounded(counted.exactly if is_exact else words, keywords[name])
                yield _Bound(types, _length_fits(fits, keywords[name]), told)


def bounded(message: str, bound: object) -> Text:
    """Return the words for what is out of a bound."""
    return Text(message, {"bound": bound})


def _length_fits(fits: Fits, bound: float) -> Callable[[Any], bool]:
    return lambda value: fits(len(value), bound)


def _numbers(keywords: Mapping[str, Any]) -> Iterator[_Bound]:
    for name, (fits, words) in NUMBERS.items():
        if name in keywords:
            yield _Bound(
                (int, float), _number_fits(fits, keywords[name]), bounded(words, keywords[name])
            )


def _number_fits(fits: Fits, bound: float) -> Callable[[Any], bool]:
    return lambda value: fits(value, bound)


def _choices(keywords: Mapping[str, Any]) -> Iterator[_Bound]:
    if ENUM in keywords:
        choices = keywords[ENUM]
        yield _Bound(tuple(CHOSEN), lambda value: value in choices, one_of(choices))
