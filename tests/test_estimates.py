"""Estimates from ended tasks: in Redis with the ack, in files without it."""

import asyncio
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest
from redis.asyncio import Redis

from services.analysis import Analyst, RedisProgressTracker
from services.estimates import Estimates, FileHistory
from services.progress import FileProgressStore
from services.queue import Ack, Job, NewTask, Outcome, QueueService
from services.stalled import StalledWatch
from tests.queueing import expire_leases
from tests.realtime import start_redis
from tests.waiting import until
from tests.working import ended, working
from tornado_rt.redis import open_redis
from tornado_rt.work import Kind, Plan, Run, Step, TaskError
from tornado_rt.work.attempts.lessons import Lesson, Outline, key_of, outline_of
from tornado_rt.work.forecast import Forecast

PLAN = Plan([Step("probe", 10), Step("encode", 90)])
FILM = Outline("film", key_of("film", PLAN.digest, []), PLAN, 60.0)
TIMES = [("probe", 8.0), ("encode", 2.0)]


@attrs.frozen
class Params:
    seconds: float = 0.0
    preset: str = "fast"
    path: str = ""


@pytest.fixture
def queue(redis: Redis) -> QueueService:
    return QueueService(redis, user_limit=0, global_limit=0)


async def end_one(queue: QueueService, lesson: Lesson | None, **more: Any) -> Ack:
    """Run a task of the kind film to its end, and return the ack."""
    new = NewTask(kind="film", job=Job(label="film"), first=b'"progress":0.0')
    await queue.enqueue_task("alice", new)
    claim = await queue.dequeue_task("w", ["film"])
    assert claim is not None
    ack = Ack(claim.task.task_id, claim.token, Outcome.COMPLETED, lesson=lesson)
    ack = attrs.evolve(ack, **more)
    await queue.end_attempt(ack)
    return ack


async def teach(
    queue: QueueService, outline: Outline = FILM, times: Any = TIMES, count: int = 1
) -> None:
    for number in range(count):
        lesson = Estimates(queue).lesson(outline, f"task{number}", times)
        await end_one(queue, lesson)


async def known(queue: Any, outline: Outline = FILM) -> Forecast:
    """Return what a process that has just started knows."""
    estimates = Estimates(queue)
    forecast = await estimates.forecast(outline)
    await estimates.close()
    assert forecast is not None
    return forecast


async def film_queue(queue: QueueService) -> None:
    await queue.register_kinds([])


@pytest.mark.gen_test
async def test_next_task_knows_the_times_of_those_that_have_ended(queue: QueueService) -> None:
    await film_queue(queue)
    fresh = await known(queue)
    assert (fresh.tasks, fresh.length) == (0, 60.0)
    await teach(queue, count=5)
    forecast = await known(queue)
    assert forecast.tasks == 5
    assert forecast.length == pytest.approx(10, rel=0.1)
    assert forecast.segments["probe"].seconds == pytest.approx(8, rel=0.15)


@pytest.mark.gen_test
async def test_process_learns_what_others_have_taught_meanwhile(
    queue: QueueService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.estimates.estimates.FRESH_SECONDS", 0.0)
    await film_queue(queue)
    estimates = Estimates(queue)
    for expected in range(4):
        forecast = await estimates.forecast(FILM)
        assert forecast is not None
        assert forecast.tasks == expected
        lesson = estimates.lesson(FILM, f"task{expected}", TIMES)
        await end_one(queue, lesson)
    await estimates.close()


@pytest.mark.gen_test
async def test_only_the_owner_of_a_completed_task_teaches(
    queue: QueueService, redis: Redis
) -> None:
    await film_queue(queue)
    lesson = Estimates(queue).lesson(FILM, "task", TIMES)
    await end_one(queue, lesson, token="another")
    await end_one(queue, lesson, outcome=Outcome.FAILED, error="broken")
    assert not await redis.keys("{rtq}:histor*")
    ack = await end_one(queue, lesson)
    await queue.end_attempt(ack)
    assert await redis.llen(f"{{rtq}}:history:{FILM.key}") == 1


@pytest.mark.gen_test
async def test_history_is_bounded_by_tasks_and_by_sorts(redis: Redis) -> None:
    queue = QueueService(redis, user_limit=0, global_limit=0, history_sorts=3)
    await film_queue(queue)
    await teach(queue, count=70)
    assert await redis.llen(f"{{rtq}}:history:{FILM.key}") == 64
    assert await redis.llen("{rtq}:lengths:film") == 64
    for number in range(5):
        await teach(queue, attrs.evolve(FILM, key=f"film::{number}"))
    kept = sorted(await redis.keys("{rtq}:history:*"))
    assert kept == [f"{{rtq}}:history:film::{number}".encode() for number in (2, 3, 4)]
    lowered = QueueService(redis, user_limit=0, global_limit=0, history_sorts=1)
    await teach(lowered, attrs.evolve(FILM, key="film::9"), count=3)
    assert await redis.keys("{rtq}:history:*") == [b"{rtq}:history:film::9"]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "what", [b"", b"x", b"[]", b'["a",[["probe","x"]],1]', b'["a",[["p",1]],"x"]']
)
async def test_garbage_in_the_history_is_passed_over(
    queue: QueueService, redis: Redis, what: bytes
) -> None:
    await film_queue(queue)
    await redis.rpush(
        f"{{rtq}}:history:{FILM.key}", what, orjson.dumps(["b", [["probe", -1]], None])
    )
    await redis.rpush("{rtq}:lengths:film", what)
    await teach(queue, count=2)
    assert (await known(queue)).tasks == 2


