"""The table of addresses."""

import re
from collections.abc import Iterable
from typing import Any

from tornado.routing import Rule, URLSpec

from handlers.admin import (
    ConnectionStatsHandler,
    DeadTaskHandler,
    DeadTasksHandler,
    KindsHandler,
    LimitsHandler,
    PauseHandler,
    PurgeHandler,
    QueueCheckHandler,
    QueueStatsHandler,
    ResumeHandler,
    RetryDeadTaskHandler,
    SettingsHandler,
)
from handlers.admin_board import admin_routes
from handlers.authentication import DemoLoginHandler, SessionHandler, TicketHandler
from handlers.batches import BatchesHandler, BatchHandler, BatchTasksHandler
from handlers.documents import document_routes
from handlers.email import email_routes
from handlers.notifications import (
    ActHandler,
    ActOnHandler,
    AnswerHandler,
    BroadcastHandler,
    NotificationHandler,
    NotificationsHandler,
    NotificationSocket,
    NotificationStreamHandler,
    PartsHandler,
    ReadAllHandler,
    SnoozeHandler,
    UndoHandler,
    UnreadCountHandler,
)
from handlers.operations import HealthHandler, MetricsHandler, ReadyHandler
from handlers.page import (
    STATIC,
    AdminPageHandler,
    AssetHandler,
    NoPageHandler,
    PageHandler,
    RootHandler,
)
from handlers.preferences import PreferencesHandler, TypesHandler
from handlers.push import push_routes
from handlers.schedules import (
    SCHEDULE,
    ScheduleHandler,
    ScheduleRunHandler,
    SchedulesHandler,
)
from handlers.tasks import (
    TaskHandler,
    TaskOutputHandler,
    TaskRetryHandler,
    TasksHandler,
    TaskSocket,
    TasksRetryHandler,
)
from handlers.topics import PublishHandler
from handlers.webhooks import (
    CallbackSecretHandler,
    WebhookEnableHandler,
    WebhookHandler,
    WebhookRedeliverHandler,
    WebhooksHandler,
    WebhookTestHandler,
)
from handlers.why import WhyHandler
from handlers.worker import (
    AckHandler,
    ClaimHandler,
    ExtendHandler,
    ReportHandler,
    WorkerSocket,
)
from services.admin import NothingToUndo, WorkerNotFound
from services.deliveries import DeliveryNotKept, DeliveryUnderWay
from services.email import BadLink, NoAddress, NoMail
from services.kinds import KindUnknown, ParamsFault
from services.notifications import (
    AlreadyAnswered,
    NotificationNotFound,
    NotStorable,
    SentBefore,
    Verb,
)
from services.notifications.templates import TemplateRefused
from services.operating import KindNotFound, RerunFull
from services.push import EndpointRefused, SubscriptionNotFound
from services.queue import (
    BatchNotFound,
    Conflict,
    KeyReused,
    LimitsRefused,
    NotEnded,
    NotPurged,
    QueueFull,
    TaskNotFound,
    TooManyToCheck,
)
from services.schedules import ScheduleConflict, ScheduleNotFound, ScheduleRefused
from services.system_settings import InvalidSetting
from services.webhooks import TooManyWebhooks, WebhookDisabled, WebhookNotFound
from tornado_rt.tickets import TooManyTickets
from tornado_rt.topics import TopicsSocket, TopicsStreamHandler
from tornado_rt.turns import NoTurn, TooManyWaiting

# The status of each error of a service.
PROBLEMS: dict[type[BaseException], int] = {
    TaskNotFound: 404,
    BatchNotFound: 404,
    NotificationNotFound: 404,
    NotStorable: 422,
    AlreadyAnswered: 409,
    SentBefore: 422,
    TemplateRefused: 422,
    QueueFull: 429,
    RerunFull: 429,
    NothingToUndo: 404,
    WorkerNotFound: 404,
    KeyReused: 422,
    Conflict: 409,
    NotEnded: 409,
    NotPurged: 422,
    TooManyToCheck: 409,
    KindUnknown: 422,
    KindNotFound: 404,
    ParamsFault: 422,
    LimitsRefused: 422,
    ScheduleNotFound: 404,
    ScheduleConflict: 409,
    ScheduleRefused: 422,
    InvalidSetting: 422,
    EndpointRefused: 422,
    SubscriptionNotFound: 404,
    NoAddress: 409,
    NoMail: 409,
    BadLink: 400,
    TooManyWaiting: 429,
    NoTurn: 503,
    TooManyTickets: 429,
    WebhookNotFound: 404,
    WebhookDisabled: 409,
    TooManyWebhooks: 409,
    DeliveryNotKept: 404,
    DeliveryUnderWay: 409,
}

