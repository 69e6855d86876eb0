"""The rule by which an author's values are kept: results, once-results and states.

It is JSON. Beside JSON's own values an Enum stands for its value, a datetime, date, time or UUID
is text, a tuple is a list, and a dataclass is an object of its fields, without those that begin
with an underscore. The keys of objects are text. Integers have 64 bits, as those of every store.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from datetime import date, time
from enum import Enum
from typing import Any
from uuid import UUID

from tornado_rt.work.values import clean_line

# MongoDB takes 100 levels, orjson 254.
MAX_DEPTH = 32
# The integers of BSON, of Redis and of a signed 64-bit column.
LEAST_INTEGER, MOST_INTEGER = -(2**63), 2**63 - 1
# Longest key, or name of a type, in a message.
TOLD_CHARACTERS = 40

TOO_DEEP = f"nests deeper than {MAX_DEPTH} levels"

_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False
).encode


class NotKept(ValueError):
    """A value that cannot be kept; the message says why and where."""


def as_kept(name: str, value: object, most_bytes: int) -> bytes:
    """Return a value as JSON; `most_bytes` 0 for any size.

    Raise NotKept, whose message begins with `name`, and whatever an author's object raises.
    """
    try:
        text = _encode(_Reader(most_bytes).plain(value, MAX_DEPTH)).encode()
    except _Fault as fault:
        at = f", at {fault.path}" if fault.path else ""
        raise NotKept(f"{name} {fault.words}{at}") from None
    except _Beyond as fault:
        raise NotKept(f"{name} {fault}") from None
    except RecursionError:
        raise NotKept(f"{name} {TOO_DEEP}") from None
    if 0 < most_bytes < len(text):
        raise NotKept(f"{name} has {len(text)} bytes as JSON; at most {most_bytes} are allowed")
    return text


class _Fault(Exception):
    """Why a value cannot be kept; `path` leads to it."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words, self.path = words, ""


class _Beyond(Exception):
    """The whole is too deep or too large."""


class _Reader:
    """Reads one value. A list may hold itself many times, so that values are counted."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._seen = 0

    def plain(self, value: object, levels: int) -> Any:
        """Return it as the encoder takes it; it may nest `levels` deep.

        Raise _Fault, _Beyond.
        """
        if value is None:
            return None
        if isinstance(value, Enum):
            return self.plain(value.value, levels)
        if isinstance(value, str):
            return _text(value)
        if isinstance(value, int):
            return _integer(value)
        if isinstance(value, float):
            return _number(value)
        if isinstance(value, dict):
            # A copy: another thread may change it meanwhile.
            return self._object(tuple(value.items()), levels)
        if isinstance(value, list | tuple):
            return self._list(value, levels)
        if isinstance(value, date | time):
            return value.isoformat()
        if isinstance(value, UUID):
            return str(value)
        if is_dataclass(value) and not isinstance(value, type):
            names = [one.name for one in fields(value) if not one.name.startswith("_")]
            return self._object([(name, getattr(value, name)) for name in names], levels)
        raise _Fault(f"is not JSON: JSON has no {_told(type(value).__name__)}")

    def _object(self, members: Sequence[tuple[object, object]], levels: int) -> dict[str, Any]:
        self._enter(len(members), levels)
        made: dict[str, Any] = {}
        for key, value in members:
            try:
                made[_key(key)] = self.plain(value, levels - 1)
            except _Fault as fault:
                fault.path = f".{_told(key)}{fault.path}"
                raise
        return made

    def _list(self, values: Sequence[object], levels: int) -> list[Any]:
        self._enter(len(values), levels)
        made: list[Any] = []
        try:
            for value in values:
                made.append(self.plain(value, levels - 1))
        except _Fault as fault:
            fault.path = f"[{len(made)}]{fault.path}"
            raise
        return made

    def _enter(self, count: int, levels: int) -> None:
        if not levels:
            raise _Beyond(TOO_DEEP)
        self._seen += count
        # Each value is a byte at least.
        if self._seen > self._most > 0:
            raise _Beyond(f"has more than {self._most} bytes as JSON; it is too large")


def _key(key: object) -> str:
    if not isinstance(key, str):
        kind = _told(type(key).__name__)
        raise _Fault(f"is not JSON: the keys of an object must be text, not {kind}")
    return _text(key)


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Fault("holds a lone surrogate, which is no text") from None
    return text


def _integer(number: int) -> int:
    if not LEAST_INTEGER <= number <= MOST_INTEGER:
        raise _Fault("holds an integer of more than 64 bits")
    return number


def _number(number: float) -> float:
    if not math.isfinite(number):
        raise _Fault(f"holds a number that JSON does not have: {number}")
    return number


def _told(name: object) -> str:
    return clean_line(name, TOLD_CHARACTERS)
