"""One PeriodicCallback that wakes every connection when something of its own is due."""

import math
import time
from datetime import timedelta
from typing import Protocol

from tornado.ioloop import PeriodicCallback

from tornado_rt.protocol import Message, MessageType, iso_time

TICK = timedelta(milliseconds=100)


class Sleeper(Protocol):
    """Something with a next due time. `bucket` is where the wheel keeps it; 0 for nowhere."""

    closed: bool
    bucket: int

    def next_due(self) -> float:
        """Return the monotonic time at which to call `wake`."""
        ...

    def wake(self, now: float, heartbeat: Message) -> None:
        """Do what is due; `heartbeat` is the message of this moment, the same for all."""
        ...


class Heartbeats:
    """A timing wheel (Varghese and Lauck, 1987): a bucket for each tick in which something is due.

    Each sleeper is in the one bucket that it names.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, set[Sleeper]] = {}
        self._done = _bucket_of(time.monotonic())
        self._callback = PeriodicCallback(self.tick, TICK)

    def start(self) -> None:
        """Begin to tick on the current loop."""
        self._callback.start()

    def stop(self) -> None:
        """End the ticking."""
        self._callback.stop()

    def add(self, sleeper: Sleeper) -> None:
        """Wake this one at its due time; again after a change of that time."""
        bucket = max(_bucket_of(sleeper.next_due()), self._done + 1)
        if bucket != sleeper.bucket:
            self.remove(sleeper)
            sleeper.bucket = bucket
            self._buckets.setdefault(bucket, set()).add(sleeper)

    def remove(self, sleeper: Sleeper) -> None:
        """Forget this one; harmless when it is not known."""
        if sleeper.bucket in self._buckets:
            self._buckets[sleeper.bucket].discard(sleeper)
        sleeper.bucket = 0

    def tick(self) -> None:
        """Wake whatever is due now."""
        now = time.monotonic()
        heartbeat = Message.of(MessageType.HEARTBEAT, {"timestamp": iso_time()})
        last = math.floor(now / TICK.total_seconds())
        while self._done < last:
            self._done += 1
            for sleeper in self._buckets.pop(self._done, ()):
                # Skip subscribers that another's waking has removed or moved.
                if sleeper.bucket == self._done:
                    self._wake(sleeper, now, heartbeat)

    def _wake(self, sleeper: Sleeper, now: float, heartbeat: Message) -> None:
        sleeper.bucket = 0
        sleeper.wake(now, heartbeat)
        if not sleeper.closed:
            self.add(sleeper)


def _bucket_of(time: float) -> int:
    # The tick after the due time, so that nothing is woken before it.
    return math.ceil(time / TICK.total_seconds())
