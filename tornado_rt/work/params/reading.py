"""Hooks of a cattrs converter that read JSON into each type that a parameter may have.

A hook takes a value that JSON can hold and returns what it is read into, or raises `Wrong` with the
faults of all that stands in the value. Nothing large is read twice, and reading goes as deep as the
value does, which `check_json` has bounded. None of cattrs' own hooks is left: those convert values,
and cattrs makes an exception of each fault of the largest list.

It is long because each type that JSON can hold has a hook.
"""

import contextlib
import functools
import itertools
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from datetime import date, datetime
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import attrs
import orjson
from cattrs import Converter

from tornado_rt.work.kept import MAX_DEPTH
from tornado_rt.work.params.bounds import OutOfBounds, check_json, check_name
from tornado_rt.work.params.faults import (
    NAMES,
    Fault,
    Gathered,
    ParamsFault,
    UnknownFields,
    Wrong,
    either,
    one_of,
    short,
    words_of,
    wrong,
)
from tornado_rt.work.params.judging import judge
from tornado_rt.work.params.keywords import Bounds, keywords_of, meta_keywords_of
from tornado_rt.work.params.shapes import (
    ANYTHING,
    LISTS,
    MAPPINGS,
    SCALARS,
    SETS,
    bare,
    choices_of,
    field_types,
    is_class,
    is_union,
    json_types,
    nothing_for,
    origin_of,
    unchanged_types,
)
from tornado_rt.work.texts import phrase

# Of any value cattrs makes an object of one of these classes, or of one that derives from them.
CALLED = (str, bytes, int, float, Path)
EXACT = (*SCALARS, Path)
# Reads a value into a type, as cattrs calls it.
Hook = Callable[[Any, Any], Any]

TEXT_LENGTH = 4096
# The key of a field's metadata that bounds its list or its names.
MOST_ITEMS = "most_items"
# And those that a schema has as they are: the name of the field for people, and examples; a form
# proposes the first.
TITLE, DESCRIPTION, EXAMPLES = "title", "description", "examples"
SHOWN = (TITLE, DESCRIPTION, EXAMPLES)
# The names for people of the values that a field may choose from, by these values.
TITLES = "titles"


@attrs.frozen
class Field:
    """A field of an attrs class; `hook` reads it before its own converter and validator."""

    attribute: "attrs.Attribute[Any]"
    shape: Any
    hook: Hook

    @cached_property
    def _types(self) -> frozenset[type]:
        return unchanged_types(self.shape)

    @cached_property
    def _bounds(self) -> Bounds:
        return Bounds(self.keywords)

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.attribute.default is attrs.NOTHING

    @cached_property
    def keywords(self) -> dict[str, Any]:
        """The keywords of its schema: bounds of attrs' validators and of its list, texts."""
        given = self.attribute
        told = {name: given.metadata.get(name) for name in SHOWN}
        told["maxItems"] = given.metadata.get(MOST_ITEMS)
        found = keywords_of(None if given.converter else given.validator, self.shape)
        return found | {name: one for name, one in told.items() if one is not None}

    @property
    def titles(self) -> dict[tuple[type, Any], Any]:
        """The names for people of its choices, by the types and the values of these in JSON."""
        given: Mapping[Any, Any] = self.attribute.metadata.get(TITLES) or {}
        plain = {(one.value if isinstance(one, Enum) else one): name for one, name in given.items()}
        return {(type(value), value): name for value, name in plain.items()}

    def read(self, value: Any) -> Any:
        """Return its value. Raise Wrong."""
        if type(value) in self._types:
            self._bounds.hold(value)
        return self.hook(value, self.shape)

    def default(self) -> Any:
        """Return its default as an object has it, NOTHING when that takes an object to make.

        Raise what an author's own code raises.
        """
        given, convert = self.attribute.default, self.attribute.converter
        if isinstance(given, attrs.Factory):  # type: ignore[arg-type]
            made: Any = given
            given = attrs.NOTHING if made.takes_self else made.factory()
        if given is attrs.NOTHING or convert is None:
            return given
        return attrs.NOTHING if isinstance(convert, attrs.Converter) else convert(given)

    def judge(self, value: Any, holder: Any) -> Iterator[Fault]:
        """Yield what its own converter or validator has against a value."""
        converted = value
        if isinstance(self.attribute.converter, attrs.Converter):
            return
        if self.attribute.converter is not None:
            try:
                converted = self.attribute.converter(value)
            except Exception as error:
                yield Fault("", _refusing(error))
                return
        try:
            self._bounds.hold(converted)
        except Wrong as error:
            yield from error.faults
            return
        if self.attribute.validator is not None:
            yield from judge(self.attribute.validator, holder, self.attribute, converted)


