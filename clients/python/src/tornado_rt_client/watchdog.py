"""Gives up a socket on which a thread waits for too long."""

import contextlib
import math
import socket
import threading
import time
from typing import Self


class Watchdog:
    """Shuts a socket down when a moment comes before the reader is back.

    httpx takes the timeout of a stream when it is opened, before anybody knows how often the server
    sends a heartbeat, and cannot change it when the reader's own deadline is near. One thread waits
    beside the reader for as long as the stream is open.
    """

    def __init__(self, watched: socket.socket | None) -> None:
        self._socket = watched
        self._changed = threading.Condition()
        self._at: float | None = None
        # When the thread looks again by itself.
        self._wakes_at = math.inf
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="tornado_rt_client", daemon=True)

    def __enter__(self) -> Self:
        if self._socket is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            with self._changed:
                self._ended = True
                self._changed.notify()
            self._thread.join()

    def wait_until(self, at: float | None) -> None:
        """Shut down at this moment of the monotonic clock; None: never."""
        with self._changed:
            self._at = at
            if at is not None and at < self._wakes_at:
                self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._ended:
                remaining = None if self._at is None else self._at - time.monotonic()
                if remaining is not None and remaining <= 0:
                    self._shut_down()
                    return
                self._wakes_at = math.inf if self._at is None else self._at
                self._changed.wait(remaining)

    def _shut_down(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(OSError):
            # Below TLS: its own state belongs to the reader's thread.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
