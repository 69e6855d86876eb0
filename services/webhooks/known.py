"""The webhooks of each owner as they were last read: an event of others costs no query."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import attrs
import structlog
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from services.webhooks.models import APPLICATION, Webhook
from tornado_rt.protocol import Cursor, Message

log = structlog.get_logger(__name__)

# The topic on which processes tell each other whose webhooks have changed.
WEBHOOKS = "webhooks"
# Owners whose webhooks are remembered, and for how long [s].
MOST_OWNERS = 10_000
FRESH_SECONDS = 30.0
RETRY_SECONDS = 1.0


class WebhookReads(Protocol):
    """Where webhooks are kept."""

    async def of_owner(self, owner: str) -> list[Webhook]:
        """Return an owner's webhooks."""
        ...

    async def owners(self) -> set[str]:
        """Return all who may have webhooks."""
        ...


@attrs.frozen
class _Read:
    webhooks: Sequence[Webhook]
    until: float


Hear = Callable[[], Awaitable[None]]


class KnownWebhooks:
    """Remembers who has which webhooks. It is a subscriber of the topic `webhooks`.

    `owners` are all that may have some, None until they are read. An owner stays among them when
    the last webhook is deleted. `hear` has those ends told too that make no notification.
    """

    def __init__(self, store: WebhookReads, hear: Hear) -> None:
        self._store = store
        self._hear = hear
        self._owners: set[str] | None = None
        self._known: OrderedDict[str, _Read] = OrderedDict()
        # Owners that changed since the owners or some webhooks began to be read.
        self._changed: set[str] = set()
        self._changes = 0
        self._wanted = asyncio.Event()
        self._wanted.set()

    def may_have(self, user_id: str) -> bool:
        """Say whether the user or the application may have a webhook; no only when they have none.

        Without a wait.
        """
        owners = self._owners
        return owners is None or user_id in owners or APPLICATION in owners

    async def of_owner(self, owner: str) -> Sequence[Webhook]:
        """Return the webhooks of an owner, at most half a minute old. Raise PyMongoError."""
        if self._owners is not None and owner not in self._owners:
            return ()
        known = self._known.get(owner)
        if known is not None and time.monotonic() < known.until:
            self._known.move_to_end(owner)
            return known.webhooks
        before = self._changes
        found = await self._store.of_owner(owner)
        if before == self._changes:
            self._remember(owner, found)
        return found

    def forget(self, owner: str) -> None:
        """Read the webhooks of an owner again: they have changed."""
        self._changes += 1
        self._changed.add(owner)
        self._known.pop(owner, None)
        if self._owners is not None:
            self._owners.add(owner)

    async def run(self) -> None:
        """Read the owners at the start and when messages may have been lost, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._changed.clear()
            try:
                owners = await self._store.owners() | self._changed
                if owners:
                    # Redis may have lost it.
                    await self._hear()
                self._owners = owners | self._changed
            except (PyMongoError, RedisError, OSError) as error:
                log.warning("webhooks_wait", error=error)
                self._wanted.set()
                await asyncio.sleep(RETRY_SECONDS)

    def deliver(self, message: Message) -> None:
        """Take a message of the topic `webhooks`."""
        self.forget(str(message.fields().get("owner", "")))

    def gap(self) -> None:
        """Read all again, since a message may have been lost."""
        self._changes += 1
        self._known.clear()
        self._owners = None
        self._wanted.set()

    def is_behind(self, _: Cursor | None) -> bool:
        """Say no: these messages have no log."""
        return False

    def _remember(self, owner: str, webhooks: Sequence[Webhook]) -> None:
        self._known[owner] = _Read(webhooks, time.monotonic() + FRESH_SECONDS)
        self._known.move_to_end(owner)
        if len(self._known) > MOST_OWNERS:
            self._known.popitem(last=False)