@pytest.mark.gen_test
async def test_keys_of_another_type_cost_no_task_its_end(queue: QueueService, redis: Redis) -> None:
    await film_queue(queue)
    for key in (f"history:{FILM.key}", "lengths:film", "histories"):
        await redis.set("{rtq}:" + key, "x")
    await teach(queue)
    assert (await queue.stats()).completed == 1
    assert (await known(queue)).tasks == 0


@pytest.mark.gen_test
async def test_tasks_of_another_plan_let_expect_a_length(queue: QueueService) -> None:
    """Those of this kind took a sixth of what was expected."""
    await film_queue(queue)
    await teach(queue, count=8)
    other = Plan([Step("one"), Step("two")])
    outline = Outline("film", key_of("film", other.digest, []), other, 120.0)
    assert (await known(queue, outline)).length == pytest.approx(20, rel=0.05)
    unknown = attrs.evolve(outline, expected=None)
    assert (await known(queue, unknown)).length == pytest.approx(10, rel=0.05)


@pytest.mark.gen_test
async def test_times_count_in_proportion_to_what_is_expected(queue: QueueService) -> None:
    """It may follow from parameters that are not telling, such as the length of a film."""
    estimates = Estimates(queue)
    long = attrs.evolve(FILM, expected=600.0)
    for outline, length in ((FILM, 60), (long, 600)):
        forecast = await estimates.forecast(outline)
        assert forecast is not None
        assert forecast.length == pytest.approx(length)
    await estimates.close()
    await film_queue(queue)
    # A sixth of what was expected, then the same of ten times as much.
    await teach(queue, count=4)
    await teach(queue, long, [("probe", 80.0), ("encode", 20.0)], count=4)
    for outline, length in ((FILM, 10), (long, 100)):
        forecast = await known(queue, outline)
        assert forecast.tasks == 8
        assert forecast.length == pytest.approx(length, rel=0.05)
        assert forecast.segments["probe"].seconds == pytest.approx(0.8 * length, rel=0.15)


@pytest.mark.gen_test
async def test_task_starts_without_a_forecast_while_redis_is_away(tmp_path: Path) -> None:
    address = tmp_path / "redis.sock"
    process = await start_redis(address)
    async with open_redis(f"unix://{address}") as redis:
        queue = QueueService(redis)
        await film_queue(queue)
        estimates = Estimates(queue)
        assert await estimates.forecast(FILM) is not None
        process.kill()
        await process.wait()
        other = attrs.evolve(FILM, key="film::other")
        assert await estimates.forecast(other) is None
        await estimates.close()


def test_outline_tells_tasks_apart_by_their_telling_parameters() -> None:
    kind = Kind("film", Params, telling=("preset",), steps=["a", "b"])
    one = outline_of(kind, Params(), {"preset": "fast", "path": "a"})
    two = outline_of(kind, Params(), {"preset": "fast", "path": "b"})
    three = outline_of(kind, Params(), {"preset": "slow", "path": "a"})
    assert one.key == two.key != three.key
    with pytest.raises(ValueError, match="telling names 'colour', which Params does not have"):
        Kind("film", Params, telling=("colour",))


