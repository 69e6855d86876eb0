"""Webhooks of users and of the application: made, shown, told of events."""

import time
from collections.abc import Mapping
from typing import Any

import attrs
import orjson

from services.deliveries import Deliveries
from services.queue import QueueFull, Task, new_id
from services.webhooks.addresses import host_of
from services.webhooks.known import WEBHOOKS, Hear, KnownWebhooks
from services.webhooks.models import (
    APPLICATION,
    ENABLED,
    Post,
    Webhook,
    WebhookDisabled,
    WebhookNotFound,
    WebhookRequest,
    event_body,
)
from services.webhooks.sending import POST, dropped
from services.webhooks.signing import new_secret
from services.webhooks.store import WebhookStore
from settings import default
from tornado_rt.metrics import Metrics
from tornado_rt.mongo import MongoAccess
from tornado_rt.protocol import Message, MessageType, Publisher
from tornado_rt.work.texts import phrase

TEST = "webhook.test"


@attrs.frozen
class Posted:
    """A post of an event to a host, as the delivery has it.

    `webhook_id` is empty for a callback, `disabled` says why its webhook is sent nothing more.
    """

    host: str
    webhook_id: str
    delivery: Task
    disabled: str = ""


class WebhookService:
    """Keeps webhooks, and hands events to the deliveries.

    `admin` in its verbs: the user may touch the application's webhooks too. Webhooks of others are
    not found. `most` bounds those of one owner; 0 is no bound. `hear` has the queue tell ends that
    make no notification.
    """

    def __init__(
        self,
        store: WebhookStore,
        deliveries: Deliveries,
        publisher: Publisher,
        *,
        access: MongoAccess,
        callback_secret: str,
        hear: Hear,
        most: int = default("webhooks_per_user"),
        metrics: Metrics | None = None,
    ) -> None:
        self.callback_secret = callback_secret
        self.known = KnownWebhooks(store, hear)
        self._hear = hear
        self._store = store
        self.deliveries = deliveries
        self._publisher = publisher
        self._access = access
        self._most = most
        self._metrics = metrics or Metrics()

    async def create(self, user_id: str, request: WebhookRequest) -> dict[str, Any]:
        """Make one; return it with its secret, which is told this once.

        Raise TooManyWebhooks.
        """
        now = time.time()
        webhook = Webhook(
            id=new_id(),
            owner=APPLICATION if request.application else user_id,
            made_by=user_id,
            url=request.url,
            events=request.events,
            filter=request.patterns(),
            description=request.description,
            secret=new_secret(),
            state=ENABLED,
            reason="",
            created_at=now,
            changed_at=now,
            success_at=0.0,
        )
        # First: it is told of what ends from the answer on.
        await self._hear()
        async with self._access.turn(user_id):
            await self._store.add(webhook, self._most)
        await self.changed(webhook.owner)
        return webhook.to_dict() | {"secret": webhook.secret}

    async def list_of(self, user_id: str, *, admin: bool) -> list[dict[str, Any]]:
        """Return a user's webhooks; for an admin the application's before them."""
        async with self._access.turn(user_id):
            found = await self._store.of_owner(APPLICATION) if admin else []
            found += await self._store.of_owner(user_id)
        return [one.to_dict() for one in found]

    async def list_all(self, user_id: str, after: str, limit: int) -> dict[str, Any]:
        """Return a page of the webhooks of all owners, each with its last answers, to an admin."""
        async with self._access.turn(user_id):
            found = await self._store.page(after, limit + 1)
        shown = found[:limit]
        items = [
            one.to_dict()
            | {
                "user_id": None if one.owner == APPLICATION else one.owner,
                "answers": one.told_answers(),
            }
            for one in shown
        ]
        return {"items": items, "next": shown[-1].id if len(found) > limit else None}

    async def get(self, user_id: str, id_: str, *, admin: bool) -> dict[str, Any]:
        """Return one with the last answers of its receiver. Raise WebhookNotFound."""
        async with self._access.turn(user_id):
            webhook = await self._find(user_id, id_, admin=admin, with_answers=True)
        return webhook.to_dict() | {"answers": webhook.told_answers()}

    async def delete(self, user_id: str, id_: str, *, admin: bool) -> None:
        """Delete one; what waits for it is not sent. Raise WebhookNotFound."""
        async with self._access.turn(user_id):
            webhook = await self._find(user_id, id_, admin=admin)
            await self._store.delete(id_)
        await self.changed(webhook.owner)

    async def enable(self, user_id: str, id_: str, *, admin: bool) -> dict[str, Any]:
        """Have one sent events again, from now on. Raise WebhookNotFound."""
        async with self._access.turn(user_id):
            webhook = await self._find(user_id, id_, admin=admin)
            if not webhook.enabled:
                await self._store.enable(id_)
                await self.changed(webhook.owner)
        return await self.get(user_id, id_, admin=admin)

    async def test(self, user_id: str, id_: str, *, admin: bool) -> dict[str, Any]:
        """Send an event of the type `webhook.test`; return its id.

        Raise WebhookNotFound, WebhookDisabled, QueueFull.
        """
        webhook = await self._enabled(user_id, id_, admin=admin)
        event_id = f"test-{new_id()}"
        body = event_body(TEST, user_id, {"webhook_id": id_}, None)
        await self._send(webhook, user_id, Post(event_id=event_id, type=TEST, body=body), event_id)
        return {"event_id": event_id}

    async def redeliver(
        self, user_id: str, id_: str, event_id: str, *, admin: bool
    ) -> dict[str, Any]:
        """Send an event once more whose delivery has ended; return its id.

        Raise WebhookNotFound, WebhookDisabled, DeliveryNotKept, DeliveryUnderWay, QueueFull.
        """
        await self._enabled(user_id, id_, admin=admin)
        await self.deliveries.again(POST, _unique(id_, event_id))
        return {"event_id": event_id}

    async def tell(
        self,
        event_type: str,
        user_id: str,
        data: Mapping[str, Any],
        *,
        event_id: str,
        key: str,
        facts: Mapping[str, str],
        at: float | None = None,
    ) -> None:
        """Tell the user's webhooks and the application's of an event, each that wants it once.

        Each gets the events of one `key` in the order of these calls. `facts` is what filters look
        at, `at` when it happened [s since the epoch], None: now. A repeated `event_id` tells
        nothing. Deliveries beyond the bound of waiting ones are dropped, counted and logged. Raise
        RedisError or PyMongoError while a store is away: then tell it again.
        """
        body = ""
        for webhook in await self._wanting(event_type, user_id, facts):
            body = body or event_body(event_type, user_id, data, at)
            post = Post(event_id=event_id, type=event_type, body=body)
            try:
                await self._send(webhook, user_id, post, key)
            except QueueFull as full:
                dropped(self._metrics, event_id, user_id, full)

    async def call_back(
        self, user_id: str, url: str, event: Mapping[str, Any], *, event_id: str, key: str
    ) -> None:
        """Post an event to the address that its submitter named; as `tell`, but raise QueueFull."""
        body = orjson.dumps(event).decode()
        post = Post(event_id=event_id, type="callback", body=body, url=url)
        await self._add(post, user_id, f"callback\0{key}", _unique_callback(event_id), host_of(url))

    async def posts_of(self, user_id: str, event_id: str) -> list[Posted]:
        """Return what became of the posts of an event to the user's webhooks, and of its callback.

        Raise RedisError or PyMongoError while a store is away.
        """
        callback = await self.deliveries.find(POST, _unique_callback(event_id))
        found = [] if callback is None else [_posted_back(callback)]
        async with self._access.watched():
            webhooks = await self.known.of_owner(user_id)
        for one in webhooks:
            post = await self.deliveries.find(POST, _unique(one.id, event_id))
            if post is not None:
                found.append(Posted(one.host, one.id, post, "" if one.enabled else one.reason))
        return found

    async def _wanting(
        self, event_type: str, user_id: str, facts: Mapping[str, str]
    ) -> list[Webhook]:
        async with self._access.watched():
            found = [
                *await self.known.of_owner(APPLICATION),
                *await self.known.of_owner(user_id),
            ]
        return [one for one in found if one.enabled and one.wants(event_type, facts)]

    async def _send(self, webhook: Webhook, user_id: str, post: Post, key: str) -> None:
        line, unique = webhook.line_of(user_id), _unique(webhook.id, post.event_id)
        named = attrs.evolve(post, webhook_id=webhook.id)
        await self._add(named, line, f"{webhook.id}\0{key}", unique, webhook.host)

    async def _add(self, post: Post, line: str, key: str, unique: str, host: str) -> None:
        params = attrs.asdict(post)
        await self.deliveries.add(POST, line, params, key=key, unique=unique, host=host)

    async def _enabled(self, user_id: str, id_: str, *, admin: bool) -> Webhook:
        async with self._access.turn(user_id):
            webhook = await self._find(user_id, id_, admin=admin)
        if not webhook.enabled:
            raise WebhookDisabled(phrase("the webhook is disabled: enable it first"))
        return webhook

    async def _find(
        self, user_id: str, id_: str, *, admin: bool, with_answers: bool = False
    ) -> Webhook:
        webhook = await self._store.find(id_, with_answers=with_answers)
        owners = (user_id, APPLICATION) if admin else (user_id,)
        if webhook is None or webhook.owner not in owners:
            raise WebhookNotFound(id_)
        return webhook

    async def changed(self, owner: str) -> None:
        """Let each process read the webhooks of an owner again."""
        self.known.forget(owner)
        await self._publisher.publish(WEBHOOKS, Message.of(MessageType.SETTINGS, {"owner": owner}))


def _unique(webhook_id: str, event_id: str) -> str:
    return f"{webhook_id}\0{event_id}"


def _unique_callback(event_id: str) -> str:
    return _unique("callback", event_id)


def _posted_back(post: Task) -> Posted:
    return Posted(host_of(str(post.params.get("url", ""))), "", post)
