"""The catalogue: what an end user sees, in each language that there is.

A PO file beside this module has a language; English needs none. An author's folder adds languages,
and texts to those that are there.
"""

import functools
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from tornado_rt.locales.tags import LAST_LOCALE, fallbacks, is_locale
from tornado_rt.work.texts import SEPARATOR, Stored, Text, filled, shortened

BUILT_IN = Path(__file__).parent
SUFFIX = ".po"
# Extraction writes this beside a text that is stored in English and known again by its form.
STORED = "stored"
# A longer text is not known by a form [characters].
MOST_OF_FORM = 500
MOST_REMEMBERED = 4096
# A form has this many letters beside its places: it would be the form of anything else.
LEAST_LETTERS = 3


class BadCatalogue(ValueError):
    """A PO file cannot be used; the message names it and says why."""


@attrs.frozen
class Translation:
    """The entry of a text in a PO file; `is_form`: stored texts are known by it."""

    text: str
    is_form: bool


class Words:
    """The texts of one language; `tag` names it."""

    def __init__(self, tag: str, translations: Mapping[str, Translation]) -> None:
        self.tag = tag
        self.translations = translations
        # Whether every text is said as it is: in English.
        self.is_plain = not translations
        forms = [one for one, told in translations.items() if told.is_form and "{" in one]
        # The most that is said is the closest.
        forms.sort(key=lambda one: -len(_letters(one)))
        self._forms = [(re.compile(_pattern_of(one), re.DOTALL), one) for one in forms]
        self.recall: Callable[[str], str] = functools.lru_cache(MOST_REMEMBERED)(self._recall)

    def say(self, text: str) -> str:
        """Return a `Text`, or a `Stored` one, in this language; any other text as it is."""
        if self.is_plain or not isinstance(text, Text | Stored):
            return str(text)
        if isinstance(text, Stored):
            return self.recall(str(text))
        values = {name: self._value(value) for name, value in text.values.items()}
        return shortened(filled(self._message(text.msgid), values), text.most)

    def _recall(self, text: str) -> str:
        """Return a text that is stored in English in this language; one of nobody's as it is."""
        if (known := self.translations.get(text)) is not None:
            return filled(known.text, {}) if "{" not in text else text
        if len(text) > MOST_OF_FORM:
            return text
        for pattern, message in self._forms:
            if found := pattern.fullmatch(text):
                values = {name: self.recall(one) for name, one in found.groupdict().items()}
                return filled(self._message(message), values)
        return text

    def _message(self, message: str) -> str:
        known = self.translations.get(message)
        return message if known is None else known.text

    def _value(self, value: Any) -> str:
        if isinstance(value, list | tuple):
            return self._message(SEPARATOR).join(self._value(one) for one in value)
        return self.say(value) if isinstance(value, str) else str(value)


ENGLISH = Words(LAST_LOCALE, {})


class Languages:
    """The languages that there are; `default` is that of users who have chosen none."""

    def __init__(self, words: Iterable[Words], default: str = LAST_LOCALE) -> None:
        known = {LAST_LOCALE: ENGLISH} | {one.tag.lower(): one for one in words}
        self._names = _with_short_names(known)
        self.default = self.find([default]) or ENGLISH

    @property
    def tags(self) -> list[str]:
        """The tags of all languages."""
        return sorted({one.tag for one in self._names.values()})

    def find(self, wanted: Iterable[str | None]) -> Words | None:
        """Return the first of some languages that there is; None: there is none of them.

        `zh` and `zh-Hans` are `zh-CN`: the lookup of RFC 4647 section 3.4, with likely subtags.
        """
        for locale in wanted:
            for tag in fallbacks(locale or ""):
                if tag in self._names:
                    return self._names[tag]
        return None


def load_languages(folder: str = "", default: str = LAST_LOCALE) -> Languages:
    """Return the built-in languages, and those of an author's folder of PO files.

    Raise BadCatalogue.
    """
    built_in = [Words(tag, told) for tag, told in _read_folder(BUILT_IN, is_own=False)]
    known = Languages(built_in)
    merged = {one.tag: one for one in built_in}
    for tag, told in _read_folder(Path(folder), is_own=True) if folder.strip() else ():
        # A language of a near one, as zh-TW of zh-CN, says what it does not have as that does.
        base = known.find([tag]) or ENGLISH
        name = base.tag if tag.lower() in known._names else tag
        merged[name] = Words(name, {**base.translations, **told})
    return Languages(merged.values(), default)


@functools.cache
def built_in_languages() -> Languages:
    """Return the built-in languages, for callers without settings."""
    return load_languages()


def places_of(message: str) -> set[str]:
    """Return the names of the places of a message. Raise ValueError for one that is no name."""
    return {name for _, name, _, _ in string.Formatter().parse(message) if name is not None}


def _read_folder(folder: Path, *, is_own: bool) -> Iterator[tuple[str, dict[str, Translation]]]:
    if not folder.is_dir():
        raise BadCatalogue(f"{folder} is no folder")
    for file in sorted(folder.glob(f"*{SUFFIX}")):
        if not is_locale(file.stem):
            raise BadCatalogue(f"{file}: its name is no language tag such as de-AT.po")
        yield file.stem, read_file(file, is_own=is_own)


def read_file(file: Path, *, is_own: bool = False) -> dict[str, Translation]:
    """Return what a PO file says; in an author's own all is a form. Raise BadCatalogue."""
    # Here, since each process of a worker would load it too.
    from babel.messages.pofile import PoFileError, read_po

    try:
        with file.open("rb") as opened:
            catalogue = read_po(opened, charset="utf-8", abort_invalid=True)
        # A plural is of the pages, which have it in their own form.
        told = [one for one in catalogue if one.id and isinstance(one.id, str) and one.string]
        return {str(one.id): _translation_of(one, is_own) for one in told if not one.fuzzy}
    except (OSError, ValueError, PoFileError) as error:
        raise BadCatalogue(f"{file}: {error}") from None


def _translation_of(message: Any, is_own: bool) -> Translation:
    if places_of(message.id) != places_of(message.string):
        raise ValueError(f"{message.string!r} has other places than {message.id!r}")
    is_form = is_own or STORED in message.auto_comments
    return Translation(message.string, is_form and len(_letters(message.id)) >= LEAST_LETTERS)


def _letters(message: str) -> str:
    return "".join(one for text, *_ in string.Formatter().parse(message) for one in text.strip())


def _pattern_of(message: str) -> str:
    pattern, seen = "", set()
    for text, name, _, _ in string.Formatter().parse(message):
        pattern += re.escape(text)
        if name is not None:
            pattern += f"(?P={name})" if name in seen else f"(?P<{name}>.+?)"
            seen.add(name)
    return pattern


def _with_short_names(known: Mapping[str, Words]) -> dict[str, Words]:
    """Return languages also by shorter names that no other has: zh-CN by zh and zh-hans."""
    from babel.core import get_global

    names = dict(known)
    likely = get_global("likely_subtags")
    for tag, words in known.items():
        language, *_ = tag.split("-")
        whole = likely.get(words.tag.replace("-", "_")) or likely.get(language) or ""
        script = "-".join(whole.lower().split("_")[:2])
        for name in (language, script):
            if name.startswith(language):
                names.setdefault(name, words)
    return names
