"""Runs deliveries: in the order of their lane, again when they fail, for about a day."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import attrs
import structlog
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from services.deliveries.lanes import Lanes
from services.deliveries.service import ENDED, Deliveries, DeliveryKind, GivenUp
from services.queue import Outcome, QueueService
from services.worker import KindTarget, Prepared, Rules, Target, kind_target
from settings import Settings
from tornado_rt.turns import NoTurn
from tornado_rt.work import Retry, TaskError
from tornado_rt.work.attempts.endings import retry_seconds, text_of_error
from tornado_rt.work.attempts.link import Link
from tornado_rt.work.texts import stored_phrase

log = structlog.get_logger(__name__)

# The waits between the attempts [s]: eleven attempts in 23.7 hours. Settings name their scale and
# their spread.
RETRY_SECONDS = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800)
# A store may be away for this long before the next look, which counts as no attempt [s].
STORE_SECONDS = 5.0
# A delivery that waits for an earlier one of its lane looks this often whether that is under way,
# and waits this much longer than the next attempt of that one [s].
LOOK_SECONDS = 1.0
# The longest attempt of a kind that names none [s].
ATTEMPT_SECONDS = 60.0
STORES_AWAY = (PyMongoError, RedisError, NoTurn)


def delivery_targets(deliveries: Deliveries, settings: Settings) -> dict[str, Target]:
    """Return what runs each kind of delivery: on the loop or in a thread of this process."""
    inside = settings.changed(worker_processes=False, task_timeout_seconds=0.0)
    return {
        name: DeliveryTarget(one, deliveries, kind_target(one.kind, inside), settings)
        for name, one in deliveries.kinds.items()
    }


class DeliveryTarget:
    """Runs the deliveries of a kind by its handler."""

    def __init__(
        self, kind: DeliveryKind, deliveries: Deliveries, target: KindTarget, settings: Settings
    ) -> None:
        self.gave_up = kind.gave_up
        self.seconds = kind.kind.timeout or ATTEMPT_SECONDS
        self.scale = settings.callbacks.delivery_retry_scale
        self.spread = settings.callbacks.delivery_retry_spread
        self.queue: QueueService = deliveries.queue
        self.lanes: Lanes = deliveries.lanes
        self._target = target
        # The end of an attempt that took too long is told here, by the schedule.
        target.rules = attrs.evolve(target.rules, timeout_seconds=0.0)

    def prepare(self, link: Link) -> "PreparedDelivery":
        """Read the parameters. Raise BadParams."""
        return PreparedDelivery(self, link, self._target.prepare(link))

    def wait_after(self, failures: int) -> float | None:
        """Return the wait after this many failures [s]; None when all attempts are used up."""
        if failures > len(RETRY_SECONDS):
            return None
        spread = random.uniform(1.0 - self.spread, 1.0 + self.spread)
        return RETRY_SECONDS[failures - 1] * self.scale * spread


class PreparedDelivery:
    """One attempt of a delivery."""

    def __init__(self, target: DeliveryTarget, link: Link, prepared: Prepared) -> None:
        self._target = target
        self._task = link.task
        self._lane = next(iter(link.task.job.tags), "")
        self._prepared = prepared
        self.stop: Callable[[], None] = prepared.stop

    @property
    def rules(self) -> Rules:
        """The rules for its end."""
        return self._prepared.rules

    def last_fragment(self, outcome: Outcome, error: str) -> bytes | None:
        """Return the last state of the snapshot."""
        return self._prepared.last_fragment(outcome, error)

    def lesson(self) -> None:
        """Teach nothing: nobody waits for the end of a delivery."""

    async def run(self) -> Any:
        """Run the handler when it is its turn. Raise Retry, or TaskError when it is given up."""
        try:
            await self._wait_for_turn()
            return await self._attempt()
        except STORES_AWAY as error:
            log.warning("delivery_waits", task_id=self._task.task_id, error=error)
            raise Retry(stored_phrase("a store is away"), STORE_SECONDS) from error

    async def _attempt(self) -> Any:
        try:
            async with asyncio.timeout(self._target.seconds):
                result = await self._prepared.run()
        except STORES_AWAY:
            raise
        except TaskError as error:
            await self._give_up(text_of_error(error), exhausted=False)
            raise
        except Exception as error:
            wait = await self._wait_after(error)
            if wait is None:
                await self._give_up(text_of_error(error), exhausted=True)
                raise TaskError(text_of_error(error)) from error
            raise Retry(text_of_error(error), wait) from error
        await self._target.lanes.leave(self._lane, self._task.task_id)
        return result

    async def _wait_after(self, error: Exception) -> float | None:
        failures = await self._target.lanes.count_failure(self._task.task_id)
        wait = self._target.wait_after(failures)
        if wait is None or not isinstance(error, Retry):
            return wait
        return max(wait, retry_seconds(error.delay) or 0.0)

    async def _give_up(self, reason: str, *, exhausted: bool) -> None:
        task = self._task
        if self._target.gave_up is not None:
            told = GivenUp(task.user_id, task.params, task.created_at, reason, exhausted)
            await self._target.gave_up(told)
        await self._target.lanes.leave(self._lane, task.task_id)

    async def _wait_for_turn(self) -> None:
        """Return when this is the first of its lane. Raise Retry for when to look again."""
        if not self._lane:
            return
        first = await self._target.lanes.first(self._lane)
        while first not in ("", self._task.task_id):
            if (wait := await self._wait_for(first)) is not None:
                raise Retry(stored_phrase("waits for an earlier one of its key"), wait)
            await self._target.lanes.leave(self._lane, first)
            first = await self._target.lanes.first(self._lane)

    async def _wait_for(self, task_id: str) -> float | None:
        """Return for how long to wait for another delivery [s]; None when that has ended."""
        other = await self._target.queue.get_task(task_id)
        if other is None or other.status in ENDED:
            # Cut off between its adding and its place, or ended by hand.
            return None
        return max((other.run_at or 0.0) - time.time(), 0.0) + LOOK_SECONDS * self._pace

    @property
    def _pace(self) -> float:
        return min(self._target.scale, 1.0)
