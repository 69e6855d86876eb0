"""The JSON Schema (2020-12) of a kind's parameters."""

import json
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin
from uuid import UUID

import attrs
import msgspec

from tornado_rt.work.params.bounds import OutOfBounds, check_json
from tornado_rt.work.params.faults import PLACE
from tornado_rt.work.params.keywords import ENUM, ENUM_NAMES
from tornado_rt.work.params.reading import ClassReader, Field, write_json
from tornado_rt.work.params.shapes import (
    MAPPINGS,
    SETS,
    bare,
    choices_of,
    choices_within,
    inside,
    is_class,
    is_union,
    origin_of,
)

# Bound of a schema as JSON [B].
MOST_SCHEMA_BYTES = 65536
DEFINITION = "#/$defs/"
# A format of our own: other readers of the schema pass over it.
PATH = "path"
# Defaults that are the same whenever they are made.
CONSTANT_FACTORIES = (list, dict, set, frozenset, tuple)
# The default of a field that may be left out, and whose default is made anew each time.
MADE_ANEW = attrs.Factory(object)


def _described(shape: Any, **keywords: Any) -> Any:
    """Return a type that msgspec describes with these keywords too."""
    return Annotated[shape, msgspec.Meta(extra_json_schema=keywords)]


# Msgspec is shown these types in the place of others.
KNOWN: dict[Any, Any] = {
    datetime: _described(str, format="date-time"),
    date: _described(str, format="date"),
    UUID: _described(str, format="uuid"),
    Path: _described(str, format=PATH),
    object: Any,
}


# The names of choices for people, by the types and the values of these in JSON.
Titles = Mapping[tuple[type, Any], str]


class NotDescribed(Exception):
    """A class has no schema; the text says why."""


def schema_of(params_class: type[Any]) -> dict[str, Any]:
    """Return the schema of a class's parameters: an object, with what it refers to in `$defs`.

    A class that cannot be described has one that takes any object; its `$comment` says why.
    Of the validators it has those of attrs that bound a number or a length, or name the choices.
    """
    try:
        return describe(params_class)
    except NotDescribed as error:
        return {"title": params_class.__name__, "type": "object", "$comment": str(error)}


def describe(params_class: type[Any]) -> dict[str, Any]:
    """Return the schema of a class's parameters. Raise NotDescribed."""
    try:
        schema = _describe(params_class)
        check_json("the schema", schema, MOST_SCHEMA_BYTES)
    except OutOfBounds as error:
        raise NotDescribed(str(error)) from None
    except Exception as error:
        # Types may be made so that they raise anything when they are looked at.
        reason = str(error).partition("\n")[0]
        raise NotDescribed(f"{params_class.__name__} cannot be described: {reason}") from error
    return schema


def _describe(params_class: type[Any]) -> dict[str, Any]:
    twins = _Twins()
    schema = msgspec.json.schema(twins.of(params_class))
    definitions = {name: twins.close(one) for name, one in schema["$defs"].items()}
    reference = schema["$ref"]
    whole = definitions[reference.removeprefix(DEFINITION)]
    if not _refers(definitions, reference):
        del definitions[reference.removeprefix(DEFINITION)]
    return whole | ({"$defs": definitions} if definitions else {})


