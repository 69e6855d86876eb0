"""Faults of parameters: in words for a person, each at its place, few and short."""

import re
from collections.abc import Callable, Iterable, Sequence

import attrs

from tornado_rt.json_body import (
    MOST_FAULTS,
    TOLD_CHARACTERS,
    TOLD_FAULTS,
    TOLD_NAME_CHARACTERS,
    TOLD_NAMES,
)
from tornado_rt.work import clean_line
from tornado_rt.work.values import cut

# A class in the message of a validator of attrs.
CLASS_NAME = re.compile(r"<(?:class|enum) '(?:[\w<>]+\.)*(\w+)'>")
# Bound of the message of a validator [characters].
MOST_WORDS = 1000
# The name of the parameters in a request.
PLACE = "params"
# The names of JSON's types, by the class that each is read into.
NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a JSON object",
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

    def told(self, place: str) -> str:
        """Return it in words."""
        return self.say(place + self.at)


class Wrong(Exception):
    """A value has faults."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__()
        self.faults = faults


def wrong(words: str) -> Wrong:
    """Return a value's only fault: its place, and these words."""
    return Wrong([Fault("", lambda place: f"{place} {words}")])


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
            self.add(Fault(at + one.at, one.say))

    def settle(self) -> None:
        """Raise Wrong when there are faults."""
        if self.faults:
            raise Wrong(self.faults)


def refusal(told: Iterable[str]) -> ParamsFault:
    """Return what is raised for these faults: the first of them, each once, and their number."""
    lines = (cut(clean_line(one, TOLD_CHARACTERS + 1), TOLD_CHARACTERS) for one in told)
    faults = list(dict.fromkeys(lines))
    rest = len(faults) - TOLD_FAULTS
    if rest > 0:
        more = f"and {rest} more" if len(faults) < MOST_FAULTS else "and more"
        faults = [*faults[:TOLD_FAULTS], more]
    return ParamsFault(faults)


def unknown_fields(names: Sequence[str]) -> str:
    """Return the words for names that a JSON object may not have."""
    told = ", ".join(short(one) for one in names[:TOLD_NAMES])
    more = f" and {len(names) - TOLD_NAMES} more" if names[TOLD_NAMES:] else ""
    return f"has unknown fields: {told}{more}"


def either(kinds: Iterable[type]) -> str:
    """Return the words for a value of none of these types."""
    meant = set(kinds)
    left_out = {int} if float in meant else set()
    told = [name for kind, name in NAMES.items() if kind in meant - left_out]
    return f"must be {' or '.join(told)}"


def one_of(choices: Iterable[object]) -> str:
    """Return the words for a value that is none of these."""
    return cut(f"must be one of {', '.join(json_word(one) for one in choices)}", TOLD_CHARACTERS)


def words_of(error: BaseException) -> str:
    """Return what a validator says, without the objects that attrs puts behind it."""
    said = error.args[0] if error.args else ""
    text = CLASS_NAME.sub(r"\1", clean_line(said, MOST_WORDS))
    meant = isinstance(error, ValueError | TypeError) and text
    return text if meant else f"{type(error).__name__} {text}".rstrip()


def json_word(value: object) -> str:
    """Return a value as it is told: text as it is, the others as JSON writes them."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def short(name: str) -> str:
    """Return a field's name as it is told."""
    return cut(clean_line(name, TOLD_NAME_CHARACTERS + 1), TOLD_NAME_CHARACTERS)
