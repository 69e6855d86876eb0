"""Webhooks over real stores, without a server."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import attrs
from redis.asyncio import Redis

from services.queue import QueueService
from services.webhooks import Poster, Sender, Webhook, WebhookService, WebhookStore
from services.webhooks.signing import new_secret
from tests.inboxes import Published
from tests.receiving import delivering, make_deliveries
from tornado_rt.mongo import MongoAccess

# Signs what is posted to callbacks.
CALLBACK_SECRET = new_secret()


@attrs.define
class Told:
    """The news for callbacks and owners: (user, event, end) and (webhook, reason, event)."""

    callbacks: list[tuple[str, str, str]] = attrs.field(factory=list)
    disabled: list[tuple[str, str, str]] = attrs.field(factory=list)

    async def note_callback(self, user_id: str, event_id: str, end: str) -> None:
        self.callbacks.append((user_id, event_id, end))

    async def tell_disabled(self, webhook: Webhook, reason: str, event_id: str) -> None:
        self.disabled.append((webhook.id, reason, event_id))


def make_webhooks(redis: Redis, database: Any, **options: Any) -> WebhookService:
    """Return webhooks; what is told of events waits in the queue of deliveries."""
    return WebhookService(
        WebhookStore(database),
        make_deliveries(redis, **options),
        Published(),
        access=MongoAccess(database),
        callback_secret=CALLBACK_SECRET,
        hear=QueueService(redis).hear_quiet_ends,
    )


@contextlib.asynccontextmanager
async def delivered(
    redis: Redis,
    database: Any,
    told: Told | None = None,
    *,
    allow_private: bool = True,
    scale: float = 0.001,
    per_host: int = 8,
    seconds: float = 5.0,
    **options: Any,
) -> AsyncIterator[WebhookService]:
    """Run webhooks whose deliveries are posted until the block ends."""
    webhooks = make_webhooks(redis, database, **options)
    told = told or Told()
    poster = Poster(allow_private=allow_private, timeout_seconds=seconds, at_once=16)
    sender = Sender(
        poster,
        WebhookStore(database),
        access=MongoAccess(database),
        callback_secret=CALLBACK_SECRET,
        note_callback=told.note_callback,
        tell_disabled=told.tell_disabled,
        changed=webhooks.changed,
    )
    webhooks.deliveries.register(sender.kind(timeout_seconds=seconds, per_host=per_host))
    try:
        async with delivering(redis, webhooks.deliveries, scale=scale):
            yield webhooks
    finally:
        poster.close()
