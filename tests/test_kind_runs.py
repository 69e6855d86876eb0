"""Kinds in a worker: on its loop, in threads, and in processes of their own."""

import asyncio
import contextlib
import functools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from services.queue import Job, KindEntry, KindLimits, NewTask, QueueService, Task, TaskState
from services.worker import Target, kind_target
from settings import Settings
from tests import kind_deeds
from tests.kind_deeds import BURST, STATES, STEPS, WORDS, Deed
from tests.realtime import start_redis
from tests.waiting import has_job, has_thread, until
from tests.working import ended, working
from tornado_rt.protocol import Cursor, MessageType
from tornado_rt.redis import open_redis
from tornado_rt.testing import run_task_async
from tornado_rt.work import Kind, Plan, Retry, Run, SyncRun, TaskError, first_fragment

pytestmark = pytest.mark.long

KINDS = {"coroutine": kind_deeds.coroutine, "plain": kind_deeds.plain}
# The kind, and whether its tasks have processes of their own.
PLACES = [("coroutine", False), ("plain", False), ("coroutine", True), ("plain", True)]
IDS = ["loop", "thread", "process", "plain-process"]


@pytest.fixture
def queue(redis: Redis) -> QueueService:
    return QueueService(redis, user_limit=0, global_limit=0)


@attrs.frozen
class Place:
    """A kind, where its handler runs, and the folder that it notes what it does in."""

    kind: Kind
    settings: Settings
    folder: Path

    @property
    def targets(self) -> dict[str, Target]:
        return {self.kind.name: kind_target(self.kind, self.settings)}

    def deed(self, what: str, **more: Any) -> NewTask:
        params = {"what": what, "folder": str(self.folder)}
        return new(self.kind, params, **more)

    def noted(self) -> list[str]:
        notes = self.folder / "notes"
        return notes.read_text().split() if notes.exists() else []


