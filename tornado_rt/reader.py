"""Texts of tasks in the language of their reader.

What a worker tells of a task is stored once, in English, and read in many languages: the names of
its steps, its message, its errors. They are put in a language where an answer or a frame is made,
for those alone who read another one. A frame is put in a language once, however many read it.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import orjson

from tornado_rt.locales import Languages, Words, built_in_languages
from tornado_rt.protocol import Bundle, Message, MessageType
from tornado_rt.work.params.keywords import ENUM_NAMES
from tornado_rt.work.texts import Text

# Texts of a task as it is shown.
TEXTS = ("message", "current_step_name", "error", "unit")
# Texts of a kind and its schema.
TITLES = ("title", "description")
# Most frames that are kept: as many as are on their way to several readers.
MOST_FRAMES = 64


@attrs.frozen
class Reader:
    """The reader of an answer: `asked` is their language, None if they have named none.

    Then the task says, if its submitter did.
    """

    languages: Languages
    asked: Words | None = None
    # The language of all that is no task's, and whether that is the one in which texts are stored.
    words: Words = attrs.field(init=False)
    _is_plain: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        words = self.asked or self.languages.default
        object.__setattr__(self, "words", words)
        object.__setattr__(self, "_is_plain", words.is_plain)

    def words_of(self, fields: Mapping[str, Any]) -> Words:
        """Return the language in which a task, or a part of a list of them, is shown."""
        return self.asked or self._of_task(fields.get("locale"))

    def task(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a task as it is shown, or a part of a list of them, in the reader's language.

        A list that has a `locale` is of one task.
        """
        words, items = self.words_of(fields), fields.get("items")
        if isinstance(items, list) and "locale" not in fields:
            return {**fields, "items": [self.task(one) for one in items]}
        return fields if words.is_plain else _task(fields, words)

    def kind(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a kind as it is shown: its title, and those in its schema."""
        return fields if self.words.is_plain else _titled(fields, self.words)

    def message(self, message: Message) -> Message:
        """Return a message in the reader's language: the same object for each who reads it."""
        if self._is_plain and (self.asked is not None or message.locale is None):
            return message
        words = self.asked or self._of_task(message.locale)
        return message if words.is_plain else _in_words(message, words)

    def _of_task(self, locale: object) -> Words:
        if not isinstance(locale, str):
            return self.languages.default
        return self.languages.find([locale]) or self.languages.default


def reader_of(settings: Mapping[str, Any], wanted: Sequence[str] = ()) -> Reader:
    """Return who wants these languages, the best first; `settings` are the application's."""
    languages: Languages = settings.get("languages") or built_in_languages()
    return _reader(languages, languages.find(wanted))


def json_in(words: Words, value: Any) -> bytes:
    """Return a value as JSON, with each `Text` in a language; JSON itself as it is."""
    if isinstance(value, bytes):
        return value
    if words.is_plain:
        return orjson.dumps(value)
    return orjson.dumps(value, functools.partial(_plain, words), orjson.OPT_PASSTHROUGH_SUBCLASS)


@functools.lru_cache(MOST_FRAMES)
def _reader(languages: Languages, asked: Words | None) -> Reader:
    # Thousands of connections share one.
    return Reader(languages, asked)


def _plain(words: Words, value: Any) -> Any:
    if isinstance(value, str):
        return words.say(value)
    kinds: tuple[type[Any], ...] = (dict, list, int, float)
    kind = next((one for one in kinds if isinstance(value, one)), None)
    if kind is None:
        raise TypeError(f"JSON has no {type(value).__name__}")
    return kind(value)


@functools.lru_cache(MOST_FRAMES)
def _in_words(message: Message, words: Words) -> Message:
    parts = message.parts
    if len(parts) > 1:
        return Bundle.join([_in_words(part, words) for part in parts])
    change = CHANGES.get(parts[0].type)
    if change is None:
        return message
    changed = change(parts[0].fields(), words)
    return attrs.evolve(parts[0], data=orjson.dumps(changed))


def _task(fields: Mapping[str, Any], words: Words) -> dict[str, Any]:
    """Return what is shown of a task in a language; also of a part of it."""
    shown = dict(fields)
    for name in TEXTS:
        if isinstance(text := shown.get(name), str):
            shown[name] = words.recall(text)
    if isinstance(items := shown.get("items"), list):
        shown["items"] = [_task(one, words) for one in items]
    if isinstance(steps := shown.get("steps"), list):
        shown["steps"] = [_step(one, words) for one in steps]
    if isinstance(attempts := shown.get("attempts"), list):
        shown["attempts"] = [_task(one, words) for one in attempts if isinstance(one, dict)]
    if isinstance(waits := shown.get("waiting_for"), dict):
        shown["waiting_for"] = waits | {"message": _said(waits.get("message"), words)}
    return shown


def _step(step: Any, words: Words) -> Any:
    if not isinstance(step, dict):
        return step
    shown = step | {"description": _said(step.get("description"), words)}
    if isinstance(group := step.get("group"), list):
        shown["group"] = [_said(one, words) for one in group]
    return shown


def _titled(value: Any, words: Words) -> Any:
    """Return JSON with each title, description and name of a choice in it in a language.

    Their places are those that a schema has them at.
    """
    if isinstance(value, list):
        return [_titled(one, words) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: _named(name, one, words) for name, one in value.items()}


def _named(name: str, value: Any, words: Words) -> Any:
    if name in TITLES and isinstance(value, str):
        return words.recall(value)
    if name == ENUM_NAMES and isinstance(value, list):
        return [_said(one, words) for one in value]
    return _titled(value, words)


def _said(text: Any, words: Words) -> Any:
    if isinstance(text, Text):
        return words.say(text)
    return words.recall(text) if isinstance(text, str) else text


def _snapshot(fields: dict[str, Any], words: Words) -> dict[str, Any]:
    snapshot = fields.get("snapshot")
    return fields | ({"snapshot": _task(snapshot, words)} if isinstance(snapshot, dict) else {})


def _items(fields: dict[str, Any], words: Words) -> dict[str, Any]:
    items = fields.get("items")
    if not isinstance(items, list):
        return fields
    return fields | {"items": [_task(one, words) for one in items if isinstance(one, dict)]}


# These change the texts of tasks in a message, by its type.
CHANGES: dict[str, Callable[[dict[str, Any], Words], dict[str, Any]]] = {
    MessageType.PROGRESS: _task,
    MessageType.FINISHED: _task,
    MessageType.CONNECTED: _snapshot,
    MessageType.SUBSCRIBED: _snapshot,
    MessageType.CHANGED: _items,
}
