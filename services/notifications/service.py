"""Notifications: kept in MongoDB, pushed to users who are there, found again by those who were not.

The parts: `accounts` and `committer` change a user's notifications, `inbox` lists them, `log` says
what a device has missed, `publication` tells devices, `retention` lets go and brings back.
Collections: `inbox`, `notification_users` with an account a user, `inbox_owed` with what is still
to be delivered; `meta` with the epoch.
"""

from services.notifications.acting import Acting
from services.notifications.choosing import Choosing
from services.notifications.reading import InboxReading
from services.notifications.upkeep import InboxUpkeep
from services.notifications.writing import Writing


class NotificationService(Writing, Acting, InboxReading, Choosing, InboxUpkeep):
    """Keeps at most `quota` notifications a user (0: any number) for `ttl_days`.

    A resume replays at most `replay_limit`.
    """
