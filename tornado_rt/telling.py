"""The services that tell users and other programs: notifications, webhooks, push, mail, outbox."""

import contextlib
import socket
from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs

from services.absence import EmailOutlet, PushOutlet
from services.answers import AnswerOutlet
from services.deliveries import (
    Deliveries,
    DeliveryKind,
    Dropping,
    Lanes,
    deliveries_name,
)
from services.email import (
    Addresses,
    Digests,
    MailLinks,
    MailServer,
    MailWords,
    Postman,
    WordsOf,
    email_kind,
)
from services.notifications import NotificationService
from services.notifications.configured import BadSetting
from services.notifications.templates import Templates, load_templates
from services.notifications.types import NotificationTypes, load_types
from services.outbox import OutboxPump
from services.push import PushClient, Pusher, Subscriptions, VapidKey, push_kind
from services.queue import QueueService, key_prefix
from services.webhooks import WEBHOOKS, WebhookService
from services.webhooks.opening import open_webhooks
from settings import QueueOrder, Settings
from tornado_rt.core import Core, patiently
from tornado_rt.locales import BadCatalogue, Languages, load_languages
from tornado_rt.mongo import MongoAccess
from tornado_rt.redis import open_redis
from tornado_rt.work import Kind

OUTBOX_FLUSH_SECONDS = 2.0
DELIVERY_VISIBILITY_SECONDS = 60.0


@attrs.frozen
class Telling:
    """The services that tell users and other programs: notifications, webhooks, and deliveries."""

    access: MongoAccess
    notifications: NotificationService
    deliveries: Deliveries
    webhooks: WebhookService


@attrs.frozen
class Texts:
    """The texts of notifications, the types that users choose among, and the languages."""

    templates: Templates
    types: NotificationTypes
    languages: Languages

    @classmethod
    def of(cls, settings: Settings) -> "Texts":
        """Load those that the settings name. Raise BadSetting."""
        locale = settings.notifications.default_locale
        try:
            languages = load_languages(settings.notifications.locales, locale)
        except BadCatalogue as error:
            raise BadSetting("locales", "", error) from None
        return cls(
            load_templates(settings.notifications.notification_templates, locale, languages),
            load_types(settings.notifications.notification_types, locale),
            languages,
        )


@attrs.frozen
class Absent:
    """The services for users who are away: their addresses, and the kinds of deliveries."""

    subscriptions: Subscriptions
    addresses: Addresses
    links: MailLinks
    digests: Digests
    words_of: WordsOf
    kinds: Mapping[str, Kind]


async def open_telling(
    stack: contextlib.AsyncExitStack,
    core: Core,
    database: Any,
    redis_url: str,
    texts: Texts,
    secret: str,
) -> Telling:
    """Open notifications, webhooks and their deliveries; nothing is handed over yet."""
    settings = core.settings
    access = _open_access(stack, settings, database)
    notifications = await _open_notifications(stack, core, database, access, texts)
    deliveries = await _open_deliveries(stack, settings, redis_url)
    webhooks = await open_webhooks(
        stack,
        database,
        deliveries,
        notifications,
        core.backplane,
        settings=settings,
        access=access,
        hear=core.queue.hear_quiet_ends,
        secret=secret,
        metrics=core.metrics,
    )
    notifications.owed.serve(AnswerOutlet(core.queue))
    await patiently(partial(core.hub.subscribe, WEBHOOKS, webhooks.known))
    core.jobs.keep(webhooks.known.run, "webhook-owners")
    return Telling(access, notifications, deliveries, webhooks)


def _open_access(
    stack: contextlib.AsyncExitStack, settings: Settings, database: Any
) -> MongoAccess:
    access = MongoAccess(
        database,
        most=settings.stores.mongodb_requests,
        most_a_user=settings.stores.mongodb_requests_per_user,
        most_waiting_a_user=settings.stores.mongodb_waiting_per_user,
        wait_seconds=settings.stores.mongodb_wait_seconds,
    )
    stack.push_async_callback(access.close)
    return access


async def _open_notifications(
    stack: contextlib.AsyncExitStack,
    core: Core,
    database: Any,
    access: MongoAccess,
    texts: Texts,
) -> NotificationService:
    settings = core.settings
    notifications = NotificationService(
        database,
        core.backplane,
        access=access,
        quota=settings.notifications.notification_quota,
        ttl_days=settings.notifications.notification_ttl_days,
        replay_limit=settings.streams.replay_limit,
        templates=texts.templates,
        types=texts.types,
    )
    await notifications.prepare()
    stack.push_async_callback(notifications.close)
    core.jobs.keep(notifications.run_trimmer, "notification-trimmer")
    core.jobs.keep(notifications.run_clock, "notification-clock")
    core.jobs.keep(notifications.run_watch, "notification-watch")
    core.jobs.keep(notifications.run_migration, "notification-migration")
    return notifications


