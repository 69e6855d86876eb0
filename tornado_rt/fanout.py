"""Fan-out: one message to many subscribers, in slices between which the loop does other things."""

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Protocol

import attrs

from tornado_rt.protocol import Bundle, Message

# Up to this many receivers are served before the loop runs.
SMALL = 64
# A slice lasts this long before the loop runs [s]; the clock is read after this many writes. The
# shorter it is, the more messages come while one is on its way, and go together in one write.
SLICE_SECONDS = 0.0002
LOOK_EVERY = 8


class Receiver(Protocol):
    """Something that gets messages."""

    def deliver(self, message: Message) -> None:
        """Take one message. Neither waits nor raises."""
        ...


@attrs.define
class _Run:
    """A message on its way to the receivers from `place` on; `waiting`: what came meanwhile."""

    message: Message
    receivers: tuple[Receiver, ...]
    place: int = 0
    waiting: list[Message] = attrs.field(factory=list)


class Fanout:
    """Delivers to the `receivers` of a topic; each gets the messages in their order."""

    def __init__(self, receivers: Callable[[str], Collection[Receiver]]) -> None:
        self._receivers = receivers
        self._runs: dict[str, _Run] = {}

    def deliver(self, topic: str, message: Message) -> None:
        """Serve few receivers now, and many from now on, in slices."""
        run = self._runs.get(topic)
        if run is not None:
            run.waiting.append(message)
            return
        receivers = tuple(self._receivers(topic))
        if len(receivers) <= SMALL:
            for receiver in receivers:
                receiver.deliver(message)
            return
        self._runs[topic] = _Run(message, receivers)
        if len(self._runs) == 1:
            asyncio.get_running_loop().call_soon(self._slice)

    def _slice(self) -> None:
        topic, run = next(iter(self._runs.items()))
        # The topics take turns.
        del self._runs[topic]
        end = time.monotonic() + SLICE_SECONDS
        while run.place < len(run.receivers) and time.monotonic() < end:
            for receiver in run.receivers[run.place : run.place + LOOK_EVERY]:
                receiver.deliver(run.message)
            run.place += LOOK_EVERY
        self._go_on(topic, run)
        if self._runs:
            asyncio.get_running_loop().call_soon(self._slice)

    def _go_on(self, topic: str, run: _Run) -> None:
        if run.place < len(run.receivers):
            self._runs[topic] = run
        elif run.waiting:
            # All of them: a receiver that cannot take that much has a backlog, which is bounded.
            message = run.waiting[0] if len(run.waiting) == 1 else Bundle.join(run.waiting)
            self._runs[topic] = _Run(message, tuple(self._receivers(topic)))
