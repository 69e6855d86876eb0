"""The queue keeps plans once for all tasks, and results, state and notes for each task."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from services.queue import (
    Claim,
    Conflict,
    OnConflict,
    Outcome,
    QueueFull,
    QueueService,
    Unique,
)
from tests.queueing import (
    KIND,
    claim,
    end,
    enqueue,
    expire_leases,
    give_up,
    new,
    read,
    register,
    several,
)
from tornado_rt.work import Plan, Step

pytestmark = pytest.mark.usefixtures("invariants")

MakeQueue = Callable[..., QueueService]
PLAN = Plan((Step("probe", 5), Step("transcode", 90), Step("upload", 5)))
OTHER = Plan((Step("one"), Step("two")))
IDLE_SECONDS = 3600.0


async def kept_plans(redis: Redis) -> set[str]:
    return {digest.decode() for digest in await redis.hkeys("{rtq}:plans")}


async def pass_idle_time(queue: QueueService, redis: Redis) -> None:
    """Let an hour pass for all plans that no task names, and do what is due."""
    for digest, since in await redis.zrange("{rtq}:plan_idle", 0, -1, withscores=True):
        await redis.zadd("{rtq}:plan_idle", {digest: since - IDLE_SECONDS - 1})
    await queue.keep_up()


async def report(queue: QueueService, owned: Claim, percent: float, **more: Any) -> bool:
    fragment = b'"progress":%.1f' % percent
    return await queue.report_progress(owned.task.task_id, owned.token, fragment, percent, **more)


# Plans


@pytest.mark.gen_test
async def test_plan_is_kept_once_for_all_tasks_that_name_it(
    queue: QueueService, redis: Redis
) -> None:
    """By the digest of its content, wherever a process has it from."""
    for user in "abc":
        await enqueue(queue, user, plan=PLAN)
    again = Plan((Step("probe", 5), Step("transcode", 90), Step("upload", 5)))
    await queue.create_batch("a", several("A", "B", plan=again))
    await enqueue(queue, plan=OTHER)
    await enqueue(queue)
    assert await queue.read_plans([PLAN.digest, OTHER.digest, "no"]) == {
        PLAN.digest: PLAN.text,
        OTHER.digest: OTHER.text,
    }
    assert await queue.read_plans([]) == {}
    uses = await redis.hgetall("{rtq}:plan_uses")
    assert uses == {PLAN.digest.encode(): b"5", OTHER.digest.encode(): b"1"}


@pytest.mark.gen_test
async def test_text_of_a_plan_is_sent_once_in_a_while(make_queue: MakeQueue, redis: Redis) -> None:
    """A process that does not know whether it is there sends it; then it need not."""
    first, second = make_queue(), make_queue()
    await enqueue(first, plan=PLAN)
    await redis.hdel("{rtq}:plans", PLAN.digest)
    await enqueue(first, plan=PLAN)
    assert await kept_plans(redis) == set()
    await enqueue(second, plan=PLAN)
    assert await kept_plans(redis) == {PLAN.digest}


@pytest.mark.gen_test
async def test_plan_goes_an_hour_after_the_last_task_that_named_it(
    make_queue: MakeQueue, redis: Redis
) -> None:
    """While one task is there, ended or not, its plan is."""
    queue = make_queue(retention_seconds=60)
    ids = [await enqueue(queue, plan=PLAN) for _ in range(2)]
    await end(queue, *await claim(queue))
    await pass_idle_time(queue, redis)
    assert await kept_plans(redis) == {PLAN.digest}
    await redis.zadd("{rtq}:ended", dict.fromkeys(ids, 1))
    await queue.keep_up()
    due_in = (await queue.keep_up()).due_in
    assert await queue.get_task(ids[0]) is None
    assert await kept_plans(redis) == {PLAN.digest}
    assert due_in == pytest.approx(IDLE_SECONDS, abs=5)
    await pass_idle_time(queue, redis)
    assert await kept_plans(redis) == set()
    assert not await redis.exists("{rtq}:plan_idle", "{rtq}:plan_uses")


@pytest.mark.gen_test
async def test_plan_that_is_named_again_is_idle_no_more(queue: QueueService, redis: Redis) -> None:
    task_id = await enqueue(queue, plan=PLAN)
    await end(queue, *await claim(queue), success=False)
    await queue.discard_task(task_id)
    assert await redis.zcard("{rtq}:plan_idle") == 1
    await enqueue(queue, plan=PLAN)
    assert await redis.zcard("{rtq}:plan_idle") == 0
    await pass_idle_time(queue, redis)
    assert await kept_plans(redis) == {PLAN.digest}


@pytest.mark.parametrize("way", ["kept of a user", "purged", "discarded"])
@pytest.mark.gen_test
async def test_every_way_in_which_a_task_goes_leaves_its_plans(
    make_queue: MakeQueue, redis: Redis, way: str
) -> None:
    queue = make_queue(kept_per_user=1 if way == "kept of a user" else 0)
    task_id = await enqueue(queue, plan=PLAN)
    [owned] = await claim(queue)
    await report(queue, owned, 5, plan=OTHER)
    await end(queue, owned, success=False)
    if way == "discarded":
        await queue.discard_task(task_id)
    elif way == "purged":
        await queue.purge((await read(queue, task_id)).status)
    else:
        await queue.cancel_task(await enqueue(queue))
    assert await queue.get_task(task_id) is None
    await pass_idle_time(queue, redis)
    assert await kept_plans(redis) == set()


@pytest.mark.gen_test
async def test_plan_of_a_registered_kind_stays(queue: QueueService, redis: Redis) -> None:
    """Its texts are read for tasks that are still to come."""
    await queue.register_kinds(plans=[PLAN])
    task_id = await enqueue(queue, plan=PLAN)
    await queue.cancel_task(task_id)
    await queue.purge((await read(queue, task_id)).status)
    await pass_idle_time(queue, redis)
    assert await queue.read_plans([PLAN.digest]) == {PLAN.digest: PLAN.text}


@pytest.mark.gen_test
async def test_plan_that_a_task_takes_on_is_kept_beside_its_own(
    queue: QueueService, redis: Redis
) -> None:
    """Each counts once, however often it is reported."""
    await enqueue(queue, plan=PLAN)
    [owned] = await claim(queue)
    for percent, plan in enumerate((OTHER, OTHER, PLAN, OTHER)):
        assert await report(queue, owned, percent, plan=plan)
    uses = await redis.hgetall("{rtq}:plan_uses")
    assert uses == {PLAN.digest.encode(): b"1", OTHER.digest.encode(): b"1"}
    assert await kept_plans(redis) == {PLAN.digest, OTHER.digest}


@pytest.mark.gen_test
async def test_plan_of_a_task_that_was_refused_is_not_kept_for_ever(
    make_queue: MakeQueue, redis: Redis
) -> None:
    """A task that met another, or had no room, is removed."""
    queue = make_queue(max_waiting_per_user=1)
    unique = Unique(key="k")
    await enqueue(queue, unique=unique)
    plans = [Plan((Step(f"step {number}"),)) for number in range(4)]
    await enqueue(queue, unique=unique, plan=plans[0])
    rejecting = Unique(key="k", on_conflict=OnConflict.REJECT)
    with pytest.raises(Conflict):
        await enqueue(queue, unique=rejecting, plan=plans[1])
    with pytest.raises(QueueFull):
        await enqueue(queue, plan=plans[2])
    with pytest.raises(QueueFull):
        await queue.create_batch("a", several("A", plan=plans[3]))
    await pass_idle_time(queue, redis)
    assert await kept_plans(redis) == set()


@pytest.mark.gen_test
async def test_plan_that_came_with_a_refused_task_is_there_for_the_next(
    make_queue: MakeQueue, redis: Redis
) -> None:
    """Its hour begins anew, for this process does not send it again at once."""
    queue = make_queue()
    await enqueue(queue, unique=Unique(key="k"))
    await enqueue(make_queue(), unique=Unique(key="k"), plan=PLAN)
    for digest, since in await redis.zrange("{rtq}:plan_idle", 0, -1, withscores=True):
        await redis.zadd("{rtq}:plan_idle", {digest: since - IDLE_SECONDS + 60})
    await enqueue(queue, unique=Unique(key="k"), plan=PLAN)
    await redis.zadd("{rtq}:plan_idle", {"another": 1})
    assert (await queue.keep_up()).due_in == pytest.approx(IDLE_SECONDS, abs=5)
    await enqueue(queue, plan=PLAN)
    assert await queue.read_plans([PLAN.digest]) == {PLAN.digest: PLAN.text}


# Results of steps, and a state


@pytest.mark.gen_test
async def test_results_and_state_are_there_for_the_next_attempt(
    queue: QueueService, redis: Redis
) -> None:
    """However the one before was cut off; names and values of any text."""
    task_id = await enqueue(queue, max_attempts=9)
    [owned] = await claim(queue)
    assert not owned.kept
    results = {"probe": b'{"frames":105}', "\u2603 \n": b"null", "": b'"' + b"x" * 100_000 + b'"'}
    for name, value in results.items():
        assert await queue.keep_result(task_id, owned.token, name, value)
    assert await report(queue, owned, 5, state=b'{"x":1}')
    assert await report(queue, owned, 6)

    async def lose(_: Claim) -> None:
        await expire_leases(redis)
        await queue.cleanup_expired_tasks()

    cuts: list[Callable[[Claim], Any]] = [
        lambda owned: give_up(queue, owned, Outcome.ERROR),
        lambda owned: queue.release_task(task_id, owned.token),
        lose,
    ]
    for cut in cuts:
        await cut(owned)
        [owned] = await claim(queue)
        assert owned.kept
        kept = await queue.read_kept(task_id)
        assert (kept.results, kept.state) == (results, b'{"x":1}')


@pytest.mark.gen_test
async def test_state_alone_is_worth_reading(queue: QueueService) -> None:
    """And kept though the progress does not move, or goes backwards."""
    task_id = await enqueue(queue)
    [owned] = await claim(queue)
    for percent, state in ((50, b'{"x":1}'), (50, b'{"x":2}'), (10, b'{"x":3}')):
        assert await report(queue, owned, percent, state=state)
        assert (await queue.read_kept(task_id)).state == state
    assert (await read(queue, task_id)).progress == 50
    await queue.release_task(task_id, owned.token)
    assert (await claim(queue))[0].kept


@pytest.mark.gen_test
async def test_lost_attempt_keeps_nothing(queue: QueueService, redis: Redis) -> None:
    """Nor does one that has ended, or one that never was."""
    task_id = await enqueue(queue)
    [lost] = await claim(queue)
    await expire_leases(redis)
    await queue.cleanup_expired_tasks()
    [owned] = await claim(queue)
    for token in (lost.token, "", "0"):
        assert not await queue.keep_result(task_id, token, "probe", b"1")
        assert not await queue.add_note(task_id, token, {"title": "T"})
    assert not await report(queue, lost, 5, state=b"{}")
    await end(queue, owned)
    assert not await queue.keep_result(task_id, owned.token, "probe", b"1")
    assert not await queue.keep_result("no", "1", "probe", b"1")
    assert (await queue.read_kept(task_id)).results == {}
    assert not await redis.exists(f"{{rtq}}:kept:{task_id}")


@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled"])
@pytest.mark.gen_test
async def test_results_go_with_a_completed_task_and_stay_for_one_that_may_run_again(
    queue: QueueService, redis: Redis, ending: str
) -> None:
    task_id = await enqueue(queue)
    [owned] = await claim(queue)
    await queue.keep_result(task_id, owned.token, "probe", b"1")
    if ending == "cancelled":
        await queue.cancel_task(task_id)
    else:
        await end(queue, owned, success=ending == "completed")
    assert bool(await redis.exists(f"{{rtq}}:kept:{task_id}")) == (ending != "completed")
    await queue.purge((await read(queue, task_id)).status)
    assert not await redis.exists(f"{{rtq}}:kept:{task_id}")


@pytest.mark.gen_test
async def test_results_of_many_tasks_do_not_mix(queue: QueueService) -> None:
    await register(queue)
    for _ in range(20):
        await enqueue(queue)
    claims = await claim(queue, 20)
    await asyncio.gather(
        *(
            queue.keep_result(owned.task.task_id, owned.token, "id", owned.task.task_id.encode())
            for owned in claims
        )
    )
    for owned in claims:
        kept = await queue.read_kept(owned.task.task_id)
        assert kept.results == {"id": owned.task.task_id.encode()}


# Notes


@pytest.mark.gen_test
async def test_note_of_a_running_task_goes_through_the_outbox(
    queue: QueueService, redis: Redis
) -> None:
    """Once, also when the request is sent again; each other one for itself."""
    made = await queue.create_batch("a", several("A", "B"))
    [owned, _] = await claim(queue)
    task_id, fields = owned.task.task_id, {"title": "\u2603", "severity": "warning"}
    for note_id in ("one", "one", "two"):
        assert await queue.add_note(task_id, owned.token, fields, note_id)
    entries = [
        {k.decode(): v.decode() for k, v in entry.items()}
        for _, entry in await redis.xrange("{rtq}:outbox")
    ]
    assert [entry["event_id"] for entry in entries] == [f"{task_id}:one", f"{task_id}:two"]
    [first, _] = entries
    assert (first["kind"], first["user_id"], first["task_id"]) == ("note", "a", task_id)
    assert (first["task_kind"], first["batch_id"]) == (KIND, made.batch_id)
    assert json.loads(first["result"]) == fields
    assert json.loads(first["job"])["label"] == "A"


@pytest.mark.gen_test
async def test_notes_without_an_id_are_each_told(queue: QueueService, redis: Redis) -> None:
    await queue.enqueue_task("a", new())
    [owned] = await claim(queue)
    for _ in range(3):
        assert await queue.add_note(owned.task.task_id, owned.token, {"title": "T"})
    assert await redis.xlen("{rtq}:outbox") == 3
