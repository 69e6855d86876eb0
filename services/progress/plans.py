"""The plans that this process has met, by the digests that snapshots name them by."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from services.progress.snapshot import PlanView, read_kept
from tornado_rt.bounded import Bounded
from tornado_rt.protocol import Bundle, Message, MessageType
from tornado_rt.work import Plan

log = structlog.get_logger(__name__)

MOST_PLANS = 4096
# Of the leaves of these plans, as JSON.
MOST_PLAN_BYTES = 64 * 1024 * 1024
# Messages are kept while they may be on their way to many subscribers, each with what was made of
# it for their transports.
MOST_MESSAGES = 256
MOST_MESSAGE_BYTES = 4 * 1024 * 1024
# For how long it is known that nobody has a plan [s].
MISSING_SECONDS = 1.0

DIGEST = re.compile(r"[0-9a-f]{16}")
NO_STEPS = PlanView(None)

# Returns the texts of the plans that there are, by their digests.
Read = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]


class PlanBook:
    """Shows snapshots by the plans that they name.

    `read` is asked for plans that are not known here. A snapshot whose plan it has not either is
    shown without steps, and asked for again a second later. It is used on one loop.
    """

    def __init__(self, read: Read, most: int = MOST_PLANS) -> None:
        self._read = read
        self._plans: Bounded[str, PlanView] = Bounded(most, MOST_PLAN_BYTES)
        # Until when a plan counts as missing, by the monotonic clock.
        self._missing: Bounded[str, float] = Bounded(most)
        self._reading: dict[str, asyncio.Future[None]] = {}
        # By the identity of the message, which is kept with it: no other has it meanwhile.
        self._shown: Bounded[int, tuple[Message, Message]] = Bounded(
            MOST_MESSAGES, MOST_MESSAGE_BYTES
        )

    def add(self, plan: Plan) -> None:
        """Know a plan."""
        if self._plans.find(plan.digest) is None:
            self._put(plan.digest, PlanView(plan))

    async def learn(self, digests: Iterable[object]) -> None:
        """Read what is not known of these. Raise what reading raises.

        A plan that others ask for at the same time is read once.
        """
        left = self._unknown_of(digests)
        while left:
            fresh = left - self._reading.keys()
            if fresh:
                await self._read_now(sorted(fresh))
            else:
                await asyncio.shield(self._reading[next(iter(left))])
            left = self._unknown_of(left - fresh)

    def show(self, snapshot: bytes) -> bytes | None:
        """Return a snapshot as it is shown, None when its plan is still to be learned.

        Raise ValueError when it is not JSON.
        """
        fields = read_kept(snapshot)
        if fields is None:
            return snapshot
        plan = self._find(fields["plan"])
        return None if plan is None else plan.show(fields)

    async def shown(self, snapshot: bytes) -> bytes:
        """Return a snapshot as it is shown. Raise what reading its plan raises; ValueError."""
        [shown] = await self.all_shown([snapshot])
        return shown

    async def all_shown(self, snapshots: Sequence[bytes]) -> list[bytes]:
        """Return snapshots as they are shown; what is not known of their plans is read at once."""
        all_fields = list(map(read_kept, snapshots))
        named = [fields["plan"] for fields in all_fields if fields is not None]
        await self.learn(named)
        return [
            snapshot if fields is None else self._known(fields["plan"]).show(fields)
            for snapshot, fields in zip(snapshots, all_fields, strict=True)
        ]

    def show_message(self, message: Message) -> Message | None:
        """Return a message as it is shown, None when a plan is still to be learned.

        The same object each time: what a message is on the wire is made once for all subscribers.
        """
        known = self._shown.values.get(id(message))
        if known is not None:
            return known[1]
        shown = [self._show_part(part) for part in message.parts]
        told = [part for part in shown if part is not None]
        if len(told) < len(shown):
            return None
        whole = Bundle.join(told) if isinstance(message, Bundle) else told[0]
        self._shown.put(id(message), (message, whole), sum(len(part.data) for part in told))
        return whole

    async def all_shown_messages(self, messages: Sequence[Message]) -> list[Message]:
        """Do for messages as `all_shown` does."""
        progress = [one for one in messages if one.type == MessageType.PROGRESS]
        data = iter(await self.all_shown([one.data for one in progress]))
        return [
            Message(one.type, next(data), one.id) if one.type == MessageType.PROGRESS else one
            for one in messages
        ]

    def _show_part(self, part: Message) -> Message | None:
        if part.type != MessageType.PROGRESS:
            return part
        data = self.show(part.data)
        return None if data is None else Message(part.type, data, part.id)

    def _unknown_of(self, digests: Iterable[object]) -> set[str]:
        return {one for one in digests if isinstance(one, str) and self._find(one) is None}

    def _known(self, digest: Any) -> PlanView:
        return self._find(digest) or NO_STEPS

    def _find(self, digest: Any) -> PlanView | None:
        """Return a plan, one without steps if a snapshot names none; None: it must be read."""
        if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
            return NO_STEPS
        plan = self._plans.find(digest)
        if plan is None and time.monotonic() < self._missing.values.get(digest, 0.0):
            return NO_STEPS
        return plan

    def _put(self, digest: str, plan: PlanView) -> None:
        self._plans.put(digest, plan, plan.size)
        self._missing.drop(digest)

    async def _read_now(self, digests: list[str]) -> None:
        told = asyncio.get_running_loop().create_future()
        self._reading.update(dict.fromkeys(digests, told))
        try:
            texts = await self._read(digests)
            for digest in digests:
                self._take(digest, texts.get(digest))
        except Exception as error:
            told.set_exception(error)
            # It is raised here too: nobody else needs to wait for it.
            told.exception()
            raise
        finally:
            for digest in digests:
                del self._reading[digest]
            if not told.done():
                # Read, or this reader was cancelled: who still misses a plan reads it.
                told.set_result(None)

    def _take(self, digest: str, text: bytes | None) -> None:
        if text is None:
            self._missing.put(digest, time.monotonic() + MISSING_SECONDS)
            return
        try:
            plan = PlanView(Plan.read(text))
        except Exception as error:
            # Anything may stand in Redis, also the plan of a later version.
            log.warning("plan_unreadable", digest=digest, error=error)
            plan = NO_STEPS
        self._put(digest, plan)
