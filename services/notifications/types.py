"""The types that users are shown, so that a page can draw the form of their preferences.

A notification may have any type. Those of this list have texts, and ways to go while their user has
not decided.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from services.notifications.configured import BadSetting, read_file, read_into, read_json, read_toml
from services.notifications.fields import check_type
from services.notifications.locales import LAST_LOCALE, choose, is_locale
from tornado_rt.bounds import OutOfBounds, check_name, check_text
from tornado_rt.json_body import MOST_BYTES

SETTING = "notification_types"
# The key of the list in a TOML file, which cannot be a list itself.
LIST = "types"
# The number of types that a user's preferences can name.
MOST_TYPES = 100
TITLE_LENGTH = 100
DESCRIPTION_LENGTH = 500
TEXT_BYTES = 65536

Texts = Mapping[str, str]


@attrs.frozen(kw_only=True)
class Ways:
    """The ways of a type: whether it is pushed, and whether it may become an e-mail."""

    push: bool
    email: bool

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Ways":
        """Read stored ones; what cannot be read is as in `PUSHED`."""
        push, email = stored.get("push"), stored.get("email")
        return cls(push=push is not False, email=email is True)


# The ways of a type that nobody decided on.
PUSHED = Ways(push=True, email=False)


@attrs.frozen(kw_only=True)
class TypeText:
    """A type with its texts in one language; `description` None is none."""

    type: str
    title: str
    description: str | None
    default: Ways

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object on the wire."""
        return attrs.asdict(self)


@attrs.frozen(kw_only=True)
class ListedType:
    """A type with its texts, by language tags in small letters."""

    type: str
    title: Texts
    description: Texts
    default: Ways = PUSHED

    def text_in(self, locales: Sequence[str | None]) -> TypeText:
        """Return it in the first of some languages that its texts have."""
        described = choose(self.description, locales)[1] if self.description else None
        return TypeText(
            type=self.type,
            title=choose(self.title, locales)[1],
            description=described,
            default=self.default,
        )


def _check_title(_: Any, field: Any, value: Any) -> None:
    texts = _texts_in(field.name, value)
    if not texts:
        raise OutOfBounds(f"{field.name} must be a string, or have one for each language")
    for name, text in texts.items():
        check_name(name, text, TITLE_LENGTH)


def _check_description(_: Any, field: Any, value: Any) -> None:
    for name, text in _texts_in(field.name, value).items():
        check_text(name, text, DESCRIPTION_LENGTH)


def _texts_in(name: str, value: Any) -> dict[str, str]:
    """Return texts by their places. Raise OutOfBounds for what is none, or in no language."""
    found = {}
    for locale, text in _by_locale(value, LAST_LOCALE).items():
        place = f"{name}.{locale}" if isinstance(value, dict) else name
        if not is_locale(locale):
            raise OutOfBounds(f"{place}: {locale} is no language tag such as en or de-AT")
        if not isinstance(text, str):
            raise OutOfBounds(f"{place} must be a string")
        found[place] = text
    return found


@attrs.frozen(kw_only=True)
class TypeRequest:
    """An item of the setting; a text stands for itself, or by the tags of its languages."""

    type: str = attrs.field(validator=check_type)
    title: Any = attrs.field(validator=_check_title, metadata={MOST_BYTES: TEXT_BYTES})
    description: Any = attrs.field(
        default=None, validator=_check_description, metadata={MOST_BYTES: TEXT_BYTES}
    )
    default: Ways = PUSHED

    def listed(self, locale: str) -> ListedType:
        """Return the type; a text without a language is in `locale`."""
        return ListedType(
            type=self.type,
            title=_by_locale(self.title, locale),
            description=_by_locale(self.description, locale),
            default=self.default,
        )


