"""The queue as a plain Python model, and a driver that runs both side by side.

The model knows nothing of Redis: tasks in a dict, the line sorted when asked. After each step the
driver compares what both know. Leases and delays run out when the driver says. Whose turn it is, is
exact in both orders, and when one changes to the other.
"""

import random
from collections.abc import Sequence
from typing import Any

import attrs
from redis.asyncio import Redis

from services.queue import Claim, QueueFull, QueueService, TaskNotFound
from settings import QueueOrder

PLAN = b'"progress":0.0'
USERS = ("ann", "ben", "cleo", "dan")
WORKERS = ("one", "two", "three")
ENDS = ("completed", "failed", "cancelled", "dead")
WAITING = ("queued", "delayed")


@attrs.define
class ModelTask:
    """What the model knows of a task."""

    user: str
    seq: int
    status: str = "queued"
    attempt: int = 0
    token: str = ""
    worker: str = ""
    percent: float = 0.0
    batch: str | None = None
    # When it ended: the number of the step, and its id among those of the same moment.
    ended: tuple[int, str] = (0, "")


@attrs.define
class Model:
    """The rules of the queue, without any of its structures."""

    user_limit: int = 2
    global_limit: int = 5
    max_waiting: int = 12
    max_attempts: int = 2
    # Ended tasks of a user, and dead ones apart.
    kept: int = 5
    moment: int = 0
    tasks: dict[str, ModelTask] = attrs.field(factory=dict)
    seq: int = 0
    order: QueueOrder = QueueOrder.FIFO
    # The order and limit by which the turns stand: those of the last claim.
    applied: tuple[QueueOrder, int] = (QueueOrder.FIFO, -1)
    parked: set[str] = attrs.field(factory=set)
    turns: dict[str, int] = attrs.field(factory=dict)
    turn: int = 0

    def has_room(self, user: str, adding: int) -> bool:
        waiting = [t for t in self.tasks.values() if t.user == user and t.status in WAITING]
        return len(waiting) + adding <= self.max_waiting

    def add(self, task_id: str, user: str, status: str, batch: str | None = None) -> None:
        self.seq += 1
        self.tasks[task_id] = ModelTask(user, self.seq, status, batch=batch)

    def running(self, user: str | None = None) -> int:
        return sum(t.status == "processing" and user in (None, t.user) for t in self.tasks.values())

    def line(self) -> list[str]:
        queued = [id_ for id_, t in self.tasks.items() if t.status == "queued"]
        return sorted(queued, key=lambda id_: self.tasks[id_].seq)

    def ready(self) -> list[str]:
        """Return the users who wait and do not stand aside, by whose turn it is."""
        line = self.line()
        users = list(dict.fromkeys(self.tasks[id_].user for id_ in line))
        if self.applied[0] == QueueOrder.FAIR:
            users.sort(key=lambda user: self.turns.get(user, 0))
        return [user for user in users if user not in self.parked]

    def settle(self, moved: list[str], freed: list[str]) -> None:
        """Find the turns of users anew whose line or whose running tasks changed."""
        back = [user for user in freed if user in self.parked]
        self.parked -= set(freed)
        waiting = {self.tasks[id_].user for id_ in self.line()}
        for user in moved + back:
            if user not in waiting:
                self.parked.discard(user)
                self.turns.pop(user, None)
            elif user not in self.parked and user not in self.turns:
                self.draw(user)

    def moves(self, task_id: str) -> list[str]:
        """Return the user if the task that came into the line is his first."""
        user = self.tasks[task_id].user
        first = next((id_ for id_ in self.line() if self.tasks[id_].user == user), None)
        return [user] if first == task_id else []

    def draw(self, user: str) -> None:
        self.turn += 1
        self.turns[user] = self.turn

    def apply(self) -> None:
        """Find all turns anew when the order or the users' limit changed, as each claim does."""
        if self.applied == (self.order, self.user_limit):
            return
        users = self.ready() + sorted(self.parked)
        self.applied = (self.order, self.user_limit)
        self.parked, self.turns = set(), {}
        for user in users:
            self.draw(user)

    def claim(self, count: int) -> list[str]:
        """Start the tasks that may, turn by turn, passing over users at their limit."""
        self.apply()
        started: list[str] = []
        while len(started) < count and not 0 < self.global_limit <= self.running():
            user = next(iter(self.ready()), None)
            if user is None:
                break
            if 0 < self.user_limit <= self.running(user):
                self.parked.add(user)
                self.turns.pop(user, None)
                continue
            own = [id_ for id_ in self.line() if self.tasks[id_].user == user]
            task = self.tasks[own[0]]
            task.status, task.percent = "processing", 0.0
            task.attempt += 1
            started.append(own[0])
            self.turns.pop(user, None)
            if own[1:]:
                self.draw(user)
        return started

    def owns(self, task_id: str, token: str) -> bool:
        task = self.tasks.get(task_id)
        return task is not None and task.status == "processing" and task.token == token

    def give_back(self, task_id: str, status: str = "queued") -> None:
        task = self.tasks[task_id]
        if task.attempt >= self.max_attempts:
            self.end(task_id, "dead")
        else:
            task.status, task.token, task.percent = status, "", 0.0

    def end(self, task_id: str, status: str) -> None:
        task = self.tasks[task_id]
        task.status, task.token, task.ended = status, "", (self.moment, task_id)

    def let_go(self, user: str) -> None:
        """Forget the oldest ended tasks of a user of whom some have just ended."""
        for dead in (True, False):
            own = [
                id_
                for id_, t in self.tasks.items()
                if t.user == user and t.status in ENDS and (t.status == "dead") == dead
            ]
            own.sort(key=lambda id_: self.tasks[id_].ended)
            if own and self.tasks[own[-1]].ended[0] == self.moment:
                for task_id in own[: -self.kept]:
                    del self.tasks[task_id]


