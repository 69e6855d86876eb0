"""The two ways between webhooks and notifications: news go out, and owners are told of faults."""

from services.notifications import NotificationDraft, NotificationService, Severity
from services.notifications.account import Account
from services.notifications.creation import Wording
from services.notifications.owed import Debt, NotificationEvent
from services.webhooks.models import Webhook
from services.webhooks.service import WebhookService

# Both the type of the notification and the name of its template.
DISABLED = "webhook.disabled"
TITLE = "Webhook disabled"
TOLD = {NotificationEvent.CREATED, NotificationEvent.ANSWERED}


class WebhookOutlet:
    """Tells webhooks of notifications that were created or answered."""

    def __init__(self, webhooks: WebhookService) -> None:
        self._webhooks = webhooks

    def wants(self, account: Account, debt: Debt) -> bool:
        """Say whether there may be a webhook to tell."""
        return debt.event in TOLD and self._webhooks.known.may_have(debt.user_id)

    async def hand_over(self, debt: Debt) -> None:
        """Tell those that want it. Raise as `WebhookService.tell` does."""
        if debt.event not in TOLD:
            return
        told = debt.notification
        await self._webhooks.tell(
            f"notification.{debt.event}",
            debt.user_id,
            told,
            event_id=debt.id,
            key=f"notification:{told.get('id')}",
            facts={name: str(told[name]) for name in ("type", "severity", "source") if told[name]},
        )


async def tell_disabled(
    notifications: NotificationService, webhook: Webhook, reason: str, event_id: str
) -> None:
    """Tell who made a webhook that it is disabled, once under an id."""
    draft = NotificationDraft(
        user_id=webhook.made_by,
        type=DISABLED,
        title=TITLE,
        source="webhooks",
        severity=Severity.ERROR,
        metadata={"webhook_id": webhook.id, "url": webhook.url, "reason": reason},
    )
    # The receiver's name is enough of a long address.
    variables = {"url": webhook.host, "reason": reason}
    await notifications.create(
        draft, event_id=event_id, wording=Wording(template=DISABLED, variables=variables)
    )
