"""Languages: what names one, and which of several texts a user reads.

It imports no other module of this package, so that all of them can use it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from tornado_rt.bounds import OutOfBounds

T = TypeVar("T")

# The shortest that every program must take (RFC 5646 section 4.4.1).
LOCALE_LENGTH = 35
# A `langtag` of RFC 5646 section 2.1. Left out are grandfathered tags, those for private use alone,
# and languages of four letters and more, of which none is registered.
LOCALE = re.compile(
    r"[a-z]{2,3}(?:-[a-z]{3}){0,3}"
    r"(?:-[a-z]{4})?"
    r"(?:-(?:[a-z]{2}|[0-9]{3}))?"
    r"(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*"
    r"(?:-[0-9a-wy-z](?:-[a-z0-9]{2,8})+)*"
    r"(?:-x(?:-[a-z0-9]{1,8})+)?",
    re.ASCII | re.IGNORECASE,
)
# What is left when nobody has said which.
LAST_LOCALE = "en"


def is_locale(value: object) -> bool:
    """Say whether something has the shape of a language tag, such as en or de-AT."""
    if not isinstance(value, str) or len(value) > LOCALE_LENGTH:
        return False
    return LOCALE.fullmatch(value) is not None


def check_locale(_: Any, field: Any, value: str | None) -> None:
    """Raise OutOfBounds, as an attrs validator, unless `value` is a language tag; None passes."""
    if value is not None and not is_locale(value):
        raise OutOfBounds(f"{field.name} must be a language tag such as en or de-AT")


def fallbacks(locale: str) -> Iterator[str]:
    """Yield a tag and those that stand for it, in small letters: de-at, de (RFC 4647, 3.4)."""
    parts = locale.lower().split("-")
    while parts:
        yield "-".join(parts)
        parts.pop()
        # A single character only introduces what came after it.
        while parts and len(parts[-1]) == 1:
            parts.pop()


def choose(texts: Mapping[str, T], wanted: Iterable[str | None]) -> tuple[str, T]:
    """Return the text in the first language that there is, and the language.

    `texts` has one or more, by tags in small letters. Without any that is wanted it is the English
    one, else the first.
    """
    for locale in (*wanted, LAST_LOCALE):
        for tag in fallbacks(locale or ""):
            if tag in texts:
                return tag, texts[tag]
    return next(iter(texts.items()))
