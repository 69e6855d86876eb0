"""The kinds that tasks may be submitted of: those of this process, and those that others run."""

import asyncio
import difflib
import time
from collections.abc import Mapping
from typing import Protocol

import attrs

from services.kinds.known import BadEntry, KnownKind, LocalKind, SharedKind
from services.queue.models import KindEntry, KindState
from tornado_rt.work import Kind
from tornado_rt.work.kind import NAME
from tornado_rt.work.params.faults import alternatives, short
from tornado_rt.work.texts import phrase

# The names of kinds of which only the server makes tasks begin so.
RESERVED = "rt."
# The entry of another process's kind is read again after this time.
FRESH_SECONDS = 1.0
# Names that were asked for and are remembered; most may be of no kind.
MOST_REMEMBERED = 1000


class KindUnknown(ValueError):
    """There is no such kind, or it cannot be used; the message says why."""


class StateReader(Protocol):
    """Where processes tell each other of their kinds: the queue."""

    async def read_kinds(self) -> list[KindState]:
        """Return all of them."""
        ...


@attrs.frozen
class _Asked:
    """A kind that was asked for: callers meanwhile, or soon after, get the same."""

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
    """Finds kinds by name; `local` are those of this process."""

    def __init__(self, local: Mapping[str, Kind]) -> None:
        self.local = local
        self._kinds = {name: LocalKind(kind) for name, kind in local.items()}
        # The kinds of other processes, as they were last read.
        self._shared: dict[str, SharedKind] = {}
        self._asked: dict[str, _Asked] = {}

    def entries(self) -> list[KindEntry]:
        """Return what other processes are told of our kinds."""
        return [kind.entry for kind in self._kinds.values()]

    async def find(self, name: str, board: StateReader) -> KnownKind:
        """Return a kind: ours, else another process's. Raise KindUnknown, and what reading raises.

        `board`: where other processes have told of theirs.
        """
        known: KnownKind | None = self._kinds.get(name)
        if known is None and NAME.fullmatch(name):
            known = await self._ask(name, board)
        if known is None:
            raise KindUnknown(self._unknown(name))
        return known

    async def _ask(self, name: str, board: StateReader) -> KnownKind | None:
        asked = self._asked.get(name)
        if asked is None or not asked.holds:
            self._forget_old()
            answer = asyncio.create_task(self._find_shared(name, board), name="find-kind")
            answer.add_done_callback(_look_at)
            asked = self._asked[name] = _Asked(answer, time.monotonic() + FRESH_SECONDS)
        # One who gives up takes nothing from the others.
        return await asyncio.shield(asked.answer)

    async def _find_shared(self, name: str, board: StateReader) -> KnownKind | None:
        entry = await _read_entry(name, board)
        if entry is None or not entry.description:
            self._shared.pop(name, None)
            return None
        known = self._shared.get(name)
        if known is None or known.entry != entry:
            try:
                known = self._shared[name] = SharedKind(entry)
            except BadEntry as error:
                self._shared.pop(name, None)
                raise KindUnknown(
                    phrase("kind {name} cannot be used: {error}", name=name, error=error)
                ) from None
        return known

    def _forget_old(self) -> None:
        if len(self._asked) >= MOST_REMEMBERED:
            self._asked = {name: one for name, one in self._asked.items() if one.holds}

    def _unknown(self, name: str) -> str:
        known = sorted({*self._kinds, *self._shared})
        close = difflib.get_close_matches(name[:64], known)
        if not close:
            return phrase("there is no kind {kind}", kind=short(name))
        return phrase(
            "there is no kind {kind}; did you mean {near}?",
            kind=short(name),
            near=alternatives(close),
        )


async def _read_entry(name: str, board: StateReader) -> KindEntry | None:
    states = await board.read_kinds()
    return next((one.entry for one in states if one.entry.kind == name), None)


def _look_at(answer: "asyncio.Task[KnownKind | None]") -> None:
    # Those who asked may all have given up.
    if not answer.cancelled():
        answer.exception()
