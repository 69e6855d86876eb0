"""Event streams as strict and as careless readers take them (WHATWG HTML section 9.2)."""

import json
from collections.abc import Iterator
from typing import Any

import attrs

FIELDS = {"id", "event", "data", "retry"}


def read_block(block: bytes) -> dict[str, str]:
    """Return the fields of one block. Raise AssertionError for any that some reader misreads."""
    text = block.decode()
    assert not set("\r\0\u0085\u2028\u2029") & set(text), text
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        name, colon, value = line.partition(": ")
        # No comment, no field that the format does not know, none twice.
        assert (colon, name in FIELDS, name in fields) == (": ", True, False), line
        fields[name] = value
    assert {"event", "data"} <= set(fields), text
    assert isinstance(json.loads(fields["data"]), dict)
    return fields


@attrs.define
class Event:
    """The events that a reader hands to its user."""

    id: str = ""
    event: str = ""
    data: str = ""
    retry: int | None = None

    def fields(self) -> Any:
        """Return `data`, as everybody reads it."""
        return json.loads(self.data)


@attrs.define
class CarelessReader:
    """Hands out a block of any field, also one without data; as httpx-sse and others do.

    Its lines end where Python's `splitlines` says, of whatever came, however it is cut.
    """

    _last_id: str = ""
    _rest: str = ""
    _event: Event = attrs.field(factory=Event)
    _given: bool = False

    def feed(self, text: str) -> Iterator[Event]:
        """Yield the events that are whole now."""
        self._rest += text
        whole, end, self._rest = self._rest.rpartition("\n")
        for line in (whole + end).splitlines():
            if line:
                self._take(line)
            elif self._given:
                self._event.id = self._last_id
                yield self._event
                self._event, self._given = Event(), False

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        self._given = True
        if name == "id":
            self._last_id = value
        elif name == "event":
            self._event.event = value
        elif name == "data":
            self._event.data += value
        elif name == "retry":
            self._event.retry = int(value)
