"""Messages between the loop and the process of a task, both ways over one socket.

Each is a JSON array of two, its kind and its content, behind its length in four bytes. Messages
that come are another's: they are read as they come, without waiting for the rest of a message, and
never unpickled. Messages that go wait here until the process reads: the loop is never blocked.
"""

import asyncio
import contextlib
import os
import struct
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import orjson

SIZE = struct.Struct("!I")
READ_BYTES = 65536
DIED = "the task's process died"
NOT_OURS = "the task's process sent what is no message of ours"


class BadMessage(Exception):
    """A process has sent what is no message; the text says what."""


class ProcessDied(BadMessage):
    """A process will send nothing more."""

    def __init__(self) -> None:
        super().__init__(DIED)


def pack(kind: str, content: Any) -> bytes:
    """Return a message as it is sent."""
    message = orjson.dumps((kind, content))
    return SIZE.pack(len(message)) + message


class Unpacker:
    """Finds the messages in what has come; none has more than `most` bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what came next."""
        self._buffer += data

    def next(self) -> tuple[Any, Any] | None:
        """Return the next message, None when it has not come yet. Raise BadMessage."""
        if len(self._buffer) < SIZE.size:
            return None
        (size,) = SIZE.unpack_from(self._buffer)
        if size > self._most:
            raise BadMessage(f"the task's process sent a message of {size} bytes")
        end = SIZE.size + size
        if len(self._buffer) < end:
            return None
        message = bytes(self._buffer[SIZE.size : end])
        del self._buffer[:end]
        try:
            found = orjson.loads(message)
        except ValueError as error:
            raise BadMessage("the task's process sent what cannot be read") from error
        if not isinstance(found, list) or len(found) != 2:
            raise BadMessage(NOT_OURS)
        return found[0], found[1]


class Channel:
    """The loop's end, until `close`; `sentinel` can be read from when the process is dead."""

    def __init__(self, connection: Connection, sentinel: int, most: int) -> None:
        self._fd = connection.fileno()
        self._sentinel = sentinel
        self._unpacker = Unpacker(most)
        self._unsent = bytearray()
        self._sent = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        os.set_blocking(self._fd, False)

    async def receive(self) -> tuple[Any, Any]:
        """Return the next message. Raise BadMessage, ProcessDied."""
        while (message := self._unpacker.next()) is None:
            dead = await self._wait()
            if not self._read() and dead:
                raise ProcessDied
        return message

    def send(self, kind: str, content: Any) -> None:
        """Send a message soon; a process that reads nothing gets nothing."""
        self._unsent += pack(kind, content)
        self._sent.clear()
        self._write()

    async def sent(self) -> None:
        """Wait until all is sent."""
        if self._unsent:
            await self._sent.wait()

    def close(self) -> None:
        """Send nothing more."""
        self._unsent.clear()
        self._sent.set()
        self._loop.remove_writer(self._fd)

    def _write(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: os.write(self._fd, self._unsent)]
        except BlockingIOError:
            self._loop.add_writer(self._fd, self._write)
            return
        except OSError:
            # It has closed its end; `receive` tells.
            self._unsent.clear()
        self._loop.remove_writer(self._fd)
        self._sent.set()

    def _read(self) -> bool:
        """Take what is there; say whether something was."""
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            # A process that has closed its end can tell us nothing more, dead or not.
            raise ProcessDied
        self._unpacker.feed(data)
        return True

    async def _wait(self) -> bool:
        """Wait for bytes or for its death; say whether it is dead.

        Its end says nothing of that: a process that it has started may hold it.
        """
        dead = asyncio.Event()
        something = asyncio.Event()

        def died() -> None:
            dead.set()
            something.set()

        with reading(self._fd, something.set), reading(self._sentinel, died):
            await something.wait()
        return dead.is_set()


@contextlib.contextmanager
def reading(descriptor: int, callback: Any) -> Iterator[None]:
    """Call this when something can be read, until the block ends."""
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, callback)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
