"""The ways in which a user wants to be told when nobody is there."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

PUSH = "push"
EMAIL = "email"

# Gets the user, the name of the channel, and whether it is on. A repetition is harmless.
SetChannel = Callable[[str, str, bool], Awaitable[None]]
# Gets the user and ids; returns those notifications that are unread still, as on the wire.
StillUnread = Callable[[str, Sequence[str]], Awaitable[list[dict[str, Any]]]]
