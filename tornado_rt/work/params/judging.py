"""Judge a value by the validators of its field: each fault at its place, in words.

The messages of attrs' own validators show objects of Python and name no item of a list, so they are
worded here. Any other validator is told by what it raises.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from enum import Enum
from typing import Any, get_args

import attrs
from attrs import validators

from tornado_rt.work.params.faults import (
    NAMES,
    Fault,
    alternatives,
    at_place,
    either,
    json_word,
    one_of,
    short,
    words_of,
)
from tornado_rt.work.params.keywords import (
    COMPARISONS,
    ITEMS,
    LENGTHS,
    NUMBERS,
    Counted,
    bounded,
    options_of,
)
from tornado_rt.work.params.shapes import is_union
from tornado_rt.work.texts import Text, phrase

ANY: Any = validators.ge(0)
NOT: Any = validators.not_(ANY)


def judge(validator: Any, holder: Any, attribute: Any, value: Any) -> Iterator[Fault]:
    """Yield what a validator of a field has against a value.

    `holder` is the object, as far as it could be read.
    """
    parts = PARTS.get(type(validator))
    if parts is not None:
        yield from parts(validator, holder, attribute, value)
    elif _words(validator, holder, attribute, value, "it") is not None:
        yield Fault("", lambda place: _words(validator, holder, attribute, value, place) or place)


def _words(validator: Any, holder: Any, attribute: Any, value: Any, place: str) -> str | None:
    """Return what a validator says of a value at a place, None: nothing."""
    try:
        validator(holder, attribute.evolve(name=place), value)
    except (ValueError, TypeError) as error:
        told = TOLD.get(type(validator))
        if told is not None and (meant := told(validator, value)):
            return at_place(place, meant)
        words = words_of(error)
        if not isinstance(words, Text):
            words = words.replace(f"'{place}'", place)
        if place in words:
            return words
        return phrase("{place}: {words}", place=place, words=words)
    except Exception as error:
        # It looked at a field that could not be read.
        looked = isinstance(error, AttributeError) and error.obj is holder
        if looked:
            return None
        return phrase("{place} is not valid: {words}", place=place, words=words_of(error))
    return None


Parts = Callable[[Any, Any, Any, Any], Iterator[Fault]]


def _first(validator: Any, holder: Any, attribute: Any, value: Any) -> Iterator[Fault]:
    """Yield the faults of the first that has some: the next ones rely on it."""
    for one in validator._validators:
        if faults := list(judge(one, holder, attribute, value)):
            yield from faults
            return


def _unless_none(validator: Any, holder: Any, attribute: Any, value: Any) -> Iterator[Fault]:
    if value is not None:
        yield from judge(validator.validator, holder, attribute, value)


def _either(validator: Any, holder: Any, attribute: Any, value: Any) -> Iterator[Fault]:
    found = [next(judge(one, holder, attribute, value), None) for one in validator.validators]
    faults = [one for one in found if one is not None]
    if len(faults) == len(found):
        yield Fault(
            "", lambda place: at_place(place, alternatives(_bare(one, place) for one in faults))
        )


def _bare(fault: Fault, place: str) -> str:
    [told] = fault.told(place)
    if isinstance(told, Text) and "words" in told.values:
        return str(told.values["words"])
    return told.removeprefix(place).lstrip(": ")


def _items(validator: Any, holder: Any, attribute: Any, value: Any) -> Iterator[Fault]:
    if validator.iterable_validator is not None:
        yield from judge(validator.iterable_validator, holder, attribute, value)
    # The items of a set have no place in it.
    for n, one in enumerate(value if isinstance(value, Iterable) else ()):
        at = "" if isinstance(value, Set) else f"[{n}]"
        yield from _at(at, judge(validator.member_validator, holder, attribute, one))


def _fields(validator: Any, holder: Any, attribute: Any, value: Any) -> Iterator[Fault]:
    if validator.mapping_validator is not None:
        yield from judge(validator.mapping_validator, holder, attribute, value)
    for key, one in value.items() if isinstance(value, Mapping) else ():
        at = f".{short(json_word(_plain(key)))}"
        for part, inner in ((validator.key_validator, key), (validator.value_validator, one)):
            if part is not None:
                yield from _at(at, judge(part, holder, attribute, inner))


def _at(at: str, faults: Iterable[Fault]) -> Iterator[Fault]:
    for one in faults:
        yield attrs.evolve(one, at=at + one.at)


# The validators of attrs that hold others.
PARTS: dict[type, Parts] = {
    type(validators.and_()): _first,
    type(validators.optional(ANY)): _unless_none,
    type(validators.or_(ANY, ANY)): _either,
    type(validators.deep_iterable(ANY)): _items,
    type(validators.deep_mapping(ANY, ANY)): _fields,
}


def _of_choices(validator: Any, _: Any) -> str:
    choices = options_of(validator._original_options)
    return phrase("is not allowed") if choices is None else one_of(map(_plain, choices))


def _of_number(validator: Any, _: Any) -> str:
    _, words = NUMBERS[COMPARISONS[validator.compare_op]]
    return bounded(words, validator.bound)


def _of_least(validator: Any, value: Any) -> str:
    return bounded(_counted(value).at_least, validator.min_length)


def _of_most(validator: Any, value: Any) -> str:
    return bounded(_counted(value).at_most, validator.max_length)


def _counted(value: Any) -> Counted:
    return next((one for kind, (*_, one) in LENGTHS.items() if isinstance(value, kind)), ITEMS)


def _of_pattern(validator: Any, _: Any) -> str:
    return phrase("must match the pattern {pattern}", pattern=validator.pattern.pattern)


def _of_type(validator: Any, _: Any) -> str:
    meant = validator.type
    kinds = meant if isinstance(meant, tuple) else get_args(meant) if is_union(meant) else (meant,)
    if set(kinds) <= NAMES.keys():
        return either(kinds)
    names = [getattr(one, "__name__", str(one)) for one in kinds]
    return phrase("must be {kind}", kind=alternatives(names))


def _of_not(validator: Any, _: Any) -> str:
    # Its author may have given it another message.
    return phrase("is not allowed") if validator.msg == NOT.msg else ""


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


# The words for a value that one of attrs' validators refuses, "" for those of its own message.
TOLD: dict[type, Callable[[Any, Any], str]] = {
    type(validators.in_(())): _of_choices,
    type(ANY): _of_number,
    type(validators.min_len(0)): _of_least,
    type(validators.max_len(0)): _of_most,
    type(validators.matches_re("")): _of_pattern,
    type(validators.instance_of(int)): _of_type,
    type(NOT): _of_not,
}