@pytest.fixture(params=PLACES, ids=IDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    name, processes = request.param
    settings = Settings(worker_processes=processes, task_result_bytes=1000)
    return Place(KINDS[name], settings, tmp_path)


def new(kind: Kind, params: dict[str, Any] | None = None, **more: Any) -> NewTask:
    """Return a task of a kind, as a server makes it."""
    job = Job(label="a deed", params=params or {}, **more.pop("job", {}))
    plan = kind.plan_of(Deed())
    fields = {"first": first_fragment(plan, None), "plan": plan, "max_attempts": kind.max_attempts}
    return NewTask(**{"kind": kind.name, "job": job, **fields, **more})


async def submit(queue: QueueService, task: NewTask, user: str = "alice") -> str:
    return (await queue.enqueue_task(user, task)).task_id


async def outcome(queue: QueueService, task: NewTask) -> Task:
    return await ended(queue, await submit(queue, task))


async def shown(queue: QueueService, task_id: str) -> dict[str, Any]:
    """Return a task's snapshot as it is kept."""
    task = await queue.get_task(task_id)
    assert task is not None
    fields: dict[str, Any] = orjson.loads(task.snapshot)
    return fields


async def tells(queue: QueueService, task_id: str, message: str) -> bool:
    return bool((await shown(queue, task_id))["message"] == message)


def made(function: Callable[..., Any], **more: Any) -> Kind:
    """Return a kind with this handler."""
    kind = Kind("made", Deed, **{"backoff": (0.01, 0.02), **more})
    kind.handler(function)
    return kind


@pytest.mark.gen_test
async def test_result_is_any_json(redis: Redis, queue: QueueService, place: Place) -> None:
    async with working(redis, queue, place.targets):
        task = await outcome(queue, place.deed("value"))
    assert task.status == TaskState.COMPLETED
    assert task.result[:3] == ["any", {"json": None}, 1.5]
    assert (task.result[3] == os.getpid()) != place.settings.workers.worker_processes
    shown = orjson.loads(task.snapshot)
    assert (shown["progress"], shown["marks"], shown["message"]) == (100.0, "ccc", "Done")


@pytest.mark.gen_test
async def test_once_is_once_over_all_attempts(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    """And the state of an attempt that tells nothing more is there in the next."""
    async with working(redis, queue, place.targets):
        task = await outcome(queue, place.deed("once"))
    assert task.result == ["probe", "cut", "upload", {"attempts": 3}]
    assert place.noted() == ["probe", "cut", "upload"]
    assert [one["outcome"] for one in task.attempts] == ["retry", "retry"]


@pytest.mark.gen_test
async def test_stop_hands_back_and_the_next_worker_goes_on_from_the_last_once(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    """The attempt is not counted."""
    async with working(redis, queue, place.targets):
        task_id = await submit(queue, place.deed("handed_back"))
        await until(lambda: place.noted() == ["probe"])
        await until(lambda: begun(queue, task_id))
    task = await queue.get_task(task_id)
    assert task is not None
    assert (task.status, task.attempt) == (TaskState.QUEUED, 0)
    async with working(redis, queue, place.targets, worker_id="another"):
        task = await ended(queue, task_id)
    assert (task.status, task.attempt, task.result) == (TaskState.COMPLETED, 1, "cut")
    assert place.noted() == ["probe", "cut"]
    assert await queue.check_invariants() == []


async def begun(queue: QueueService, task_id: str) -> bool:
    """Say whether a handler has told something, and its state is kept."""
    return b"begun" in (await queue.read_kept(task_id)).state


@pytest.mark.gen_test
async def test_stop_is_told_to_the_handler(redis: Redis, queue: QueueService, place: Place) -> None:
    """It may end in the grace time as at any other."""
    async with working(redis, queue, place.targets, grace=20) as worker:
        task_id = await submit(queue, place.deed("told"))
        await until(lambda: tells(queue, task_id, "begun"))
        worker.stop()
    task = await ended(queue, task_id)
    assert task.result == {"stopping": True, "seen": True}


@pytest.mark.gen_test
async def test_stop_is_told_to_a_handler_that_only_starts(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    """Its process, or its thread, may not be there yet."""
    async with working(redis, queue, place.targets, grace=20) as worker:
        task_id = await submit(queue, place.deed("told"))
        await until(lambda: has_job(f"task-{task_id}"), pause=0)
        worker.stop()
    assert (await ended(queue, task_id)).result == {"stopping": True, "seen": True}


@pytest.mark.gen_test
async def test_handler_that_gives_up_at_a_stop_is_handed_back(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    """Not after the grace time, and not as a failure."""
    async with working(redis, queue, place.targets, grace=20) as worker:
        task_id = await submit(queue, place.deed("gives_up"))
        await until(lambda: begun(queue, task_id))
        worker.stop()
    task = await queue.get_task(task_id)
    assert task is not None
    assert (task.status, task.attempt) == (TaskState.QUEUED, 0)
    async with working(redis, queue, place.targets, worker_id="another"):
        assert (await ended(queue, task_id)).result == "done"


class CountingQueue(QueueService):
    """Counts the reports of each task."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, user_limit=0, global_limit=0)
        self.reports: Counter[str] = Counter()

    async def report_progress(self, task_id: str, *arguments: Any, **named: Any) -> bool:
        self.reports[task_id] += 1
        return await super().report_progress(task_id, *arguments, **named)


@pytest.mark.gen_test
async def test_burst_of_updates_is_merged_and_its_last_one_is_told(
    redis: Redis, place: Place
) -> None:
    """At most 10 a second leave."""
    queue = CountingQueue(redis)
    async with working(redis, queue, place.targets):
        task_id = await submit(queue, place.deed("burst"))
        await until(lambda: tells(queue, task_id, "the last"))
        task = await ended(queue, task_id)
    assert task.error is not None
    took = float(task.error)
    assert 5 <= queue.reports[task_id] <= took * 10 + 3 < BURST / 4
    assert task.progress == 100


@pytest.mark.gen_test
async def test_words_of_any_language_come_through(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    async with working(redis, queue, place.targets):
        task = await outcome(queue, place.deed("words"))
    told = orjson.loads(task.snapshot)
    assert (task.error, told["message"]) == (WORDS[0], WORDS[0])
    assert told["current_step_name"] == "probe"
    plan = await queue.read_plans([told["plan"]])
    leaves = Plan.read(plan[told["plan"]]).leaves
    assert tuple(leaf.title for leaf in leaves[3:]) == WORDS
    assert told["marks"] == "pppcccc"


@pytest.mark.gen_test
async def test_plan_may_change_while_it_runs(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    """The snapshot names the new one, which can be read."""
    async with working(redis, queue, place.targets):
        task = await outcome(queue, place.deed("other_plan"))
    told = orjson.loads(task.snapshot)
    [text] = (await queue.read_plans([told["plan"]])).values()
    assert [leaf.name for leaf in Plan.read(text).leaves] == ["probe", "mix", "burn"]
    assert (told["marks"], told["current_step_name"]) == ("crp", "mix")


@pytest.mark.gen_test
async def test_plan_that_the_server_did_not_know_is_told_before_the_end(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    """Another version of the code has submitted the task, and its handler tells nothing."""
    task = attrs.evolve(place.deed("value"), plan=None, first=first_fragment(None, None))
    async with working(redis, queue, place.targets):
        ended = await outcome(queue, task)
    digest = orjson.loads(ended.snapshot)["plan"]
    assert digest == Plan(STEPS).digest
    assert digest in await queue.read_plans([digest])


class PlanQueue(QueueService):
    """Notes what each report names as the plan beside the plan that was told last."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, user_limit=0, global_limit=0)
        self.plans: list[tuple[str, str | None]] = []
        self._told: str | None = None

    async def report_progress(
        self, task_id: str, token: str, fragment: bytes, percent: float, **named: Any
    ) -> bool:
        if (plan := named["plan"]) is not None:
            self._told = plan.digest
        self.plans.append((orjson.loads(b"{" + fragment + b"}")["plan"], self._told))
        return await super().report_progress(task_id, token, fragment, percent, **named)


@pytest.mark.gen_test
async def test_report_is_of_one_moment_while_the_plan_grows(redis: Redis, place: Place) -> None:
    """A handler's thread changes the plan while another one tells of it."""
    queue = PlanQueue(redis)
    async with working(redis, queue, place.targets):
        task = await outcome(queue, attrs.evolve(place.deed("grows"), max_attempts=1))
    assert (task.status, task.error) == (TaskState.COMPLETED, None)
    assert orjson.loads(task.snapshot)["total_steps"] == len(STEPS) + kind_deeds.GROWTH
    assert len(queue.plans) > 1
    assert [named for named, _ in queue.plans] == [told for _, told in queue.plans]


@pytest.mark.gen_test
async def test_end_is_told_with_the_ack_alone(redis: Redis, place: Place) -> None:
    """No report says that all is done, and none says twice where it failed."""
    queue = CountingQueue(redis)
    async with working(redis, queue, place.targets):
        done = await outcome(queue, place.deed("value"))
        failed = await outcome(queue, place.deed("fails"))
    assert queue.reports[done.task_id] == 0
    # Each attempt begins a step and is half through it; it may end before either is told.
    assert queue.reports[failed.task_id] <= 2 * failed.attempt == 6
    assert orjson.loads(failed.snapshot)["progress"] == 45.0


@pytest.mark.gen_test
async def test_handler_notifies_while_it_runs(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    async with working(redis, queue, place.targets):
        task = await outcome(queue, place.deed("notes"))
    assert task.status == TaskState.COMPLETED
    [note] = [
        fields for _, fields in await redis.xrange("{rtq}:outbox") if fields[b"kind"] == b"note"
    ]
    told = {"title": "Half of it", "content": "is done", "severity": "warning"}
    assert orjson.loads(note[b"result"]) == told
    assert note[b"user_id"] == b"alice"


async def note_of(redis: Redis, name: str) -> str | None:
    """Return the note by which a question was asked."""
    for _, fields in await redis.xrange("{rtq}:outbox"):
        if fields[b"kind"] == b"ask" and orjson.loads(fields[b"result"])["name"] == name:
            return str(orjson.loads(fields[b"result"])["note"])
    return None


async def give(redis: Redis, queue: QueueService, task_id: str, name: str, option: str) -> None:
    """Answer a question as soon as it is asked."""
    note = await until(lambda: note_of(redis, name))
    assert await queue.answer(task_id, "alice", name, note, option)


@pytest.mark.gen_test
async def test_handler_goes_on_with_the_answer(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    async with working(redis, queue, place.targets):
        task_id = await submit(queue, place.deed("asks"))
        await until(lambda: tells(queue, task_id, "Publish it?"))
        await give(redis, queue, task_id, "publish", "no")
        task = await ended(queue, task_id)
    assert (task.status, task.result) == (TaskState.COMPLETED, "no")


@pytest.mark.gen_test
async def test_answer_of_the_time_between_two_workers_is_there(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    """The user is asked once, however many attempts wait."""
    async with working(redis, queue, place.targets):
        task_id = await submit(queue, place.deed("asks"))
        await until(lambda: note_of(redis, "publish"))
    async with working(redis, queue, place.targets):
        await until(lambda: place.noted() == ["asked", "1"] * 2)
    await give(redis, queue, task_id, "publish", "yes")
    async with working(redis, queue, place.targets):
        assert (await ended(queue, task_id)).result == "yes"
    asked = [one for _, one in await redis.xrange("{rtq}:outbox") if one[b"kind"] == b"ask"]
    assert len(asked) == 1


@pytest.mark.gen_test
async def test_handler_does_not_wait_longer_than_it_says(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    async with working(redis, queue, place.targets):
        task = await outcome(queue, place.deed("asks_briefly"))
    assert task.result == "nobody has answered 'publish' within 0.2 s"
    kinds = [fields[b"kind"] for _, fields in await redis.xrange("{rtq}:outbox")]
    assert kinds == [b"ask", b"withdraw", b"task"]


@pytest.mark.gen_test
async def test_several_questions_wait_side_by_side(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    """Reports of the handler leave meanwhile."""
    async with working(redis, queue, place.targets):
        task_id = await submit(queue, place.deed("asks_in_threads"))
        await until(lambda: note_of(redis, "first"))
        await give(redis, queue, task_id, "second", "yes")
        await until(lambda: progress_of(queue, task_id), equal=50.0)
        await give(redis, queue, task_id, "first", "no")
        assert (await ended(queue, task_id)).result == ["no", "yes"]


async def progress_of(queue: QueueService, task_id: str) -> float:
    return float((await shown(queue, task_id))["progress"])


@pytest.mark.gen_test
async def test_cancelled_handler_asks_no_longer(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    async with working(redis, queue, place.targets, concurrency=1) as worker:
        task_id = await submit(queue, place.deed("asks"))
        note = await until(lambda: note_of(redis, "publish"))
        await queue.cancel_task(task_id)
        # The slot is free.
        assert (await outcome(queue, place.deed("value"))).status == TaskState.COMPLETED
        await until(lambda: not worker._attempts)
    assert not await queue.answer(task_id, "alice", "publish", note, "yes")


@pytest.mark.gen_test
async def test_error_is_tried_again_with_the_kinds_backoff_until_it_has_failed(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    """Each attempt's error and time stay on the task."""
    async with working(redis, queue, place.targets):
        task = await outcome(queue, place.deed("fails"))
    assert (task.status, task.error) == (TaskState.FAILED, "ValueError: attempt 3")
    assert [(one["attempt"], one["outcome"], one["error"]) for one in task.attempts] == [
        (1, "error", "ValueError: attempt 1"),
        (2, "error", "ValueError: attempt 2"),
    ]
    assert all(one["started_at"] and one["ended_at"] for one in task.attempts)


@pytest.mark.gen_test
async def test_task_error_is_final(redis: Redis, queue: QueueService, place: Place) -> None:
    async with working(redis, queue, place.targets):
        task = await outcome(queue, place.deed("final"))
    assert (task.status, task.error, task.attempt) == (TaskState.FAILED, "no such film", 1)
    assert orjson.loads(task.snapshot)["message"] == "no such film"


@pytest.mark.gen_test
async def test_result_that_is_too_large_fails_with_its_size_and_the_limit(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    async with working(redis, queue, place.targets):
        task = await outcome(queue, place.deed("large"))
    told = "the result has 2002 bytes as JSON; at most 1000 are allowed"
    assert (task.status, task.error, task.attempt) == (TaskState.FAILED, told, 1)


@pytest.mark.gen_test
async def test_state_that_is_no_json_is_told_to_the_handler(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    async with working(redis, queue, place.targets):
        task = await outcome(queue, attrs.evolve(place.deed("bad_state"), max_attempts=1))
    assert task.status == TaskState.FAILED
    assert task.error is not None
    assert task.error.startswith("ValueError: run.state cannot be kept: ")


@pytest.mark.gen_test
@pytest.mark.parametrize("what", ["leaves_state", "retries_with_state", "reports_state"])
async def test_state_that_cannot_be_kept_fails_the_task(
    redis: Redis, queue: QueueService, place: Place, what: str
) -> None:
    """At the next report, at the end when there is none, and before another attempt."""
    async with working(redis, queue, place.targets):
        ids = []
        for number in range(len(STATES)):
            deed = attrs.evolve(place.deed(what), max_attempts=1)
            deed = attrs.evolve(deed, job=Job(label="", params=deed.job.params | {"n": number}))
            ids.append(await submit(queue, deed))
        tasks = [await ended(queue, task_id) for task_id in ids]
    assert [(task.status, task.error) for task in tasks] == [
        (TaskState.FAILED, f"ValueError: run.state cannot be kept: {fault}") for _, fault in STATES
    ]


@pytest.mark.gen_test
async def test_integers_of_a_state_come_back_as_they_were(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    async with working(redis, queue, place.targets):
        task = await outcome(queue, place.deed("counts_far"))
    assert task.result == 2**63 - 1


def told_at(what: str, fault: str) -> str:
    """Return a fault of a value in the words of the door that it came to."""
    if what == "returns":
        return f"the result {fault}"
    if what == "keeps":
        return f"ValueError: the result of once 'value' {fault}"
    words, _, path = fault.partition(", at ")
    at = "" if words.startswith("nests") else f", at .value{path}"
    return f"ValueError: run.state cannot be kept: it {words}{at}"


@pytest.mark.gen_test
async def test_every_door_keeps_the_same_values(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    """As a result, as a once-result and as a state; in a worker and in the tests of an author."""
    place = attrs.evolve(place, settings=place.settings.changed(task_result_bytes=262_144))
    values = range(len(kind_deeds.VALUES))
    deeds = [(number, what) for number in values for what in ("returns", "keeps", "stores")]
    async with working(redis, queue, place.targets):
        ids = [
            await submit(queue, new(place.kind, {"what": what, "n": number}, max_attempts=1))
            for number, what in deeds
        ]
        tasks = [await ended(queue, task_id) for task_id in ids]
    for (number, what), task in zip(deeds, tasks, strict=True):
        _, kept, fault = kind_deeds.VALUES[number]
        tested = await run_task_async(place.kind, {"what": what, "n": number})
        if fault:
            assert task.error == told_at(what, fault)
            assert str(tested.error) == told_at(what, fault).removeprefix("ValueError: ")
        else:
            assert (task.error, task.result) == (None, kept)
            assert tested.result == kept
            assert type(tested.result) is type(task.result)


@pytest.mark.gen_test
async def test_parameters_that_are_none_of_the_kind_fail_the_task_in_words(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    """They come from another version of the code, and are not tried again."""
    async with working(redis, queue, place.targets):
        task = await outcome(queue, new(place.kind, {"what": 1, "size": 2}))
    assert (task.status, task.attempt) == (TaskState.FAILED, 1)
    assert task.error is not None
    assert "params.what must be a string" in task.error
    assert "params has unknown fields: size" in task.error


@pytest.mark.gen_test
async def test_plain_function_blocks_a_thread_of_its_own_only(
    redis: Redis, queue: QueueService
) -> None:
    targets: dict[str, Target] = {"plain": kind_target(kind_deeds.plain, Settings())}
    async with working(redis, queue, targets):
        task = await outcome(queue, new(kind_deeds.plain, {"what": "value"}))
    assert task.result[4] == f"task-{task.task_id}"


@pytest.mark.gen_test
async def test_thread_whose_task_is_cancelled_ends_at_its_next_report(
    redis: Redis, queue: QueueService, tmp_path: Path
) -> None:
    place = Place(kind_deeds.plain, Settings(), tmp_path)
    async with working(redis, queue, place.targets):
        task_id = await submit(queue, place.deed("handed_back"))
        await until(lambda: tells(queue, task_id, "waiting"))
        await queue.cancel_task(task_id)
        await until(lambda: not has_thread(f"task-{task_id}"))


def spins(params: Deed, run: SyncRun) -> None:
    """Take whatever comes for an error of one round."""
    while True:
        with contextlib.suppress(Exception):
            match params.what:
                case "update":
                    run.update("on and on")
                case "once":
                    run.once(f"round {time.monotonic()}", int)
                case "stopping":
                    assert not run.stopping
                case "stopped":
                    assert not run.stopped(0.001)
                case "waits":
                    run.stopped()
        time.sleep(0.001)


@pytest.mark.gen_test
@pytest.mark.parametrize("what", ["update", "once", "stopping", "stopped", "waits"])
async def test_thread_out_of_time_ends_whatever_errors_it_catches(
    redis: Redis, queue: QueueService, what: str
) -> None:
    """Else it would do its work beside the next attempt."""
    kind = made(spins, timeout=0.5, max_attempts=1)
    async with working(redis, queue, kind):
        task = await outcome(queue, new(kind, {"what": what}))
        assert task.error == "took longer than 0.5 s"
        await until(lambda: not has_thread(f"task-{task.task_id}"))


@pytest.mark.gen_test
async def test_thread_whose_task_is_cancelled_ends_when_it_asks_for_the_stop(
    redis: Redis, queue: QueueService
) -> None:
    """It tells nothing, and only waits between two rounds of its work."""
    kind = made(spins)
    async with working(redis, queue, kind):
        task_id = await submit(queue, new(kind, {"what": "stopped"}))
        await until(lambda: has_thread(f"task-{task_id}"))
        await queue.cancel_task(task_id)
        await until(lambda: not has_thread(f"task-{task_id}"))


@pytest.mark.gen_test
async def test_coroutine_that_a_thread_waits_for_ends_with_the_attempt(
    redis: Redis, queue: QueueService
) -> None:
    """It runs in the loop of the worker, which nothing else would take it from."""
    cancelled = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    def work(params: Deed, run: SyncRun) -> None:
        run.once("slow", slow)

    kind = made(work, timeout=0.5, max_attempts=1)
    async with working(redis, queue, kind):
        task = await outcome(queue, new(kind))
        await until(cancelled.is_set)
        await until(lambda: not has_thread(f"task-{task.task_id}"))
    assert task.error == "took longer than 0.5 s"


@pytest.mark.gen_test
async def test_lost_lease_that_a_handler_raises_itself_is_an_error_as_any_other(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    """The queue has not taken the task from it: another attempt follows."""
    async with working(redis, queue, place.targets):
        task = await outcome(queue, place.deed("loses"))
    assert (task.status, task.result, task.attempt) == (TaskState.COMPLETED, "done", 2)
    assert [one["error"] for one in task.attempts] == ["LeaseLost: of another"]


@pytest.mark.gen_test
@pytest.mark.parametrize("threaded", [False, True])
async def test_report_on_an_earlier_task_is_an_error_of_the_later_one(
    redis: Redis, queue: QueueService, threaded: bool
) -> None:
    """As by an object that a module has kept."""
    runs: list[Run] = []

    def work_in_thread(params: Deed, run: Run) -> None:
        runs.append(run)
        runs[0].update("told")

    async def work(params: Deed, run: Run) -> None:
        work_in_thread(params, run)

    kind = made(work_in_thread if threaded else work, max_attempts=1)
    async with working(redis, queue, kind):
        earlier = await outcome(queue, new(kind))
        later = await outcome(queue, new(kind))
    assert (earlier.status, later.status) == (TaskState.COMPLETED, TaskState.FAILED)
    assert later.error is not None
    assert later.error.endswith(f"the attempt at task {earlier.task_id} has ended")


@pytest.mark.gen_test
async def test_process_whose_task_is_cancelled_is_killed(
    redis: Redis, queue: QueueService, tmp_path: Path
) -> None:
    place = Place(kind_deeds.plain, Settings(worker_processes=True), tmp_path)
    async with working(redis, queue, place.targets):
        task_id = await submit(queue, place.deed("handed_back"))
        await until(lambda: tells(queue, task_id, "waiting"))
        await queue.cancel_task(task_id)
        await until(lambda: not has_job(f"task-{task_id}"))


@pytest.fixture(params=[one for one in PLACES if one[1]], ids=IDS[2:])
def process_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The places that are processes."""
    settings = Settings(worker_processes=True, task_result_bytes=1000)
    return Place(KINDS[request.param[0]], settings, tmp_path)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give cancelled handlers the time that a busy machine takes."""
    monkeypatch.setattr("tornado_rt.work.attempts.process.CANCEL_SECONDS", 15.0)
    monkeypatch.setattr("tornado_rt.work.attempts.attempt.ABANDON_SECONDS", 20.0)
    monkeypatch.setattr("services.worker.worker.ABANDON_SECONDS", 20.0)


@pytest.mark.gen_test
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("what", ["cleans", "cleans_once"])
async def test_cancelled_handler_in_a_process_ends_as_on_the_loop(
    redis: Redis, queue: QueueService, process_place: Place, what: str
) -> None:
    """Its `finally` runs, also when it waits in `once`."""
    async with working(redis, queue, process_place.targets):
        task_id = await submit(queue, process_place.deed(what))
        await until(lambda: process_place.noted() == ["begun"])
        await queue.cancel_task(task_id)
        await until(lambda: not has_job(f"task-{task_id}"))
    assert process_place.noted() == ["begun", "cleaned"]


@pytest.mark.gen_test
@pytest.mark.usefixtures("patient")
async def test_handler_in_a_process_ends_what_it_has_started_at_its_timeout(
    redis: Redis, queue: QueueService, process_place: Place
) -> None:
    task = process_place.deed("cleans", job={"timeout": 3.0}, max_attempts=1)
    async with working(redis, queue, process_place.targets):
        assert (await outcome(queue, task)).error == "took longer than 3 s"
    assert process_place.noted() == ["begun", "cleaned"]


@pytest.mark.gen_test
@pytest.mark.usefixtures("patient")
async def test_handed_back_handler_in_a_process_tells_its_last_state(
    redis: Redis, queue: QueueService, process_place: Place
) -> None:
    """The report of its `finally` is there in the next attempt."""
    async with working(redis, queue, process_place.targets):
        task_id = await submit(queue, process_place.deed("cleans"))
        await until(lambda: process_place.noted() == ["begun"])
    assert process_place.noted() == ["begun", "cleaned"]
    task = await queue.get_task(task_id)
    assert task is not None
    assert (task.status, task.attempt) == (TaskState.QUEUED, 0)
    assert orjson.loads((await queue.read_kept(task_id)).state) == {"cleaned": True}


@pytest.mark.gen_test
async def test_process_whose_handler_swallows_its_cancellation_is_killed(
    redis: Redis, queue: QueueService, process_place: Place
) -> None:
    async with working(redis, queue, process_place.targets):
        task_id = await submit(queue, process_place.deed("clings"))

        async def pid() -> int:
            told = (await shown(queue, task_id))["message"]
            return int(told) if told.isdecimal() else 0

        process = await until(pid)
        await queue.cancel_task(task_id)
        await until(lambda: not Path(f"/proc/{process}").exists())
    # On a busy machine it is killed before it comes to its note.
    assert set(process_place.noted()) <= {"clung"}


@pytest.mark.gen_test
async def test_handler_in_a_process_may_have_pools_of_processes(
    redis: Redis, queue: QueueService, process_place: Place
) -> None:
    async with working(redis, queue, process_place.targets):
        task = await outcome(queue, attrs.evolve(process_place.deed("pools"), max_attempts=1))
    assert (task.error, task.result) == (None, [[1, 2], [3, 4]] * 3)


@pytest.mark.gen_test
async def test_children_of_a_handler_in_a_process_are_ended_by_signals(
    redis: Redis, queue: QueueService, process_place: Place
) -> None:
    """Its own process leaves SIGHUP, SIGINT and SIGTERM to the worker."""
    async with working(redis, queue, process_place.targets):
        task = await outcome(queue, attrs.evolve(process_place.deed("starts"), max_attempts=1))
    assert task.error is None
    interrupt = "<built-in function default_int_handler>"
    default = f"[<Handlers.SIG_DFL: 0>, {interrupt}, <Handlers.SIG_DFL: 0>]"
    assert task.result == [default, default]


@pytest.mark.gen_test
async def test_once_results_that_are_kept_at_the_same_time_stay_within_the_bound(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    """Of four with 302 bytes each, 1,000 bytes hold three."""
    async with working(redis, queue, place.targets):
        task = await outcome(queue, attrs.evolve(place.deed("crowd"), max_attempts=1))
    assert (task.error, task.result) == (None, [0, 300, 300, 300])


@pytest.mark.gen_test
async def test_once_result_beyond_the_bound_is_refused_to_its_process(
    redis: Redis, queue: QueueService, process_place: Place
) -> None:
    async with working(redis, queue, process_place.targets):
        task = await outcome(queue, attrs.evolve(process_place.deed("too_much"), max_attempts=1))
    told = "RuntimeError: ValueError: the results of once have 2000 bytes; at most 1000 are allowed"
    assert task.error == told


class SlowQueue(QueueService):
    """Keeps results only once it is let."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, user_limit=0, global_limit=0)
        self.asked, self.let = asyncio.Event(), asyncio.Event()

    async def keep_result(self, *arguments: Any) -> bool:
        self.asked.set()
        await self.let.wait()
        return await super().keep_result(*arguments)


@pytest.mark.gen_test
async def test_once_result_that_is_being_kept_when_the_grace_time_ends_is_kept(
    redis: Redis, place: Place
) -> None:
    """The next attempt does not do its step again."""
    queue = SlowQueue(redis)
    async with working(redis, queue, place.targets) as worker:
        task_id = await submit(queue, place.deed("once"))
        await queue.asked.wait()
        worker.stop()
        asyncio.get_running_loop().call_later(0.1, queue.let.set)
    task = await queue.get_task(task_id)
    assert task is not None
    assert (task.status, task.attempt) == (TaskState.QUEUED, 0)
    assert (await queue.read_kept(task_id)).results == {"probe": b'"probe"'}


@pytest.mark.gen_test
async def test_errors_are_final_for_a_kind_that_does_not_retry_them(
    redis: Redis, queue: QueueService
) -> None:
    async def fail(params: Deed, run: Run) -> None:
        raise KeyError("x")

    kind = made(fail, retry_errors=False)
    async with working(redis, queue, kind):
        task = await outcome(queue, new(kind))
    assert (task.status, task.error, task.attempt) == (TaskState.FAILED, "KeyError: 'x'", 1)


@pytest.mark.gen_test
async def test_retry_of_a_kind_has_its_own_delay_or_that_of_the_kind(
    redis: Redis, queue: QueueService
) -> None:
    """After the last attempt the task is dead."""

    async def busy(params: Deed, run: Run) -> None:
        raise Retry("busy", delay=0.02 if run.attempt == 1 else None)

    kind = made(busy)
    async with working(redis, queue, kind):
        task = await outcome(queue, new(kind))
    assert (task.status, task.error, task.attempt) == (TaskState.DEAD, "busy", 3)


async def hang(params: Deed, run: Run) -> None:
    await asyncio.Event().wait()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("own", "kind", "setting", "seconds"),
    [(0.03, 60, 60, "0.03"), (0, 0.04, 60, "0.04"), (0, 0, 0.05, "0.05")],
)
async def test_timeout_is_the_tasks_or_the_kinds_or_the_setting(
    redis: Redis, queue: QueueService, own: float, kind: float, setting: float, seconds: str
) -> None:
    """It is tried again as any error."""
    slow = made(hang, timeout=kind, max_attempts=2)
    settings = Settings(task_timeout_seconds=setting)
    async with working(redis, queue, slow, settings=settings):
        task = await outcome(queue, new(slow, job={"timeout": own}))
    assert (task.status, task.attempt) == (TaskState.FAILED, 2)
    assert task.error == f"took longer than {seconds} s"


@pytest.mark.gen_test
async def test_timeout_is_final_where_errors_are(redis: Redis, queue: QueueService) -> None:
    slow = made(hang, timeout=0.03, retry_errors=False)
    async with working(redis, queue, slow):
        task = await outcome(queue, new(slow))
    assert (task.status, task.attempt) == (TaskState.FAILED, 1)


@pytest.mark.gen_test
async def test_budget_bounds_all_attempts_together(redis: Redis, queue: QueueService) -> None:
    slow = made(hang, timeout=0.5, max_attempts=10)
    async with working(redis, queue, slow):
        task = await outcome(queue, new(slow, job={"budget_seconds": 1.25}))
    assert task.status == TaskState.FAILED
    assert task.error == "took longer than 1.25 s in all attempts"
    assert 2 <= task.attempt <= 3


@pytest.mark.gen_test
async def test_budget_counts_the_time_before_a_hand_back(redis: Redis, queue: QueueService) -> None:
    """Though the attempt has the same number again."""
    kind = made(hang)
    task_id = await submit(queue, new(kind, job={"budget_seconds": 1000}))
    [claim] = (await queue.claim("w", 1, kinds=["made"])).claims
    assert claim.task.started_at is not None
    await redis.hset(f"{{rtq}}:task:{task_id}", "started_at", str(claim.task.started_at - 1000))
    assert await queue.release_task(task_id, claim.token)
    async with working(redis, queue, kind):
        task = await ended(queue, task_id)
    assert (task.status, task.attempt) == (TaskState.FAILED, 1)
    assert task.error == "took longer than 1000 s in all attempts"


@pytest.mark.gen_test
async def test_worker_claims_only_the_kinds_that_it_has(redis: Redis, queue: QueueService) -> None:
    async def work(params: Deed, run: Run) -> str:
        return run.kind

    kind = made(work)
    other = attrs.evolve(new(kind), kind="other")
    async with working(redis, queue, kind):
        waiting = await submit(queue, other)
        task = await outcome(queue, new(kind))
        assert task.result == "made"
        found = await queue.get_task(waiting)
    assert found is not None
    assert (found.status, found.attempt) == (TaskState.QUEUED, 0)


@pytest.mark.gen_test
async def test_worker_says_that_it_lives_and_which_kinds_it_runs(
    redis: Redis, queue: QueueService
) -> None:
    """And that it is gone."""
    kind = made(hang)
    await queue.register_kinds([KindEntry(kind="made")])

    async def workers() -> int:
        return next(one.workers for one in await queue.read_kinds() if one.entry.kind == "made")

    async with working(redis, queue, kind):
        await until(workers, equal=1)
    assert await workers() == 0


@pytest.mark.gen_test
async def test_rate_lets_the_next_task_start_without_a_wake(
    redis: Redis, queue: QueueService
) -> None:
    """The worker looks again when the queue says."""

    async def work(params: Deed, run: Run) -> None:
        return None

    kind = made(work, rate="5/s")
    entry = KindEntry(kind="made", limits=KindLimits(rate="5/s"))
    await queue.register_kinds([entry])
    ids = [await submit(queue, new(kind)) for _ in range(8)]
    async with working(redis, queue, kind, concurrency=8):
        tasks = [await ended(queue, task_id) for task_id in ids]
    starts = sorted(task.started_at or 0.0 for task in tasks)
    assert 0.4 < starts[-1] - starts[0] < 5


@pytest.mark.gen_test
async def test_pending_progress_goes_with_the_end(redis: Redis, queue: QueueService) -> None:
    async def work(params: Deed, run: Run) -> None:
        for number in range(40):
            run.update(number / 100)
        run.update(done=40, total=100, unit="frames")
        raise TaskError("enough")

    kind = made(work)
    async with working(redis, queue, kind):
        task = await outcome(queue, new(kind))
    told = orjson.loads(task.snapshot)
    assert (told["progress"], told["message"]) == (40.0, "enough")
    assert (told["done"], told["total"], told["unit"]) == (40, 100, "frames")


async def told(queue: QueueService, task_id: str) -> list[tuple[str, int, float, str]]:
    """Return what was told of a task since it was made."""
    epoch = (await queue.read_events("task", task_id)).cursor.epoch
    replay = await queue.read_events("task", task_id, Cursor(epoch, 1))
    assert replay.resync is None
    seen = [one.fields() for one in replay.messages if one.type == MessageType.PROGRESS]
    return [(one["status"], one["attempt"], one["progress"], one["message"]) for one in seen]


@pytest.mark.gen_test
async def test_last_report_of_an_attempt_is_told_however_it_ends(
    redis: Redis, queue: QueueService, place: Place
) -> None:
    """Once, and before the end, though another was told less than a tenth of a second before."""
    async with working(redis, queue, place.targets):
        task = await outcome(queue, place.deed("last_words"))
    assert task.status == TaskState.COMPLETED
    seen = await told(queue, task.task_id)
    for attempt in (1, 2, 3):
        words = ("processing", attempt, 80.0, "the last words")
        assert seen.count(words) == 1
        assert seen[seen.index(words) + 1][0] in ("queued", "delayed", "completed")
    assert seen[-1] == ("completed", 3, 100.0, "Done")


@pytest.mark.gen_test
async def test_report_that_was_told_is_told_once(redis: Redis, queue: QueueService) -> None:
    """However soon the end comes behind it."""
    go_on = asyncio.Event()

    async def work(params: Deed, run: Run) -> None:
        run.update(0.4, "half")
        if params.what == "wait":
            await go_on.wait()

    kind = made(work)
    async with working(redis, queue, kind):
        task_id = await submit(queue, new(kind, {"what": "wait"}))
        await until(lambda: tells(queue, task_id, "half"))
        go_on.set()
        tasks = [await ended(queue, task_id), *[await outcome(queue, new(kind)) for _ in range(5)]]
    for task in tasks:
        seen = await told(queue, task.task_id)
        assert [one[2:] for one in seen[1:]] == [(40.0, "half"), (100.0, "Done")]


@pytest.mark.gen_test
async def test_last_report_is_told_before_a_task_is_handed_back(
    redis: Redis, queue: QueueService
) -> None:
    began = asyncio.Event()

    async def work(params: Deed, run: Run) -> None:
        began.set()
        await run.stopped()
        run.update(0.1, "one")
        run.update(0.8, "the last words")
        raise asyncio.CancelledError

    kind = made(work)
    async with working(redis, queue, kind, grace=20):
        task_id = await submit(queue, new(kind))
        await began.wait()
    assert (await told(queue, task_id))[-2:] == [
        ("processing", 1, 80.0, "the last words"),
        ("queued", 0, 0.0, "Waiting"),
    ]


@pytest.mark.gen_test
async def test_dead_task_shows_why(redis: Redis, queue: QueueService, place: Place) -> None:
    """As a failed one does."""
    async with working(redis, queue, place.targets):
        task = await outcome(queue, attrs.evolve(place.deed("last_words"), max_attempts=1))
    assert task.status == TaskState.DEAD
    fields = orjson.loads(task.snapshot)
    assert (fields["message"], fields["progress"]) == ("later", 80.0)


@pytest.mark.gen_test
async def test_task_of_a_lost_worker_shows_why(redis: Redis, queue: QueueService) -> None:
    """Nobody is there who knows the attempt: the rest of the snapshot stays as it was told."""
    kind = made(hang, max_attempts=1, steps=["a", "b"])
    task_id = await submit(queue, new(kind))
    [claim] = (await queue.claim("w", 1, kinds=["made"])).claims
    run = Run(plan=kind.plan_of(Deed()))
    run.update(0.2, 'in "words" / \u65e5')
    assert await queue.report_progress(task_id, claim.token, run.fragment(), run.progress)
    await redis.zadd("{rtq}:processing", {task_id: 1})
    await queue.cleanup_expired_tasks()
    fields = await shown(queue, task_id)
    assert (fields["status"], fields["message"]) == ("dead", "the worker was lost")
    now = run.snapshot() | {"message": "the worker was lost", "remaining_time": 0}
    for field in ("progress", "plan", "marks", "total_steps", "message", "remaining_time"):
        assert fields[field] == now[field]


@pytest.mark.gen_test
async def test_lost_lease_stops_the_handler_at_its_next_once(
    redis: Redis, queue: QueueService
) -> None:
    """Its result is not kept: the task is another's."""
    started, go_on = asyncio.Event(), asyncio.Event()

    async def work(params: Deed, run: Run) -> list[int]:
        if run.attempt == 1:
            started.set()
            await go_on.wait()
        return [run.attempt, await run.once("step", lambda: run.attempt)]

    kind = made(work)
    async with working(redis, queue, kind):
        task_id = await submit(queue, new(kind))
        await started.wait()
        await redis.zadd("{rtq}:processing", {task_id: 1})
        await queue.cleanup_expired_tasks()
        go_on.set()
        task = await ended(queue, task_id)
    assert task.result == [2, 2]


@pytest.mark.gen_test
@pytest.mark.parametrize("threaded", [False, True])
async def test_report_after_the_end_raises_and_changes_nothing(
    redis: Redis, queue: QueueService, threaded: bool
) -> None:
    refused = threading.Event()
    runs: list[Any] = []

    async def work(params: Deed, run: Run) -> None:
        runs.append(run)

    def work_in_thread(params: Deed, run: Any) -> None:
        runs.append(run)

    kind = made(work_in_thread if threaded else work)
    async with working(redis, queue, kind):
        task = await outcome(queue, new(kind))
        with pytest.raises(Exception, match="ended"):
            runs[0].update("too late")
        refused.set()
    assert b"too late" not in task.snapshot


@pytest.mark.gen_test
@pytest.mark.parametrize("processes", [False, True])
async def test_coroutine_behind_a_plain_function_awaits_its_run(
    redis: Redis, queue: QueueService, tmp_path: Path, processes: bool
) -> None:
    """As any `async def`, with what the function in front has done in its thread."""
    place = Place(kind_deeds.hidden, Settings(worker_processes=processes), tmp_path)
    async with working(redis, queue, place.targets, grace=20) as worker:
        task_id = await submit(queue, place.deed("probe"))
        await until(lambda: tells(queue, task_id, "begun"))
        worker.stop()
    task = await ended(queue, task_id)
    assert (task.error, task.result) == (None, ["probe", "cut", "cut", True])
    assert place.noted() == ["probe", "cut"]


@pytest.mark.gen_test
async def test_run_that_is_spoilt_ends_its_task_only(redis: Redis, queue: QueueService) -> None:
    """A handler has the object itself."""

    async def spoil(params: Deed, run: Any) -> None:
        match params.what:
            case "exit":
                run.fragment = run.stop = run.encoded_state = raising
            case "plan":
                run._begun_course = "spoilt"
            case "complete":
                run.complete = None
        if params.what:
            run._sink.report(run)
            await asyncio.sleep(0.05)

    def raising() -> None:
        raise SystemExit(3)

    kind = made(spoil)
    with capture_logs() as logged:
        async with working(redis, queue, kind, grace=1):
            tasks = [
                await outcome(queue, new(kind, {"what": what}))
                for what in ("exit", "plan", "complete", "")
            ]
    assert [task.status for task in tasks] == ["completed"] * 4
    assert "progress_unreadable" in [one["event"] for one in logged]


@pytest.mark.gen_test
async def test_last_report_is_told_when_redis_is_back(tmp_path: Path) -> None:
    """Its handler tells nothing more."""
    address = tmp_path / "redis.sock"
    process = await start_redis(address, "--appendonly", "yes", "--appendfsync", "always")
    started, away, told = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(params: Deed, run: Run) -> None:
        started.set()
        await away.wait()
        run.update(0.5, "half")
        await told.wait()

    kind = made(work)
    async with open_redis(f"unix://{address}") as redis:
        queue = QueueService(redis, user_limit=0, global_limit=0)
        async with working(redis, queue, kind, grace=20):
            task_id = await submit(queue, new(kind))
            await started.wait()
            process.kill()
            await process.wait()
            with capture_logs() as logged:
                away.set()
                await until(lambda: "report" in [one.get("what") for one in logged])
            process = await start_redis(address, "--appendonly", "yes")
            await until(lambda: tells(queue, task_id, "half"))
            told.set()
            task = await ended(queue, task_id)
    assert (task.status, task.attempt) == (TaskState.COMPLETED, 1)
    process.kill()
    await process.wait()


@pytest.mark.gen_test
async def test_rolling_restart_does_each_step_once(redis: Redis, queue: QueueService) -> None:
    """Two workers are replaced one after the other while twenty tasks of ten steps run."""
    done: Counter[tuple[int, int]] = Counter()

    async def step(task: int, number: int) -> int:
        await asyncio.sleep(0.005)
        done[task, number] += 1
        return number

    async def work(params: Deed, run: Run) -> list[int]:
        found = []
        for number in range(10):
            if run.stopping:
                raise asyncio.CancelledError
            found.append(await run.once(f"step {number}", step, int(params.what), number))
        return found

    def has_done(number: int) -> bool:
        return done.total() >= number

    kind = made(work, max_attempts=1)
    ids = [await submit(queue, new(kind, {"what": str(number)})) for number in range(20)]
    async with contextlib.AsyncExitStack() as first:
        await first.enter_async_context(working(redis, queue, kind, 20, worker_id="w0"))
        for number in range(1, 6):
            async with contextlib.AsyncExitStack() as second:
                name = f"w{number}"
                await second.enter_async_context(working(redis, queue, kind, 20, worker_id=name))
                await until(functools.partial(has_done, min(done.total() + 15, 200)))
                await first.aclose()
                first.push_async_exit(second.pop_all())
        tasks = [await ended(queue, task_id) for task_id in ids]
    assert [task.result for task in tasks] == [list(range(10))] * 20
    assert done == Counter(dict.fromkeys(((t, n) for t in range(20) for n in range(10)), 1))
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_once_result_waits_out_an_outage_of_redis(tmp_path: Path, place: Place) -> None:
    """It is kept before the handler goes on, and nothing is done twice."""
    address = tmp_path / "redis.sock"
    process = await start_redis(address, "--appendonly", "yes", "--appendfsync", "always")
    async with open_redis(f"unix://{address}") as redis:
        queue = QueueService(redis, user_limit=0, global_limit=0)
        async with working(redis, queue, place.targets):
            task_id = await submit(queue, place.deed("outage"))
            await until(lambda: place.noted() == ["probe", "kept"])
            process.kill()
            await process.wait()
            with capture_logs() as logged:
                (place.folder / "go").touch()
                await until(lambda: "keep" in [one.get("what") for one in logged])
            assert place.noted() == ["probe", "kept", "cut"]
            process = await start_redis(address, "--appendonly", "yes")
            task = await ended(queue, task_id)
    assert (task.status, task.attempt) == (TaskState.COMPLETED, 1)
    assert task.result == ["probe", "cut"]
    assert place.noted() == ["probe", "kept", "cut"]
    process.kill()
    await process.wait()
