"""The format of event streams (WHATWG HTML section 9.2), read piece by piece."""

import codecs
from collections.abc import Iterator

import attrs

from tornado_rt_client.errors import ProtocolError

# A result may have 256 KiB, and an administrator may allow more.
MOST_CHARACTERS = 64 * 2**20


@attrs.frozen
class Block:
    """One event. `id` is None when the block names none; "" takes the last one back."""

    event: str
    data: str
    id: str | None = None


class EventStreamParser:
    """Takes bytes as they come, and returns the events that are whole.

    `retry_seconds` is the last wait that the server has asked for, None before it did.
    """

    def __init__(self, most_characters: int = MOST_CHARACTERS) -> None:
        self.retry_seconds: float | None = None
        self._most = most_characters
        # A byte order mark at the beginning is left out.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        # The line that has begun, in pieces, so that a long one is joined only once.
        self._pieces: list[str] = []
        self._pending = 0
        self._ends_with_cr = False
        self._event, self._size = "", 0
        self._data: list[str] = []
        self._id: str | None = None

    def feed(self, chunk: bytes) -> list[Block]:
        """Return the events that this chunk completes. Raise ProtocolError for one too large."""
        blocks = []
        for line in self._lines(self._decoder.decode(chunk)):
            if line:
                self._take(line)
            elif (block := self._end()) is not None:
                blocks.append(block)
        return blocks

    def _lines(self, text: str) -> Iterator[str]:
        """Yield the lines that are whole. They end with CR, LF or CRLF."""
        if self._ends_with_cr and text:
            # The line has ended with the CR already.
            text = text.removeprefix("\n")
            self._ends_with_cr = False
        if text:
            self._ends_with_cr = text[-1] == "\r"
        *whole, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in whole:
            yield "".join([*self._pieces, line])
            self._pieces.clear()
            self._pending = 0
        if rest:
            self._pieces.append(rest)
            self._pending += len(rest)
            self._check_size()

    def _check_size(self) -> None:
        if self._size + self._pending > self._most:
            raise ProtocolError(f"an event has more than {self._most} characters")

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        self._size += len(line)
        self._check_size()
        match name:
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdecimal():
                # No wait is as long as a number of more digits says.
                self.retry_seconds = int(value[:12]) / 1000

    def _end(self) -> Block | None:
        event, data, id_ = self._event, self._data, self._id
        self._clear()
        if not data:
            # Nothing happened. The id of such a block counts with the next one that has data.
            self._id = id_
            return None
        return Block(event or "message", "\n".join(data), id_)

    def _clear(self) -> None:
        self._event, self._size = "", 0
        self._data, self._id = [], None
