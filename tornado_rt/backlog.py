"""The backlog: frames that wait for a reader that is slower than its news."""

from collections import deque
from collections.abc import Callable

from tornado_rt.protocol import Message

# Most bytes of the backlog that are joined into one write.
WRITE_BYTES = 65536

Encode = Callable[[Message], bytes]


class Backlog:
    """The `rest` of a piece that is being written, and after it messages in their order.

    `size` is the sum of both in bytes.
    """

    __slots__ = ("messages", "rest", "size")

    def __init__(self, rest: memoryview) -> None:
        self.rest = rest
        self.size = len(rest)
        self.messages: deque[Message] = deque()

    def add(self, message: Message, size: int) -> None:
        """Append a message that is `size` bytes long."""
        self.messages.extend(message.parts)
        self.size += size

    def conflate(self, encode: Encode, may_skip: Callable[[Message], bool]) -> int:
        """Keep the newest of each type of a topic, where one may skip others; return what went."""
        before = len(self.messages)
        newest = {(one.topic, one.type): one for one in self.messages}
        self.messages = deque(
            one for one in self.messages if newest[one.topic, one.type] is one or not may_skip(one)
        )
        self.size = len(self.rest) + sum(len(encode(one)) for one in self.messages)
        return before - len(self.messages)

    def drop(self) -> int:
        """Keep only the rest of what has begun; return how many messages went."""
        dropped = len(self.messages)
        self.messages.clear()
        self.size = len(self.rest)
        return dropped

    def advance(self, sent: int, encode: Encode) -> int:
        """Take away what was sent of the rest, and begin the next piece when that was all.

        Return how many messages it is.
        """
        self.rest = self.rest[sent:]
        self.size -= sent
        return 0 if self.rest else self._begin_piece(encode)

    def _begin_piece(self, encode: Encode) -> int:
        pieces, length = [], 0
        while self.messages and length < WRITE_BYTES:
            pieces.append(encode(self.messages.popleft()))
            length += len(pieces[-1])
        self.rest = memoryview(b"".join(pieces))
        return len(pieces)
