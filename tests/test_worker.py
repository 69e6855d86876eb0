"""The worker on the real queue."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from services.analysis import AnalysisTask, RedisProgressTracker
from services.queue import Claimed, Job, QueueService, TaskState, UpkeepReply
from services.worker import Backoff, HandlerError, Retry, Roster, TaskError, legacy_target
from services.worker.slots import LANES
from settings import Settings
from tests.realtime import start_redis
from tests.waiting import has_job, has_thread, until
from tests.working import ANALYSIS, analysis, ended, enqueue, outcomes, working
from tornado_rt.redis import open_redis


@pytest.fixture
def queue(redis: Redis) -> QueueService:
    return QueueService(redis, user_limit=0, global_limit=0)


async def is_at_attempt(queue: QueueService, task_id: str, attempt: int) -> bool:
    """Say whether a task has been claimed this many times."""
    task = await queue.get_task(task_id)
    return task is not None and task.attempt == attempt


async def has_reported(queue: QueueService, task_id: str, text: bytes) -> bool:
    """Say whether a task's progress holds a text."""
    return text in (await queue.read_events("task", task_id)).snapshot.data


async def lease_end(redis: Redis, task_id: str) -> float:
    """Return when a task's lease ends, in milliseconds since the epoch."""
    return await redis.zscore("{rtq}:processing", task_id) or 0.0


