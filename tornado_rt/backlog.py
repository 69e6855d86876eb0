"""What waits for a reader that is slower than its news."""

from collections import deque
from collections.abc import Callable

from tornado_rt.protocol import Message

# How much of it is joined into one write.
WRITE_BYTES = 65536

Encode = Callable[[Message], bytes]


class Backlog:
    """Messages in their order, behind `unsent` bytes that the stream is writing already.

    `size` is the sum of both in bytes, as long as the reader takes nothing.
    """

    __slots__ = ("_unsent", "messages", "size")

    def __init__(self, unsent: int) -> None:
        self._unsent = unsent
        self.size = unsent
        self.messages: deque[Message] = deque()

    def add(self, message: Message, size: int) -> None:
        """Append a message that is `size` bytes long."""
        self.messages.extend(message.parts)
        self.size += size

    def conflate(self, encode: Encode) -> int:
        """Keep only the newest of each type; return how many messages went."""
        before = len(self.messages)
        newest = {message.type: message for message in self.messages}
        self.messages = deque(one for one in self.messages if newest[one.type] is one)
        self.size = self._unsent + sum(len(encode(one)) for one in self.messages)
        return before - len(self.messages)

    def take(self, encode: Encode) -> tuple[bytes, int]:
        """Take what goes into the next write; return it, and how many messages it is."""
        pieces, length = [], 0
        while self.messages and length < WRITE_BYTES:
            pieces.append(encode(self.messages.popleft()))
            length += len(pieces[-1])
        # What was unsent before is written now.
        self.size -= self._unsent
        self._unsent = length
        return b"".join(pieces), len(pieces)
