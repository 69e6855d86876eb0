"""Web Push: notifications on the screens of users who are not there."""

from services.push.client import PushClient
from services.push.kind import Pusher, push_kind
from services.push.messages import PushParams, push_params, withdraw_params
from services.push.models import (
    EndpointRefused,
    SubscriptionDraft,
    SubscriptionNotFound,
)
from services.push.subscriptions import Subscriptions
from services.push.vapid import VapidKey, load_vapid_key

__all__ = [
    "EndpointRefused",
    "PushClient",
    "PushParams",
    "Pusher",
    "SubscriptionDraft",
    "SubscriptionNotFound",
    "Subscriptions",
    "VapidKey",
    "load_vapid_key",
    "push_kind",
    "push_params",
    "withdraw_params",
]
