"""Bounds of names, text and JSON that can be stored, sent on and read again anywhere.

A name is one line; text may have several. Neither holds a lone surrogate, which UTF-8 cannot carry
(RFC 3629 section 3), nor a control character. JSON nests at most `MAX_DEPTH` deep.
"""

import dataclasses
import math
from collections.abc import Collection
from enum import Enum
from typing import Any

import orjson

from tornado_rt.work.kept import LEAST_INTEGER, MAX_DEPTH, MOST_INTEGER
from tornado_rt.work.texts import phrase
from tornado_rt.work.values import LAYOUT, may_stand


class OutOfBounds(ValueError):
    """A value that cannot be kept; the message says why, in words for a person."""


def check_name(name: str, value: str, most: int, least: int = 1) -> None:
    """Raise OutOfBounds unless `value` is one line of `least` to `most` characters."""
    _check_length(name, value, most, least)
    if not _holds_only(value, set()):
        raise OutOfBounds(phrase("{name} must not hold control characters", name=name))


def check_text(name: str, value: str, most: int, least: int = 0) -> None:
    """Raise OutOfBounds unless `value` is text of `least` to `most` characters."""
    _check_length(name, value, most, least)
    if not _holds_only(value, LAYOUT):
        raise OutOfBounds(
            phrase("{name} must not hold control characters other than line breaks", name=name)
        )


def check_json(name: str, value: Any, most_bytes: int, depth: int = MAX_DEPTH) -> bytes:
    """Return `value` as JSON. Raise OutOfBounds for what is too deep, too large or no JSON.

    `most_bytes`: 0 for any size.
    """
    # Each value is a byte at least.
    _check_values(name, value, depth, most_bytes)
    try:
        encoded = orjson.dumps(value)
    except TypeError as error:
        raise OutOfBounds(phrase("{name} is not JSON: {error}", name=name, error=error)) from None
    if most_bytes and len(encoded) > most_bytes:
        raise OutOfBounds(
            phrase(
                "{name} has {count} bytes as JSON; at most {most} are allowed",
                name=name,
                count=len(encoded),
                most=most_bytes,
            )
        )
    return encoded


def _check_length(name: str, value: str, most: int, least: int) -> None:
    if not least <= len(value) <= most:
        if not least:
            raise OutOfBounds(
                phrase("{name} must have at most {most} characters", name=name, most=most)
            )
        raise OutOfBounds(
            phrase(
                "{name} must have {least} to {most} characters", name=name, least=least, most=most
            )
        )


def _holds_only(value: str, allowed: set[str]) -> bool:
    return value.isprintable() or all(one in allowed or may_stand(one) for one in set(value))


def _check_values(name: str, value: Any, depth: int, most: int) -> None:
    """Look at each value, level by level: no recursion, whatever the depth.

    A list may hold itself, so the number of values is bounded too; with `most` 0 what is met again
    on a level is looked at once.
    """
    level, seen = [value], 0
    for _ in range(depth + 1):
        inner: list[Any] = []
        containers = False
        for one in level:
            _check_value(name, one)
            parts = _parts_of(one)
            if parts is not None:
                containers = True
                inner.extend(parts)
                seen += len(parts)
                if seen > most > 0:
                    raise OutOfBounds(
                        phrase(
                            "{name} has more than {most} bytes as JSON; it is too large",
                            name=name,
                            most=most,
                        )
                    )
        if not containers:
            return
        level = inner if most else list({id(one): one for one in inner}.values())
    raise OutOfBounds(phrase("{name} nests deeper than {depth} levels", name=name, depth=depth))


def _parts_of(value: Any) -> Collection[Any] | None:
    """Return what stands in a value as the encoder sees it, None for what holds nothing."""
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, Enum):
        return _parts_of(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    return None


def _check_value(name: str, value: Any) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise OutOfBounds(
                phrase("{name} holds a lone surrogate, which is no text", name=name)
            ) from None
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise OutOfBounds(
                phrase(
                    "{name} holds a number that JSON does not have: {value}", name=name, value=value
                )
            )
    elif isinstance(value, int) and not LEAST_INTEGER <= value <= MOST_INTEGER:
        raise OutOfBounds(phrase("{name} holds an integer of more than 64 bits", name=name))