ID = r"([A-Za-z0-9_-]{1,64})"
VERB = f"({'|'.join(Verb)})"
KIND = r"([a-z0-9][a-z0-9._-]{0,63})"


def routes(
    *,
    queue: dict[str, Any],
    tasks: dict[str, Any],
    schedules: dict[str, Any],
    why: dict[str, Any],
    operator: dict[str, Any],
    notifications: dict[str, Any],
    push: dict[str, Any],
    email: dict[str, Any],
    webhooks: dict[str, Any],
    system_settings: dict[str, Any],
    feeds: dict[str, Any],
    topics: dict[str, Any],
    tickets: dict[str, Any],
    demo: dict[str, Any],
    ready: dict[str, Any],
    metrics: dict[str, Any],
    presence: dict[str, Any],
    worker: dict[str, Any],
    admin: dict[str, dict[str, Any]],
) -> list[URLSpec]:
    """Return the routes; each argument is what `initialize` of its handlers gets."""
    return [
        # They are tried in this order: first those that thousands open at once after a restart.
        URLSpec(r"/api/ws", TopicsSocket, feeds),
        URLSpec(r"/api/ws/notifications", NotificationSocket, notifications),
        URLSpec(rf"/api/ws/tasks/{ID}", TaskSocket, tasks),
        URLSpec(r"/api/stream", TopicsStreamHandler, feeds),
        URLSpec(r"/api/tasks", TasksHandler, tasks),
        URLSpec(r"/api/tasks/retry", TasksRetryHandler, operator),
        URLSpec(rf"/api/tasks/{ID}", TaskHandler, tasks),
        URLSpec(rf"/api/tasks/{ID}/retry", TaskRetryHandler, tasks),
        URLSpec(rf"/api/tasks/{ID}/output", TaskOutputHandler, tasks),
        URLSpec(rf"/api/tasks/{ID}/why", WhyHandler, why),
        URLSpec(r"/api/batches", BatchesHandler, tasks),
        URLSpec(rf"/api/batches/{ID}", BatchHandler, tasks),
        URLSpec(rf"/api/batches/{ID}/tasks", BatchTasksHandler, tasks),
        URLSpec(r"/api/schedules", SchedulesHandler, schedules),
        URLSpec(rf"/api/schedules/{SCHEDULE}", ScheduleHandler, schedules),
        URLSpec(rf"/api/schedules/{SCHEDULE}/run", ScheduleRunHandler, schedules),
        URLSpec(r"/api/kinds", KindsHandler, operator),
        URLSpec(rf"/api/kinds/{KIND}/limits", LimitsHandler, operator),
        URLSpec(r"/api/notifications", NotificationsHandler, notifications),
        URLSpec(r"/api/notifications/unread_count", UnreadCountHandler, notifications),
        URLSpec(r"/api/notifications/read_all", ReadAllHandler, notifications),
        URLSpec(r"/api/notifications/stream", NotificationStreamHandler, notifications),
        URLSpec(r"/api/notifications/undo", UndoHandler, notifications),
        URLSpec(r"/api/notifications/preferences", PreferencesHandler, notifications),
        URLSpec(r"/api/notifications/types", TypesHandler, notifications),
        URLSpec(rf"/api/notifications/{VERB}", ActHandler, notifications),
        URLSpec(rf"/api/notifications/{ID}/snooze", SnoozeHandler, notifications),
        URLSpec(rf"/api/notifications/{ID}/{VERB}", ActOnHandler, notifications),
        URLSpec(rf"/api/notifications/{ID}/parts", PartsHandler, notifications),
        URLSpec(rf"/api/notifications/{ID}/actions/{ID}", AnswerHandler, notifications),
        URLSpec(rf"/api/notifications/{ID}", NotificationHandler, notifications),
        URLSpec(r"/api/broadcast", BroadcastHandler, notifications),
        *push_routes(push, ID),
        *email_routes(email),
        URLSpec(r"/api/webhooks", WebhooksHandler, webhooks),
        URLSpec(r"/api/webhooks/callback_secret", CallbackSecretHandler, webhooks),
        URLSpec(rf"/api/webhooks/{ID}", WebhookHandler, webhooks),
        URLSpec(rf"/api/webhooks/{ID}/enable", WebhookEnableHandler, webhooks),
        URLSpec(rf"/api/webhooks/{ID}/test", WebhookTestHandler, webhooks),
        URLSpec(rf"/api/webhooks/{ID}/redeliver", WebhookRedeliverHandler, webhooks),
        URLSpec(r"/api/queue/stats", QueueStatsHandler, queue),
        URLSpec(r"/api/queue/check", QueueCheckHandler, queue),
        URLSpec(r"/api/queue/dead", DeadTasksHandler, queue),
        URLSpec(rf"/api/queue/dead/{ID}", DeadTaskHandler, queue),
        URLSpec(rf"/api/queue/dead/{ID}/retry", RetryDeadTaskHandler, tasks),
        URLSpec(r"/api/queue/pause", PauseHandler, operator),
        URLSpec(r"/api/queue/resume", ResumeHandler, operator),
        URLSpec(r"/api/queue/drain", PauseHandler, operator),
        URLSpec(r"/api/queue/purge", PurgeHandler, operator),
        URLSpec(r"/api/queue/limits", LimitsHandler, operator),
        *admin_routes(tasks=tasks, webhooks=webhooks, admin=admin),
        URLSpec(r"/api/publish", PublishHandler, topics),
        URLSpec(r"/api/ws/worker", WorkerSocket, worker),
        URLSpec(r"/api/worker/claim", ClaimHandler, worker),
        URLSpec(r"/api/worker/report", ReportHandler, worker),
        URLSpec(r"/api/worker/extend", ExtendHandler, worker),
        URLSpec(r"/api/worker/ack", AckHandler, worker),
        URLSpec(r"/api/ws/stats", ConnectionStatsHandler, presence),
        URLSpec(r"/api/settings", SettingsHandler, system_settings),
        URLSpec(r"/api/auth/ticket", TicketHandler, tickets),
        URLSpec(r"/api/auth/session", SessionHandler),
        URLSpec(r"/api/auth/demo", DemoLoginHandler, demo),
        *document_routes(),
        URLSpec(r"/healthz", HealthHandler),
        URLSpec(r"/readyz", ReadyHandler, ready),
        URLSpec(r"/metrics", MetricsHandler, metrics),
        URLSpec(r"/static/(.*)", AssetHandler, {"path": STATIC}),
    ]


def under(prefix: str, table: Iterable[URLSpec]) -> list[URLSpec]:
    """Return the routes under a prefix of their paths, "" for none, and one to the page there."""
    begin = re.escape(prefix)
    moved = [URLSpec(begin + one.regex.pattern, one.handler_class, one.kwargs) for one in table]
    return [*moved, URLSpec(begin, RootHandler)] if prefix else moved


def page_routes(path: str, admin_path: str) -> list[URLSpec]:
    """Return the routes of the two pages at their paths, "" for none; `/` always answers."""
    found = []
    if path:
        found.append(URLSpec(re.escape(path), PageHandler, {"path": STATIC}))
    if admin_path:
        found.append(URLSpec(re.escape(admin_path), AdminPageHandler, {"path": STATIC}))
    return found if path == "/" else [*found, URLSpec(r"/", NoPageHandler)]


def worker_routes(*, ready: dict[str, Any], metrics: dict[str, Any]) -> list[Rule]:
    """Return the routes of a process that only works."""
    return [
        URLSpec(r"/healthz", HealthHandler),
        URLSpec(r"/readyz", ReadyHandler, ready),
        URLSpec(r"/metrics", MetricsHandler, metrics),
    ]
