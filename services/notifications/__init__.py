"""Notifications, kept and pushed."""

from services.notifications.models import (
    LINK_LENGTH,
    TITLE_LENGTH,
    BroadcastDraft,
    Notification,
    NotificationDraft,
    NotificationNotFound,
    NotificationPage,
    NotificationReplay,
    NotificationStatus,
    NotificationType,
    NotStorable,
    Severity,
)
from services.notifications.service import NotificationService

__all__ = [
    "LINK_LENGTH",
    "TITLE_LENGTH",
    "BroadcastDraft",
    "NotStorable",
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
