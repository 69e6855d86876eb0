"""`make crash-queue`: kill workers and Redis while thousands of tasks run, then count.

    python -m tests.long.crash_queue [--tasks N] [--workers N] [--kill-every S] [--redis-kills N]

A real server with its embedded stores and real worker processes. One worker after another gets
SIGKILL and a successor, Redis too. In the end every task has ended, none is lost, no limit was ever
exceeded, and each has exactly one notification. The tasks are of several kinds and all priorities;
limits of users, kinds and keys hold, and a rate. Some are submitted twice under a unique key.
Schedules fire each second, in whichever process comes first: each time has made exactly one task.
"""

import argparse
import asyncio
import collections
import contextlib
import functools
import itertools
import math
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import attrs
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.queue import Priority, QueueService, Task, Unique
from services.schedules.models import Definition, Missed, Overlap, StoredSchedule, task_id_of
from services.schedules.store import ScheduleStore, Write
from tests.conftest import ServerProcess, start_server, stop_server
from tests.forks import Fork, start_script
from tests.long import crash_handler
from tests.queueing import enqueue
from tests.waiting import until
from tornado_rt.jobs import Jobs
from tornado_rt.mongo import open_database
from tornado_rt.redis import open_redis
from tornado_rt.stores import running_addresses
from tornado_rt.work import Rate

T = TypeVar("T")

USERS, KEYS, SCHEDULES = 5, 3, 2
# One of this many tasks is submitted twice.
TWICE_EVERY = 7
USER_LIMIT, GLOBAL_LIMIT = 3, 12
WORKER_CONCURRENCY = 4
# Tasks that schedules have made meanwhile end within this time after the others.
REST_SECONDS = 300.0
PRIORITIES = tuple(Priority)
ENVIRONMENT = {
    "RT_WORKER_CONCURRENCY": "0",
    "RT_KINDS": "tests.long.crash_handler",
    "RT_QUEUE_VISIBILITY_SECONDS": "2",
    "RT_QUEUE_USER_LIMIT": str(USER_LIMIT),
    "RT_QUEUE_GLOBAL_LIMIT": str(GLOBAL_LIMIT),
    # All are counted at the end.
    "RT_QUEUE_KEPT_PER_USER": "0",
    "RT_REDIS_FSYNC": "always",
    "RT_DRAIN_SECONDS": "0",
}


@attrs.frozen
class Outcome:
    """The counts that the crashes left.

    `times`: how often schedules were due; `fired`: how many tasks they say that they made;
    `skipped`: for how many times they made none. `ran_twice`: tasks that took more than one
    attempt.
    """

    tasks: int
    times: int
    fired: int
    skipped: int
    ended: int
    notifications: int
    notified_tasks: int
    worker_kills: int
    redis_kills: int
    ran_twice: int
    started_over_rate: int
    most_running: int
    most_of_a_user: int
    most_of_a_kind: int
    most_of_a_key: int
    faults: list[str]
    seconds: float