@attrs.define
class Driver:
    """Takes the same random steps on the queue and on the model."""

    queue: QueueService
    redis: Redis
    rng: random.Random
    model: Model = attrs.field(factory=Model)
    claims: list[Claim] = attrs.field(factory=list)
    made: int = 0

    async def step(self) -> str:
        """Take one random step; return its name."""
        name = self.rng.choices(list(STEPS), [STEPS[name] for name in STEPS])[0]
        await self.take(name)
        return name

    async def take(self, name: str) -> None:
        """Take one step."""
        self.model.moment += 1
        await getattr(self, name)()
        for user in USERS:
            self.model.let_go(user)

    async def enqueue(self) -> None:
        user, delay = self.rng.choice(USERS), self.rng.choice([0.0, 0.0, 0.0, 1000.0])
        self.made += 1
        task_id = f"t{self.made}"
        try:
            await self.queue.enqueue_task(user, "A", {}, plan=PLAN, delay=delay, task_id=task_id)
        except QueueFull:
            assert not self.model.has_room(user, 1)
            return
        assert self.model.has_room(user, 1)
        self.model.add(task_id, user, "delayed" if delay else "queued")
        self.model.settle([user], [])

    async def batch(self) -> None:
        user, count = self.rng.choice(USERS), self.rng.randint(1, 4)
        self.made += 1
        batch_id = f"b{self.made}"
        try:
            made = await self.queue.create_batch(
                user, ["A"] * count, {}, plan=PLAN, batch_id=batch_id
            )
        except QueueFull:
            assert not self.model.has_room(user, count)
            return
        for task_id in made.task_ids:
            self.model.add(task_id, user, "queued", batch_id)
        self.model.settle([user], [])

    async def claim(self) -> None:
        count, worker = self.rng.randint(1, 4), self.rng.choice(WORKERS)
        claims = await self.queue.claim(worker, count)
        assert [c.task.task_id for c in claims] == self.model.claim(count)
        for claim in claims:
            task = self.model.tasks[claim.task.task_id]
            assert claim.task.attempt == task.attempt
            task.token, task.worker = claim.token, worker
        self.claims = (self.claims + claims)[-20:]

    async def ack(self) -> None:
        await self._end(success=True)

    async def fail(self) -> None:
        await self._end(success=False)

    async def _end(self, *, success: bool) -> None:
        if not self.claims:
            return
        claim = self.rng.choice(self.claims)
        task_id, token = claim.task.task_id, claim.token
        mine = self.model.owns(task_id, token)
        for _ in range(self.rng.randint(1, 2)):
            owned = await self.queue.ack_task(task_id, success, token=token)
            assert owned or not mine
        if mine:
            self.model.end(task_id, "completed" if success else "failed")
            self.model.settle([], [self.model.tasks[task_id].user])
        self.model.apply()

    async def retry(self) -> None:
        if not self.claims:
            return
        claim, delay = self.rng.choice(self.claims), self.rng.choice([0.0, 1000.0])
        task_id, token = claim.task.task_id, claim.token
        mine = self.model.owns(task_id, token)
        owned = await self.queue.retry_task(task_id, token=token, error="x", delay=delay)
        assert owned or not mine
        if mine:
            self.model.give_back(task_id, "delayed" if delay else "queued")
            self.model.settle(self.model.moves(task_id), [self.model.tasks[task_id].user])
        self.model.apply()

    async def release(self) -> None:
        if not self.claims:
            return
        claim = self.rng.choice(self.claims)
        task_id, token = claim.task.task_id, claim.token
        mine = self.model.owns(task_id, token)
        owned = await self.queue.release_task(task_id, token)
        assert owned or not mine
        if mine:
            task = self.model.tasks[task_id]
            task.status, task.token, task.percent = "queued", "", 0.0
            task.attempt -= 1
            self.model.settle(self.model.moves(task_id), [self.model.tasks[task_id].user])

    async def report(self) -> None:
        if not self.claims:
            return
        claim, percent = self.rng.choice(self.claims), float(self.rng.randint(0, 100))
        task_id, token = claim.task.task_id, claim.token
        owned = await self.queue.report_progress(task_id, token, b'"progress":1', percent)
        assert owned == self.model.owns(task_id, token)
        if owned:
            task = self.model.tasks[task_id]
            # A report of an equal fragment is a repeated one.
            if task.percent <= percent and not task.percent:
                task.percent = percent

    async def cancel(self) -> None:
        if not self.model.tasks:
            return
        task_id = self.rng.choice(list(self.model.tasks))
        await self.queue.cancel_task(task_id)
        task = self.model.tasks[task_id]
        if task.status not in ENDS:
            freed = [task.user] if task.status == "processing" else []
            self.model.end(task_id, "cancelled")
            self.model.settle([task.user] if not freed else [], freed)

    async def expire(self) -> None:
        """The clock passes some leases."""
        running = self._running_of(WORKERS)
        lost = self.rng.sample(running, self.rng.randint(0, len(running)))
        for task_id in lost:
            await self.redis.zadd(self.queue.prefix + "processing", {task_id: 1})
        await self._hand_back(lost)

    async def lose_workers(self) -> None:
        """Some workers are gone."""
        workers = self.rng.sample(WORKERS, self.rng.randint(1, 2))
        lost = self._running_of(workers)
        assert await self.queue.expire_claims(workers) == len(lost)
        await self._hand_back(lost)

    def _running_of(self, workers: Sequence[str]) -> list[str]:
        tasks = self.model.tasks.items()
        return [id_ for id_, t in tasks if t.status == "processing" and t.worker in workers]

    async def _hand_back(self, lost: list[str]) -> None:
        assert await self.queue.cleanup_expired_tasks() == len(lost)
        # All fell due at once, and are taken by their ids.
        moved, freed = [], []
        for task_id in sorted(lost):
            self.model.give_back(task_id)
            moved += self.model.moves(task_id)
            freed.append(self.model.tasks[task_id].user)
        self.model.settle(moved, freed)

    async def due(self) -> None:
        """The clock passes some delays."""
        aside = [id_ for id_, t in self.model.tasks.items() if t.status == "delayed"]
        come = self.rng.sample(aside, self.rng.randint(0, len(aside)))
        for task_id in come:
            await self.redis.zadd(self.queue.prefix + "delayed", {task_id: 1})
        await self.queue.keep_up()
        moved = []
        for task_id in sorted(come):
            self.model.tasks[task_id].status = "queued"
            moved += self.model.moves(task_id)
        self.model.settle(moved, [])

    async def limits(self) -> None:
        """Change the limits; they hold from the next claim on."""
        self.model.user_limit = self.queue.user_limit = self.rng.randint(0, 3)
        self.model.global_limit = self.queue.global_limit = self.rng.randint(0, 6)

    async def change_order(self) -> None:
        """Change the order; it holds from the next claim on."""
        self.model.order = self.queue.order = self.rng.choice(list(QueueOrder))

    async def keep(self) -> None:
        """Change how many ended tasks are kept; it holds for those who end some from then on."""
        self.model.kept = self.queue.kept_per_user = self.rng.choice([1, 3, 5])

    async def revive(self) -> None:
        for task in await self.queue.list_dead(2):
            revived = await self.queue.revive_task(task.task_id)
            known = self.model.tasks[task.task_id]
            known.status, known.attempt, known.percent = "queued", 0, 0.0
            assert revived.attempt == 0
            self.model.settle(self.model.moves(task.task_id), [])

    async def discard(self) -> None:
        for task in await self.queue.list_dead(1):
            await self.queue.discard_task(task.task_id)
            del self.model.tasks[task.task_id]

    async def forget(self) -> None:
        """The clock passes the retention of all that has ended."""
        for name in ("ended", "ended_batches"):
            for member in await self.redis.zrange(self.queue.prefix + name, 0, -1):
                await self.redis.zadd(self.queue.prefix + name, {member: 1})
        await self.queue.keep_up()
        for task_id in [id_ for id_, t in self.model.tasks.items() if t.status in ENDS]:
            del self.model.tasks[task_id]
            assert await self.queue.get_task(task_id) is None

    async def stale(self) -> None:
        """Requests on what is not there change nothing."""
        assert not await self.queue.ack_task("gone", token="1")
        self.model.apply()
        assert not await self.queue.extend_task("gone", "1")
        try:
            await self.queue.cancel_task("gone")
        except TaskNotFound:
            return
        raise AssertionError("a task that is not there was cancelled")

    async def compare(self) -> None:
        """Compare the counts, and one task in all that is known of it."""
        stats = attrs.asdict(await self.queue.stats())
        counted = dict.fromkeys(stats, 0)
        for task in self.model.tasks.values():
            counted[task.status] += 1
        assert stats == counted
        line = self.model.line()
        if line:
            task_id = self.rng.choice(line)
            found = await self.queue.get_task(task_id)
            assert found is not None
            assert found.position == line.index(task_id) + 1
        async with self.redis.pipeline() as pipe:
            pipe.zrange(self.queue.prefix + "ready", 0, -1)
            pipe.smembers(self.queue.prefix + "parked")
            ready, parked = await pipe.execute()
        assert [user.decode() for user in ready] == self.model.ready()
        assert {user.decode() for user in parked} == self.model.parked

    async def check(self) -> None:
        """Compare everything in Redis with everything, and with the model."""
        assert await self.queue.check_invariants() == []
        for task_id, task in self.model.tasks.items():
            found: Any = await self.queue.get_task(task_id)
            known = (found.status, found.attempt, found.user_id)
            assert known == (task.status, task.attempt, task.user), task_id


STEPS: dict[str, int] = {
    "enqueue": 12,
    "batch": 3,
    "claim": 12,
    "ack": 8,
    "fail": 2,
    "retry": 3,
    "release": 2,
    "report": 4,
    "cancel": 3,
    "expire": 2,
    "lose_workers": 1,
    "due": 2,
    "limits": 1,
    "change_order": 1,
    "keep": 1,
    "revive": 1,
    "discard": 1,
    "forget": 1,
    "stale": 1,
}


def make_driver(redis: Redis, seed: int) -> Driver:
    """Return a driver on an empty Redis."""
    model = Model()
    queue = QueueService(
        redis,
        user_limit=model.user_limit,
        global_limit=model.global_limit,
        max_waiting_per_user=model.max_waiting,
        max_attempts=model.max_attempts,
        retention_seconds=600,
        kept_per_user=model.kept,
    )
    return Driver(queue, redis, random.Random(seed), model)
