"""The tables of states in the code are those of the scripts and of the subscription."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from services.queue import Claim, Claimed, Outcome, QueueService, TaskState
from services.queue.states import TASK_TRANSITIONS
from tests.queueing import (
    claim,
    end,
    end_delays,
    enqueue,
    expire_leases,
    give_up,
    read,
    register,
)

pytestmark = pytest.mark.usefixtures("invariants")


class Remembering(QueueService):
    """A queue that keeps the last claim of each task."""

    claims: dict[str, Claim]

    async def claim(self, *given: Any, **named: Any) -> Claimed:
        """Claim, and keep what was claimed."""
        found = await super().claim(*given, **named)
        self.claims.update({one.task.task_id: one for one in found.claims})
        return found


Deed = Callable[[], Awaitable[object]]


@pytest.mark.gen_test
async def test_each_transition_of_a_task_is_in_the_table_and_no_other(redis: Redis) -> None:
    queue = Remembering(redis, user_limit=0, global_limit=0)
    claims: dict[str, Claim] = {}
    queue.claims = claims
    await register(queue)
    seen: set[tuple[TaskState, TaskState, str]] = set()

    async def note(task_id: str, by: str, deed: Deed) -> None:
        before = (await read(queue, task_id)).status
        await deed()
        after = (await read(queue, task_id)).status
        seen.add((before, after, by))

    async def due() -> None:
        await end_delays(redis)
        await queue.keep_up()

    async def over() -> None:
        await expire_leases(redis)
        await queue.keep_up()

    async def running(max_attempts: int = 3) -> str:
        task_id = await enqueue(queue, max_attempts=max_attempts)
        await note(task_id, "claim", lambda: claim(queue))
        return task_id

    late = await enqueue(queue, delay=60.0)
    await note(late, "due", due)
    await note(late, "claim", lambda: claim(queue))
    await note(late, "completed", lambda: end(queue, claims[late]))

    one = await running(max_attempts=3)
    await note(one, "error", lambda: give_up(queue, claims[one], Outcome.ERROR, delay=60.0))
    await due()
    await claim(queue)
    await note(one, "Retry", lambda: give_up(queue, claims[one], delay=60.0))
    await note(one, "cancel", lambda: queue.cancel_task(one, "a"))
    await note(one, "run again", lambda: queue.rerun_task(one, "a"))
    await note(one, "cancel", lambda: queue.cancel_task(one, "a"))

    one = await running()
    await note(one, "released", lambda: queue.release_task(one, claims[one].token))
    await claim(queue)
    await note(one, "lease over", over)
    await claim(queue)
    await note(one, "cancel", lambda: queue.cancel_task(one, "a"))

    one = await running(max_attempts=1)
    await note(one, "TaskError", lambda: give_up(queue, claims[one], Outcome.FAILED))
    await note(one, "run again", lambda: queue.rerun_task(one, "a"))
    await claim(queue)
    await note(one, "last error", lambda: give_up(queue, claims[one], Outcome.ERROR))

    one = await running(max_attempts=1)
    await note(one, "last retry", lambda: give_up(queue, claims[one], Outcome.RETRY))
    await note(one, "run again", lambda: queue.rerun_task(one, "a"))
    await claim(queue)
    await note(one, "last lease", over)

    assert seen == set(TASK_TRANSITIONS)
