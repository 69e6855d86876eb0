"""Sends what is delivered to webhooks and callbacks, and judges what came of it."""

import time
from collections.abc import Awaitable, Callable

import attrs
import structlog
from pymongo.errors import PyMongoError

from services.deliveries import DeliveryKind, GivenUp
from services.webhooks.models import Post, Webhook
from services.webhooks.posting import Poster, Reply
from services.webhooks.signing import signed_headers
from services.webhooks.store import WebhookStore
from tornado_rt.metrics import Metrics
from tornado_rt.mongo import MongoAccess
from tornado_rt.work import Kind, Retry, Run, TaskError
from tornado_rt.work.texts import stored_phrase

log = structlog.get_logger(__name__)

# The kind of delivery that this is.
POST = "webhook"
# An attempt may take this much longer than the receiver's time [s].
SPARE_SECONDS = 30.0

# Gets the user, the event's id and why its callback was given up, in words for that user.
NoteCallback = Callable[[str, str, str], Awaitable[None]]
# Gets a webhook that is disabled now, why, and the id under which this is told once.
TellDisabled = Callable[[Webhook, str, str], Awaitable[None]]
# Learns whose webhooks have changed.
Changed = Callable[[str], Awaitable[None]]


def dropped(metrics: Metrics, event_id: str, user_id: str, error: Exception) -> None:
    """Count and log a delivery that was not taken."""
    metrics.deliveries.labels(POST, "dropped").inc()
    log.warning("delivery_dropped", event_id=event_id, user_id=user_id, error=error)


class Sender:
    """Delivers posts; `callback_secret` signs those to callbacks, each webhook's own the others."""

    def __init__(
        self,
        poster: Poster,
        store: WebhookStore,
        *,
        access: MongoAccess,
        callback_secret: str,
        note_callback: NoteCallback,
        tell_disabled: TellDisabled,
        changed: Changed,
        metrics: Metrics | None = None,
    ) -> None:
        self._poster = poster
        self._store = store
        self._access = access
        self._callback_secret = callback_secret
        self._note_callback = note_callback
        self._tell_disabled = tell_disabled
        self._changed = changed
        self._sent = (metrics or Metrics()).deliveries

    def kind(self, *, timeout_seconds: float, per_host: int) -> DeliveryKind:
        """Return the kind of its deliveries; `per_host` of them go to one host at once."""
        kind = Kind(POST, Post, timeout=timeout_seconds + SPARE_SECONDS, key_limit=per_host)

        @kind.handler
        async def send(post: Post, run: Run) -> None:
            await (self._call_webhook(post) if post.webhook_id else self._call_back(post))

        return DeliveryKind(kind, self.gave_up)

    async def gave_up(self, given_up: GivenUp) -> None:
        """Tell whom it concerns."""
        self._sent.labels(POST, "failed").inc()
        event_id, webhook_id = (str(given_up.params[name]) for name in ("event_id", "webhook_id"))
        log.warning(
            "delivery_failed",
            event_id=event_id,
            webhook_id=webhook_id,
            user_id=given_up.user_id,
            error=given_up.reason,
        )
        if not webhook_id:
            await self._note_callback(
                given_up.user_id,
                event_id,
                stored_phrase("not sent: {reason}", reason=given_up.reason),
            )
        elif given_up.exhausted:
            await self._disable_unless_used(webhook_id, given_up)

    async def _call_back(self, post: Post) -> None:
        reply = await self._post(post, post.url, self._callback_secret)
        if reply.is_refused or reply.is_gone:
            # The address stays what it is.
            raise TaskError(reply.error)
        self._judge(reply)

    async def _call_webhook(self, post: Post) -> None:
        async with self._access.watched():
            webhook = await self._store.find(post.webhook_id)
        if webhook is None or not webhook.enabled:
            raise TaskError(
                stored_phrase("the webhook is disabled")
                if webhook
                else stored_phrase("the webhook was deleted")
            )
        reply = await self._post(post, webhook.url, webhook.secret)
        await self._note(webhook, post, reply)
        if reply.is_gone:
            await self._disable(webhook, reply.error)
            raise TaskError(reply.error)
        self._judge(reply)

    async def _post(self, post: Post, url: str, secret: str) -> Reply:
        body = post.body.encode()
        signed = signed_headers(secret, post.event_id, int(time.time()), body)
        return await self._poster.post(url, {**signed, "X-Event-Id": post.event_id}, body)

    def _judge(self, reply: Reply) -> None:
        if reply.error:
            self._sent.labels(POST, "retried").inc()
            raise Retry(reply.error, reply.retry_after)
        self._sent.labels(POST, "sent").inc()

    async def _note(self, webhook: Webhook, post: Post, reply: Reply) -> None:
        answer = {
            "at": time.time(),
            "event_id": post.event_id,
            "type": post.type,
            "status": reply.status or None,
            "seconds": reply.seconds,
            "error": reply.error or None,
        }
        try:
            async with self._access.watched():
                await self._store.note(webhook.id, answer, success=not reply.error)
        except PyMongoError as error:
            # It has arrived, and is not sent again for that.
            log.warning("answer_not_noted", webhook_id=webhook.id, error=error)

    async def _disable_unless_used(self, webhook_id: str, given_up: GivenUp) -> None:
        """Disable it if nothing has arrived since this delivery was added, nor was it enabled."""
        async with self._access.watched():
            webhook = await self._store.find(webhook_id)
        if webhook is None or not webhook.enabled:
            return
        if max(webhook.success_at, webhook.changed_at) <= given_up.since:
            await self._disable(webhook, given_up.reason)

    async def _disable(self, webhook: Webhook, reason: str) -> None:
        # Told first: cut off between the two, this is done again, and told once.
        told = attrs.evolve(webhook, reason=reason)
        await self._tell_disabled(told, reason, f"webhook:{webhook.id}:{webhook.changed_at:.3f}")
        async with self._access.watched():
            await self._store.disable(webhook.id, reason)
        await self._changed(webhook.owner)