@pytest.mark.gen_test
async def test_result_is_kept(redis: Redis, queue: QueueService) -> None:
    """An enqueue wakes a worker that waits."""

    async def double(task: AnalysisTask, progress: RedisProgressTracker) -> dict[str, Any]:
        await progress.update_progress({"step": "trader"})
        return {"symbol": task.symbol * 2}

    async with working(redis, queue, double):
        task = await ended(queue, await enqueue(queue))
        assert (task.status, task.result) == (TaskState.COMPLETED, {"symbol": "AAPLAAPL"})
        assert b'"progress":100.0' in task.snapshot


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("error", "text"),
    [(TaskError("no such stock"), "no such stock"), (KeyError("x"), "KeyError: 'x'")],
)
async def test_raising_fails_the_task(
    redis: Redis, queue: QueueService, error: Exception, text: str
) -> None:
    async def fail(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        raise error

    async with working(redis, queue, fail):
        task = await ended(queue, await enqueue(queue))
        assert (task.status, task.error) == (TaskState.FAILED, text)


@pytest.mark.gen_test
@pytest.mark.parametrize("result", [{"x": object()}, {1: 2}, {"x": "\ud800"}, {"x": 2**70}, "x"])
async def test_result_that_is_no_json_object_fails_its_task_only(
    redis: Redis, queue: QueueService, result: Any
) -> None:
    async def work(task: AnalysisTask, progress: RedisProgressTracker) -> Any:
        return result if task.symbol == "BAD" else {}

    async with working(redis, queue, work):
        bad, good = await outcomes(queue, "BAD", "GOOD")
    assert (bad.status, good.status) == (TaskState.FAILED, TaskState.COMPLETED)
    assert bad.error is not None
    assert bad.error.startswith("the result ")


@pytest.mark.gen_test
async def test_params_that_make_no_plan_fail_their_task_only(
    redis: Redis, queue: QueueService
) -> None:
    """They come from a program that enqueues by itself, or from another release."""

    async def work(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        return None

    async with working(redis, queue, work):
        job = Job(label="AAPL", params={"research_depth": 99})
        task = await ended(queue, await enqueue(queue, job=job))
        assert (await ended(queue, await enqueue(queue))).status == TaskState.COMPLETED
    assert task.status == TaskState.FAILED
    assert task.error is not None
    assert "research_depth" in task.error


@pytest.mark.gen_test
async def test_error_that_is_no_unicode_fails_its_task_only(
    redis: Redis, queue: QueueService
) -> None:
    """As the name of a file may be."""

    async def fail(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        raise TaskError("no file \ud800")

    async with working(redis, queue, fail):
        tasks = await outcomes(queue, "A", "B")
    assert [task.error for task in tasks] == ["no file ?"] * 2


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (StopIteration(), "RuntimeError: the handler raised StopIteration"),
        (SystemExit(1), "SystemExit: 1"),
    ],
)
@pytest.mark.parametrize("plain", [True, False])
async def test_what_no_future_carries_fails_its_task_only(
    redis: Redis, queue: QueueService, error: BaseException, text: str, plain: bool
) -> None:
    def fail(task: AnalysisTask, progress: Any) -> None:
        raise error

    async def fail_on_the_loop(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        raise error

    async with working(redis, queue, fail if plain else fail_on_the_loop):
        task = await ended(queue, await enqueue(queue))
    assert task.status == TaskState.FAILED
    assert task.error in (text, "RuntimeError: coroutine raised StopIteration")


@pytest.mark.gen_test
async def test_cancelled_task_cancels_its_handler(redis: Redis, queue: QueueService) -> None:
    """Told over the backplane; the slot is free at once."""
    started, stopped = asyncio.Event(), asyncio.Event()

    async def wait(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with working(redis, queue, wait):
        task_id = await enqueue(queue)
        await started.wait()
        await queue.cancel_task(task_id)
        await stopped.wait()
        assert (await ended(queue, task_id)).status == TaskState.CANCELLED
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_lost_lease_stops_the_handler(redis: Redis, queue: QueueService) -> None:
    """A handler whose task went to another is told at its next report."""
    started, go_on = asyncio.Event(), asyncio.Event()

    async def report(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        started.set()
        await go_on.wait()
        await progress.update_progress({"step": "trader"})

    async with working(redis, queue, report):
        task_id = await enqueue(queue)
        await started.wait()
        await redis.zadd("{rtq}:processing", {task_id: 1})
        await queue.cleanup_expired_tasks()
        go_on.set()
        await until(lambda: is_at_attempt(queue, task_id, 2))
        assert (await ended(queue, task_id)).attempt == 2


@pytest.mark.gen_test
async def test_stop_hands_running_tasks_back(redis: Redis, queue: QueueService) -> None:
    """After the grace time, without counting the attempt."""
    started = asyncio.Event()

    async def wait(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        started.set()
        await asyncio.Event().wait()

    async with working(redis, queue, wait):
        task_id = await enqueue(queue)
        await started.wait()
    task = await queue.get_task(task_id)
    assert task is not None
    assert (task.status, task.attempt) == (TaskState.QUEUED, 0)


class LateQueue(QueueService):
    """Its claims are answered late."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, user_limit=0, global_limit=0)
        self.claimed, self.go_on = asyncio.Event(), asyncio.Event()

    async def claim(self, *arguments: Any, **named: Any) -> Claimed:
        claimed = await super().claim(*arguments, **named)
        if claimed.claims:
            self.claimed.set()
            await self.go_on.wait()
        return claimed


@pytest.mark.gen_test
async def test_stop_hands_back_what_was_asked_for_before(redis: Redis) -> None:
    """It is not begun any more."""
    queue = LateQueue(redis)

    async def unused(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        raise AssertionError

    async with working(redis, queue, unused, grace=10) as worker:
        task_id = await enqueue(queue)
        await queue.claimed.wait()
        worker.stop()
        queue.go_on.set()
    task = await queue.get_task(task_id)
    assert task is not None
    assert (task.status, task.attempt) == (TaskState.QUEUED, 0)


@pytest.mark.gen_test
async def test_what_ends_in_the_grace_time_is_told_at_once(
    redis: Redis, queue: QueueService
) -> None:
    """It does not wait for what takes longer."""
    go_on, end = asyncio.Event(), asyncio.Event()
    started: list[str] = []

    async def wait(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        started.append(task.symbol)
        await (go_on if task.symbol == "QUICK" else end).wait()

    async with working(redis, queue, wait, grace=20) as worker:
        quick, slow = await enqueue(queue, "QUICK"), await enqueue(queue, "SLOW")
        await until(lambda: len(started) == 2)
        worker.stop()
        await until(lambda: not has_job("lane-0") and not has_job("lane-1"))
        go_on.set()
        assert (await ended(queue, quick)).status == TaskState.COMPLETED
        end.set()
    assert (await ended(queue, slow)).status == TaskState.COMPLETED


@pytest.mark.gen_test(timeout=60)
async def test_what_ends_while_others_are_told_is_told_at_once(
    redis: Redis, queue: QueueService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis takes its time with the first end."""
    may_end = {symbol: asyncio.Event() for symbol in ("FIRST", "SECOND", "SLOW")}
    telling, answer = asyncio.Event(), asyncio.Event()
    claim = queue.claim

    async def wait(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        await may_end[task.symbol].wait()

    async def claim_slowly(*arguments: Any, **named: Any) -> Claimed:
        claimed = await claim(*arguments, **named)
        if not telling.is_set():
            telling.set()
            await answer.wait()
        return claimed

    async with working(redis, queue, wait, grace=120, concurrency=3) as worker:
        ids = [await enqueue(queue, symbol) for symbol in may_end]
        await until(lambda: all(has_job(f"task-{one}") for one in ids))
        worker.stop()
        await until(lambda: not has_job("lane-0") and not has_job("lane-1"))
        monkeypatch.setattr(queue, "claim", claim_slowly)
        may_end["FIRST"].set()
        await telling.wait()
        may_end["SECOND"].set()
        await until(lambda: not has_job(f"task-{ids[1]}"))
        answer.set()
        for task_id in ids[:2]:
            assert (await ended(queue, task_id)).status == TaskState.COMPLETED
        may_end["SLOW"].set()


@pytest.mark.gen_test
async def test_stop_lets_a_running_task_end_in_the_grace_time(
    redis: Redis, queue: QueueService
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def wait(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        started.set()
        await go_on.wait()

    async with working(redis, queue, wait, grace=10) as worker:
        task_id = await enqueue(queue)
        await started.wait()
        worker.stop()
        go_on.set()
    assert (await ended(queue, task_id)).status == TaskState.COMPLETED


@pytest.mark.gen_test
async def test_lease_is_extended_while_the_handler_runs(redis: Redis) -> None:
    queue = QueueService(redis, visibility_seconds=2.0)
    runs = 0

    async def slow(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        nonlocal runs
        runs += 1
        # Until three leases of a task that nobody kept would have run out.
        begin = await lease_end(redis, task.task_id)

        async def is_kept() -> bool:
            return await lease_end(redis, task.task_id) >= begin + 6000

        await until(is_kept)

    async with working(redis, queue, slow):
        task = await ended(queue, await enqueue(queue))
    assert (task.attempt, runs) == (1, 1)


@pytest.mark.gen_test
async def test_task_outlives_an_outage_of_redis(tmp_path: Path) -> None:
    """A handler works on; its reports are made good, and its end is kept until it can be told."""
    address = tmp_path / "redis.sock"
    process = await start_redis(address, "--appendonly", "yes", "--appendfsync", "always")
    started, go_on = asyncio.Event(), asyncio.Event()

    async def outlive(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        started.set()
        await go_on.wait()
        await progress.update_progress({"step": "trader"})

    async with open_redis(f"unix://{address}") as redis:
        queue = QueueService(redis)
        async with working(redis, queue, outlive):
            task_id = await enqueue(queue)
            await started.wait()
            process.kill()
            await process.wait()
            go_on.set()
            await until(lambda: not has_job(f"task-{task_id}"))
            process = await start_redis(address, "--appendonly", "yes")
            task = await ended(queue, task_id)
    assert (task.status, task.attempt) == (TaskState.COMPLETED, 1)
    process.kill()
    await process.wait()


@pytest.mark.gen_test
async def test_worker_does_not_run_more_than_it_may(redis: Redis, queue: QueueService) -> None:
    running = most = 0

    async def count(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    async with working(redis, queue, count):
        for task_id in [await enqueue(queue) for _ in range(10)]:
            await ended(queue, task_id)
    assert most == 2


@pytest.mark.gen_test
async def test_retry_is_tried_again_and_then_dead(redis: Redis) -> None:
    """With the handler's own delay, counted as attempts; the last one says why."""
    queue = QueueService(redis)
    attempts: list[int] = []

    async def busy(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        attempts.append(task.attempt)
        raise Retry("the market is closed", delay=0.02)

    async with working(redis, queue, busy):
        task = await ended(queue, await enqueue(queue))
    assert (task.status, task.error) == (TaskState.DEAD, "the market is closed")
    assert attempts == [1, 2, 3]


class OvertakenQueue(QueueService):
    """Its first upkeep is answered only when something newer has been announced."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.announced = asyncio.Event()
        self.asked = asyncio.Event()

    async def keep_up(self) -> UpkeepReply:
        upkeep = await super().keep_up()
        self.asked.set()
        await self.announced.wait()
        return upkeep


@pytest.mark.gen_test(timeout=20)
async def test_delay_that_is_announced_during_upkeep_is_not_forgotten(redis: Redis) -> None:
    """The answer to the upkeep is older than the announcement, but comes after it."""
    queue = OvertakenQueue(redis)

    async def work(task: AnalysisTask, progress: RedisProgressTracker) -> dict[str, Any]:
        return {}

    async with working(redis, queue, work) as worker:
        await queue.asked.wait()
        idle = worker._upkeep.due_at
        task = await queue.enqueue_task("alice", analysis(), delay=0.1)
        await until(lambda: worker._upkeep.due_at != idle)
        queue.announced.set()
        await ended(queue, task.task_id)


class DeafQueue(QueueService):
    """The answers to its first claims are lost, and a task is enqueued meanwhile."""

    def __init__(self, redis: Redis, lost: int) -> None:
        super().__init__(redis)
        self._lost = lost
        self.task_ids: list[str] = []

    async def claim(self, *arguments: Any, **named: Any) -> Claimed:
        claims = await super().claim(*arguments, **named)
        if self._lost:
            self._lost -= 1
            self.task_ids.append(await enqueue(self))
            raise ConnectionError("the answer was lost")
        return claims


@pytest.mark.gen_test(timeout=20)
async def test_repeated_claim_does_not_answer_for_a_new_one(redis: Redis) -> None:
    """It is answered as at first, when there was nothing; what came since is asked for."""
    queue = DeafQueue(redis, LANES)

    async def work(task: AnalysisTask, progress: RedisProgressTracker) -> dict[str, Any]:
        return {}

    async with working(redis, queue, work):
        await until(lambda: len(queue.task_ids) == LANES)
        for task_id in queue.task_ids:
            await ended(queue, task_id)


def test_backoff_doubles_and_is_spread() -> None:
    backoff = Backoff(base=2.0, most=100.0)
    for attempt, ceiling in ((1, 2), (2, 4), (3, 8), (7, 100), (1000, 100)):
        waits = [backoff.seconds(attempt) for _ in range(50)]
        assert all(ceiling / 2 <= wait <= ceiling for wait in waits)
        assert len(set(waits)) > 1


@pytest.mark.gen_test
async def test_handler_out_of_time_fails(redis: Redis, queue: QueueService) -> None:
    async def hang(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        await asyncio.Event().wait()

    async with working(redis, queue, hang, rules={"timeout_seconds": 0.05}):
        task = await ended(queue, await enqueue(queue))
    assert (task.status, task.error) == (TaskState.FAILED, "took longer than 0.05 s")


HANDLERS = """
import asyncio, os, time
from services.worker import Retry, TaskError

def plain(task, progress):
    progress.update_progress({"step": "trader"})
    if task.symbol == "BAD":
        raise TaskError("a bad one")
    if task.symbol == "BUG":
        raise KeyError("x")
    if task.symbol == "DIE":
        os._exit(1)
    while task.symbol == "HANG":
        time.sleep(0.01)
        progress.update_progress("hanging")
    return {"pid": os.getpid()}

async def coroutine(task, progress):
    await progress.update_progress({"step": "trader"})
    return {"pid": os.getpid()}
"""


@pytest.fixture
def handler_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with handlers, importable here and in child processes."""
    name = f"handlers_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(HANDLERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.gen_test
async def test_plain_function_runs_in_a_thread(
    redis: Redis, queue: QueueService, handler_module: str
) -> None:
    """The loop goes on meanwhile; a cancelled one is told at its next report."""
    handler = legacy_target(f"{handler_module}:plain", Settings())
    async with working(redis, queue, handler):
        good, bad, bug = await outcomes(queue, "AAPL", "BAD", "BUG")
        assert good.result == {"pid": os.getpid()}
        assert b'"current_step_name":"Write the report"' in good.snapshot
        assert (bad.error, bug.error) == ("a bad one", "KeyError: 'x'")
        hanging = await enqueue(queue, "HANG")
        await until(lambda: has_reported(queue, hanging, b"hanging"))
        await queue.cancel_task(hanging)
        await until(lambda: not has_thread(f"task-{hanging}"))


@pytest.mark.gen_test
@pytest.mark.parametrize("name", ["plain", "coroutine"])
async def test_handler_may_run_in_a_process_of_its_own(
    redis: Redis, queue: QueueService, handler_module: str, name: str
) -> None:
    handler = legacy_target(f"{handler_module}:{name}", Settings(worker_processes=True))
    async with working(redis, queue, handler):
        [done] = await outcomes(queue, "AAPL")
    assert done.result is not None
    assert done.result["pid"] != os.getpid()


@pytest.mark.gen_test
async def test_process_is_killed_when_its_task_is_cancelled(
    redis: Redis, queue: QueueService, handler_module: str
) -> None:
    """And when it dies by itself, or fails, the task says so."""
    handler = legacy_target(f"{handler_module}:plain", Settings(worker_processes=True))
    async with working(redis, queue, handler):
        bad, bug, died = await outcomes(queue, "BAD", "BUG", "DIE")
        errors = [task.error for task in (bad, bug, died)]
        assert errors == ["a bad one", "KeyError: 'x'", "the task's process died"]
        hanging = await enqueue(queue, "HANG")
        await until(lambda: has_reported(queue, hanging, b"hanging"))
        await queue.cancel_task(hanging)
        await until(lambda: not has_job(f"task-{hanging}"))


@pytest.mark.gen_test
async def test_waiting_worker_asks_nothing(redis: Redis, queue: QueueService) -> None:
    """Between wakes the worker sends Redis not one command."""

    async def unused(task: AnalysisTask, progress: RedisProgressTracker) -> None:
        raise AssertionError

    async with working(redis, queue, unused):
        seen = [await commands(redis)]

        async def nothing_came_between_two_probes() -> bool:
            now, probed = await commands(redis)
            before, probes = seen[-1]
            if probed > probes:
                seen.append((now, probed))
            return probed > probes and now == before

        await until(nothing_came_between_two_probes)


async def commands(redis: Redis) -> tuple[int, int]:
    """Count the commands that Redis has run so far, but for probes and this one; and the probes."""
    stats = await redis.info("commandstats")
    probes = stats.get("cmdstat_publish", {"calls": 0})["calls"]
    apart = {"cmdstat_publish", "cmdstat_info"}
    return sum(one["calls"] for name, one in stats.items() if name not in apart), probes


@pytest.mark.parametrize(
    "path",
    ["", "nothing", "no.such:thing", "services.worker:nothing", "services.worker:Worker"],
)
def test_bad_handler_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(HandlerError, match="worker_handler"):
        legacy_target(path, Settings(data_dir=tmp_path))


def test_handler_is_configured(tmp_path: Path) -> None:
    from examples import stock_analysis

    legacy_target("examples.stock_analysis:analyse", Settings(data_dir=tmp_path, step_seconds=0.25))
    assert stock_analysis._step_seconds == 0.25


def test_roster_tells_who_is_gone(tmp_path: Path) -> None:
    """An ended worker is struck out of the roster; one that is still there is not."""
    roster = Roster(tmp_path / "workers")
    assert roster.lost() == []
    with roster.entered("host.example:1:aa"), roster.entered("host.example:2:bb"):
        with roster.entered("host.example:3:cc"):
            assert roster.lost() == []
        assert roster.lost() == ["host.example:3:cc"]
        roster.forget("host.example:3:cc")
        assert roster.lost() == []


def test_roster_passes_over_what_it_cannot_look_at(tmp_path: Path) -> None:
    """For example the file of another user; or it cannot strike it out."""
    roster = Roster(tmp_path)
    loop = tmp_path / "unreadable.worker"
    loop.symlink_to(loop)
    (tmp_path / "folder.worker").mkdir()
    assert roster.lost() == ["folder"]
    roster.forget("folder")
    assert roster.lost() == ["folder"]


def test_worker_runs_where_no_roster_can_be_kept(tmp_path: Path) -> None:
    folder = tmp_path / "workers"
    folder.write_text("not a folder")
    roster = Roster(folder)
    with roster.entered("one"):
        assert roster.lost() == []


@pytest.mark.gen_test
async def test_tasks_of_lost_workers_are_run_again(
    redis: Redis, queue: QueueService, tmp_path: Path
) -> None:
    """Their attempt counts; what others claimed stays theirs."""
    roster = Roster(tmp_path)
    lost, kept = await enqueue(queue), await enqueue(queue)
    with roster.entered("gone"):
        await queue.claim("gone", 1, kinds=[ANALYSIS])
    await queue.claim("other", 1, kinds=[ANALYSIS])

    async def handle(task: AnalysisTask, _: RedisProgressTracker) -> dict[str, Any]:
        return {"attempt": task.attempt}

    async with working(redis, queue, handle, roster=roster):
        assert (await ended(queue, lost)).result == {"attempt": 2}
    assert roster.lost() == []
    other = await queue.get_task(kept)
    assert other is not None
    assert other.status == TaskState.PROCESSING
