"""The table of addresses."""

from typing import Any

from tornado.routing import Rule, URLSpec

from handlers.admin import (
    ConnectionStatsHandler,
    DeadTaskHandler,
    DeadTasksHandler,
    QueueCheckHandler,
    QueueStatsHandler,
    RetryDeadTaskHandler,
    SettingsHandler,
)
from handlers.authentication import DemoLoginHandler, TicketHandler
from handlers.batches import BatchesHandler, BatchHandler
from handlers.notifications import (
    BroadcastHandler,
    NotificationHandler,
    NotificationsHandler,
    NotificationSocket,
    NotificationStreamHandler,
    ReadAllHandler,
    ReadHandler,
    UnreadCountHandler,
)
from handlers.operations import HealthHandler, MetricsHandler, ReadyHandler
from handlers.page import STATIC, AssetHandler, PageHandler, ProtocolHandler
from handlers.tasks import TaskHandler, TasksHandler, TaskSocket
from services.notifications import NotificationNotFound, NotStorable
from services.queue import BatchNotFound, KeyReused, QueueFull, TaskNotFound
from services.system_settings import InvalidSetting
from tornado_rt.tickets import TooManyTickets
from tornado_rt.turns import NoTurn, TooManyWaiting

# The status of each error of a service.
PROBLEMS: dict[type[Exception], int] = {
    TaskNotFound: 404,
    BatchNotFound: 404,
    NotificationNotFound: 404,
    NotStorable: 422,
    QueueFull: 429,
    KeyReused: 422,
    InvalidSetting: 422,
    TooManyWaiting: 429,
    NoTurn: 503,
    TooManyTickets: 429,
}

ID = r"([A-Za-z0-9_-]{1,64})"


def routes(
    *,
    queue: dict[str, Any],
    batches: dict[str, Any],
    notifications: dict[str, Any],
    system_settings: dict[str, Any],
    tickets: dict[str, Any],
    demo: dict[str, Any],
    ready: dict[str, Any],
    metrics: dict[str, Any],
    presence: dict[str, Any],
    protocol: dict[str, Any],
) -> list[Rule]:
    """Return the routes; each argument is what `initialize` of its handlers gets."""
    return [
        URLSpec(r"/api/tasks", TasksHandler, queue),
        URLSpec(rf"/api/tasks/{ID}", TaskHandler, queue),
        URLSpec(rf"/api/ws/tasks/{ID}", TaskSocket, queue),
        URLSpec(r"/api/batches", BatchesHandler, batches),
        URLSpec(rf"/api/batches/{ID}", BatchHandler, queue),
        URLSpec(r"/api/notifications", NotificationsHandler, notifications),
        URLSpec(r"/api/notifications/unread_count", UnreadCountHandler, notifications),
        URLSpec(r"/api/notifications/read_all", ReadAllHandler, notifications),
        URLSpec(r"/api/notifications/stream", NotificationStreamHandler, notifications),
        URLSpec(rf"/api/notifications/{ID}/read", ReadHandler, notifications),
        URLSpec(rf"/api/notifications/{ID}", NotificationHandler, notifications),
        URLSpec(r"/api/ws/notifications", NotificationSocket, notifications),
        URLSpec(r"/api/broadcast", BroadcastHandler, notifications),
        URLSpec(r"/api/queue/stats", QueueStatsHandler, queue),
        URLSpec(r"/api/queue/check", QueueCheckHandler, queue),
        URLSpec(r"/api/queue/dead", DeadTasksHandler, queue),
        URLSpec(rf"/api/queue/dead/{ID}", DeadTaskHandler, queue),
        URLSpec(rf"/api/queue/dead/{ID}/retry", RetryDeadTaskHandler, queue),
        URLSpec(r"/api/ws/stats", ConnectionStatsHandler, presence),
        URLSpec(r"/api/settings", SettingsHandler, system_settings),
        URLSpec(r"/api/auth/ticket", TicketHandler, tickets),
        URLSpec(r"/api/auth/demo", DemoLoginHandler, demo),
        URLSpec(r"/healthz", HealthHandler),
        URLSpec(r"/readyz", ReadyHandler, ready),
        URLSpec(r"/metrics", MetricsHandler, metrics),
        URLSpec(r"/", PageHandler, {"path": STATIC}),
        URLSpec(r"/static/js/protocol.js", ProtocolHandler, protocol),
        URLSpec(r"/static/(.*)", AssetHandler, {"path": STATIC}),
    ]
