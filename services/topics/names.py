"""Names of an application's topics, and the patterns that a token allows."""

import functools
import re
from collections.abc import Iterable

from tornado_rt.bounds import OutOfBounds
from tornado_rt.work.texts import phrase
from tornado_rt.work.values import cut

TOPIC_LENGTH = 128
FORM = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.:/@-]{{0,{TOPIC_LENGTH - 1}}}", re.ASCII)
# These mean something of ours, with or without an id after a colon.
RESERVED = ("me", "tasks", "task", "batch", "user", "broadcast", "admin")


def check_topic(name: str) -> None:
    """Raise OutOfBounds for what cannot be a topic of an application."""
    if not FORM.fullmatch(name):
        raise OutOfBounds(
            phrase(
                "topic must be 1 to {most} of A-Z a-z 0-9 _ . : / @ -, "
                "and begin with a letter, a digit or _: {name}",
                most=TOPIC_LENGTH,
                name=repr(cut(name, 50)),
            )
        )
    if name.partition(":")[0] in RESERVED:
        raise OutOfBounds(
            phrase("topic {name} is none of the application's", name=repr(cut(name, 50)))
        )


def matches(topic: str, patterns: Iterable[str]) -> bool:
    """Say whether one of the patterns matches; `*` stands for any characters."""
    return any(_compiled(pattern).fullmatch(topic) for pattern in patterns)


@functools.lru_cache(maxsize=1000)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Several in a row are one: they would take long to match.
    texts = re.sub(r"\*+", "*", pattern).split("*")
    return re.compile(".*".join(map(re.escape, texts)), re.DOTALL)