async def _open_deliveries(
    stack: contextlib.AsyncExitStack, settings: Settings, redis_url: str
) -> Deliveries:
    name = deliveries_of(settings)
    # In a cluster its keys are in a slot of their own, and so perhaps at another node.
    redis = await stack.enter_async_context(
        open_redis(redis_url, key_prefix(name), settings.stores)
    )
    queue = QueueService(
        redis,
        name=name,
        user_limit=settings.callbacks.delivery_per_user,
        global_limit=0,
        max_waiting_per_user=settings.callbacks.callback_waiting_per_user,
        visibility_seconds=DELIVERY_VISIBILITY_SECONDS,
        retention_seconds=settings.callbacks.delivery_retention_seconds,
        order=QueueOrder.FAIR,
        max_events=1,
        kept_per_user=settings.callbacks.delivery_kept_per_user,
    )
    stack.push_async_callback(queue.close)
    return Deliveries(queue, Lanes(redis, queue.prefix))


def open_outbox(
    stack: contextlib.AsyncExitStack, core: Core, telling: Telling, process: int | None
) -> None:
    """Move what ended in Redis, until the server stops."""
    pump = OutboxPump(
        core.redis,
        telling.notifications,
        telling.webhooks,
        queue_name=core.settings.queue.queue_name,
        consumer=_process_name(core.settings, process),
        page=core.settings.server.page_address,
        metrics=core.metrics,
    )
    core.jobs.keep(pump.run, "outbox")
    stack.push_async_callback(pump.flush, OUTBOX_FLUSH_SECONDS)


def deliveries_of(settings: Settings) -> str:
    """Return the name of the queue of deliveries."""
    return deliveries_name(settings.queue.queue_name)


async def open_absent(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    database: Any,
    telling: Telling,
    vapid_key: VapidKey,
    links: MailLinks,
) -> Absent:
    """Open what tells users who are not there."""
    digests, access, notifications = Digests(database), telling.access, telling.notifications
    private = settings.callbacks.callback_allow_private
    subscriptions = Subscriptions(
        database,
        notifications.set_channel,
        server_key=vapid_key.public,
        access=access,
        most=settings.push.push_subscriptions_per_user,
        allow_private=private,
    )
    await subscriptions.prepare()
    client = PushClient(vapid_key, allow_private=private)
    stack.callback(client.close)
    unread, ttl = notifications.still_unread, settings.push.push_ttl_seconds
    pusher = Pusher(subscriptions, client, unread, ttl_seconds=ttl)
    server = MailServer.parse(settings.email.smtp_url) if settings.email.smtp_url else None
    turn, sender = notifications.set_channel, settings.email.smtp_from
    addresses = Addresses(database, turn, access=access, sends=server is not None)
    words_of = partial(_words_of, notifications)
    postman = Postman(
        addresses, digests, links, unread, words_of=words_of, server=server, sender=sender
    )
    kinds = {one.name: one for one in (push_kind(pusher), email_kind(postman))}
    return Absent(subscriptions, addresses, links, digests, words_of, kinds)


async def _words_of(notifications: NotificationService, user_id: str) -> MailWords:
    return MailWords(notifications.templates, (await notifications.preferences(user_id)).locale)


def serve_absent(core: Core, telling: Telling, absent: Absent, types: NotificationTypes) -> None:
    """Hand over what notifications owe, from here on."""
    telling.deliveries.register(*map(DeliveryKind, absent.kinds.values()))
    dropping, owed = Dropping(telling.deliveries, core.metrics), telling.notifications.owed
    owed.serve(PushOutlet(dropping))
    owed.serve(
        EmailOutlet(dropping, absent.digests, types, core.settings.email.email_delay_seconds)
    )
    # The last outlet is there: what is handed over without one is lost to it.
    core.jobs.keep(owed.run, "notification-deliveries")


def _process_name(settings: Settings, process: int | None) -> str:
    """Return a name that no other running process has, the same after a restart."""
    name = f"{socket.gethostname()}:{settings.server.port}"
    return name if process is None else f"{name}:{process}"
