"""The memory of a stream's reader, so that no event comes twice."""

from collections import OrderedDict

import attrs

from tornado_rt_client.events import Envelope
from tornado_rt_client.records import UnreadCount

# Most ids that are remembered. A server sends some hundreds of messages again at most.
REMEMBERED = 10_000
# Messages that a client may drop when it has seen their ids.
ONCE = frozenset({"progress", "finished", "notification", "changed", "message"})


@attrs.define
class Seen:
    """The ids of messages, by topic, and the version of the newest counts."""

    _ids: OrderedDict[tuple[str | None, str], None] = attrs.field(factory=OrderedDict, init=False)
    _version: int = attrs.field(default=-1, init=False)

    def is_new(self, message: Envelope) -> bool:
        """Say whether a message was not seen yet, and remember it. One without an id is new."""
        if message.id is None or message.type not in ONCE:
            return True
        key = (message.topic, message.id)
        if key in self._ids:
            return False
        self._ids[key] = None
        if len(self._ids) > REMEMBERED:
            self._ids.popitem(last=False)
        return True

    def is_newest(self, counts: UnreadCount) -> bool:
        """Say whether no newer counts are known, and remember these: they come in any order."""
        if counts.version <= self._version:
            return False
        self._version = counts.version
        return True

    def forget(self, topic: str | None) -> None:
        """Forget a topic: its log may be another, and count from the beginning."""
        self._version = -1
        for key in [one for one in self._ids if one[0] == topic]:
            del self._ids[key]
