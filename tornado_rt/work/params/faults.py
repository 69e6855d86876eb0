"""Faults of parameters: in words for a person, each at its place, few and short."""

import re
from collections.abc import Callable, Container, Iterable, Sequence

import attrs

from tornado_rt.work import clean_line
from tornado_rt.work.texts import Text, phrase
from tornado_rt.work.values import cut

# Bounds of what is told of faults [characters, faults].
TOLD_FAULTS = 20
# After this many faults the rest is not looked at.
MOST_FAULTS = 1000
TOLD_NAMES = 5
TOLD_CHARACTERS = 200
TOLD_NAME_CHARACTERS = 40
# A class in the message of a validator of attrs.
CLASS_NAME = re.compile(r"<(?:class|enum) '(?:[\w<>]+\.)*(\w+)'>")
# Bound of the message of a validator [characters].
MOST_WORDS = 1000
# The name of the parameters in a request.
PLACE = "params"
# In the place of a fault: the name of the parameter that it is in.
FIRST_NAME = re.compile(r"\.([^.\[]*)")
# The names of JSON's types, by the class that each is read into.
NAMES: dict[type, str] = {
    str: phrase("a string"),
    int: phrase("an integer"),
    float: phrase("a number"),
    bool: phrase("true or false"),
    list: phrase("a list"),
    dict: phrase("a JSON object"),
    type(None): "null",
}


class ParamsFault(ValueError):
    """Parameters are not valid; `faults` says why, in words for a person."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = list(faults)


@attrs.frozen
class Fault:
    """A fault at a place below the one that is read; `say` words it with the whole place."""

    at: str
    say: Callable[[str], str]

    def told(self, place: str, common: Container[str] = ()) -> list[str]:
        """Return it in words; below one of the names in `common` it is told at `PLACE`."""
        first = FIRST_NAME.match(self.at)
        return [self.say((PLACE if first and first[1] in common else place) + self.at)]


@attrs.frozen
class UnknownFields(Fault):
    """The names that a JSON object may not have."""

    names: Sequence[str]

    @classmethod
    def of(cls, names: Sequence[str]) -> "UnknownFields":
        """Return the fault of an object with these."""
        fields = listed([short(one) for one in names])
        return cls(
            "",
            lambda place: phrase(
                "{place} has unknown fields: {fields}", place=place, fields=fields
            ),
            names,
        )

    def told(self, place: str, common: Container[str] = ()) -> list[str]:
        if self.at:
            return super().told(place, common)
        own = [one for one in self.names if one not in common]
        others = [one for one in self.names if one in common]
        parts = ((place, own), (PLACE, others))
        return [self.of(names).say(at) for at, names in parts if names]


class Wrong(Exception):
    """A value has faults."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__()
        self.faults = faults


def wrong(words: str) -> Wrong:
    """Return a value's only fault: its place, and these words."""
    return Wrong([Fault("", lambda place: at_place(place, words))])


def at_place(place: str, words: str) -> Text:
    """Return the words for a fault behind its place."""
    return phrase("{place} {words}", place=place, words=words)


class Gathered:
    """The faults of the parts of a value."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Add one. Raise Wrong when there are too many to go on."""
        self.faults.append(fault)
        if len(self.faults) >= MOST_FAULTS:
            raise Wrong(self.faults)

    def join(self, at: str, error: Wrong) -> None:
        """Add those of the part at a place. Raise Wrong when there are too many to go on."""
        for one in error.faults:
            self.add(attrs.evolve(one, at=at + one.at))

    def settle(self) -> None:
        """Raise Wrong when there are faults."""
        if self.faults:
            raise Wrong(self.faults)


def refusal(found: Iterable[Fault], place: str, common: Container[str] = ()) -> ParamsFault:
    """Return what is raised for these faults: the first of them, each once, and their number.

    `common`: see `Fault.told`.
    """
    told = (line for one in found for line in one.told(place, common))
    lines = (cut(clean_line(one, TOLD_CHARACTERS + 1), TOLD_CHARACTERS) for one in told)
    faults = list(dict.fromkeys(lines))
    rest = len(faults) - TOLD_FAULTS
    if rest > 0:
        faults = [*faults[:TOLD_FAULTS], and_more(rest if len(faults) < MOST_FAULTS else None)]
    return ParamsFault(faults)


def and_more(count: int | None) -> Text:
    """Return the words for faults that are not told; None: nobody has counted them."""
    return phrase("and more") if count is None else phrase("and {count} more", count=count)


def listed(names: Sequence[str]) -> Text:
    """Return the first of some names, and how many there are more."""
    told, rest = Text("{names}", {"names": names[:TOLD_NAMES]}), len(names) - TOLD_NAMES
    return phrase("{names} and {count} more", names=told, count=rest) if rest > 0 else told


def alternatives(choices: Iterable[str]) -> str:
    """Return the words for one of several."""
    first, *rest = choices
    for one in rest:
        first = phrase("{first} or {second}", first=first, second=one)
    return first


def either(kinds: Iterable[type]) -> str:
    """Return the words for a value of none of these types."""
    meant = set(kinds)
    left_out = {int} if float in meant else set()
    told = [name for kind, name in NAMES.items() if kind in meant - left_out]
    return phrase("must be {kind}", kind=alternatives(told))


def one_of(choices: Iterable[object]) -> str:
    """Return the words for a value that is none of these."""
    told = [json_word(one) for one in choices]
    return cut(phrase("must be one of {choices}", choices=told), TOLD_CHARACTERS)


def words_of(error: BaseException) -> str:
    """Return what a validator says, without the objects that attrs puts behind it."""
    said = error.args[0] if error.args else ""
    text = clean_line(said, MOST_WORDS)
    text = text.with_values(_class_named) if isinstance(text, Text) else _class_named(text)
    meant = isinstance(error, ValueError | TypeError | AssertionError) and text
    return text if meant else f"{type(error).__name__} {text}".rstrip()


def _class_named(text: str) -> str:
    """Return text with classes by their names alone."""
    return CLASS_NAME.sub(r"\1", text)


def json_word(value: object) -> str:
    """Return a value as it is told: text as it is, the others as JSON writes them."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def short(name: str) -> str:
    """Return a field's name as it is told."""
    return cut(clean_line(name, TOLD_NAME_CHARACTERS + 1), TOLD_NAME_CHARACTERS)
