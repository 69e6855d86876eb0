"""Validating parameters by a JSON Schema that another process wrote.

The schema is another's. A few keywords of Draft 2020-12 are looked at, among them all that
`schema_of` writes; what the others ask for is left to the worker, which reads the parameters into
its class. A validation takes a bounded number of steps and writes no value into its messages, for a
small schema can ask for more than anybody has time for: jsonschema takes 8 seconds for an `anyOf`
of 3,300 types and a list of 64 KiB.

It is long because each keyword of JSON Schema has a check.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import orjson

from tornado_rt.bounds import OutOfBounds, check_json
from tornado_rt.work.params.faults import (
    NAMES,
    PLACE,
    Fault,
    Gathered,
    UnknownFields,
    Wrong,
    either,
    one_of,
    refusal,
    short,
    wrong,
)
from tornado_rt.work.params.keywords import BOUNDS, Bounds
from tornado_rt.work.params.reader import MOST_BYTES
from tornado_rt.work.params.reading import TEXT_HOOKS, as_json, write_json
from tornado_rt.work.params.schema import DEFINITION, MOST_SCHEMA_BYTES, PATH
from tornado_rt.work.params.shapes import SCALARS
from tornado_rt.work.texts import phrase

# A step is a schema that a value is held against, or a name or value that a schema lists.
STEPS_PER_BYTE = 2
# An option that does not fit takes this many steps, for an exception is dear.
FAILED_OPTION = 8
NOT_CHECKED = phrase("cannot be checked: the schema of this kind asks for too many steps")

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
ALL_TYPES = frozenset(NAMES)
NO_BOUNDS = Bounds({})
NUMBERS = (int, float)
# Keywords that ask for nothing.
ABOUT = {"title", "description", "default", "$defs"}


class BadSchema(ValueError):
    """A schema cannot be used; the message says why."""


class _TooLong(Exception):
    """A validation takes too many steps."""


class _Steps:
    """Counts the steps of a validation."""

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, count: int = 1) -> None:
        """Count some. Raise _TooLong."""
        self._left -= count
        if self._left < 0:
            raise _TooLong


# Holds a value against a keyword of a schema. Raises Wrong.
Check = Callable[[Any, _Steps], None]


@attrs.define
class _Node:
    """A schema that was read; `types` are those of JSON that it may take."""

    checks: list[Check] = attrs.Factory(list)
    types: frozenset[type] = ALL_TYPES
    # Told of a value of another type.
    words: str = phrase("is not allowed")
    # A value that is out of them is not looked at any further.
    bounds: Bounds = NO_BOUNDS

    def check(self, value: Any, steps: _Steps) -> None:
        """Raise Wrong for a value that the schema does not take."""
        steps.take()
        if type(value) not in self.types:
            raise wrong(self.words)
        self.bounds.hold(value)
        faults: list[Fault] = []
        for check in self.checks:
            try:
                check(value, steps)
            except Wrong as error:
                faults += error.faults
        if faults:
            raise Wrong(faults)


class SchemaReader:
    """Validates the parameters of a kind by its schema. Raise BadSchema for one that is none."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        try:
            encoded = check_json("the schema", schema, MOST_SCHEMA_BYTES)
        except OutOfBounds as error:
            raise BadSchema(str(error)) from None
        plain = _as_object("the schema", orjson.loads(encoded))
        self._root = _Compiler(plain).compile(plain)
        self._properties: dict[str, Any] = plain.get("properties", {})
        texts = {name: _text_type_of(one) for name, one in self._properties.items()}
        self._texts = {name: kind for name, kind in texts.items() if kind is not None}

    def read(
        self,
        value: object,
        *,
        place: str = PLACE,
        common: Container[str] = (),
        most_bytes: int = MOST_BYTES,
    ) -> dict[str, Any]:
        """Return parameters with the defaults of the top level filled in.

        `common`: the parameters whose faults are told at `PLACE`. `most_bytes`: 0 for any size.
        Raise ParamsFault.
        """
        plain = as_json(value, place, most_bytes)
        try:
            self._check(plain, _Steps(STEPS_PER_BYTE * (most_bytes or _size_of(plain))))
        except Wrong as error:
            raise refusal(error.faults, place, common) from None
        filled = self._filled(plain)
        read: dict[str, Any] = as_json(filled, f"{place} with its defaults", most_bytes)
        return read

    def _filled(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return parameters with the defaults, in the order of the schema.

        A time, a UUID or a path is written as the class writes it.
        """
        filled = {}
        for name, one in self._properties.items():
            if name in params:
                filled[name] = _rewritten(params[name], self._texts.get(name))
            elif isinstance(one, dict) and "default" in one:
                filled[name] = one["default"]
        return filled | {name: one for name, one in params.items() if name not in filled}

    def _check(self, value: Any, steps: _Steps) -> None:
        if not isinstance(value, dict):
            raise wrong(phrase("must be {kind}", kind=NAMES[dict]))
        try:
            self._root.check(value, steps)
        except (_TooLong, RecursionError):
            raise wrong(NOT_CHECKED) from None


class _Compiler:
    """Reads a schema into nodes, its definitions once each."""

    def __init__(self, whole: Mapping[str, Any]) -> None:
        self._definitions = _as_object("$defs of the schema", whole.get("$defs", {}))
        self._referred: dict[str, _Node] = {}

    def compile(self, schema: Any) -> _Node:
        """Return the node of a schema. Raise BadSchema."""
        if isinstance(schema, bool):
            return _Node() if schema else _Node(types=frozenset(), words=phrase("is not allowed"))
        if _as_object("a schema", schema).keys() - ABOUT == {"$ref"}:
            return self.refer(schema["$ref"])
        node = _Node()
        self._fill(node, schema)
        return node

    def refer(self, reference: Any) -> _Node:
        """Return the node of a definition, which may hold itself."""
        name = reference.removeprefix(DEFINITION) if isinstance(reference, str) else ""
        if name not in self._definitions or reference != DEFINITION + name:
            raise BadSchema(f"the schema refers to {short(str(reference))}, which is not in it")
        if name not in self._referred:
            self._referred[name] = _Node()
            self._fill(self._referred[name], _as_object(name, self._definitions[name]))
        return self._referred[name]

    def _fill(self, node: _Node, schema: dict[str, Any]) -> None:
        if "type" in schema:
            node.types = _types_of(schema["type"])
            node.words = either(node.types - {type(None)} or node.types)
        node.bounds = Bounds({one: _as_number(schema[one]) for one in BOUNDS if one in schema})
        for keyword, add in KEYWORDS.items():
            if keyword in schema:
                add(self, node, schema[keyword], schema)


# Adds what a keyword asks for to the node of its schema.
Keyword = Callable[[_Compiler, _Node, Any, dict[str, Any]], None]


def _narrow(node: _Node, types: frozenset[type], words: str) -> None:
    """Let a node take no other types than these."""
    if not node.types <= types:
        node.types &= types
        node.words = words


def _reference(compiler: _Compiler, node: _Node, argument: Any, _: dict[str, Any]) -> None:
    referred = compiler.refer(argument)
    _narrow(node, referred.types, referred.words)
    node.checks.append(referred.check)


def _enum(_: _Compiler, node: _Node, argument: Any, __: dict[str, Any]) -> None:
    choices = _as_list("enum", argument)
    plain = {(type(one), one) for one in choices if isinstance(one, SCALARS)}
    others = [one for one in choices if not isinstance(one, SCALARS)]
    cost = len(check_json("enum", others, 0)) // 8
    words = one_of(choices)
    _narrow(node, frozenset(type(one) for one in choices), words)

    def check(value: Any, steps: _Steps) -> None:
        steps.take(cost)
        if (
            (value not in others)
            if isinstance(value, list | dict)
            else ((type(value), value) not in plain)
        ):
            raise wrong(words)

    node.checks.append(check)


def _const(compiler: _Compiler, node: _Node, argument: Any, schema: dict[str, Any]) -> None:
    _enum(compiler, node, [argument], schema)


def _any_of(compiler: _Compiler, node: _Node, argument: Any, _: dict[str, Any]) -> None:
    options = [compiler.compile(one) for one in _as_list("anyOf", argument)]
    if not options:
        raise BadSchema("anyOf of a schema has no options")
    types = frozenset().union(*(one.types for one in options))
    told = [one.words for one in options if one.types != {type(None)}]
    _narrow(node, types, told[0] if len(told) == 1 else either(types - {type(None)} or types))

    def check(value: Any, steps: _Steps) -> None:
        faults = []
        steps.take(len(options))
        for option in options:
            if type(value) not in option.types:
                continue
            try:
                return option.check(value, steps)
            except Wrong as error:
                faults.append(error)
                steps.take(FAILED_OPTION)
        raise min(faults, key=lambda one: len(one.faults)) if faults else wrong(node.words)

    node.checks.append(check)


def _all_of(compiler: _Compiler, node: _Node, argument: Any, _: dict[str, Any]) -> None:
    for one in _as_list("allOf", argument):
        part = compiler.compile(one)
        _narrow(node, part.types, part.words)
        node.checks.append(part.check)


def _properties(compiler: _Compiler, node: _Node, argument: Any, schema: dict[str, Any]) -> None:
    nodes = {
        name: compiler.compile(one)
        for name, one in _as_object("properties of a schema", argument).items()
    }
    required = set(_required_names(schema.get("required", [])))

    def check(value: Any, steps: _Steps) -> None:
        if isinstance(value, dict):
            steps.take(len(nodes))
            named = (
                (one.check if name in value else _refuse_missing, value.get(name), name)
                for name, one in nodes.items()
                if name in value or name in required
            )
            _check_parts(named, steps, _name_place)

    node.checks.append(check)


def _further(compiler: _Compiler, node: _Node, argument: Any, schema: dict[str, Any]) -> None:
    """Hold what `properties` does not name against `additionalProperties`."""
    inner, known = compiler.compile(argument), schema.get("properties", {})

    def check(value: Any, steps: _Steps) -> None:
        if isinstance(value, dict):
            steps.take(len(value))
            further = [name for name in value if name not in known]
            if further and argument is False:
                raise Wrong([UnknownFields.of(further)])
            _check_parts(((inner.check, value[name], name) for name in further), steps, _name_place)

    node.checks.append(check)


def _names(compiler: _Compiler, node: _Node, argument: Any, _: dict[str, Any]) -> None:
    inner = compiler.compile(argument)

    def check(value: Any, steps: _Steps) -> None:
        names = value if isinstance(value, dict) else ()
        if unknown := [name for name in names if not _takes(inner, name, steps)]:
            raise Wrong([UnknownFields.of(unknown)])

    node.checks.append(check)


def _required(_: _Compiler, node: _Node, argument: Any, schema: dict[str, Any]) -> None:
    """Ask for the names that `properties` does not have; `_properties` asks for its own."""
    properties = schema.get("properties", {})
    names = [one for one in _required_names(argument) if one not in properties]

    def check(value: Any, steps: _Steps) -> None:
        if isinstance(value, dict):
            steps.take(len(names))
            missing = ((_refuse_missing, None, name) for name in names if name not in value)
            _check_parts(missing, steps, _name_place)

    node.checks.append(check)


def _required_names(argument: Any) -> list[str]:
    return [str(one) for one in _as_list("required", argument)]


def _refuse_missing(_: Any, __: _Steps) -> None:
    raise wrong(phrase("is required"))


def _first_items(compiler: _Compiler, node: _Node, argument: Any, _: dict[str, Any]) -> None:
    nodes = [compiler.compile(one) for one in _as_list("prefixItems", argument)]

    def check(value: Any, steps: _Steps) -> None:
        if isinstance(value, list):
            placed = enumerate(zip(nodes, value, strict=False))
            _check_parts(((inner.check, one, n) for n, (inner, one) in placed), steps, _item_place)

    node.checks.append(check)


def _items(compiler: _Compiler, node: _Node, argument: Any, schema: dict[str, Any]) -> None:
    inner, first = compiler.compile(argument), len(schema.get("prefixItems", ()))

    def check(value: Any, steps: _Steps) -> None:
        if isinstance(value, list):
            if argument is False and len(value) > first and "maxItems" not in schema:
                raise wrong(phrase("must have at most {bound} items", bound=first))
            rest = value[first:] if argument is not False else ()
            placed = enumerate(rest, first)
            _check_parts(((inner.check, one, n) for n, one in placed), steps, _item_place)

    node.checks.append(check)


def _format(_: _Compiler, node: _Node, argument: Any, __: dict[str, Any]) -> None:
    hook = FORMATS.get(str(argument))
    if hook is not None:
        node.checks.append(lambda value, _: hook(value, None) if isinstance(value, str) else None)


TEXT_TYPES: dict[str, type] = {"date-time": datetime, "date": date, "uuid": UUID, PATH: Path}
FORMATS = {name: TEXT_HOOKS[kind] for name, kind in TEXT_TYPES.items()}


def _text_type_of(schema: Any) -> type | None:
    """Return what all texts are read into that a parameter may have; None: they are texts."""
    options = schema.get("anyOf", [schema]) if isinstance(schema, dict) else []
    texts = [one for one in options if isinstance(one, dict) and one.get("type") == "string"]
    return TEXT_TYPES.get(str(texts[0].get("format"))) if len(texts) == 1 else None


def _rewritten(value: Any, kind: type | None) -> Any:
    if kind is None or not isinstance(value, str):
        return value
    try:
        return write_json(TEXT_HOOKS[kind](value, None), kind, PLACE, 0)
    except Wrong:
        # For example a choice beside dates.
        return value


# In the order in which they are looked at.
KEYWORDS: dict[str, Keyword] = {
    "$ref": _reference,
    "anyOf": _any_of,
    "oneOf": _any_of,
    "allOf": _all_of,
    "enum": _enum,
    "const": _const,
    "propertyNames": _names,
    "additionalProperties": _further,
    "properties": _properties,
    "required": _required,
    "prefixItems": _first_items,
    "items": _items,
    "format": _format,
}


def _size_of(plain: Any) -> int:
    """Return the bytes of parameters without a bound, at least those that others may have."""
    return max(len(orjson.dumps(plain)), MOST_BYTES)


def _check_parts(
    parts: Iterable[tuple[Check, Any, Any]], steps: _Steps, place_of: Callable[[Any], str]
) -> None:
    """Hold parts of a value against their schemas. Raise Wrong with the faults of all."""
    gathered = Gathered()
    for check, part, at in parts:
        try:
            check(part, steps)
        except Wrong as error:
            gathered.join(place_of(at), error)
    gathered.settle()


def _takes(node: _Node, value: Any, steps: _Steps) -> bool:
    try:
        node.check(value, steps)
    except Wrong:
        return False
    return True


def _name_place(name: str) -> str:
    return f".{short(name)}"


def _item_place(index: int) -> str:
    return f"[{index}]"


def _types_of(named: Any) -> frozenset[type]:
    names = named if isinstance(named, list) else [named]
    if not names or any(not isinstance(one, str) or one not in TYPES for one in names):
        raise BadSchema(f"the schema names a type that JSON does not have: {short(str(named))}")
    return frozenset(kind for one in names for kind in TYPES[one])


def _as_object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadSchema(f"{short(name)} is no JSON object")
    return value


def _as_list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadSchema(f"{name} of a schema is no list")
    return value


def _as_number(value: Any) -> float:
    if type(value) not in NUMBERS:
        raise BadSchema("a bound in the schema is no number")
    return value  # type: ignore[no-any-return]
