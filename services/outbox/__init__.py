"""The outbox: ended tasks that still have to become notifications and posts."""

from services.outbox.entries import OutboxEvent
from services.outbox.looking import FoundEntry, find_entry, read_lag
from services.outbox.pump import OutboxPump

__all__ = ["FoundEntry", "OutboxEvent", "OutboxPump", "find_entry", "read_lag"]
