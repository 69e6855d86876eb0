"""A socket that was taken over from Tornado, and what waits to be written to it.

Tornado's `IOStream` takes 2 KB while nothing happens, and a future for each read and write. Here a
piece is written at once while the kernel takes it. The rest waits in a backlog, which
exists only while there is something in it and never grows past a bound.
"""

import abc
import asyncio
import contextlib
import socket
import ssl

from tornado.iostream import IOStream, StreamClosedError

from tornado_rt.backlog import Backlog
from tornado_rt.metrics import Tally
from tornado_rt.protocol import Message

# The size of a TLS record: nothing is left inside of it, unseen by the selector.
READ_BYTES = 16384
# A peer has this long to take the rest, and a WebSocket's peer to answer the close frame [s].
LINGER_SECONDS = 5.0
# When nothing more will be sent, a peer has this long to close [s], and may send this much [B].
HANG_UP_SECONDS = 1.0
HANG_UP_BYTES = 16 * 1024 * 1024
INTERNET = (socket.AF_INET, socket.AF_INET6)
# Only Linux has it.
USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
# Largest number of a socket option: 25 days.
MOST_MILLISECONDS = 2**31 - 1


class Wire(abc.ABC):
    """Reads and writes one socket, plain or TLS, from `adopt` to `shut`."""

    __slots__ = ("_backlog", "_farewell", "_ignored", "_loop", "_socket", "_timer", "tally")

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._backlog: Backlog | None = None
        # Written after the backlog.
        self._farewell = b""
        self._timer: asyncio.TimerHandle | None = None
        # The bytes that came since we hung up; None before.
        self._ignored: int | None = None

    @abc.abstractmethod
    def encode(self, message: Message) -> bytes:
        """Return the bytes that a message is on this transport."""

    @abc.abstractmethod
    def received(self, data: bytes) -> None:
        """Take what the peer has sent."""

    @abc.abstractmethod
    def lost(self) -> None:
        """Learn that the peer is gone, and the socket shut."""

    @abc.abstractmethod
    def parted(self) -> None:
        """Learn that the farewell is written, and nothing after it will be."""

    def adopt(self, sock: socket.socket, unsent: bytes = b"") -> None:
        """Read and write this socket from here on. `unsent` has still to be written, before all."""
        self._socket = sock
        self.resume()
        if unsent:
            self._write_later(memoryview(unsent))

    def shut(self) -> None:
        """Close the socket; harmless when repeated."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        # By its number: a selector that does not know a socket writes out who its peer is.
        self._loop.remove_reader(sock.fileno())
        if self._backlog is not None:
            self._loop.remove_writer(sock.fileno())
        # Not only closed: a forked child may hold a copy.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()
        self._backlog = None
        if self._timer is not None:
            self._timer.cancel()

    def pause(self) -> None:
        """Read nothing: what the peer sends waits in its kernel and ours."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())

    def resume(self) -> None:
        """Read again; harmless when repeated."""
        if self._socket is not None:
            self._loop.add_reader(self._socket.fileno(), self._readable)

    def hang_up(self) -> None:
        """End our side, and close when the peer has ended its own (RFC 6455 section 7.1.1).

        A socket that is closed with something unread is reset, which can take from the peer what
        was written last. Only once nothing waits to be written.
        """
        if self._socket is None or self._ignored is not None:
            return
        self._ignored = 0
        self._set_timer(HANG_UP_SECONDS)
        try:
            # Under TLS as well: from here on its records are passed over unread.
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.shut()
            return
        self.resume()

    def write(self, piece: bytes) -> None:
        """Write what the kernel takes now and the rest later; only while there is no backlog."""
        assert self._socket is not None
        try:
            sent = self._socket.send(piece)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        except OSError:
            self._lose()
            return
        self.tally.bytes += sent
        if sent < len(piece):
            # A view: however many are slow, they share the piece.
            self._write_later(memoryview(piece)[sent:])

    def _write_later(self, rest: memoryview) -> None:
        assert self._socket is not None
        self._backlog = Backlog(rest)
        self._loop.add_writer(self._socket.fileno(), self._writable)

    def part(self, farewell: bytes) -> None:
        """Write this last, after the backlog. A peer that takes it too slowly is cut off."""
        if self._socket is None:
            return
        self._set_timer(LINGER_SECONDS)
        self._farewell = farewell
        if self._backlog is None:
            self._say_farewell()

    @property
    def is_silent(self) -> bool:
        """Whether nothing waits to be written, not even a farewell."""
        return self._backlog is None and not self._farewell

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.shut)

    def _say_farewell(self) -> None:
        farewell, self._farewell = self._farewell, b""
        if farewell:
            self.write(farewell)
        if self._socket is not None and self._backlog is None:
            self.parted()

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
        elif self._ignored is None:
            self.received(data)
        else:
            self._ignore(len(data))

    def _ignore(self, size: int) -> None:
        assert self._ignored is not None
        self._ignored += size
        if self._ignored > HANG_UP_BYTES:
            self.shut()

    def _writable(self) -> None:
        backlog = self._backlog
        assert backlog is not None
        assert self._socket is not None
        try:
            sent = self._socket.send(backlog.rest)
        except (BlockingIOError, ssl.SSLWantWriteError):
            return
        except OSError:
            self._lose()
            return
        self.tally.bytes += sent
        self.tally.delivered += backlog.advance(sent, self.encode)
        if not backlog.rest:
            self._loop.remove_writer(self._socket.fileno())
            self._backlog = None
            self._catch_breath()

    def _catch_breath(self) -> None:
        if self._farewell:
            self._say_farewell()
        elif self._timer is not None:
            self.parted()

    def _lose(self) -> None:
        self.shut()
        self.lost()


def take_over(stream: IOStream, peer_timeout: float) -> socket.socket:
    """Return the socket of a stream that has written everything and reads nothing.

    Small messages go at once, and a peer that is gone without a word is noticed: Linux gives up
    when sent bytes stay unacknowledged for `peer_timeout` [s] (RFC 5482); elsewhere, and with 0,
    after its own time. Raise StreamClosedError when the peer has left.
    """
    if stream.closed():
        raise StreamClosedError
    stream.set_close_callback(None)
    stream.io_loop.remove_handler(stream.fileno())
    sock: socket.socket = stream.socket
    if sock.family in INTERNET:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _bound_silence(sock, peer_timeout)
    return sock


def is_left(stream: IOStream | None) -> bool:
    """Say whether a peer has closed its side of a stream, also when that is not read yet."""
    if stream is None or stream.closed():
        return True
    try:
        # Of TLS too it is what came by the socket.
        return not socket.socket.recv(stream.socket, 1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def bound_silence(sock: socket.socket, peer_timeout: float) -> None:
    """Have Linux give up a peer that takes nothing of what was sent for this long [s]; 0: never."""
    if sock.family in INTERNET:
        _bound_silence(sock, peer_timeout)


def _bound_silence(sock: socket.socket, peer_timeout: float) -> None:
    if USER_TIMEOUT is not None and peer_timeout:
        milliseconds = min(int(peer_timeout * 1000), MOST_MILLISECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, USER_TIMEOUT, milliseconds)
