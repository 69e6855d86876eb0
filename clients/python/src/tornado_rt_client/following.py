"""Following one event stream over any number of connections, without any I/O.

A transport opens a connection with `headers`, hands in what comes (`opened`, `receive`, `refused`,
`lost`), and waits for as long as it is told to. All that a reader is promised is decided here: no
event twice, none left out, a silent connection is given up, and who is refused is told at once.
"""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import attrs

from tornado_rt_client.backoff import Backoff
from tornado_rt_client.errors import (
    ApiError,
    ConnectionLost,
    ProtocolError,
    RealtimeError,
    error_of_code,
)
from tornado_rt_client.event_stream import Block, EventStreamParser
from tornado_rt_client.events import (
    Counts,
    Envelope,
    Event,
    Resync,
    decode,
    read_event,
)
from tornado_rt_client.seen import Seen
from tornado_rt_client.time_left import ServerClock

logger = logging.getLogger("tornado_rt_client")

E = TypeVar("E", bound=Event)

CONTENT_TYPE = "text/event-stream"
# The server has this long to answer, and to send its first event [s].
OPENING_SECONDS = 30.0
# A connection is lost that brings nothing for this many intervals of its heartbeat.
SILENT_HEARTBEATS = 3.0
PROBLEMS = frozenset({"problem", "error"})
DEGRADED = "degraded"