@attrs.define
class Crash:
    """The test while it runs."""

    server: ServerProcess
    redis: Redis
    queue: QueueService
    workers: list[Fork] = attrs.field(factory=list)
    schedules: list[Definition] = attrs.field(factory=list)
    task_ids: list[str] = attrs.field(factory=list)
    worker_kills: int = 0
    redis_kills: int = 0
    most_running: int = 0
    most_of_a_user: int = 0
    most_of_a_kind: int = 0
    most_of_a_key: int = 0

    def start_worker(self) -> None:
        """Start one more worker process."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("RT_")}
        env |= ENVIRONMENT | {"RT_DATA_DIR": str(self.server.data_dir), "RT_LOG_LEVEL": "ERROR"}
        log = self.server.data_dir.parent / "workers.log"
        command = ("worker", "--concurrency", str(WORKER_CONCURRENCY))
        self.workers.append(start_script(env, log, *command))

    async def enqueue(self, count: int) -> None:
        """Submit all tasks; repeating a request that an outage cut off is harmless."""
        for number in range(count):
            task_id = f"crash-{number}"
            kind = crash_handler.SHORT[number % len(crash_handler.SHORT)]
            twice = number % TWICE_EVERY == 0
            more = {
                "kind": kind.name,
                "plan": kind.plan_of(crash_handler.Nothing()),
                "max_attempts": kind.max_attempts,
                "priority": PRIORITIES[number % len(PRIORITIES)],
                "key": f"key{number // len(crash_handler.SHORT) % KEYS}"
                if kind is crash_handler.keyed
                else "",
                "unique": Unique(key=task_id, scope=3600.0) if twice else None,
            }
            for asked in [task_id, f"{task_id}-again"][: 1 + twice]:
                made = await self._enqueued(f"user{number % USERS}", asked, more)
                assert made == task_id
            self.task_ids.append(task_id)

    async def _enqueued(self, user: str, task_id: str, more: dict[str, Any]) -> str:
        return await self._asked(lambda: enqueue(self.queue, user, task_id=task_id, **more))

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until Redis answers."""
        while True:
            with contextlib.suppress(RedisError, OSError):
                return await ask()
            await asyncio.sleep(0.05)

    async def start_schedules(self) -> None:
        """Make schedules that are due each second and leave none out."""
        store = ScheduleStore(self.queue)
        now = await store.now()
        self.schedules = [_schedule(number, now) for number in range(SCHEDULES)]
        await store.write(
            [Write(one.id, b"", one.text, one.times().next_after(now)) for one in self.schedules]
        )

    async def stop_schedules(self) -> None:
        """Switch the schedules off; repeated it changes nothing."""
        writes = [Write(one.id, one.text, one.text, off=True) for one in self.schedules]
        await self._asked(lambda: ScheduleStore(self.queue).write(writes))

    async def watch_limits(self) -> None:
        """Look all the time how many run."""
        while True:
            with contextlib.suppress(RedisError, OSError):
                async with self.redis.pipeline() as pipe:
                    pipe.zcard(self.queue.prefix + "processing")
                    pipe.hvals(self.queue.prefix + "active")
                    pipe.hget(self.queue.prefix + "running", crash_handler.keyed.name)
                    pipe.hvals(self.queue.prefix + "keys")
                    running, active, of_kind, keys = await pipe.execute()
                self.most_running = max(self.most_running, running)
                self.most_of_a_user = max(self.most_of_a_user, *map(int, active), 0)
                self.most_of_a_kind = max(self.most_of_a_kind, int(of_kind or 0))
                self.most_of_a_key = max(self.most_of_a_key, *map(int, keys), 0)
            await asyncio.sleep(0.02)

    async def _ended_more_than(self, seen: int) -> int | None:
        ended = await self.ended()
        return ended if ended > seen else None

    async def kill_workers(self, every: float) -> None:
        """Kill the oldest worker again and again, and start another in its place.

        Between two kills some task ends, however slowly workers start on this machine.
        """
        seen = 0
        while True:
            await asyncio.sleep(every)
            seen = await until(functools.partial(self._ended_more_than, seen))
            oldest = self.workers.pop(0)
            oldest.kill()
            oldest.wait()
            self.worker_kills += 1
            self.start_worker()

    async def kill_redis(self) -> None:
        """Kill Redis; the server starts it again."""
        os.kill(int((await self.redis.info("server"))["process_id"]), signal.SIGKILL)
        self.redis_kills += 1

    async def ended(self) -> int:
        """Count the ended tasks; while Redis is away, none."""
        try:
            stats = await self.queue.stats()
        except (RedisError, OSError):
            return 0
        return stats.completed + stats.failed + stats.cancelled + stats.dead

    async def unended(self) -> int:
        """Count the tasks that wait or run."""
        stats = await self._asked(self.queue.stats)
        return stats.queued + stats.delayed + stats.processing

    def stop(self) -> None:
        """Kill the workers that are left."""
        for worker in self.workers:
            worker.kill()
            worker.wait()


def _schedule(number: int, now: float) -> Definition:
    kind = crash_handler.SHORT[number % len(crash_handler.SHORT)]
    return Definition(
        name=f"each-second-{number}",
        user_id=f"clock{number}",
        kind=kind.name,
        priority=PRIORITIES[number % len(PRIORITIES)],
        key="key0" if kind is crash_handler.keyed else "",
        every=1.0,
        overlap=Overlap.QUEUE,
        missed=Missed.ALL,
        start=float(math.floor(now)),
    )


@contextlib.asynccontextmanager
async def crashing(folder: Path) -> AsyncIterator[Crash]:
    """Start a server to be crashed."""
    server = await asyncio.to_thread(start_server, folder / "data", **ENVIRONMENT)
    try:
        async with open_redis(running_addresses(server.data_dir).redis_url) as redis:
            crash = Crash(server, redis, QueueService(redis, max_waiting_per_user=0))
            try:
                yield crash
            finally:
                crash.stop()
    finally:
        await asyncio.to_thread(stop_server, server)


