"""Where log lines go: to a descriptor that may be closed, full, or read by nobody.

A program must not end, wait or answer otherwise because its log cannot be written. So a write never
raises, and never waits: what the reader does not take now is kept up to a bound, and beyond that
lines are dropped and counted.
"""

import collections
import contextlib
import fcntl
import os
import select
import stat
import sys
import threading

MOST_LINE_BYTES = 65536
MOST_KEPT_BYTES = 1024 * 1024
# A pipe that says it can be written takes this much without waiting (pipe(7)).
PIECE_BYTES = select.PIPE_BUF


class LogStream:
    """A text stream over a copy of a descriptor, which stays when that one is closed."""

    def __init__(self, descriptor: int) -> None:
        self.encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        self._lock = threading.Lock()
        self._kept: collections.deque[bytes] = collections.deque()
        self._size = 0
        self._dropped = 0
        self._poll = select.poll()
        self._descriptor = -1
        with contextlib.suppress(OSError):
            # Beyond the standard streams, whichever of them are closed.
            self._descriptor = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
            self._poll.register(self._descriptor, select.POLLOUT)
        # A file never lets wait, and a poll says nothing of it.
        self._waits = self._descriptor >= 0 and not _is_file(self._descriptor)

    def write(self, text: str) -> int:
        """Write what can be written now, and keep the rest. Return how long the text is."""
        if self._descriptor >= 0 and text:
            line = text.encode(self.encoding, "backslashreplace")
            if len(line) > MOST_LINE_BYTES:
                line = line[:MOST_LINE_BYTES] + b"\n"
            # A signal's handler may log too: it must not wait for the line that it interrupts.
            if self._lock.acquire(timeout=1):
                try:
                    self._keep(line)
                    self._write_kept()
                finally:
                    self._lock.release()
        return len(text)

    def flush(self) -> None:
        """Do nothing: there is no buffer but what could not be written."""

    def isatty(self) -> bool:
        """Say whether a person reads it."""
        return self._descriptor >= 0 and os.isatty(self._descriptor)

    def fileno(self) -> int:
        """Return the descriptor. Raise OSError when there is none."""
        if self._descriptor < 0:
            raise OSError("there is no descriptor")
        return self._descriptor

    def _keep(self, line: bytes) -> None:
        if self._size + len(line) > MOST_KEPT_BYTES:
            self._dropped += 1
            return
        if self._dropped and not self._kept:
            told = b'{"event": "log_lines_dropped", "count": %d}\n' % self._dropped
            self._dropped = 0
            self._push(told)
        self._push(line)

    def _push(self, line: bytes) -> None:
        self._kept.append(line)
        self._size += len(line)

    def _write_kept(self) -> None:
        while self._kept and self._may_write():
            line = self._kept.popleft()
            piece = line[:PIECE_BYTES] if self._waits else line
            try:
                written = os.write(self._descriptor, piece)
            except BlockingIOError:
                written = 0
            except OSError:
                # Nobody reads it, or the disk is full: this line is lost, and nothing else.
                written = len(line)
            self._size -= written
            if written < len(line):
                self._kept.appendleft(line[written:])
            if not written:
                return

    def _may_write(self) -> bool:
        try:
            return not self._waits or bool(self._poll.poll(0))
        except OSError:
            return False


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)
