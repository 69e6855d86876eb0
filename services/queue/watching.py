"""Following what changes among the tasks of a user; nothing is kept for users who do not watch."""

import secrets
from collections.abc import Sequence
from typing import Any

from services.queue.access import QueueAccess
from services.queue.models import Changes
from tornado_rt.protocol import Cursor, Message, ResyncReason

# The changes of a user are kept for this long after the last reader [s].
WATCH_SECONDS = 900.0


class Watching(QueueAccess):
    """The verbs of watchers."""

    async def read_changes(self, user_id: str, after: Cursor | None) -> Changes:
        """Return the changes after a cursor, and have those to come kept for a while.

        The first reader after a pause begins a new epoch.
        """
        wanted = None if after is None else after.offset
        [reply] = await self._read_changes([(user_id, wanted)], _new_epoch())
        epoch, last, first, kept = reply
        cursor = Cursor(epoch.decode(), last)
        if after is None:
            return Changes((), cursor)
        if after.epoch != cursor.epoch or after.offset > last:
            return Changes((), cursor, ResyncReason.EPOCH)
        if first > after.offset + 1:
            return Changes((), cursor, ResyncReason.TRIMMED)
        try:
            return Changes(tuple(map(Message.decode, kept)), cursor)
        except ValueError:
            # The list replaces what cannot be read.
            return Changes((), cursor, ResyncReason.TRIMMED)

    async def read_change_heads(self, user_ids: Sequence[str]) -> dict[str, Cursor]:
        """Return where the changes of users end, of those that are watched; watch them on."""
        replies = await self._read_changes([(user, None) for user in user_ids], None)
        return {
            user: Cursor(reply[0].decode(), reply[1])
            for user, reply in zip(user_ids, replies, strict=True)
            if reply
        }

    async def _read_changes(
        self, watches: Sequence[tuple[str, int | None]], candidate: str | None
    ) -> Any:
        return await self.scripts.run(
            "read_changes", watches=watches, candidate=candidate, seconds=WATCH_SECONDS
        )


def _new_epoch() -> str:
    return secrets.token_hex(8)