BUILT_IN = (
    ListedType(
        type="analysis",
        title={"en": "Analyses", "de": "Analysen", "zh": "分析"},
        description={
            "en": "An analysis has ended.",
            "de": "Eine Analyse ist beendet.",
            "zh": "分析已结束。",
        },
    ),
    ListedType(
        type="alert",
        title={"en": "Alerts", "de": "Warnungen", "zh": "警报"},
        description={
            "en": "Something needs your attention.",
            "de": "Etwas braucht Ihre Aufmerksamkeit.",
            "zh": "有事项需要您注意。",
        },
    ),
    ListedType(
        type="system",
        title={"en": "Tasks and system", "de": "Aufgaben und System", "zh": "任务与系统"},
        description={
            "en": "A task has ended or tells something, or the system does.",
            "de": "Eine Aufgabe ist beendet oder meldet etwas, oder das System tut es.",
            "zh": "任务已结束，或任务、系统有消息。",
        },
    ),
    ListedType(
        type="webhook.disabled",
        title={"en": "Disabled webhooks", "de": "Abgeschaltete Webhooks", "zh": "已停用的 Webhook"},
        description={
            "en": "Nothing could be delivered to a webhook for too long.",
            "de": "An einen Webhook konnte zu lange nichts zugestellt werden.",
            "zh": "长时间无法向某个 Webhook 投递。",
        },
        default=Ways(push=True, email=True),
    ),
)


class NotificationTypes:
    """The list of types, in its order, each type once."""

    def __init__(self, listed: Iterable[ListedType] = BUILT_IN, locale: str = LAST_LOCALE) -> None:
        self._listed = {one.type: one for one in listed}
        self._locale = locale

    def ways_of(self, type_: str) -> Ways:
        """Return the ways of a type while its user has not decided."""
        found = self._listed.get(type_)
        return PUSHED if found is None else found.default

    def in_locale(self, *locales: str | None) -> list[TypeText]:
        """Return all with their texts in the first of these that there is, or near one."""
        return [one.text_in((*locales, self._locale)) for one in self._listed.values()]


def load_types(setting: str, locale: str = LAST_LOCALE) -> NotificationTypes:
    """Return the built-in types and those of the setting, which replace them by their names.

    `setting` is JSON, or the path of a JSON or TOML file; empty adds none. `locale` is the language
    of texts that name none. Raise BadSetting.
    """
    place, items = _items_of(setting.strip())
    own = [_listed_of(place, n, item, locale) for n, item in enumerate(items)]
    names = [one.type for one in own]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadSetting(SETTING, place, f"two types are named {twice}")
    listed = {one.type: one for one in (*BUILT_IN, *own)}
    if len(listed) > MOST_TYPES:
        raise BadSetting(SETTING, place, f"there are {len(listed)} types; {MOST_TYPES} at most")
    return NotificationTypes(listed.values(), locale)


def _items_of(setting: str) -> tuple[str, list[Any]]:
    """Return the items, and where they stand."""
    if not setting:
        return "", []
    if setting.startswith(("[", "{")):
        return "", _list_in("", read_json(SETTING, "", setting.encode(errors="replace")))
    path = Path(setting)
    if path.suffix == ".json":
        return setting, _list_in(setting, read_json(SETTING, path, read_file(SETTING, path)))
    return setting, _list_in(setting, read_toml(SETTING, path))


def _list_in(place: str, value: Any) -> list[Any]:
    items = value.get(LIST) if isinstance(value, dict) and set(value) == {LIST} else value
    if not isinstance(items, list):
        raise BadSetting(SETTING, place, f"must be a list, or have one named {LIST} and no more")
    if len(items) > MOST_TYPES:
        raise BadSetting(SETTING, place, f"must have at most {MOST_TYPES} types")
    return items


def _listed_of(place: str, n: int, item: Any, locale: str) -> ListedType:
    where = f"{place}: {LIST}[{n}]" if place else f"{LIST}[{n}]"
    return read_into(SETTING, where, item, TypeRequest).listed(locale)


def _by_locale(texts: Any, locale: str) -> dict[str, Any]:
    if texts is None:
        return {}
    named = texts if isinstance(texts, dict) else {locale: texts}
    return {tag.lower(): text for tag, text in named.items()}
