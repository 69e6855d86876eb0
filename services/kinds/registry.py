"""The kinds that tasks may be submitted of: those of this process, and those that others run."""

import asyncio
import difflib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import attrs

from services.kinds.faults import short
from services.kinds.known import BadEntry, KnownKind, LocalKind, SharedKind
from services.queue.models import KindEntry, KindState
from tornado_rt.work import Kind
from tornado_rt.work.kind import NAME

# How old may be what is known of another process's kind.
FRESH_SECONDS = 1.0
# Names that were asked for and are remembered; most may be of no kind.
MOST_REMEMBERED = 1000

ReadEntry = Callable[[str], Awaitable[KindEntry | None]]


class KindUnknown(ValueError):
    """There is no such kind, or it cannot be used; the message says why."""


class Board(Protocol):
    """Where processes tell each other of their kinds: the queue."""

    async def read_kinds(self) -> list[KindState]:
        """Return all of them."""
        ...


@attrs.frozen
class _Asked:
    """A kind that was asked for: whoever asks meanwhile, or soon after, gets the same."""

    answer: "asyncio.Task[KnownKind | None]"
    until: float

    @property
    def holds(self) -> bool:
        """Whether it is still to come, or new enough."""
        if not self.answer.done():
            return True
        failed = self.answer.cancelled() or self.answer.exception() is not None
        return not failed and time.monotonic() < self.until


class KindRegistry:
    """Finds kinds by name.

    `local`: those of this process. `read` reads what other processes have told of a kind.
    """

    def __init__(self, local: Mapping[str, Kind], read: ReadEntry | None = None) -> None:
        self.local = local
        self._read = read
        self._kinds = {name: LocalKind(kind) for name, kind in local.items()}
        # The last that was known of others.
        self._shared: dict[str, SharedKind] = {}
        self._asked: dict[str, _Asked] = {}

    def entries(self) -> list[KindEntry]:
        """Return what other processes are told of our kinds."""
        return [kind.entry for kind in self._kinds.values()]

    async def find(self, name: str, board: Board | None = None) -> KnownKind:
        """Return a kind: ours, else another process's. Raise KindUnknown, and what reading raises.

        `board`: where to read when the registry was given nothing that reads.
        """
        known: KnownKind | None = self._kinds.get(name)
        if known is None and NAME.fullmatch(name) and (read := self._read or _reader(board)):
            known = await self._ask(name, read)
        if known is None:
            raise KindUnknown(self._unknown(name))
        return known

    async def _ask(self, name: str, read: ReadEntry) -> KnownKind | None:
        asked = self._asked.get(name)
        if asked is None or not asked.holds:
            self._forget_old()
            answer = asyncio.create_task(self._find_shared(name, read), name="find-kind")
            answer.add_done_callback(_look_at)
            asked = self._asked[name] = _Asked(answer, time.monotonic() + FRESH_SECONDS)
        # One who gives up takes nothing from the others.
        return await asyncio.shield(asked.answer)

    async def _find_shared(self, name: str, read: ReadEntry) -> KnownKind | None:
        entry = await read(name)
        if entry is None or not entry.description:
            self._shared.pop(name, None)
            return None
        known = self._shared.get(name)
        if known is None or known.entry != entry:
            try:
                known = self._shared[name] = SharedKind(entry)
            except BadEntry as error:
                self._shared.pop(name, None)
                raise KindUnknown(f"kind {name} cannot be used: {error}") from None
        return known

    def _forget_old(self) -> None:
        if len(self._asked) >= MOST_REMEMBERED:
            self._asked = {name: one for name, one in self._asked.items() if one.holds}

    def _unknown(self, name: str) -> str:
        known = sorted({*self._kinds, *self._shared})
        close = difflib.get_close_matches(name[:64], known)
        return f"there is no kind {short(name)}" + (
            f"; did you mean {' or '.join(close)}?" if close else ""
        )


def _reader(board: Board | None) -> ReadEntry | None:
    if board is None:
        return None

    async def read(name: str) -> KindEntry | None:
        states: Sequence[KindState] = await board.read_kinds()
        return next((one.entry for one in states if one.entry.kind == name), None)

    return read


def _look_at(answer: "asyncio.Task[KnownKind | None]") -> None:
    # Those who asked may all have given up.
    if not answer.cancelled():
        answer.exception()
