"""The webhooks of owners as they were last read, so that an event costs no query."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

import attrs

from services.webhooks.models import Webhook
from tornado_rt.protocol import Cursor, Message

# The topic on which processes tell each other whose webhooks have changed.
WEBHOOKS = "webhooks"
# Owners that are remembered, most of whom have none, and for how long [s].
MOST_OWNERS = 10_000
FRESH_SECONDS = 30.0


@attrs.frozen
class _Read:
    webhooks: Sequence[Webhook]
    until: float


class KnownWebhooks:
    """Remembers who has which webhooks. It is a subscriber of the topic `webhooks`."""

    def __init__(self, read: Callable[[str], Awaitable[Sequence[Webhook]]]) -> None:
        self._read = read
        self._known: OrderedDict[str, _Read] = OrderedDict()
        # Counts what was forgotten: what was read meanwhile is not kept.
        self._changes = 0

    async def of_owner(self, owner: str) -> Sequence[Webhook]:
        """Return the webhooks of an owner, at most half a minute old."""
        known = self._known.get(owner)
        if known is not None and time.monotonic() < known.until:
            self._known.move_to_end(owner)
            return known.webhooks
        before = self._changes
        found = await self._read(owner)
        if before == self._changes:
            self._known[owner] = _Read(found, time.monotonic() + FRESH_SECONDS)
            self._known.move_to_end(owner)
            if len(self._known) > MOST_OWNERS:
                self._known.popitem(last=False)
        return found

    def forget(self, owner: str) -> None:
        """Read the webhooks of an owner again: they have changed."""
        self._changes += 1
        self._known.pop(owner, None)

    def deliver(self, message: Message) -> None:
        """Take a message of the topic `webhooks`."""
        self.forget(str(message.fields().get("owner", "")))

    def gap(self) -> None:
        """Forget all, since a message may have been lost."""
        self._changes += 1
        self._known.clear()

    def is_behind(self, _: Cursor | None) -> bool:
        """Say no: these messages have no log."""
        return False
