"""Texts of notifications by name, in several languages, with variables.

The built-in ones are what the queue and the server tell. A setting replaces or adds some. All that
is wrong with a template is found at start; what can be wrong later are the variables.

It is long because reading, checking and filling a template know the same places.
"""

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from services.notifications.configured import BadSetting, read_into, read_toml
from services.notifications.fields import (
    LABEL_LENGTH,
    MOST_ACTIONS,
    TYPE,
    Action,
    check_actions,
)
from services.notifications.locales import LAST_LOCALE, choose, fallbacks, is_locale
from services.notifications.models import CONTENT_LENGTH, TITLE_LENGTH
from services.notifications.patterns import Pattern
from tornado_rt.bounds import (
    LEAST_INTEGER,
    MOST_INTEGER,
    OutOfBounds,
    check_json,
    check_name,
    check_text,
)
from tornado_rt.json_body import MOST_BYTES, MOST_ITEMS
from tornado_rt.locales import ENGLISH, Languages, built_in_languages
from tornado_rt.work import clean_line
from tornado_rt.work.params.faults import alternatives, at_place
from tornado_rt.work.texts import Stored, Text, phrase

SETTING = "notification_templates"
BUILT_IN = Path(__file__).parent / "texts"
MOST_TEMPLATES = 1000
MOST_VARIABLES = 100
VARIABLES_BYTES = 32768
SHOWN_NAME = 60
NEAR = 3
ENDED = "ended"
REQUIRED = phrase("is required")


class TemplateRefused(ValueError):
    """A template cannot be filled so; `faults` has a line for each reason."""

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = list(faults)


class TemplateUnknown(TemplateRefused):
    """There is no such template; the message names those with nearly that name."""


@attrs.frozen(kw_only=True)
class Rendered:
    """The texts of a notification, as a draft takes them; `locale` is their language."""

    title: str
    content: str | None
    link: str | None
    actions: list[Action]
    locale: str


@attrs.frozen(kw_only=True)
class ActionRequest:
    """An action in a file of templates."""

    id: str
    label: str
    link: str | None = None
    answer: Any = attrs.field(default=None, metadata={MOST_BYTES: VARIABLES_BYTES})


@attrs.frozen(kw_only=True)
class TemplateRequest:
    """A template in one language in a file."""

    title: str
    content: str | None = None
    link: str | None = None
    actions: list[ActionRequest] = attrs.field(factory=list, metadata={MOST_ITEMS: MOST_ACTIONS})


@attrs.frozen
class ActionTemplate:
    """An action whose label and link have places for variables."""

    id: str
    label: Pattern
    link: Pattern | None
    answer: Any

    @classmethod
    def of(cls, request: ActionRequest) -> "ActionTemplate":
        """Read one. Raise OutOfBounds."""
        place = f"action {clean_line(request.id, SHOWN_NAME)}"
        label = _pattern_of(f"{place}: label", request.label, LABEL_LENGTH)
        link = _link_of(f"{place}: link", request.link)
        return cls(request.id, label, link, request.answer)

    @property
    def patterns(self) -> Iterator[Pattern]:
        """Yield all its texts."""
        yield self.label
        if self.link is not None:
            yield self.link

    def fill(self, values: Mapping[str, str]) -> Action:
        """Return the action. Raise OutOfBounds."""
        link = None if self.link is None else self.link.fill_link(f"link of {self.id}", values)
        label = self.label.fill_line(values, LABEL_LENGTH)
        return Action(id=self.id, label=label, link=link, answer=self.answer)


