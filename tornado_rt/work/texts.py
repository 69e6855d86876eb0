"""Text for people, which can be said in their language.

A `Text` is its English, and keeps what a catalogue needs to say it in another language: the message
with its places, and the values in them. So it goes through errors and validators as any text does,
and is put in a language where an answer is made (tornado_rt/locales).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

SEPARATOR = ", "


class Text(str):
    """The English of `msgid` with `values` in its places, cut to `most` characters, 0 for any.

    A place is a name in braces; `{{` stands for a brace. Among the values may be other texts, and
    lists, which the language's comma joins.
    """

    __slots__ = ("most", "msgid", "values")
    msgid: str
    values: Mapping[str, Any]
    most: int

    def __new__(cls, msgid: str, values: Mapping[str, Any] | None = None, most: int = 0) -> "Text":
        values = values or {}
        shown = {name: _english(value) for name, value in values.items()}
        made = super().__new__(cls, shortened(filled(msgid, shown), most))
        made.msgid, made.values, made.most = msgid, values, most
        return made

    # `str()` of a text, and of an exception that holds one, is the text itself.
    def __str__(self) -> str:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Text, (self.msgid, dict(self.values), self.most)

    def at_most(self, most: int) -> "Text":
        """Return it cut to `most` characters, in each language."""
        return Text(self.msgid, self.values, most)

    def with_values(self, change: Callable[[str], str]) -> "Text":
        """Return it with each value changed that is plain text."""
        return Text(self.msgid, {k: _changed(v, change) for k, v in self.values.items()}, self.most)


class Stored(str):
    """A text that was stored in English: a catalogue knows it again by its form."""

    __slots__ = ()


def phrase(msgid: str, /, **values: Any) -> Text:
    """Return a text of the catalogue; `msgid` is a literal, by which `make messages` finds it."""
    return Text(msgid, {name: _plain(value) for name, value in values.items()})


def stored_phrase(msgid: str, /, **values: Any) -> Text:
    """Do as `phrase` does, for a text that is stored in English and known again by its form."""
    return phrase(msgid, **values)


def msgid(message: str) -> str:
    """Return a message that stands in a table, and becomes a `Text` later."""
    return message


def filled(message: str, values: Mapping[str, str]) -> str:
    """Return a message with values in its places."""
    return message.format(**values) if "{" in message or "}" in message else message


def shortened(text: str, most: int) -> str:
    """Return text of at most `most` characters, 0 for any; "…" stands for the rest."""
    return text if not most or len(text) <= most else text[: most - 1] + "…"


def _plain(value: Any) -> Any:
    """Return what an error says; any other value as it is."""
    return str(value) if isinstance(value, BaseException) else value


def _english(value: Any) -> str:
    if isinstance(value, list | tuple):
        return SEPARATOR.join(_english(one) for one in value)
    return str(value)


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, Text):
        return value.with_values(change)
    if isinstance(value, list | tuple):
        return [_changed(one, change) for one in value]
    return change(value) if isinstance(value, str) else value


def joined(parts: Sequence[str]) -> str:
    """Return parts as one text, with semicolons between them."""
    first, *rest = parts
    for one in rest:
        first = phrase("{first}; {second}", first=first, second=one)
    return first
