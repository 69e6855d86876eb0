"""Tasks on their way to workers elsewhere, and the ends of their attempts on the way back."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from services.queue import Ack, Claim, QueueService
from services.remote.attempts import Attempts, RemoteAttempt
from services.remote.declaring import DeclaredKinds
from services.remote.pools import Pool, Taker
from services.remote.shown import show_task
from services.worker.outcomes import Outcomes
from services.worker.upkeep import WorkerUpkeep
from tornado_rt.jobs import Jobs
from tornado_rt.metrics import Metrics
from tornado_rt.redis import is_outage
from tornado_rt.work.attempts.outages import OUTAGE_SECONDS, Outages

Kinds = tuple[str, ...]


class Dispatch:
    """Claims for all workers elsewhere together, those of the same kinds by one request.

    `announce` tells others which of them live. The queue's upkeep is done from the first on.
    """

    def __init__(
        self,
        queue: QueueService,
        kinds: DeclaredKinds,
        attempts: Attempts,
        metrics: Metrics,
        announce: Callable[[], Awaitable[None]],
    ) -> None:
        self.outages = Outages(is_outage)
        self.outcomes = Outcomes(metrics)
        self._queue = queue
        self._kinds = kinds
        self._attempts = attempts
        self._jobs = Jobs(OUTAGE_SECONDS)
        # Of no roster: when this process dies, its workers go on.
        self._id = f"remote:{secrets.token_hex(8)}"
        self._pools: dict[Kinds, Pool] = {}
        self._upkeep = WorkerUpkeep(
            queue, announce, roster=None, outages=self.outages, metrics=metrics
        )
        self._keeps_up = False

    def spawn(self, job: Coroutine[Any, Any, None], name: str = "remote") -> None:
        """Run a job until it ends, or the whole does."""
        self._jobs.start(job, name)

    def look(self, due_in: float | None) -> None:
        """Claim again: there may be work; something of the queue is due in these seconds."""
        self._upkeep.expect_due(due_in)
        for pool in tuple(self._pools.values()):
            if not self._drop_idle(pool):
                pool.look()

    def look_for(self, kinds: Kinds) -> None:
        """Claim again: a worker of these kinds has room."""
        if (pool := self._pools.get(kinds)) is not None:
            pool.look()

    def join(self, taker: Taker, kinds: Kinds) -> Pool:
        """Claim for one more; return its pool."""
        pool = self.pool(kinds)
        pool.add(taker)
        return pool

    def part(self, taker: Taker, kinds: Kinds) -> None:
        """Claim for one less; harmless when repeated."""
        pool = self._pools.get(kinds)
        if pool is None:
            return
        pool.remove(taker)
        self._drop_idle(pool)

    def pool(self, kinds: Kinds) -> Pool:
        """Return the pool of these kinds."""
        pool = self._pools.get(kinds)
        if pool is not None:
            return pool
        pool = self._pools[kinds] = Pool(
            self._queue,
            self._id,
            kinds,
            moved=self._upkeep.expect_move,
            returned=self.give_back,
            outages=self.outages,
        )
        self._jobs.keep(pool.run, "remote-pool")
        if not self._keeps_up:
            self._keeps_up = True
            self._jobs.keep(self._upkeep.run, "remote-upkeep")
        return pool

    def hand_in(self, attempt: RemoteAttempt, ack: Ack, tell: Callable[[str], None]) -> None:
        """Hand in the end of an attempt with the next claim of its pool."""
        self.pool(attempt.pool if attempt.pool in self._pools else ()).hand_in(ack, tell)

    def begin(self, claim: Claim, kinds: Kinds) -> RemoteAttempt:
        """Remember an attempt that begins now."""
        facts = self._kinds.facts(claim.task.kind)
        plan = self._attempts.plan(claim.plan) if claim.plan else None
        self.outcomes.began(claim.task.task_id)
        return self._attempts.add(claim, kinds, plan, facts)

    def show_now(self, claim: Claim, attempt: RemoteAttempt) -> bytes | None:
        """Return a task as it is sent; None when more must be read of it."""
        if claim.kept or claim.task.job.budget_seconds or (claim.plan and attempt.plan is None):
            return None
        return show_task(claim, attempt.plan, self._kinds.facts(claim.task.kind))

    async def show(self, claim: Claim) -> bytes:
        """Return a task as it is sent, with what earlier attempts left. Raise as the queue does."""
        task, kept, used = claim.task, None, 0.0
        if claim.kept:
            kept = await self._queue.read_kept(task.task_id)
        if task.job.budget_seconds:
            read = await self._queue.get_task(task.task_id)
            used = 0.0 if read is None else read.used_seconds
        plan = None
        if claim.plan:
            await self._attempts.learn_plans({claim.plan})
            plan = self._attempts.plan(claim.plan)
        attempt = self._attempts.of_task(task.task_id)
        if attempt is not None and attempt.plan is None:
            attempt.plan = plan
        return show_task(claim, plan, self._kinds.facts(task.kind), kept, used)

    def give_back(self, claim: Claim) -> None:
        """Hand back a task that has reached nobody, however long the queue is away."""
        self.spawn(self._release(claim), "remote-give-back")

    def give_all_back(self, claims: Sequence[Claim]) -> None:
        """Do so with several."""
        for claim in claims:
            self.give_back(claim)

    async def surely(self, call: Callable[[], Awaitable[Any]], what: str) -> Any:
        """Call until the queue answers; return the answer."""
        while True:
            try:
                answer = await call()
            except Exception as error:
                if not is_outage(error):
                    raise
                await self.outages.outlast(error, what)
            else:
                self.outages.end(what)
                return answer

    def stop(self) -> None:
        """Claim nothing more."""
        for pool in self._pools.values():
            pool.stop()

    async def close(self) -> None:
        """Hand in what is left, and end. A worker repeats ends that Redis does not take now."""
        self.stop()
        self._upkeep.finish()
        rests = [
            self._jobs.start(one.hand_in_rest(), "remote-rest") for one in self._pools.values()
        ]
        if rests:
            await asyncio.wait(rests, timeout=OUTAGE_SECONDS)
        await self._jobs.close()

    def _drop_idle(self, pool: Pool) -> bool:
        """Forget a pool that nobody needs; say whether it was one."""
        if pool.is_idle:
            del self._pools[pool.kinds]
            pool.stop()
            return True
        return False

    async def _release(self, claim: Claim) -> None:
        lease = (claim.task.task_id, claim.token)
        self._attempts.forget(lease)
        await self.surely(lambda: self._queue.release_task(*lease), "release")
