"""The state of everything now."""

from typing import Any

import attrs

from services.admin.series import describe_kind, is_shown
from services.queue import ALL_KINDS, QueueService
from tornado_rt.presence import Presence
from tornado_rt.protocol import iso_time


class Overview:
    """Reads kinds, workers and connections together."""

    def __init__(self, queue: QueueService, presence: Presence) -> None:
        self._queue = queue
        self._presence = presence

    async def read(self) -> dict[str, Any]:
        """Return it as it is on the wire."""
        states = await self._queue.read_kinds()
        ends = await self._queue.read_ends()
        processes, connected = await self._presence.stats()
        return {
            "at": iso_time(),
            "stats": attrs.asdict(await self._queue.stats()),
            "submitted": await self._queue.count_submitted(),
            "paused_all": any(one.paused for one in states if one.entry.kind == ALL_KINDS),
            "kinds": [
                {
                    "kind": one.entry.kind,
                    "title": one.entry.title,
                    "paused": one.paused,
                    "workers": one.workers,
                    **describe_kind(one, ends),
                }
                for one in sorted(states, key=lambda state: state.entry.kind)
                if is_shown(one)
            ],
            "workers": len(await self._queue.read_workers()),
            "processes": processes,
            "connections": connected.total_connections,
            "users": connected.total_users,
        }
