"""Bounds of input: names, text and JSON that can be stored, sent on and read again anywhere.

Every door uses these, so that what one takes no other refuses. A name is one line; text may have
several. Neither holds a lone surrogate, which UTF-8 cannot carry (RFC 3629 section 3), nor a
control character. JSON nests at most `MAX_DEPTH` deep.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from tornado_rt.locales.tags import is_locale
from tornado_rt.work.kept import LEAST_INTEGER as LEAST_INTEGER
from tornado_rt.work.kept import MAX_DEPTH as MAX_DEPTH
from tornado_rt.work.kept import MOST_INTEGER as MOST_INTEGER
from tornado_rt.work.params.bounds import OutOfBounds as OutOfBounds
from tornado_rt.work.params.bounds import check_json as check_json
from tornado_rt.work.params.bounds import check_name as check_name
from tornado_rt.work.params.bounds import check_text as check_text
from tornado_rt.work.texts import phrase

Validator = Callable[[Any, Any, Any], None]
# Longer than any time in ISO 8601 that has a meaning here.
TIME_LENGTH = 64


def read_moment(name: str, value: str) -> float:
    """Return a time in ISO 8601 as seconds since the epoch. Raise OutOfBounds."""
    try:
        check_name(name, value, TIME_LENGTH)
        moment = datetime.fromisoformat(value)
        seconds = moment.timestamp()
    except (ValueError, OverflowError):
        raise OutOfBounds(
            phrase("{name} must be a time such as 2026-01-02T03:04:05Z", name=name)
        ) from None
    if moment.tzinfo is None:
        raise OutOfBounds(
            phrase("{name} must have a time zone, such as 2026-01-02T03:04:05Z", name=name)
        )
    return seconds


def name_of(most: int, least: int = 1) -> Validator:
    """Return an attrs validator that does as `check_name`; None passes."""
    return _validator(lambda name, value: check_name(name, value, most, least))


def text_of(most: int, least: int = 0) -> Validator:
    """Return an attrs validator that does as `check_text`; None passes."""
    return _validator(lambda name, value: check_text(name, value, most, least))


def number_of(least: float, most: float) -> Validator:
    """Return an attrs validator that raises OutOfBounds unless a number is from least to most."""

    def validate(_: Any, field: Any, value: float) -> None:
        if not least <= value <= most:
            raise OutOfBounds(
                phrase(
                    "{name} must be from {least} to {most}",
                    name=field.name,
                    least=f"{least:.15g}",
                    most=f"{most:.15g}",
                )
            )

    return validate


def check_locale(_: Any, field: Any, value: str | None) -> None:
    """Raise OutOfBounds, as an attrs validator, unless `value` is a language tag; None passes."""
    if value is not None and not is_locale(value):
        raise OutOfBounds(
            phrase("{name} must be a language tag such as en or de-AT", name=field.name)
        )


def _validator(check: Callable[[str, Any], None]) -> Validator:
    def validate(_: Any, field: Any, value: Any) -> None:
        if value is not None:
            check(field.name, value)

    return validate
