"""Notifications, kept and pushed."""

from services.notifications.acting import Done
from services.notifications.listing import ListState, Query
from services.notifications.models import (
    LINK_LENGTH,
    TITLE_LENGTH,
    AlreadyAnswered,
    BroadcastDraft,
    Notification,
    NotificationDraft,
    NotificationNotFound,
    NotificationPage,
    NotificationReplay,
    NotificationStatus,
    NotificationType,
    NotStorable,
    SentBefore,
    Severity,
)
from services.notifications.service import NotificationService
from services.notifications.verbs import Verb

__all__ = [
    "LINK_LENGTH",
    "TITLE_LENGTH",
    "AlreadyAnswered",
    "BroadcastDraft",
    "Done",
    "ListState",
    "NotStorable",
    "Notification",
    "NotificationDraft",
    "NotificationNotFound",
    "NotificationPage",
    "NotificationReplay",
    "NotificationService",
    "NotificationStatus",
    "NotificationType",
    "Query",
    "SentBefore",
    "Severity",
    "Verb",
]
