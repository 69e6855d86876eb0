"""Compares what live topics have brought with their logs, since Pub/Sub loses silently.

A topic that is behind the same end of its log in two rounds has lost something: what was only under
way has come by then. Each round looks at a bounded number of topics, so that many take longer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from tornado_rt.hub import Hub
from tornado_rt.problems import STORE_ERRORS
from tornado_rt.protocol import Cursor

log = structlog.get_logger(__name__)

# Most topics of a kind in one round.
TOGETHER = 500

# Returns the last cursor of each log that there is, by the id in its topic's name.
Heads = Callable[[Sequence[str]], Awaitable[Mapping[str, Cursor]]]


class LogWatch:
    """Watches the topics of one kind, `interval()` seconds between two rounds."""

    def __init__(self, hub: Hub, kind: str, heads: Heads, interval: Callable[[], float]) -> None:
        self._hub = hub
        self._kind = kind
        self._heads = heads
        self._interval = interval
        self._unseen: list[str] = []
        self._behind: dict[str, Cursor | None] = {}

    async def run(self) -> None:
        """Watch until cancelled; while a store is away there is nothing to compare with."""
        while True:
            await asyncio.sleep(self._interval())
            try:
                await self.look()
            except STORE_ERRORS as error:
                log.debug("log_watch_waits", kind=self._kind, error=error)

    async def look(self) -> None:
        """Look at some topics, and again at those that were behind."""
        ids = self._next()
        if not ids:
            return
        heads = await self._heads(ids)
        before, self._behind = self._behind, {}
        for id_ in ids:
            topic, head = f"{self._kind}:{id_}", heads.get(id_)
            if not self._hub.is_behind(topic, head):
                continue
            if id_ in before and before[id_] == head:
                log.info("log_gap", topic=topic)
                self._hub.metrics.log_gaps.inc()
                self._hub.gap(topic)
            else:
                self._behind[id_] = head

    def _next(self) -> list[str]:
        if not self._unseen:
            self._unseen = self._hub.followed(self._kind)
        turn, self._unseen = self._unseen[:TOGETHER], self._unseen[TOGETHER:]
        return list({**dict.fromkeys(self._behind), **dict.fromkeys(turn)})
