"""When a notification goes."""

import zlib
from datetime import datetime, timedelta
from typing import Any

import attrs

from services.notifications.account import Document

# Documents that were made at once go at different times, within this share of their lifetime.
SPREAD = 0.01
# The same for those whose sender has named one time for many [s].
SPREAD_SECONDS = 5.0


@attrs.frozen
class Lifetime:
    """A notification goes `ttl` after it was made, or when its sender has said."""

    ttl: timedelta

    def fields(self, made_at: datetime, expires_at: datetime | None, id_: Any) -> Document:
        """Return `goes_at` and `due_at`.

        The embedded store reads all that is due in one go, so that it is spread.
        """
        share = zlib.crc32(str(id_).encode()) / 2**32
        goes_at = made_at + self.ttl * (1 + SPREAD * share)
        if expires_at is not None:
            goes_at = min(goes_at, expires_at + timedelta(seconds=SPREAD_SECONDS * share))
        return {"goes_at": goes_at, "due_at": goes_at}