async def run_films(
    redis: Redis, queue: QueueService, kind: Kind, params: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Run tasks one after the other; return their last snapshots."""
    estimates = Estimates(queue)
    snapshots = []
    async with working(redis, queue, kind, forecasts=estimates):
        for one in params:
            new = NewTask(kind="film", job=Job(label="film", params=one), first=b'"progress":0.0')
            task = await ended(queue, (await queue.enqueue_task("alice", new)).task_id)
            snapshots.append(orjson.loads(task.snapshot))
    await estimates.close()
    return snapshots


def film(*, thread: bool = False) -> Kind:
    """Return a kind whose second step takes as long as its parameters say."""
    kind = Kind("film", Params, telling=("preset",), steps=["probe", "encode"])
    if thread:

        def encode(params: Params, run: Any) -> None:
            with run.step("probe"):
                pass
            with run.step("encode"):
                run.update(0.5)

    else:

        async def encode(params: Params, run: Run) -> None:  # type: ignore[misc]
            async with run.step("probe"):
                pass
            async with run.step("encode"):
                run.update(0.5)
                await asyncio.sleep(params.seconds)
            if params.path == "bad":
                raise TaskError("bad")

    kind.handler(encode)
    return kind


@pytest.mark.gen_test
@pytest.mark.parametrize("thread", [False, True])
async def test_worker_teaches_and_learns(
    redis: Redis, queue: QueueService, thread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.estimates.estimates.FRESH_SECONDS", 0.0)
    monkeypatch.setattr("services.estimates.estimates.LESSON_SECONDS", 0.0)
    await film_queue(queue)
    params = [{"path": "bad"}, {"preset": "slow"}, {}, {}] if not thread else [{}, {}]
    snapshots = await run_films(redis, queue, film(thread=thread), params)
    assert ["usual" in one for one in snapshots] == [*[False] * (len(params) - 1), True]
    assert len(snapshots[-1]["times"]) == 2
    sorts = await redis.keys("{rtq}:history:*")
    assert len(sorts) == (1 if thread else 2)


@pytest.mark.gen_test
async def test_analysis_teaches_in_files_where_there_is_no_redis(tmp_path: Path) -> None:
    async def run_one(task_id: str) -> RedisProgressTracker:
        store = FileProgressStore(tmp_path)
        tracker = RedisProgressTracker(task_id, [Analyst.NEWS], 1, "dashscope", store=store)
        for step in range(len(tracker.steps)):
            await tracker.update_progress({"step": step})
        await tracker.mark_completed()
        return tracker

    first = await run_one("one")
    assert "usual" not in first.state()
    second = await run_one("two")
    assert len(second.state()["usual"]) == len(second.steps)
    forecast = await known(FileHistory(tmp_path / "history"), second.outline)
    assert forecast.tasks == 2
    other = RedisProgressTracker("x", [Analyst.NEWS], 2, "dashscope").outline
    assert (await known(FileHistory(tmp_path / "history"), other)).tasks == 0


@pytest.mark.gen_test
async def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.estimates.files.MOST_FILES", 4)
    history = FileHistory(tmp_path)
    estimates = Estimates(history)
    for number in range(70):
        await history.add(estimates.lesson(FILM, f"task{number}", TIMES))
    [(entries, lengths)] = await history.read_lessons([(FILM.key, "film")])
    assert (len(entries), len(lengths)) == (64, 64)
    for number in range(6):
        outline = attrs.evolve(FILM, key=f"film::{number}")
        await history.add(estimates.lesson(outline, "task", TIMES))
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.gen_test
async def test_task_without_a_sign_of_life_is_stalled(
    redis: Redis, queue: QueueService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no worker lives that would take it back: each who follows it is told, once."""
    monkeypatch.setattr("services.stalled.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("services.stalled.OVERDUE_SECONDS", 0.0)
    await film_queue(queue)
    new = NewTask(kind="film", job=Job(label="film"), first=b'"progress":0.0')
    task_id = (await queue.enqueue_task("alice", new)).task_id
    assert await queue.dequeue_task("w", ["film"]) is not None

    async def snapshot() -> dict[str, Any]:
        task = await queue.get_task(task_id)
        assert task is not None
        fields: dict[str, Any] = orjson.loads(task.snapshot)
        return fields

    assert "stalled_since" not in await snapshot()
    before = (await queue.read_events("task", task_id)).cursor
    watching = asyncio.create_task(StalledWatch(queue).run())
    await expire_leases(redis)
    assert "stalled_since" in await snapshot()

    async def is_told() -> bool:
        events = await queue.read_events("task", task_id, before)
        return any(b"stalled_since" in message.data for message in events.messages)

    await until(is_told)
    watching.cancel()
    assert await queue.tell_stalled(0.0) == 0
    await queue.cleanup_expired_tasks()
    assert "stalled_since" not in await snapshot()