class ClassReader:
    """Reads JSON objects into an attrs class; `fields` are those that its constructor takes."""

    _known: typing.ClassVar[dict[Any, "ClassReader"]] = {}

    def __init__(self, shape: Any) -> None:
        self._class = shape
        self.fields: dict[str, Field] = {}

    @classmethod
    def of(cls, shape: Any) -> "ClassReader":
        """Return the one of a class. Raise TypeError for a field that JSON has nothing for."""
        if shape not in cls._known:
            # A class may hold itself, so it is there before its fields are.
            made = cls._known[shape] = cls(shape)
            try:
                made.fields = dict(made._find_fields())
            except BaseException:
                # Others may hold it, in a circle.
                cls._known.clear()
                raise
        return cls._known[shape]

    def read(self, value: Any, _: Any = None) -> Any:
        """Return an object of the class. Raise Wrong."""
        if not isinstance(value, dict):
            raise wrong(phrase("must be {kind}", kind=NAMES[dict]))
        gathered = Gathered()
        read: dict[str, Any] = {}
        if unknown := [name for name in value if name not in self.fields]:
            gathered.add(UnknownFields.of(unknown))
        for name, field in self.fields.items():
            if name in value:
                try:
                    read[name] = field.read(value[name])
                except Wrong as error:
                    gathered.join(f".{name}", error)
            elif field.required:
                gathered.add(
                    Fault(f".{name}", lambda place: phrase("{place} is required", place=place))
                )
        if not gathered.faults:
            return self._make(read, gathered)
        unread = value.keys() - read.keys()
        usual = {name: one for name, one in self._defaults().items() if name not in unread}
        return self._judged(read, usual, gathered)

    def default_faults(self) -> list[Fault]:
        """Return what is wrong with the defaults, each by itself."""
        gathered = Gathered()
        with contextlib.suppress(Wrong):
            for name, field in self.fields.items():
                try:
                    default = field.default()
                    if default is not attrs.NOTHING:
                        field.read(write_json(default, field.shape, "", 0))
                except Wrong as error:
                    gathered.join(f".{name}", error)
                except ParamsFault as error:
                    # A value that JSON cannot hold is named without a place.
                    gathered.join(f".{name}", wrong("; ".join(error.faults).strip()))
                except Exception as error:
                    gathered.add(Fault(f".{name}", _refusing(error)))
            self._judged(self._defaults(), {}, gathered)
        return gathered.faults

    def _find_fields(self) -> Iterator[tuple[str, Field]]:
        hints = field_types(self._class)
        for name, attribute in attrs.fields_dict(self._class).items():
            if attribute.init:
                shape = hints.get(name, Any)
                try:
                    yield name, Field(attribute, shape, hook_of(shape))
                except TypeError as error:
                    raise TypeError(f"{name}: {error}") from None

    def _make(self, read: dict[str, Any], gathered: Gathered) -> Any:
        try:
            return self._class(**{str(self.fields[one].attribute.alias): read[one] for one in read})
        except Exception as error:
            refused = Fault("", _refusing(error))
        with contextlib.suppress(Wrong):
            self._judged(self._defaults() | read, {}, gathered)
        if not gathered.faults:
            gathered.add(refused)
        raise Wrong(gathered.faults)

    def _judged(
        self, read: dict[str, Any], usual: dict[str, Any], gathered: Gathered
    ) -> typing.NoReturn:
        """Add what the fields' own validators say of what could be read. Raise Wrong.

        `usual`: the defaults that the object has too.
        """
        holder = self._holder(usual | read)
        for name, value in read.items():
            for fault in self.fields[name].judge(value, holder):
                gathered.add(attrs.evolve(fault, at=f".{name}{fault.at}"))
        raise Wrong(gathered.faults)

    def _holder(self, values: dict[str, Any]) -> Any:
        """Return an object of the class that has these fields alone, as its validators see it."""
        try:
            holder = self._class.__new__(self._class)
            for name, value in values.items():
                object.__setattr__(holder, name, value)
        except Exception:
            # A class may make its objects in its own way.
            return types.SimpleNamespace(**values)
        return holder

    def _defaults(self) -> dict[str, Any]:
        """Return the defaults that can be had without an object."""
        found = {}
        for name, field in self.fields.items():
            with contextlib.suppress(Exception):
                found[name] = field.default()
        return {name: value for name, value in found.items() if value is not attrs.NOTHING}


