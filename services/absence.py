"""Telling users who are not there: Web Push at once, e-mail for what is unread after a while."""

from typing import Any

from services.channels import EMAIL, PUSH
from services.deliveries import Dropping
from services.email import Digests, email_params
from services.notifications.account import Account
from services.notifications.owed import Debt, NotificationEvent
from services.notifications.preferences import Preferences, wants_email
from services.notifications.types import NotificationTypes
from services.push import push_params, withdraw_params


class PushOutlet:
    """Pushes what is new to the browsers of a user, and withdraws what was read on another."""

    def __init__(self, deliveries: Dropping) -> None:
        self._deliveries = deliveries

    def wants(self, _: Account, debt: Debt) -> bool:
        """Say whether a user has browsers, and wants to be told of it."""
        if PUSH not in debt.channels:
            return False
        told = debt.event == NotificationEvent.CREATED and not debt.notification["muted"]
        return told or debt.event == NotificationEvent.WITHDRAWN

    async def hand_over(self, debt: Debt) -> None:
        """Add its deliveries."""
        if debt.event == NotificationEvent.CREATED:
            await self._add(debt, "", push_params(debt.notification, debt.version))
            return
        for number, params in enumerate(withdraw_params(debt.user_id, debt.ids, debt.version)):
            await self._add(debt, f":{number}", params)

    async def _add(self, debt: Debt, part: str, params: dict[str, Any]) -> None:
        user_id, unique = debt.user_id, f"push:{debt.id}{part}"
        await self._deliveries.add(PUSH, user_id, params, key=f"push:{user_id}", unique=unique)


class EmailOutlet:
    """Mails what is still unread after a delay; several become one mail."""

    def __init__(
        self,
        deliveries: Dropping,
        digests: Digests,
        types: NotificationTypes,
        delay_seconds: float,
    ) -> None:
        self._deliveries = deliveries
        self._digests = digests
        self._types = types
        self._delay_seconds = delay_seconds

    def wants(self, account: Account, debt: Debt) -> bool:
        """Say whether a user has an address, and wants mail of such news."""
        if debt.event != NotificationEvent.CREATED or EMAIL not in debt.channels:
            return False
        told = debt.notification
        preferences = Preferences.of(account.preferences)
        listed = self._types.ways_of(told["type"])
        return wants_email(preferences, told["type"], told["severity"], listed)

    async def hand_over(self, debt: Debt) -> None:
        """Have it in the next mail."""
        user_id, id_ = debt.user_id, debt.notification["id"]
        await self._digests.expect(user_id, [id_])
        delay = self._delay_seconds if debt.email_delay is None else debt.email_delay
        params, unique = email_params(user_id, [id_]), f"email:{debt.id}"
        await self._deliveries.add(
            EMAIL, user_id, params, key=f"email:{user_id}", unique=unique, delay=delay
        )
