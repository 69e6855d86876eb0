"""Notifications, kept and pushed."""

from services.notifications.models import (
    BroadcastDraft,
    Notification,
    NotificationDraft,
    NotificationNotFound,
    NotificationPage,
    NotificationReplay,
    NotificationStatus,
    NotificationType,
    Severity,
)
from services.notifications.service import NotificationService

__all__ = [
    "BroadcastDraft",
    "Notification",
    "NotificationDraft",
    "NotificationNotFound",
    "NotificationPage",
    "NotificationReplay",
    "NotificationService",
    "NotificationStatus",
    "NotificationType",
    "Severity",
]