class _Twins:
    """Classes of the same fields as an author's, of types and defaults that msgspec knows."""

    def __init__(self) -> None:
        self._made: dict[Any, Any] = {}
        # The names of each class, in their order.
        self._orders: dict[frozenset[str], list[str]] = {}

    def of(self, shape: Any) -> Any:
        """Return the twin of an attrs class."""
        if shape in self._made:
            return self._made[shape]
        fields = ClassReader.of(shape).fields
        defaults = {name: attrs.field(default=_default_of(one)) for name, one in fields.items()}
        # Two classes may have one name.
        taken = any(one.__name__ == shape.__name__ for one in self._made.values())
        name = f"{shape.__name__}{len(self._made)}" if taken else shape.__name__
        twin = self._made[shape] = attrs.make_class(name, defaults, kw_only=True)
        twin.__module__, twin.__doc__ = shape.__module__, shape.__doc__
        # A class may hold itself, so it is there before its fields are.
        twin.__annotations__ = {name: self._known_field(one) for name, one in fields.items()}
        self._orders[frozenset(fields)] = list(fields)
        return twin

    def close(self, definition: dict[str, Any]) -> dict[str, Any]:
        """Return a definition that takes no further fields, in the order of the class."""
        if "properties" not in definition:
            return definition
        found = definition["properties"]
        ordered = {name: found[name] for name in self._orders[frozenset(found)]}
        return definition | {"properties": ordered, "additionalProperties": False}

    def _known_field(self, field: Field) -> Any:
        titles, keywords = _titles_of(field), field.keywords
        known = self._known(field.shape, titles)
        if ENUM in keywords:
            keywords = keywords | _choosing(keywords[ENUM], titles)
        return _described(known, **keywords) if keywords else known

    def _known(self, shape: Any, titles: Titles) -> Any:
        """Return what stands for a type; choices in it have these titles."""
        if get_origin(shape) is Annotated:
            inner, *about = get_args(shape)
            return Annotated[(self._known(inner, titles), *about)]
        if inside(shape) is not shape:
            return self._known(inside(shape), titles)
        shape = bare(shape)
        if shape in KNOWN:
            return KNOWN[shape]
        if is_class(shape):
            return self.of(shape)
        if choices := [value for _, value in choices_of(shape)]:
            # msgspec would sort them.
            return _described(Any, **_choosing(choices, titles))
        if get_args(shape) and origin_of(shape) in MAPPINGS:
            return self._known_mapping(titles, *get_args(shape))
        inner = tuple(one if one is ... else self._known(one, titles) for one in get_args(shape))
        if is_union(shape):
            return Union[inner]  # noqa: UP007
        if origin_of(shape) in SETS:
            # A value that stands twice in a list is read once.
            return list[inner] if inner else list  # type: ignore[valid-type]
        return origin_of(shape)[inner] if inner else shape

    def _known_mapping(self, titles: Titles, key: Any, inner: Any) -> Any:
        named: Any = dict.__class_getitem__((str, self._known(inner, titles)))
        names = [name for _, name in choices_of(bare(key))]
        return _described(named, propertyNames=_choosing(names, titles)) if names else named


def _titles_of(field: Field) -> Titles:
    """Return the titles of a field's choices. Raise TypeError for one of what it does not take."""
    titles, choices = field.titles, choices_within(field.shape)
    named = {(type(one), one) for one in field.keywords.get(ENUM, ())}
    for kind, value in titles.keys() - choices.keys() - named:
        raise TypeError(
            f"{field.attribute.name} has a title of {kind(value)!r}, which it does not take"
        )
    for title in titles.values():
        if not isinstance(title, str):
            raise TypeError(f"{field.attribute.name} has a title that is no text: {title!r}")
    return titles


def _choosing(choices: list[Any], titles: Titles) -> dict[str, Any]:
    """Return the keywords of choices: what a value may be, and how people call it."""
    names = [titles.get((type(one), one)) for one in choices]
    if not any(names):
        return {ENUM: choices}
    shown = [
        _shown(one) if name is None else name for one, name in zip(choices, names, strict=True)
    ]
    return {ENUM: choices, ENUM_NAMES: shown}


def _shown(choice: Any) -> str:
    """Return how a choice without a title is named: as a form without titles shows it."""
    return choice if isinstance(choice, str) else json.dumps(choice)


def _default_of(field: Field) -> Any:
    """Return a field's default as JSON, or what stands for none and for one that is made anew."""
    if field.required:
        return attrs.NOTHING
    if not _is_constant(field.attribute.default):
        return MADE_ANEW
    try:
        default = field.default()
        if default is attrs.NOTHING:
            return MADE_ANEW
        return write_json(default, field.shape, PLACE, MOST_SCHEMA_BYTES)
    except Exception:
        # The class's own converter may raise anything; `default_faults` tells it.
        return MADE_ANEW


def made_anew(params_class: type[Any]) -> list[str]:
    """Return the names of the fields whose default is another one each time it is made."""
    fields = ClassReader.of(params_class).fields
    return [name for name, one in fields.items() if not one.required and _differs(one)]


def _differs(field: Field) -> bool:
    try:
        one, other = (write_json(field.default(), field.shape, PLACE, 0) for _ in range(2))
    except Exception:
        # The class's own code may raise anything; `default_faults` tells it.
        return False
    return bool(one != other)


def _is_constant(default: Any) -> bool:
    if not isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return True
    factory: Any = default.factory
    if is_class(factory):
        return all(_is_constant(one.default) for one in attrs.fields(factory))
    return factory in CONSTANT_FACTORIES


def _refers(schema: Any, reference: str) -> bool:
    """Say whether a schema refers to a definition."""
    if isinstance(schema, dict):
        return schema.get("$ref") == reference or _refers(list(schema.values()), reference)
    return isinstance(schema, list) and any(_refers(one, reference) for one in schema)
