"""Feeds, which subscriptions follow: a log to read, and topics that carry its news."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import attrs

from tornado_rt.protocol import Cursor, Message, ResyncReason


@attrs.frozen
class Opening:
    """The messages of a feed for a subscriber that comes now.

    `state` is what the first message says of it. `messages` are those after the asked cursor, or
    the snapshot when none was asked for or the gap cannot be filled (`resync`). `begin` is where a
    client resumes that has seen none of the messages that are sent then: no message that is still
    to come has that id. `cursor` is the place in the log that the messages reach. `ended`: nothing
    will come after that. `current` is sent to one that had a gap: messages without an id, of which
    only the newest counts.
    """

    state: dict[str, Any]
    messages: tuple[Message, ...]
    begin: Cursor
    cursor: Cursor
    resync: ResyncReason | None = None
    ended: bool = False
    current: tuple[Message, ...] = ()

    def is_over(self, after: Cursor | None) -> bool:
        """Say whether a client that has asked for this cursor has seen the end."""
        return after is not None and self.ended and not self.messages

    def begin_of(self, after: Cursor | None) -> str:
        """Return the id of the first message to a client that has asked for this cursor.

        It is that cursor, so that a client that is cut off then asks again and gets a resync
        again; the resync has the id that comes after.
        """
        return str(after or self.begin)

    def state_after(self, after: Cursor | None) -> dict[str, Any]:
        """Return the state, and whether a client that has asked for this cursor missed nothing."""
        return {"recovered": after is not None and self.resync is None, **self.state}


# Does what a client asks for; returns what it is answered alone, if anything.
Action = Callable[[Any], Awaitable[Message | None]]


class Feed(Protocol):
    """Something to follow.

    Its topics carry ids in their order. `contiguous`: none of them is left out, so that a gap shows
    by the next message; else each message of type `progress` replaces the one before, so that a
    slow reader needs only the newest. The result of `read` is shown.
    """

    topics: tuple[str, ...]
    contiguous: bool

    def show(self, message: Message) -> Message | None:
        """Return a published message as subscribers see it; None: only `read` can tell.

        Called for each subscriber: one message gives the same object each time. Never raises.
        """
        ...

    async def read(self, after: Cursor | None) -> Opening:
        """Return what a subscriber needs that has seen everything up to `after`."""
        ...

    def idle_seconds(self) -> float:
        """Return after how long without news an event stream ends; 0 for never."""
        ...

    def actions(self) -> dict[str, Action]:
        """Return what a client may ask for over a socket, by message type."""
        ...
