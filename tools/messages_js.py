"""Find the messages of the pages and elements, and write their catalogues: `make messages`.

In JavaScript a message is the first argument of `t`, and of `tn` the second and third. In markup
`data-t` is on an element whose text is one, or names the attributes that are ones; markup stands in
HTML and in template strings. The texts of a PO file become a module for each of `SHELVES`: a reader
of English loads none.
"""

import ast
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import attrs
from babel import Locale
from babel.messages import Catalog
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
LOCALES = ROOT / "tornado_rt" / "locales"
MARKS = frozenset({"t", "tn"})
TOKEN = re.compile(
    r"""
    (?P<space> \s+ | //[^\n]* | /\*.*?\*/ )
    | (?P<string> "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
    | (?P<template> `(?:\\.|[^`\\])*` )
    | (?P<name> [\w$]+ )
    | (?P<pattern> /(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\[\n])+/[a-z]* )
    | (?P<mark> . )
    """,
    re.VERBOSE | re.DOTALL,
)
# Behind one of these a slash divides.
VALUES = frozenset({"string", "template", "name"})
OPENING, CLOSING = frozenset("([{"), frozenset(")]}")
TEMPLATE = re.compile(r"`\n<[^`]*`")
# As write_po of the messages of the server does.
WIDTH = 100
# The order in which a PO file has the forms of a plural.
FORMS = ("zero", "one", "two", "few", "many", "other")
VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "path", "rect"})

# A text, or one that counts: its singular and its plural.
Message = str | tuple[str, str]


@attrs.frozen
class Shelf:
    """A part that loads its messages together: files, and the folder of its catalogues."""

    sources: tuple[str, ...]
    folder: str

    def files(self) -> list[Path]:
        """Return the files with messages."""
        return [file for source in self.sources for file in sorted(ROOT.glob(source))]


# The pages also have the messages of the elements.
ELEMENTS = Shelf(("clients/js/src/elements/*.js",), "clients/js/src/locales")
SHELVES = (
    ELEMENTS,
    Shelf(("static/index.html", "static/js/*.js"), "static/js/locales"),
    Shelf(("static/admin.html", "static/admin/*.js"), "static/admin/locales"),
)


