"""Language tags: what is one, which stand for others, and which a client asks for."""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

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
# The language of users who have chosen none.
LAST_LOCALE = "en"
# No more of `Accept-Language` is read [characters, languages].
HEADER_LENGTH = 500
MOST_ASKED = 20
# Most different headers that are kept: browsers of one language send the same.
MOST_HEADERS = 256
QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII | re.IGNORECASE)


def is_locale(value: object) -> bool:
    """Say whether something has the shape of a language tag, such as en or de-AT."""
    if not isinstance(value, str) or len(value) > LOCALE_LENGTH:
        return False
    return LOCALE.fullmatch(value) is not None


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


def accepted(header: str) -> tuple[str, ...]:
    """Return the languages of `Accept-Language` (RFC 9110 section 12.5.4), the best first.

    One that cannot be read, and one that is not wanted, is left out; so is `*`.
    """
    return _accepted(header[:HEADER_LENGTH])


@functools.lru_cache(MOST_HEADERS)
def _accepted(header: str) -> tuple[str, ...]:
    found: list[tuple[float, str]] = []
    for one in header.split(",")[:MOST_ASKED]:
        tag, _, weight = (part.strip() for part in one.partition(";"))
        quality = QUALITY.fullmatch(weight)
        share = float(quality[1]) if quality else 1.0
        if is_locale(tag) and share > 0 and (quality or not weight):
            found.append((-share, tag))
    # The order stands among equals.
    return tuple(tag for _, tag in sorted(found, key=lambda one: one[0]))
