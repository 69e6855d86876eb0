"""Find the messages of Python files, and write them into PO files: `make messages`.

`phrase`, `stored_phrase` and `msgid` (tornado_rt/work/texts.py) begin with a message. An author's
module has its texts where it says them: the names of steps, what a run reports, final errors. Its
f-strings become messages with places.
"""

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from babel.messages import Catalog
from babel.messages.pofile import read_po, write_po

from tornado_rt.locales.catalogue import STORED
from tornado_rt.work.params.reading import DESCRIPTION, TITLE, TITLES

# The functions that begin with a message, and whether it is stored in English.
MARKS = {"phrase": False, "stored_phrase": True, "msgid": False}
# The arguments of an author that people read, by the function: their places and names.
SAID: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "Step": ((0, 2), ("title",)),
    "Kind": ((), ("title", "steps")),
    "TaskError": ((0,), ()),
    "Retry": ((0,), ("reason",)),
    "update": ((1,), ("message", "unit")),
    "step": ((0,), ("title",)),
    "track": ((), ("unit",)),
}
# And those of the metadata of a field: its own, and those of its choices.
OF_FIELDS = (TITLE, DESCRIPTION)
WIDTH = 100


@attrs.frozen
class FoundMessage:
    """A message; `is_stored`: it is stored in English, and known again by its form."""

    message: str
    is_stored: bool


# Returns the messages of a file.
Find = Callable[[ast.AST], Iterator[FoundMessage]]


def find_marked(tree: ast.AST) -> Iterator[FoundMessage]:
    """Yield the messages of a module of ours. Raise ValueError for one that is no literal."""
    for call in _calls(tree):
        name = _name_of(call)
        if name in MARKS and call.args:
            message = call.args[0]
            if not isinstance(message, ast.Constant) or not isinstance(message.value, str):
                # The functions themselves hand theirs on.
                if isinstance(message, ast.Name) and message.id == "msgid":
                    continue
                raise ValueError(f"line {call.lineno}: {name} takes a literal")
            yield FoundMessage(message.value, MARKS[name])


def find_said(tree: ast.AST) -> Iterator[FoundMessage]:
    """Yield the messages of an author's module; all are stored."""
    for call in _calls(tree):
        places, names = SAID.get(_name_of(call), ((), ()))
        given = [one for place, one in enumerate(call.args) if place in places]
        given += [one.value for one in call.keywords if one.arg in names]
        for one in given:
            for text in one.elts if isinstance(one, ast.List | ast.Tuple) else [one]:
                if (message := _message_of(text)) is not None:
                    yield FoundMessage(message, is_stored=True)
        for keyword in call.keywords:
            if keyword.arg == "metadata":
                yield from _find_named(keyword.value)
    yield from find_marked(tree)


def _find_named(metadata: ast.expr) -> Iterator[FoundMessage]:
    """Yield the names for people in the metadata of a field."""
    for name, said in _items_of(metadata):
        texts = [one for _, one in _items_of(said)] if name == TITLES else [said]
        for one in texts if name in (*OF_FIELDS, TITLES) else ():
            if (message := _message_of(one)) is not None:
                yield FoundMessage(message, is_stored=True)


def _items_of(written: ast.expr) -> list[tuple[Any, ast.expr]]:
    """Return the constant keys of a dict as it is written, None for others, and its values."""
    if not isinstance(written, ast.Dict):
        return []
    keys = [one.value if isinstance(one, ast.Constant) else None for one in written.keys]
    return list(zip(keys, written.values, strict=True))


def find_all(files: Iterable[Path], find: Find) -> dict[str, FoundMessage]:
    """Return the messages of files, each once, by their text. Raise ValueError."""
    found: dict[str, FoundMessage] = {}
    for file in files:
        try:
            for one in find(ast.parse(file.read_text(encoding="utf-8"))):
                known = found.get(one.message, one)
                found[one.message] = attrs.evolve(one, is_stored=one.is_stored or known.is_stored)
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"{file}: {error}") from None
    return found


def update(file: Path, found: Mapping[str, FoundMessage], others: Iterable[str] = ()) -> list[str]:
    """Write messages into a PO file, sorted; return those that it does not translate.

    What it says of them stays; what is no message any more goes. `others` are messages of the
    pages, which stay too.
    """
    known = _read(file)
    made = Catalog(
        locale=file.stem.replace("-", "_"), header_comment=known.header_comment, fuzzy=False
    )
    made.creation_date = known.creation_date
    kept = set(others)
    for entry in known:
        if entry.id and _first(entry.id) in kept:
            made.add(entry.id, entry.string, auto_comments=entry.auto_comments)
    for one in found.values():
        said = known.get(one.message)
        comments = [STORED] if one.is_stored else []
        made.add(one.message, said.string if said else "", auto_comments=comments)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as opened:
        write_po(opened, made, width=WIDTH, no_location=True, sort_output=True, omit_header=True)
    return [_first(entry.id) for entry in made if entry.id and not entry.string]


def _read(file: Path) -> Catalog:
    if not file.exists():
        return Catalog(locale=file.stem.replace("-", "_"), fuzzy=False)
    with file.open("rb") as opened:
        return read_po(opened, locale=file.stem.replace("-", "_"), charset="utf-8")


def _first(message: object) -> str:
    return str(message[0]) if isinstance(message, tuple | list) else str(message)


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (one for one in ast.walk(tree) if isinstance(one, ast.Call))


def _name_of(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _message_of(text: ast.expr) -> str | None:
    """Return the message of a literal, with places for what an f-string puts into it."""
    if isinstance(text, ast.Constant):
        return _escaped(text.value) if isinstance(text.value, str) and text.value else None
    if not isinstance(text, ast.JoinedStr):
        return None
    parts, names = [], dict[str, str]()
    for part in text.values:
        if isinstance(part, ast.FormattedValue):
            parts.append(f"{{{_place_of(part.value, names)}}}")
        else:
            parts.append(_escaped(str(getattr(part, "value", ""))))
    return "".join(parts)


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _place_of(value: ast.expr, names: dict[str, str]) -> str:
    """Return a name for a value: its own last word, and a number where another has that."""
    source = ast.unparse(value)
    while isinstance(value, ast.Call) and value.args:
        value = value.args[0]
    words = [
        one.attr if isinstance(one, ast.Attribute) else one.id
        for one in ast.walk(value)
        if isinstance(one, ast.Attribute | ast.Name)
    ]
    wanted = words[0] if words else "value"
    name, number = wanted, 2
    while names.get(name, source) != source:
        name, number = f"{wanted}{number}", number + 1
    names[name] = source
    return name