async def run(tasks: int, workers: int, kill_every: float, redis_kills: int) -> Outcome:
    """Crash, recover, count."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        async with crashing(Path(name)) as crash:
            for _ in range(workers):
                crash.start_worker()
            await crash.start_schedules()
            jobs = Jobs()
            submitting = jobs.start(crash.enqueue(tasks), "enqueue")
            jobs.start(crash.watch_limits(), "watch-limits")
            jobs.start(crash.kill_workers(kill_every), "kill-workers")
            try:
                await _until_ended(crash, tasks, redis_kills)
                await crash.stop_schedules()
                await submitting
                await until(crash.unended, REST_SECONDS, "all tasks have ended", equal=0)
            finally:
                await jobs.close()
            return await _count(crash, tasks, began)


async def _until_ended(crash: Crash, tasks: int, redis_kills: int) -> None:
    """Wait for the end of as many tasks, and kill Redis meanwhile."""
    while (ended := await crash.ended()) < tasks:
        if crash.redis_kills < redis_kills:
            due = tasks * (crash.redis_kills + 1) // (redis_kills + 1)
            if ended >= due:
                await crash.kill_redis()
        await asyncio.sleep(0.05)


async def _count(crash: Crash, tasks: int, began: float) -> Outcome:
    # The embedded MongoDB stores some 50 notifications a second, and tasks end faster.
    outbox = crash.queue.prefix + "outbox"
    await until(lambda: crash.redis.xlen(outbox), REST_SECONDS, "all ends are told", equal=0)
    attempts: collections.Counter[int] = collections.Counter()
    starts: list[float] = []
    fired = (await ScheduleStore(crash.queue).read([one.id for one in crash.schedules])).items
    scheduled = [task_id for one in fired for task_id in _tasks_of(one)]
    task_ids = [*crash.task_ids, *scheduled]
    for task_id in task_ids:
        task = await crash.queue.get_task(task_id)
        assert task is not None, f"{task_id} is lost"
        attempts[task.attempt] += 1
        if task.kind == crash_handler.rated.name:
            starts += _starts_of(task)
    url = running_addresses(crash.server.data_dir).mongodb_url
    async with open_database(url, "tornado_rt") as database:
        events = [one["event_id"] async for one in database["inbox"].find({})]
    return Outcome(
        tasks=tasks,
        times=len(scheduled),
        fired=sum(one.state.fired for one in fired),
        skipped=sum(one.state.skipped for one in fired),
        ended=await crash.ended(),
        notifications=len(events),
        notified_tasks=len(set(events) & set(task_ids)),
        worker_kills=crash.worker_kills,
        redis_kills=crash.redis_kills,
        ran_twice=sum(count for attempt, count in attempts.items() if attempt > 1),
        started_over_rate=_over_rate(starts),
        most_running=crash.most_running,
        most_of_a_user=crash.most_of_a_user,
        most_of_a_kind=crash.most_of_a_kind,
        most_of_a_key=crash.most_of_a_key,
        faults=await crash.queue.check_invariants(),
        seconds=time.monotonic() - began,
    )


def _tasks_of(one: StoredSchedule) -> Iterator[str]:
    """Return the task of each time of a schedule, up to the last that it fired at."""
    assert one.definition is not None
    assert one.state.last_time is not None
    for at in range(int(one.definition.start) + 1, int(one.state.last_time) + 1):
        yield task_id_of(one.id, str(at))


def _starts_of(task: Task) -> list[float]:
    """Return when each attempt of a task began."""
    told = [datetime.fromisoformat(one["started_at"]).timestamp() for one in task.attempts]
    return [*told, task.started_at or 0.0]


def _over_rate(starts: list[float]) -> int:
    """Count by how many the most have started that did so in any time, over what the rate allows.

    What an attempt that was handed back took is not told; those only make it fewer.
    """
    rate = Rate.parse(crash_handler.RATE)
    over = 0
    for (first, since), (last, until_) in itertools.combinations(enumerate(sorted(starts)), 2):
        # Times are told in milliseconds.
        allowed = rate.count * (1 + (until_ - since + 0.002) / rate.seconds)
        over = max(over, last - first + 1 - int(allowed))
    return over


def check(outcome: Outcome) -> None:
    """Raise AssertionError unless nothing was lost, doubled or exceeded."""
    assert outcome.times > 0
    assert (outcome.fired, outcome.skipped) == (outcome.times, 0)
    assert outcome.ended == outcome.tasks + outcome.times
    assert outcome.notifications == outcome.notified_tasks == outcome.ended
    assert outcome.most_running <= GLOBAL_LIMIT
    assert outcome.most_of_a_user <= USER_LIMIT
    assert outcome.most_of_a_kind <= crash_handler.KIND_LIMIT
    assert outcome.most_of_a_key <= crash_handler.KEY_LIMIT
    assert outcome.started_over_rate == 0
    assert outcome.faults == []


def main() -> None:
    """Read the arguments, crash, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kill-every", type=float, default=0.4)
    parser.add_argument("--redis-kills", type=int, default=2)
    options = parser.parse_args()
    outcome = asyncio.run(
        run(options.tasks, options.workers, options.kill_every, options.redis_kills)
    )
    for name, value in attrs.asdict(outcome).items():
        print(f"{name:16} {value}")
    check(outcome)


if __name__ == "__main__":
    main()