class Marks(HTMLParser):
    """Collects the messages of markup. Raises ValueError for a mark that has no text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._texts: list[str | None] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note the attributes that are messages, and whether the text is one."""
        given = dict(attributes)
        names = (given.get("data-t") or "").split()
        for name in names:
            if name != "text":
                self._keep(given.get(name) or "")
        if tag not in VOID:
            has_text = "data-t" in given and (not names or "text" in names)
            self._texts.append("" if has_text else None)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Take one that is written as closed, as those of SVG are."""
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        """Collect the text."""
        if self._texts and self._texts[-1] is not None:
            self._texts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        """Take the text, whole."""
        text = self._texts.pop() if tag not in VOID and self._texts else None
        if text is not None:
            self._keep(" ".join(text.split()))

    def _keep(self, message: str) -> None:
        if not message:
            raise ValueError("data-t marks what has no text")
        self.found.append(message)


def messages_of(file: Path) -> Iterator[Message]:
    """Yield the messages of a file. Raise ValueError for a mark without a text."""
    text = file.read_text(encoding="utf-8")
    markup = [text] if file.suffix == ".html" else TEMPLATE.findall(text)
    for one in markup:
        marks = Marks()
        marks.feed(one)
        yield from marks.found
    if file.suffix == ".js":
        yield from calls_in(text)


@attrs.frozen
class Token:
    """A token of JavaScript, and the line that it is in."""

    sort: str
    value: str
    line: int


def tokens_of(source: str) -> Iterator[Token]:
    """Yield the tokens of JavaScript; no white space, and no comments."""
    before, at = Token("mark", "", 1), 0
    while found := TOKEN.match(source, at):
        sort, value = str(found.lastgroup), found[0]
        if sort == "pattern" and (before.sort in VALUES or before.value in CLOSING):
            sort, value = "mark", "/"
        at = found.start() + len(value)
        if sort != "space":
            before = Token(sort, value, source.count("\n", 0, found.start()) + 1)
            yield before


def calls_in(source: str) -> Iterator[Message]:
    """Yield the messages of JavaScript. Raise ValueError for one that is no literal."""
    tokens = list(tokens_of(source))
    for at, (mark, bracket) in enumerate(pairwise(tokens)):
        if (mark.sort, bracket.value) != ("name", "(") or mark.value not in MARKS:
            continue
        if tokens[at - 1].value in {".", "function"}:
            continue
        begin = at + 2 if mark.value == "t" else _behind_argument(tokens, at + 2)
        texts = [_text_of(tokens, begin)]
        if mark.value == "tn":
            texts.append(_text_of(tokens, begin + 2))
        yield (texts[0], texts[1]) if len(texts) > 1 else texts[0]


def _behind_argument(tokens: list[Token], at: int) -> int:
    """Return where the next argument begins."""
    depth = 0
    while depth or tokens[at].value != ",":
        depth += (tokens[at].value in OPENING) - (tokens[at].value in CLOSING)
        at += 1
    return at + 1


def _text_of(tokens: list[Token], at: int) -> str:
    text, end = tokens[at : at + 2]
    if text.sort != "string" or end.value not in {",", ")"}:
        raise ValueError(f"line {text.line}: a message is a literal, not {text.value}")
    # Its escapes are those of Python.
    return str(ast.literal_eval(text.value))


def messages() -> set[Message]:
    """Return all messages of the pages and elements."""
    return {one for shelf in SHELVES for file in shelf.files() for one in messages_of(file)}


def read(file: Path) -> Catalog:
    """Return what a PO file says; nothing while it is not there."""
    locale = file.stem.replace("-", "_")
    if not file.exists():
        return Catalog(locale=locale, fuzzy=False)
    with file.open("rb") as opened:
        return read_po(opened, locale=locale, charset="utf-8")


def update(file: Path) -> list[str]:
    """Add what is not in a PO file; return the messages that it does not translate."""
    catalog, own = read(file), messages()
    for one in own:
        if catalog.get(first(one)) is None:
            catalog.add(one, "" if isinstance(one, str) else ("",))
    with file.open("wb") as opened:
        write_po(opened, catalog, width=WIDTH, no_location=True, sort_output=True, omit_header=True)
    return sorted(first(one) for one in own if not _says(catalog, one))


def catalogue_of(shelf: Shelf, catalog: Catalog) -> dict[str, str | dict[str, str]]:
    """Return the messages of a shelf with their words; those of the elements stand only there."""
    known = (
        set()
        if shelf is ELEMENTS
        else {one for file in ELEMENTS.files() for one in messages_of(file)}
    )
    own = {one for file in shelf.files() for one in messages_of(file)} - known
    said = {first(one): _says(catalog, one) for one in own}
    return {one: words for one, words in sorted(said.items()) if words}


def module_of(shelf: Shelf, catalog: Catalog, name: str) -> str:
    """Return the module with the words of a language."""
    words = json.dumps(catalogue_of(shelf, catalog), ensure_ascii=False, indent=2)
    return f"// Made of tornado_rt/locales/{name}.po by `make messages`.\nexport default {words};\n"


def modules() -> dict[Path, str]:
    """Return the text of each module, by its file."""
    made = {}
    for file in sorted(LOCALES.glob("*.po")):
        catalog = read(file)
        for shelf in SHELVES:
            made[ROOT / shelf.folder / f"{file.stem}.js"] = module_of(shelf, catalog, file.stem)
    return made


def main() -> None:
    """Update the PO files, and write the modules."""
    for file in sorted(LOCALES.glob("*.po")):
        for missing in update(file):
            print(f"{file.stem}: {missing!r} has no words")
    for file, text in modules().items():
        file.write_text(text, encoding="utf-8")


def first(message: Message) -> str:
    """Return the English of one, which is its id."""
    return message[0] if isinstance(message, tuple) else message


def _says(catalog: Catalog, message: Message) -> str | dict[str, str]:
    """Return the words of a message, by their plural categories if it counts; "" without any."""
    found = catalog.get(first(message))
    if not found or not found.string or not all(found.string):
        return ""
    if isinstance(message, str):
        return str(found.string)
    tags = {*Locale.parse(catalog.locale_identifier).plural_form.tags, "other"}
    forms = [one for one in FORMS if one in tags]
    return dict(zip(forms, found.string, strict=True))


if __name__ == "__main__":
    main()