def as_json(value: object, place: str, most_bytes: int, depth: int = MAX_DEPTH) -> Any:
    """Return what a reader of the JSON of a value gets; `most_bytes` 0 for any size.

    Raise ParamsFault.
    """
    try:
        return orjson.loads(check_json(place, value, most_bytes, depth))
    except OutOfBounds as error:
        raise ParamsFault([str(error)]) from None


def write_json(
    value: object, shape: Any, place: str, most_bytes: int, depth: int = MAX_DEPTH
) -> Any:
    """Return as JSON what is read into a type. Raise ParamsFault."""
    plain = converter.unstructure(value, unstructure_as=shape)
    return as_json(plain, place, most_bytes, depth)


def _refusing(error: Exception) -> Callable[[str], str]:
    """Return the words for what an author's own code has refused."""
    words = words_of(error)
    return lambda place: phrase("{place} is not valid: {words}", place=place, words=words)


def hook_of(shape: Any) -> Hook:
    """Return what reads values of a type. Raise TypeError for one that JSON has nothing for."""
    keywords = meta_keywords_of(shape)
    if keywords:
        return _bounded_hook(hook_of(bare(shape)), Bounds(keywords), unchanged_types(shape))
    shape = bare(shape)
    if choices := choices_of(shape):
        # cattrs would take a StrEnum for a string.
        return _choice_hook(choices)
    if isinstance(shape, type) and issubclass(shape, CALLED) and shape not in EXACT:
        raise nothing_for(shape)
    hook: Hook = converter.get_structure_hook(shape, cache_result=False)
    return hook


def _bounded_hook(hook: Hook, bounds: Bounds, types_: frozenset[type]) -> Hook:
    def read(value: Any, shape: Any) -> Any:
        if type(value) in types_:
            bounds.hold(value)
        return hook(value, shape)

    return read


def _scalar_hook(shape: type) -> Hook:
    def read(value: Any, _: Any) -> Any:
        if type(value) is not shape:
            raise wrong(phrase("must be {kind}", kind=NAMES[shape]))
        return value

    return read


def _read_number(value: Any, _: Any) -> float:
    if type(value) not in (int, float):
        raise wrong(phrase("must be {kind}", kind=NAMES[float]))
    return float(value)


def _text_hook(parse: Callable[[str], Any], words: str) -> Hook:
    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, str):
            raise wrong(phrase("must be {kind}", kind=NAMES[str]))
        try:
            check_name("", value, TEXT_LENGTH)
            return parse(value)
        except ValueError:
            raise wrong(words) from None

    return read


def _read_path(value: Any, _: Any) -> Path:
    if not isinstance(value, str):
        raise wrong(phrase("must be {kind}", kind=NAMES[str]))
    try:
        check_name("", value, TEXT_LENGTH)
    except OutOfBounds as error:
        raise wrong(str(error).strip()) from None
    return Path(value)


TEXT_HOOKS: dict[type, Hook] = {
    datetime: _text_hook(
        datetime.fromisoformat, phrase("must be a time such as 2026-01-02T03:04:05Z")
    ),
    date: _text_hook(date.fromisoformat, phrase("must be a date such as 2026-01-02")),
    UUID: _text_hook(UUID, phrase("must be a UUID")),
    Path: _read_path,
}


def _read_anything(value: Any, _: Any) -> Any:
    return value


def _choice_hook(choices: dict[tuple[type, Any], Any]) -> Hook:
    words = one_of(value for _, value in choices)

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, SCALARS) or (type(value), value) not in choices:
            raise wrong(words)
        return choices[type(value), value]

    return read


def _list_hook(shape: Any) -> Hook:
    inner = (get_args(shape) or (Any,))[0]
    return _items_hook(inner, list)


def _set_hook(shape: Any) -> Hook:
    inner = (get_args(shape) or (Any,))[0]
    if json_types(inner) & {list, dict, object}:
        raise nothing_for(shape)
    return _items_hook(inner, frozenset if origin_of(shape) is frozenset else set)


def _items_hook(inner: Any, made: Callable[[Iterable[Any]], Any]) -> Hook:
    each = itertools.repeat((hook_of(inner), inner))

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            raise wrong(phrase("must be {kind}", kind=NAMES[list]))
        return made(_read_items(value, each))

    return read


