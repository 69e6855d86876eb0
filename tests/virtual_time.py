"""A queue in virtual time: tasks of known lengths run in the slots of one worker.

Time passes by moving back the times that Redis keeps: when tasks have started, when buckets are
full, when delays end.
"""

import heapq
import json
import random
import time
from collections.abc import Callable, Iterator

import attrs
from redis.asyncio import Redis

from services.queue import Claim, QueueService, Task
from tests.queueing import end, read

WORKER = "w1"
# KEYS: the prefix. ARGV: by how much all times are moved back [s].
PASS = """
local P, by = KEYS[1], ARGV[1]
for _, id in ipairs(redis.call('ZRANGE', P .. 'processing', 0, -1)) do
  redis.call('HINCRBYFLOAT', P .. 'task:' .. id, 'started_at', -by)
end
for _, one in ipairs(redis.call('ZRANGE', P .. 'buckets', 0, -1)) do
  redis.call('ZINCRBY', P .. 'buckets', -by * 1000000, one)
end
for _, id in ipairs(redis.call('ZRANGE', P .. 'delayed', 0, -1)) do
  redis.call('ZINCRBY', P .. 'delayed', -by, id)
end
"""


def gamma(chance: random.Random, mean: float, spread: float) -> float:
    """Return a length [s] of this mean and coefficient of variation."""
    if spread == 0:
        return mean
    shape = 1 / spread**2
    return chance.gammavariate(shape, mean / shape)


@attrs.define
class Forecast:
    """The forecast of a waiting task at a time [s]: its start, from and until."""

    task_id: str
    at: float
    position: int
    low: float
    middle: float
    high: float


@attrs.define
class Shop:
    """Runs tasks; `length` of a claimed task is asked once it starts."""

    queue: QueueService
    redis: Redis
    kinds: tuple[str, ...]
    slots: int
    length: Callable[[Task], float]
    # By how much all times were moved back, and when it began.
    moved: float = 0.0
    begun: float = attrs.Factory(time.monotonic)
    running: list[tuple[float, int, Claim]] = attrs.Factory(list)
    started: dict[str, float] = attrs.Factory(dict)
    forecasts: list[Forecast] = attrs.Factory(list)
    count: int = 0
    # When a rate has a token again.
    again: float = float("inf")

    @property
    def now(self) -> float:
        return self.moved + time.monotonic() - self.begun

    async def open(self) -> None:
        await self.queue.announce_worker(WORKER, self.kinds, {"concurrency": self.slots})

    async def fill(self) -> None:
        """Start what may start."""
        free = self.slots - len(self.running)
        self.again = float("inf")
        if free <= 0:
            return
        claimed = await self.queue.claim(WORKER, free, kinds=self.kinds)
        self.again = float("inf") if claimed.again_in is None else self.now + claimed.again_in
        for one in claimed.claims:
            self.count += 1
            self.started[one.task.task_id] = self.now
            heapq.heappush(self.running, (self.now + self.length(one.task), self.count, one))

    async def step(self, until: float = float("inf")) -> bool:
        """Go on to the next end of a task, or to a time; return whether a task ended."""
        until = min(until, self.again + 0.01)
        ends = self.running and self.running[0][0] <= until
        skipped = max((self.running[0][0] if ends else until) - self.now, 0.0)
        await self.redis.eval(PASS, 1, "{rtq}:", str(skipped))
        self.moved += skipped
        if ends:
            await end(self.queue, heapq.heappop(self.running)[2])
        await self.queue.keep_up()
        await self.fill()
        return bool(ends)

    async def foresee(self, *task_ids: str) -> None:
        """Note what is said of tasks that wait."""
        for task_id in task_ids:
            told = json.loads((await read(self.queue, task_id)).snapshot)
            if "starts_in" in told:
                low, middle, high = (
                    told[name] for name in ("starts_in_low", "starts_in", "starts_in_high")
                )
                self.forecasts.append(
                    Forecast(task_id, self.now, told["position"], low, middle, high)
                )

    def judged(self) -> Iterator[tuple[Forecast, float]]:
        """Yield what was said of tasks that have started since, and when they did."""
        for one in self.forecasts:
            if one.task_id in self.started:
                yield one, self.started[one.task_id] - one.at

    def coverage(self) -> float:
        """Return how many of the starts were in their bands."""
        found = [one.low <= took <= one.high for one, took in self.judged()]
        return sum(found) / len(found)
