"""The terms that tasks are found by (scripts/lib/found.lua), and those of a question.

A word is a run of letters and digits, without case. Chinese, Japanese and Korean have no spaces
between words: of them each character and each two neighbours are a word.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator

from services.queue.models import Job

# Most different words that are found of a label, and of an error.
MOST_WORDS = 32
# More of a text is not looked at, and a longer word is found by its beginning. In characters.
TEXT_LENGTH = 2000
WORD_LENGTH = 40
RUN = re.compile(r"[^\W_]+")
ASCII_RUN = re.compile(rb"[a-z0-9]+")
# Blocks of Unicode: kana and Hangul letters, ideographs, Hangul, and those of compatibility.
UNSPACED = re.compile(
    "[\u3040-\u31ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)


def task_terms(job: Job) -> list[bytes]:
    """Return the terms of the tags of a task and of the words of its label."""
    return [*_terms("t", dict.fromkeys(job.tags)), *word_terms(job.label)]


def word_terms(text: str) -> list[bytes]:
    """Return the terms of the words of a text."""
    if text.isascii():
        return _ascii_terms(text)
    words = (word for run in _runs(text) for word in _words_in(run))
    return _terms("w", itertools.islice(dict.fromkeys(words), MOST_WORDS))


def asked_terms(text: str) -> list[bytes]:
    """Return the terms that tasks have which have all words of a question."""
    if text.isascii():
        return _ascii_terms(text)
    words = (word for run in _runs(text) for word in _asked_in(run))
    return _terms("w", itertools.islice(dict.fromkeys(words), MOST_WORDS))


def term_of(sort: str, value: str) -> bytes:
    """Return a term: `sort` is its letter."""
    return f"{sort}{value}".encode(errors="replace")


def _ascii_terms(text: str) -> list[bytes]:
    """Do for most texts what the others need twenty times as long for."""
    words = dict.fromkeys(ASCII_RUN.findall(text[:TEXT_LENGTH].lower().encode()))
    return [b"w" + word[:WORD_LENGTH] for word in itertools.islice(words, MOST_WORDS)]


def _terms(sort: str, values: Iterable[str]) -> list[bytes]:
    return [term_of(sort, value) for value in values]


def _runs(text: str) -> Iterator[str]:
    """Yield the runs of letters and digits, those of scripts without spaces apart."""
    for run in RUN.findall(unicodedata.normalize("NFKC", text[:TEXT_LENGTH]).casefold()):
        if run.isascii():
            yield run
            continue
        yield from filter(None, _split(run))


def _split(run: str) -> Iterator[str]:
    end = 0
    for found in UNSPACED.finditer(run):
        yield run[end : found.start()]
        yield found.group()
        end = found.end()
    yield run[end:]


def _words_in(run: str) -> Iterator[str]:
    if not UNSPACED.match(run):
        yield run[:WORD_LENGTH]
        return
    for first, second in itertools.pairwise(run):
        yield first
        yield first + second
    yield run[-1]


def _asked_in(run: str) -> Iterator[str]:
    if not UNSPACED.match(run):
        yield run[:WORD_LENGTH]
    elif len(run) == 1:
        yield run
    else:
        yield from (first + second for first, second in itertools.pairwise(run))
