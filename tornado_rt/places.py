"""The id of an event on a stream of many topics: the cursor of each, in one text.

    m~EPOCH.EPOCH~HASH0-OFFSET.HASH1-OFFSET

Each topic is named by a hash of eight characters (48 bits of SHA-256, RFC 6234), and its epoch by
its number in the list. So a client may come back with other topics: those that it had go on.

A client that knows the cursor of each topic, from a socket, may say them in the order of the topics
that it asks for, an empty text for one that it has not:

    c~EPOCH-OFFSET..EPOCH-OFFSET
"""

import base64
import functools
import hashlib
import re
from collections.abc import Collection, Mapping

from tornado_rt.protocol import MOST_OFFSET, Cursor
from tornado_rt.work.texts import phrase
from tornado_rt.work.values import cut

HASH_BYTES = 6
# More than the topics of one connection need.
MOST_LENGTH = 16384
LISTED = "c~"
_PLACES = re.compile(
    r"m~((?:[A-Za-z0-9]{1,64}(?:\.[A-Za-z0-9]{1,64})*)?)"
    r"~((?:[\w-]{8}[0-9]{1,4}-[0-9]{1,19}(?:\.[\w-]{8}[0-9]{1,4}-[0-9]{1,19})*)?)",
    re.ASCII,
)


def format_places(places: Mapping[str, Cursor]) -> str:
    """Return the id of an event after which each topic is at its cursor."""
    epochs: dict[str, int] = {}
    entries = []
    for topic, cursor in places.items():
        number = epochs.setdefault(cursor.epoch, len(epochs))
        entries.append(f"{_hash_of(topic)}{number}-{cursor.offset}")
    return f"m~{'.'.join(epochs)}~{'.'.join(entries)}"


def parse_places(text: str, topics: Collection[str]) -> dict[str, Cursor]:
    """Return the cursors of those topics that an id has. Raise ValueError when it is none."""
    if text.startswith(LISTED) and len(text) <= MOST_LENGTH:
        return _parse_listed(text.removeprefix(LISTED).split("."), topics)
    found = _PLACES.fullmatch(text) if len(text) <= MOST_LENGTH else None
    if found is None:
        raise ValueError(
            phrase("not the id of an event of many topics: {text}", text=repr(cut(text, 50)))
        )
    epochs = found[1].split(".") if found[1] else []
    cursors: dict[str, Cursor] = {}
    for entry in found[2].split(".") if found[2] else ():
        epoch, _, offset = entry[8:].partition("-")
        if int(epoch) >= len(epochs) or int(offset) > MOST_OFFSET:
            raise ValueError(
                phrase("not the id of an event of many topics: {text}", text=repr(cut(text, 50)))
            )
        cursors[entry[:8]] = Cursor(epochs[int(epoch)], int(offset))
    return {one: cursors[_hash_of(one)] for one in topics if _hash_of(one) in cursors}


def _parse_listed(cursors: Collection[str], topics: Collection[str]) -> dict[str, Cursor]:
    if len(cursors) != len(topics):
        raise ValueError(
            phrase(
                "{cursors} cursors for {topics} topics", cursors=len(cursors), topics=len(topics)
            )
        )
    return {topic: Cursor.parse(text) for topic, text in zip(topics, cursors, strict=True) if text}


@functools.lru_cache(maxsize=10_000)
def _hash_of(topic: str) -> str:
    digest = hashlib.sha256(topic.encode()).digest()[:HASH_BYTES]
    return base64.urlsafe_b64encode(digest).decode()
