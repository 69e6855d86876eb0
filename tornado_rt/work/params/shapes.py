"""Types that a parameter may have, and what JSON they are read from."""

import collections.abc
import types
import typing
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin
from uuid import UUID

import attrs

ANYTHING = (Any, object)
SCALARS = (str, int, float, bool, types.NoneType)
# Read from text.
TEXTS = (datetime, date, UUID, Path)
LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence)
SETS = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
# `type Name = …` of Python 3.12.
ALIAS: tuple[Any, ...] = tuple(filter(None, [getattr(typing, "TypeAliasType", None)]))


class TypeFault(TypeError):
    """JSON is not read into a class; the message says why, and names the class."""


def field_types(shape: type[Any]) -> dict[str, Any]:
    """Return the types of a class's fields. Raise TypeFault when one is not to be found."""
    try:
        return typing.get_type_hints(shape, include_extras=True)
    except (NameError, AttributeError) as error:
        raise TypeFault(f"a type in {shape.__name__} is not to be found: {error}") from None
    except Exception as error:
        raise TypeFault(f"a type in {shape.__name__} cannot be read: {error}") from None


def bare(shape: Any) -> Any:
    """Return a type without what `Annotated`, `Final` and `NewType` put around it."""
    while (inner := inside(shape)) is not shape:
        shape = inner
    return types.NoneType if shape is None else shape


def inside(shape: Any) -> Any:
    """Return a type without the outermost of these; itself when there is none."""
    if get_origin(shape) in (Annotated, Final):
        return get_args(shape)[0]
    if isinstance(shape, typing.NewType):
        return shape.__supertype__
    return shape.__value__ if isinstance(shape, ALIAS) else shape


def about_of(shape: Any) -> list[Any]:
    """Return what `Annotated` says of a type, also inside of what `bare` takes off."""
    found: list[Any] = []
    while (inner := inside(shape)) is not shape:
        found += get_args(shape)[1:] if get_origin(shape) is Annotated else ()
        shape = inner
    return found


def origin_of(shape: Any) -> Any:
    """Return `list` for `list[int]`, and for `list`."""
    return get_origin(shape) or shape


def is_union(shape: Any) -> bool:
    """Say whether a type is one of several, as an Optional is."""
    return get_origin(shape) in (Union, types.UnionType)


def is_class(shape: Any) -> bool:
    """Say whether a type is an attrs class."""
    return isinstance(shape, type) and attrs.has(shape)


def choices_of(shape: Any) -> dict[tuple[type, Any], Any]:
    """Return what an Enum or a Literal has, by type and value in JSON; none for another type.

    Raise TypeError when JSON does not have one of its values.
    """
    members: tuple[Any, ...] = ()
    if isinstance(shape, type) and issubclass(shape, Enum):
        members = tuple(shape)
    elif get_origin(shape) is Literal:
        members = get_args(shape)
    plain = [(one.value if isinstance(one, Enum) else one, one) for one in members]
    if any(type(value) not in SCALARS for value, _ in plain):
        raise nothing_for(shape)
    return {(type(value), value): one for value, one in plain}


def choices_within(shape: Any) -> dict[tuple[type, Any], Any]:
    """Return what the Enums and Literals in a type have: of its items, of its parts, its own."""
    shape = bare(shape)
    if found := choices_of(shape):
        return found
    return {key: one for part in get_args(shape) for key, one in choices_within(part).items()}


def nothing_for(shape: Any) -> TypeError:
    """Return what is raised for a type that JSON has nothing for."""
    return TypeError(f"no JSON is read into {getattr(shape, '__qualname__', shape)}")


def json_types(shape: Any) -> frozenset[type]:
    """Return the types of JSON that are read into a type; `object` stands for any."""
    shape = bare(shape)
    if is_union(shape):
        return frozenset().union(*(json_types(one) for one in get_args(shape)))
    if choices := choices_of(shape):
        return frozenset(kind for kind, _ in choices)
    if shape in ANYTHING:
        return frozenset({object})
    if shape in SCALARS:
        return frozenset({int, float} if shape is float else {shape})
    if shape in TEXTS:
        return frozenset({str})
    return frozenset({dict if is_class(shape) or origin_of(shape) in MAPPINGS else list})


def unchanged_types(shape: Any) -> frozenset[type]:
    """Return the types of JSON of which values are read into a type as they are.

    Items of a list and fields of an object may still be converted.
    """
    shape = bare(shape)
    options = get_args(shape) if is_union(shape) else (shape,)
    changed = [json_types(one) for one in options if not _is_unchanged(bare(one))]
    return json_types(shape).difference(*changed)


def _is_unchanged(shape: Any) -> bool:
    return shape in SCALARS or origin_of(shape) in (*LISTS, tuple, *MAPPINGS)
