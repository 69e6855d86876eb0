"""Languages of notifications: the tags are those of `tornado_rt.locales`.

It imports no other module of this package, so that all of them can use it.
"""

from typing import Any

from tornado_rt.bounds import OutOfBounds
from tornado_rt.locales import LAST_LOCALE as LAST_LOCALE
from tornado_rt.locales import choose as choose
from tornado_rt.locales import fallbacks as fallbacks
from tornado_rt.locales import is_locale as is_locale
from tornado_rt.work.texts import phrase


def check_locale(_: Any, field: Any, value: str | None) -> None:
    """Raise OutOfBounds, as an attrs validator, unless `value` is a language tag; None passes."""
    if value is not None and not is_locale(value):
        raise OutOfBounds(
            phrase("{name} must be a language tag such as en or de-AT", name=field.name)
        )