def _tuple_hook(shape: Any) -> Hook:
    inner = get_args(shape) or (() if shape == tuple[()] else (Any, ...))
    if inner[1:] == (...,):
        return _items_hook(inner[0], tuple)
    hooks = [(hook_of(one), one) for one in inner]

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            raise wrong(phrase("must be {kind}", kind=NAMES[list]))
        if len(value) != len(hooks):
            raise wrong(phrase("must have {bound} items", bound=len(hooks)))
        return tuple(_read_items(value, hooks))

    return read


def _read_items(value: list[Any], hooks: Iterable[tuple[Hook, Any]]) -> list[Any]:
    read, gathered = [], Gathered()
    for n, (one, (hook, inner)) in enumerate(zip(value, hooks, strict=False)):
        try:
            read.append(hook(one, inner))
        except Wrong as error:
            gathered.join(f"[{n}]", error)
    gathered.settle()
    return read


def _mapping_hook(shape: Any) -> Hook:
    key, inner = get_args(shape) or (str, Any)
    hook, choices = hook_of(inner), _keys_of(bare(key), shape)

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise wrong(phrase("must be {kind}", kind=NAMES[dict]))
        read, gathered = {}, Gathered()
        if choices and (unknown := [name for name in value if name not in choices]):
            gathered.add(UnknownFields.of(unknown))
        for name, one in value.items():
            try:
                read[choices.get(name, name)] = hook(one, inner)
            except Wrong as error:
                gathered.join(f".{short(name)}", error)
        gathered.settle()
        return read

    return read


def _keys_of(key: Any, shape: Any) -> dict[str, Any]:
    """Return what names are read into, none when any may stand. Raise TypeError."""
    choices = choices_of(key)
    if key not in (str, *ANYTHING) and (not choices or json_types(key) != {str}):
        raise nothing_for(shape)
    return {name: one for (_, name), one in choices.items()}


def _union_hook(shape: Any) -> Hook:
    """Read by what stands in the JSON, so that nothing large is read twice."""
    options = [one for one in get_args(shape) if bare(one) is not types.NoneType]
    if len(options) == 1:
        return _optional_hook(hook_of(options[0]), options[0])
    able = {kind: _able(kind, options) for kind in NAMES}
    if len(able[list]) > 1 or len(able[dict]) > 1:
        raise TypeError(f"JSON does not tell apart what {shape} may be")
    words = either(kind for kind in NAMES if able[kind])
    absent = len(options) < len(get_args(shape))

    def read(value: Any, _: Any) -> Any:
        if value is None and absent:
            return None
        faults = []
        for hook, one in able[type(value)]:
            try:
                return hook(value, one)
            except Wrong as error:
                faults.append(error)
        raise faults[0] if faults else wrong(words)

    return read


def _optional_hook(hook: Hook, inner: Any) -> Hook:
    return lambda value, _: None if value is None else hook(value, inner)


def _able(kind: type, options: list[Any]) -> list[tuple[Hook, Any]]:
    """Return what reads this type of JSON; an integer is one before it is a number."""
    found = [one for one in options if json_types(one) & {kind, object}]
    found.sort(key=lambda one: kind is int and float in json_types(one))
    return [(hook_of(one), one) for one in found]


def _refuse(shape: Any) -> Hook:
    raise nothing_for(shape)


def _sorted_list(values: Iterable[Any]) -> list[Any]:
    return sorted(values, key=lambda one: (str(type(one)), one))


def _plain_text(text: str) -> str:
    # Orjson takes no StrEnum for the name of a field.
    return text.value if isinstance(text, Enum) else text


def _make_converter() -> Converter:
    """Return what reads by the hooks of this module alone; the last that is registered is first."""
    made = Converter(unstruct_collection_overrides={Set: _sorted_list})
    made.register_unstructure_hook(str, _plain_text)
    made.register_structure_hook_factory(lambda _: True, _refuse)
    made.register_structure_hook_factory(is_class, lambda shape: ClassReader.of(shape).read)
    made.register_structure_hook_factory(is_union, _union_hook)
    for origins, factory in (
        (LISTS, _list_hook),
        (SETS, _set_hook),
        (MAPPINGS, _mapping_hook),
        ((tuple,), _tuple_hook),
        (ANYTHING, lambda _: _read_anything),
    ):
        made.register_structure_hook_factory(functools.partial(_comes_of, origins), factory)
    for scalar in SCALARS:
        made.register_structure_hook(scalar, _scalar_hook(scalar))
    made.register_structure_hook(float, _read_number)
    for text, hook in TEXT_HOOKS.items():
        made.register_structure_hook(text, hook)
    return made


def _comes_of(origins: tuple[Any, ...], shape: Any) -> bool:
    return origin_of(shape) in origins


converter = _make_converter()
