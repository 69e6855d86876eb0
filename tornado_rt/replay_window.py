"""Which messages have come: the sliding window over sequence numbers of RFC 4303 section 3.4.3."""

from tornado_rt.protocol import Cursor

# Numbers this close to the highest one are remembered.
SIZE = 1024
MASK = (1 << SIZE) - 1


class ReplayWindow:
    """Remembers the last numbers of one epoch, a bit each; of older ones it knows nothing.

    `begin` came first.
    """

    __slots__ = ("_came", "_epoch", "_top")

    def __init__(self, begin: Cursor | None = None) -> None:
        self._epoch = "" if begin is None else begin.epoch
        self._top = 0 if begin is None else begin.offset
        # Bit n: whether the n-th below the highest number has come.
        self._came = 0 if begin is None else 1

    def admit(self, cursor: Cursor) -> bool:
        """Note that a message comes; False: it came before."""
        if cursor.epoch != self._epoch:
            self._epoch, self._top, self._came = cursor.epoch, cursor.offset, 0
        ahead = cursor.offset - self._top
        if ahead > 0:
            self._top = cursor.offset
            self._came = (self._came << ahead) & MASK if ahead < SIZE else 0
        behind = max(-ahead, 0)
        if behind >= SIZE:
            return True
        bit = 1 << behind
        came = bool(self._came & bit)
        self._came |= bit
        return not came
