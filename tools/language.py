"""Plain English: forms that comments and docstrings must not have, and how they are found."""

import ast
import contextlib
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).parent.parent
MARKS = {".py": "#", ".lua": "--", ".js": "//", ".mjs": "//"}
PASSED_OVER = {".venv", ".venv-bench", "node_modules", "data", "dist"}
# Joined of the sources by clients/js/build.mjs.
MADE = {"rt-client.js", "rt-elements.js"}


@attrs.frozen
class Rule:
    """A form that nobody may write, an example of it, and how to say it."""

    form: str
    example: str
    instead: str


# Where a sentence begins.
START = r"(?:^|[.!] )"
# A noun phrase that begins with a question word makes the reader look for the noun.
RULES = [
    Rule(
        START + r"What(ever)?\b",
        "What waits for a slow reader.",
        "Frames that wait for a slow reader.",
    ),
    Rule(
        START + r"(Who(ever|m)?|Which(ever)?)\b",
        "Whoever comes next asks again.",
        "The next caller asks again.",
    ),
    Rule(START + r"How\b", "How long a start may take [s].", "A start may take this long [s]."),
    Rule(
        START + r"(So|As) (many|long|much|often)\b",
        "So many are open at once.",
        "Number of connections that are open at once.",
    ),
    Rule(
        START + r"Of (a|an|all|each|several|the two|these|this|those|two|what)\b",
        "Of two equal ones the last counts.",
        "The last of two equal ones counts.",
    ),
    Rule(START + r"Such as\b", "Such as `__main__`.", "For example `__main__`."),
    Rule(r"\bwhoever\b", "pushed to whoever is there", "pushed to users who are there"),
    Rule(
        r"\b(as|by|for|from|of|on|than|that|to|with) who\b",
        "the defaults for who never chose",
        "the defaults for a user who never chose",
    ),
    Rule(
        r"\bso (many|long|often)\b(?! (as|that)\b)",
        "after so many seconds",
        "after these seconds",
    ),
    Rule(r"\b(are|is) to be\b", "A task that is to be submitted.", "A task to submit."),
    Rule(r"\b(he|him|his)\b", "a user at his limit", "a user at their limit"),
]


def blocks(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each comment and docstring, without its marks."""
    source = path.read_text()
    if path.suffix == ".py":
        yield from _docstrings(source)
    yield from _joined(_comments(source, path.suffix))


def tree_of(source: str) -> ast.Module:
    """Return the syntax tree of a source.

    Up to Python 3.12 a second thread that makes one at the same moment may break this one
    (https://github.com/python/cpython/issues/106905): then it is made again.
    """
    for _ in range(4):
        with contextlib.suppress(SystemError):
            return ast.parse(source)
    return ast.parse(source)


def _docstrings(source: str) -> Iterator[tuple[int, str]]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree_of(source)):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def _comments(source: str, suffix: str) -> Iterator[tuple[int, str]]:
    mark = MARKS[suffix]
    if suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string.removeprefix(mark).strip()
        return
    for number, line in enumerate(source.splitlines(), 1):
        text = line.strip()
        if text.startswith((mark, "/** ", "* ")):
            yield number, text.lstrip("-/* ").removesuffix("*/").strip()


def _joined(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Join lines that follow each other."""
    begun, last, text = 0, 0, ""
    for number, line in lines:
        if text and number == last + 1:
            text = f"{text} {line}"
        else:
            if text:
                yield begun, text
            begun, text = number, line
        last = number
    if text:
        yield begun, text


def faults(text: str) -> list[str]:
    """Return the examples of the rules that a text breaks. Code in it does not count."""
    plain = re.sub(r"`[^`]*`|\"[^\"]*\"", "it", text)
    return [rule.example for rule in RULES if re.search(rule.form, plain)]


def sources(tree: Path = ROOT) -> list[Path]:
    """Return the files with comments."""
    return [
        path
        for path in sorted(tree.rglob("*"))
        if path.suffix in MARKS
        and path.name not in MADE
        and not PASSED_OVER & set(path.relative_to(tree).parts)
    ]