@attrs.frozen
class Template:
    """The texts in one language."""

    title: Pattern
    content: Pattern | None
    link: Pattern | None
    actions: Sequence[ActionTemplate]

    @classmethod
    def of(cls, request: TemplateRequest) -> "Template":
        """Read one. Raise OutOfBounds."""
        content = request.content
        made = cls(
            _pattern_of("title", request.title, TITLE_LENGTH),
            None if content is None else _pattern_of("content", content, CONTENT_LENGTH),
            _link_of("link", request.link),
            [ActionTemplate.of(one) for one in request.actions],
        )
        # Faults that do not depend on the values are found now.
        made.fill(dict.fromkeys(made.variables, "x"), "")
        return made

    @property
    def variables(self) -> set[str]:
        """The names of all variables in it."""
        patterns = [one for one in (self.title, self.content, self.link) if one is not None]
        patterns += [pattern for action in self.actions for pattern in action.patterns]
        return {name for pattern in patterns for name in pattern.names}

    def fill(self, values: Mapping[str, str], locale: str) -> Rendered:
        """Return the texts, which a draft takes. Raise OutOfBounds."""
        rendered = Rendered(
            title=self.title.fill_line(values, TITLE_LENGTH),
            content=None
            if self.content is None
            else self.content.fill_text(values, CONTENT_LENGTH),
            link=None if self.link is None else self.link.fill_link("link", values),
            actions=[one.fill(values) for one in self.actions],
            locale=locale,
        )
        check_name("title", rendered.title, TITLE_LENGTH)
        check_text("content", rendered.content or "", CONTENT_LENGTH)
        check_actions(None, attrs.fields(Rendered).actions, rendered.actions)
        return rendered


class Templates:
    """The templates of a process by name, each by its languages in small letters."""

    def __init__(
        self,
        texts: Mapping[str, Mapping[str, Template]],
        locale: str,
        languages: Languages | None = None,
    ) -> None:
        self._texts = texts
        self._languages = languages or built_in_languages()
        self._locale = locale
        # All languages ask for the same, so that no sender depends on what a user reads.
        self._variables = {name: _variables_of(by.values()) for name, by in texts.items()}

    @property
    def names(self) -> list[str]:
        """The names of all templates."""
        return sorted(self._texts)

    def check(self, name: str, variables: Mapping[str, Any]) -> None:
        """Raise TemplateRefused unless a template can be filled with these, in each language."""
        values = self._values_of(name, variables)
        for template in self._texts[name].values():
            _fill(name, template, values, "")

    def render(
        self, name: str, variables: Mapping[str, Any], locales: Iterable[str | None] = ()
    ) -> Rendered:
        """Return the texts in the first of some languages that there is, or in the server's.

        Values are texts or numbers. In a title and in a label they are put on one line, and in both
        and in the content shortened until all fits; in a link they are encoded. Raise
        TemplateRefused, or TemplateUnknown.
        """
        self._values_of(name, variables)
        locale, template = choose(self._texts[name], (*locales, self._locale))
        said = {one: self.say(value, locale) for one, value in variables.items()}
        return _fill(name, template, self._values_of(name, said), locale)

    def say(self, value: Any, locale: str) -> Any:
        """Return a text of a task, which was stored in English, in a language."""
        if not isinstance(value, Text | Stored):
            return value
        return (self._languages.find([locale]) or ENGLISH).say(value)

    def name_of_end(self, subject: str, status: str) -> str:
        """Return the name of the template of an end; that of any end where the status has none.

        `subject` is task, batch, analysis or analysis.batch.
        """
        name = f"{subject}.{status}"
        return name if name in self._texts else f"{subject}.{ENDED}"

    def _values_of(self, name: str, variables: Mapping[str, Any]) -> dict[str, str]:
        if name not in self._texts:
            raise TemplateUnknown(_unknown(name, self.names))
        asked = sorted(self._variables[name])
        faults = [_variable(one, REQUIRED) for one in asked if one not in variables]
        values = {one: _text_of(variables[one]) for one in asked if one in variables}
        faults += [
            _variable(one, phrase("must be a string or a number"))
            for one, text in values.items()
            if text is None
        ]
        if faults:
            raise TemplateRefused(*faults)
        return {one: text for one, text in values.items() if text is not None}


def check_variables(_: Any, field: Any, value: Mapping[str, Any]) -> None:
    """Check the variables of a draft, as an attrs validator; their names and values come later."""
    if len(value) > MOST_VARIABLES:
        raise OutOfBounds(
            phrase("{place} must have at most {most} fields", place=field.name, most=MOST_VARIABLES)
        )
    check_json(field.name, value, VARIABLES_BYTES)


