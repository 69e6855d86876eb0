"""Text, numbers and JSON that can be stored, whatever an author's code passes."""

import json
import math
import operator
import unicodedata
from collections.abc import Callable
from typing import Any

from tornado_rt.work.texts import Text, shortened

# Control characters, lone surrogates, line and paragraph separators: no store keeps all of them.
FORBIDDEN = {"Cc", "Cs", "Zl", "Zp"}
LAYOUT = set("\t\n\r")
# Most characters of a value in a text that is told in several languages.
MOST_OF_VALUE = 1000
# Larger whole numbers are not all floats.
MOST_COUNT = 2**53
# The scripts of the queue read whole numbers of at most 15 digits.
MOST_KEPT = 10**15 - 1
# A hundred years: from now on, a time that every clock and every text of a date can hold.
MOST_SECONDS = 36500 * 86400
# Defaults of a kind that names none of its own. The settings of these names have the same defaults.
MAX_ATTEMPTS = 3
RETRY_SECONDS = (5.0, 300.0)
MOST_RESULT_BYTES = 262_144


def cut(text: str, most: int) -> str:
    """Return text of at most `most` characters; "…" stands for the rest."""
    if len(text) <= most:
        return text
    return text.at_most(most) if isinstance(text, Text) else shortened(text, most)


def clean_text(value: object, most: int) -> str:
    """Return any object as text that can be kept, cut to `most` characters. It never raises."""
    if type(value) is str and len(value) <= most and value.isprintable():
        return value
    try:
        text = str(value)
    except BaseException as error:
        text = f"<{type(value).__name__}: {type(error).__name__} in its text>"
    if isinstance(text, Text):
        return cut(text.with_values(lambda one: clean_text(one, MOST_OF_VALUE)), most)
    text = cut(text, most).encode(errors="replace").decode()
    if text.isprintable():
        return text
    return "".join(one if one in LAYOUT or may_stand(one) else "\ufffd" for one in text)


def clean_line(value: object, most: int) -> str:
    """Return any object as one line of text that can be kept, cut to `most` characters."""
    text = clean_text(value, most)
    if isinstance(text, Text):
        return text.with_values(lambda one: clean_line(one, MOST_OF_VALUE))
    return "".join(" " if one in LAYOUT else one for one in text)


def is_number(value: object, least: float = -math.inf, most: float = math.inf) -> bool:
    """Tell whether something is a finite number from `least` to `most`; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # An integer may be larger than any float.
    return abs(value) < math.inf and least <= value <= most


def as_number(value: object) -> float:
    """Return a number, also from types of other libraries (`__index__`, `__float__`).

    Raise ValueError.
    """
    if isinstance(value, bool | str | bytes):
        raise ValueError(f"{clean_line(value, 100)!r} is no number")
    readers: tuple[Callable[[Any], float], ...] = (operator.index, float)
    for read in readers:
        try:
            return read(value)
        except (TypeError, ValueError, OverflowError):
            continue
    raise ValueError(f"{clean_line(value, 100)!r} is no number")


def as_percent(done: float) -> float:
    """Return a part of 1 in percent with one decimal. Only all of it is 100."""
    # A sum of shares may be a little less than 1.
    return 100.0 if done >= 1 - 1e-9 else min(round(done * 100, 1), 99.9)


def is_count(value: object, least: int) -> bool:
    """Tell whether something is a whole number of `least` or more; a bool is none.

    One that a script of the queue would not read again is none either.
    """
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST_KEPT


def json_of(value: object) -> bytes:
    """Return a value as JSON. Raise ValueError, TypeError or RecursionError for what is none."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def require(condition: bool, fault: str) -> None:
    """Raise ValueError, which says the fault, unless the condition holds."""
    if not condition:
        raise ValueError(fault)


def check_unique(what: str, names: list[str]) -> None:
    """Raise ValueError when two of some things have one name."""
    seen: set[str] = set()
    for name in names:
        require(name not in seen, f"two {what} have the name {name!r}")
        seen.add(name)


def may_stand(character: str) -> bool:
    """Tell whether every store keeps this character; `LAYOUT` is for text of several lines."""
    return unicodedata.category(character) not in FORBIDDEN
