"""The outbox: ended tasks that still have to become notifications and posts."""

from services.outbox.entries import Event
from services.outbox.looking import Found, find_entry, read_lag
from services.outbox.pump import OutboxPump

__all__ = ["Event", "Found", "OutboxPump", "find_entry", "read_lag"]