@attrs.define
class Following(Generic[E]):
    """One stream, and up to where its reader has come.

    `shows` are the classes of events that its reader gets. `ends` says which event is the last one.
    Times are those of the monotonic clock [s]. At `deadline` TimeoutError is raised; None is never.
    The patience counts until the first connection is open; after that the stream is resumed
    whenever the server is back. `clock` hears the times in the server's messages.

    It is wide because it has the whole state of a stream, without any I/O.
    """

    path: str
    shows: tuple[type[Event], ...]
    ends: Callable[[Event], bool] = lambda _: False
    params: Mapping[str, Any] = attrs.Factory(dict)
    has_topics: bool = False
    clock: ServerClock = attrs.Factory(ServerClock)
    backoff: Backoff = attrs.Factory(Backoff)
    deadline: float | None = None
    last_id: str = ""
    # Whether the reader has got all, and whether to give this connection up.
    is_over: bool = False
    is_cut: bool = False
    _parser: EventStreamParser = attrs.field(factory=EventStreamParser, init=False)
    _seen: Seen = attrs.field(factory=Seen, init=False)
    _failures: int = attrs.field(default=0, init=False)
    _first: float | None = attrs.field(default=None, init=False)
    _patient_until: float = attrs.field(default=math.inf, init=False)
    _was_connected: bool = attrs.field(default=False, init=False)
    _silence: float | None = attrs.field(default=OPENING_SECONDS, init=False)
    _retry_after: float | None = attrs.field(default=None, init=False)
    _refusal: ApiError | None = attrs.field(default=None, init=False)

    def begin(self, now: float, timeout: float | None, backoff: Backoff, patience: float) -> None:
        """Begin to count the time: `timeout` and `patience` are seconds from now."""
        self.backoff = backoff
        self.deadline = None if timeout is None else now + timeout
        self._patient_until = now + patience

    def headers(self) -> dict[str, str]:
        """Return the headers of the next request."""
        resumed = {"Last-Event-ID": self.last_id} if self.last_id else {}
        return {"Accept": CONTENT_TYPE, "Accept-Encoding": "identity", **resumed}

    def opening_seconds(self, now: float) -> float:
        """Return how long the server has to answer. Raise TimeoutError at the deadline."""
        self._check_deadline(now)
        if self.deadline is None:
            return OPENING_SECONDS
        return min(OPENING_SECONDS, self.deadline - now)

    def opened(self, status: int, content_type: str) -> None:
        """Take the head of an answer without an error. Raise ProtocolError for a foreign one."""
        self.is_cut = False
        self._retry_after = None
        self._parser = EventStreamParser()
        self._silence = OPENING_SECONDS
        if status == 204:
            self.is_over = True
        elif status != 200 or not content_type.startswith(CONTENT_TYPE):
            raise ProtocolError(f"{status} {content_type} instead of an event stream")

    def read_until(self, now: float) -> float | None:
        """Return when a connection that brings nothing is given up; None: it is not."""
        silent = None if self._silence is None else now + self._silence
        ends = [one for one in (silent, self.deadline) if one is not None]
        return min(ends, default=None)

    def receive(self, chunk: bytes, now: float) -> list[E]:
        """Return the events that a piece of the stream brings.

        Raise ProtocolError for what cannot be read, TimeoutError at the deadline if it brings none.
        """
        shown: list[E] = []
        for block in self._parser.feed(chunk):
            event = self._take(block, now)
            if self._parser.retry_seconds is not None:
                self._first = self._parser.retry_seconds
            if isinstance(event, self.shows):
                shown.append(event)  # type: ignore[arg-type]
            if event is not None and self.ends(event):
                self.is_over = True
            if self.is_over or self.is_cut:
                break
        if not shown:
            self._check_deadline(now)
        return shown

    def refused(self, error: ApiError) -> None:
        """Take an error answer. Raise it, unless it passes."""
        if not error.is_passing:
            raise error
        self._retry_after = error.retry_after

    def pause(self, now: float, error: RealtimeError | None = None) -> float:
        """Return how long to wait before the next connection [s].

        `error` is why there is none; None when the stream has ended. Raise it when the server was
        never there within the patience, TimeoutError when the deadline is over, and ApiError when
        the stream has brought a refusal.
        """
        if self._refusal is not None:
            raise self._refusal
        self._check_deadline(now)
        self._failures += 1
        wait = self.backoff.seconds(
            self._failures, first=self._first, retry_after=self._retry_after
        )
        is_late = not self._was_connected and now + wait > self._patient_until
        if is_late:
            raise error or ConnectionLost(f"{self.path} ended before it began")
        logger.info("%s: %s; coming back in %.1f s", self.path, error or "the stream ended", wait)
        self._retry_after = None
        # The next one may not come before the deadline, which is then told in time.
        return wait if self.deadline is None else min(wait, max(0.0, self.deadline - now))

    def _check_deadline(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            raise TimeoutError(f"{self.path} did not end in time")

    def _take(self, block: Block, now: float) -> Event | None:
        """Return the event of a block, None when it has none for the reader."""
        if block.id is not None:
            self.last_id = block.id
        envelope = decode(block.event, block.data, block.id, has_topics=self.has_topics)
        if envelope.topic is None:
            self.clock.hear(envelope.fields.get("timestamp"), now)
        if envelope.type == "connected":
            self._connect(envelope)
        elif envelope.type in PROBLEMS:
            self._meet_problem(envelope)
            return None
        elif not self._seen.is_new(envelope):
            return None
        event = read_event(envelope)
        if isinstance(event, Resync):
            self._seen.forget(event.topic)
        if isinstance(event, Counts) and not self._seen.is_newest(event.counts):
            return None
        return event

    def _connect(self, envelope: Envelope) -> None:
        self._was_connected = True
        self._failures = 0
        interval = envelope.fields.get("heartbeat_interval")
        if isinstance(interval, int | float):
            # 0: there are no heartbeats, and nothing tells a silent connection from a lost one.
            self._silence = interval * SILENT_HEARTBEATS or None

    def _meet_problem(self, envelope: Envelope) -> None:
        """Give up the connection. The next one resumes, if the problem passes."""
        code = str(envelope.fields.get("code", ""))
        message = str(envelope.fields.get("message", ""))
        if code == DEGRADED and envelope.topic is None:
            # A store does not answer. The stream goes on, and another would be refused.
            logger.info("%s: %s", self.path, message)
            return
        # It is raised later: the reader first gets the events before it.
        self._refusal = error_of_code(code, message)
        self.is_cut = True
