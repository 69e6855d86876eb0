"""Joins the parts of the webhooks over the stores, the deliveries and the notifications."""

import contextlib
import secrets
from functools import partial
from typing import Any

from services.deliveries import Deliveries
from services.notifications import NotificationService
from services.webhooks.known import Hear
from services.webhooks.outlet import WebhookOutlet, tell_disabled
from services.webhooks.posting import Poster
from services.webhooks.sending import Sender
from services.webhooks.service import WebhookService
from services.webhooks.signing import derived_secret
from services.webhooks.store import WebhookStore
from settings import Settings
from tornado_rt.metrics import Metrics
from tornado_rt.mongo import MongoAccess
from tornado_rt.protocol import Publisher


async def open_webhooks(
    stack: contextlib.AsyncExitStack,
    database: Any,
    deliveries: Deliveries,
    notifications: NotificationService,
    publisher: Publisher,
    *,
    settings: Settings,
    access: MongoAccess,
    hear: Hear,
    secret: str,
    metrics: Metrics,
) -> WebhookService:
    """Open the webhooks, register their kind of delivery, and serve the notifications.

    `hear` has the queue tell ends that make no notification. `secret`: the server's own, "" where
    it has none; then all processes share a stored seed. The topic `webhooks` has still to be
    followed by the service's `known`.
    """
    store = WebhookStore(database)
    await store.prepare()
    seed = secret or await store.seed(secrets.token_urlsafe(48))
    webhooks = WebhookService(
        store,
        deliveries,
        publisher,
        access=access,
        callback_secret=derived_secret(seed, "tornado_rt callbacks"),
        hear=hear,
        most=settings.callbacks.webhooks_per_user,
        metrics=metrics,
    )
    poster = Poster(
        allow_private=settings.callbacks.callback_allow_private,
        timeout_seconds=settings.callbacks.delivery_timeout_seconds,
        at_once=settings.callbacks.delivery_concurrency,
    )
    stack.callback(poster.close)
    sender = Sender(
        poster,
        store,
        access=access,
        callback_secret=webhooks.callback_secret,
        note_callback=notifications.note_callback,
        tell_disabled=partial(tell_disabled, notifications),
        changed=webhooks.changed,
        metrics=metrics,
    )
    kind = sender.kind(
        timeout_seconds=settings.callbacks.delivery_timeout_seconds,
        per_host=settings.callbacks.delivery_per_host,
    )
    deliveries.register(kind)
    notifications.owed.serve(WebhookOutlet(webhooks))
    return webhooks
