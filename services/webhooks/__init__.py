"""Webhooks and callbacks: what is told to programs of others, signed, until it has arrived."""

from services.webhooks.known import WEBHOOKS
from services.webhooks.models import (
    RedeliverRequest,
    TooManyWebhooks,
    Webhook,
    WebhookDisabled,
    WebhookNotFound,
    WebhookRequest,
)
from services.webhooks.posting import Poster
from services.webhooks.sending import Sender
from services.webhooks.service import Posted, WebhookService
from services.webhooks.store import WebhookStore

__all__ = [
    "WEBHOOKS",
    "Posted",
    "Poster",
    "RedeliverRequest",
    "Sender",
    "TooManyWebhooks",
    "Webhook",
    "WebhookDisabled",
    "WebhookNotFound",
    "WebhookRequest",
    "WebhookService",
    "WebhookStore",
]