def load_templates(
    setting: str = "", locale: str = LAST_LOCALE, languages: Languages | None = None
) -> Templates:
    """Return the built-in templates and those of the setting, which replace them by language.

    `setting` is the path of a TOML file, or of a folder of them; empty adds none. `locale` is the
    server's language, `languages` have the texts of tasks. Raise BadSetting.
    """
    texts = _read_all(BUILT_IN)
    if setting.strip():
        own = _read_all(Path(setting.strip()))
        for name, by_locale in own.items():
            _check_own(setting, name, by_locale, texts.get(name), locale)
            texts[name] = texts.get(name, {}) | by_locale
    return Templates(texts, locale, languages)


def _check_own(
    setting: str,
    name: str,
    own: Mapping[str, Template],
    built_in: Mapping[str, Template] | None,
    locale: str,
) -> None:
    """Raise BadSetting for a template that could not be filled, or read by everybody."""
    if built_in is None:
        if own.keys().isdisjoint(fallbacks(locale)):
            raise BadSetting(SETTING, setting, f"{name} has no text in {locale}, the default")
        return
    known = _variables_of(built_in.values())
    if strange := sorted(_variables_of(own.values()) - known):
        told = ", ".join(sorted(known))
        raise BadSetting(SETTING, setting, f"{name} has no variable {strange[0]}, only {told}")


def _read_all(path: Path) -> dict[str, dict[str, Template]]:
    """Return the templates of a file, or of those in a folder. Raise BadSetting."""
    files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    if not files:
        raise BadSetting(SETTING, path, "has no file *.toml")
    texts: dict[str, dict[str, Template]] = {}
    for file in files:
        for name, locale, template in _read_file(file):
            by_locale = texts.setdefault(name, {})
            if locale in by_locale:
                raise BadSetting(SETTING, file, f"{name}.{locale} is there twice")
            by_locale[locale] = template
    if len(texts) > MOST_TEMPLATES:
        raise BadSetting(
            SETTING, path, f"there are {len(texts)} templates; {MOST_TEMPLATES} at most"
        )
    return texts


def _read_file(file: Path) -> Iterator[tuple[str, str, Template]]:
    for path, table in _leaves(read_toml(SETTING, file), ()):
        place = f"{file}: {'.'.join(path)}"
        name, locale = ".".join(path[:-1]), path[-1]
        if not isinstance(table, dict) or not TYPE.fullmatch(name):
            raise BadSetting(SETTING, place, "is no template: write [NAME.LANGUAGE]")
        if not is_locale(locale):
            raise BadSetting(SETTING, place, f"{locale} is no language tag such as en or de-AT")
        request = read_into(SETTING, place, table, TemplateRequest)
        try:
            yield name, locale.lower(), Template.of(request)
        except OutOfBounds as error:
            raise BadSetting(SETTING, place, error) from None


def _leaves(
    table: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield what holds more than tables, or is none, with where it stands."""
    for name, value in table.items():
        inner = value.values() if isinstance(value, dict) else ()
        if inner and all(isinstance(one, dict) for one in inner):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _pattern_of(name: str, text: str, most: int) -> Pattern:
    try:
        pattern = Pattern.of(text)
    except OutOfBounds as error:
        raise OutOfBounds(at_place(name, str(error))) from None
    if pattern.least_length > most:
        raise OutOfBounds(
            phrase("{name} must have at most {most} characters", name=name, most=most)
        )
    return pattern


def _link_of(name: str, text: str | None) -> Pattern | None:
    if text is None:
        return None
    pattern = _pattern_of(name, text, len(text))
    pattern.check_link(name)
    return pattern


def _fill(name: str, template: Template, values: Mapping[str, str], locale: str) -> Rendered:
    try:
        return template.fill(values, locale)
    except OutOfBounds as error:
        raise TemplateRefused(phrase("template {name}: {error}", name=name, error=error)) from None


def _variables_of(templates: Iterable[Template]) -> set[str]:
    return {name for template in templates for name in template.variables}


def _text_of(value: Any) -> str | None:
    """Return the text of a value; None for what is neither a text nor a number."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return str(value) if LEAST_INTEGER <= value <= MOST_INTEGER else None
    return f"{value:.15g}" if math.isfinite(value) else None


def _unknown(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, NEAR)
    told = clean_line(name, SHOWN_NAME)
    if not near:
        return phrase("there is no template {name}", name=told)
    return phrase(
        "there is no template {name}; did you mean {near}?", name=told, near=alternatives(near)
    )


def _variable(name: str, words: str) -> str:
    return at_place(f"variables.{name}", words)
