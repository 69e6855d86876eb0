"""A running task asks its user: what the queue keeps of it, and what the handler gets."""

import asyncio
from collections.abc import Callable
from typing import Any

import attrs
import msgpack
import orjson
import pytest
from redis.asyncio import Redis

from services.queue import Asked, Claim, QueueService, TaskState
from tests.queueing import claim, end, enqueue, expire_leases, give_up
from tests.recorded import Record, make_run
from tornado_rt.testing import run_task
from tornado_rt.work import Kind, LeaseLost, Question, Run, SyncRun

QUESTION = Question(name="publish", title="Publish it?", options={"yes": "Publish", "no": "Drop"})


async def begun(queue: QueueService) -> Claim:
    await enqueue(queue, max_attempts=9)
    [owned] = await claim(queue)
    return owned


async def ask(queue: QueueService, owned: Claim, note: str = "n1", **more: Any) -> Asked | None:
    question = attrs.evolve(QUESTION, **more)
    return await queue.ask(owned.task.task_id, owned.token, question, note)


async def answer(queue: QueueService, owned: Claim, option: str, note: str = "n1") -> bool:
    return await queue.answer(owned.task.task_id, "a", "publish", note, option)


async def told(redis: Redis) -> list[tuple[str, str]]:
    """Return the kinds and events of the entries of the outbox."""
    entries = await redis.xrange("{rtq}:outbox")
    return [(one[b"kind"].decode(), one[b"event_id"].decode()) for _, one in entries]


@pytest.mark.gen_test
async def test_question_is_told_once_and_waits_over_all_attempts(
    queue: QueueService, redis: Redis
) -> None:
    owned = await begun(queue)
    task_id = owned.task.task_id
    for note in ("n1", "n1", "n2"):
        asked = await ask(queue, owned, note)
        assert asked is not None
        assert (asked.answer, 0 <= asked.age < 5) == (None, True)
    await give_up(queue, owned)
    [owned] = await claim(queue)
    assert owned.kept
    assert (await ask(queue, owned, "n3")).answer is None  # type: ignore[union-attr]
    [(_, entry)] = await redis.xrange("{rtq}:outbox")
    assert (entry[b"kind"], entry[b"event_id"], entry[b"user_id"]) == (
        b"ask",
        f"{task_id}:n1".encode(),
        b"a",
    )
    assert orjson.loads(entry[b"result"]) == {**attrs.asdict(QUESTION), "note": "n1"}
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_answer_is_a_result_of_the_task(queue: QueueService, redis: Redis) -> None:
    """There for a caller that asks again, and once."""
    owned = await begun(queue)
    await ask(queue, owned)
    async with redis.pubsub() as workers:
        await workers.subscribe("rt:workers")
        assert await answer(queue, owned, "no")
        while (message := await workers.get_message(timeout=20))["type"] != "message":
            pass
    told_of = {"type": "answer", "data": {"task_id": owned.task.task_id}}
    assert orjson.loads(message["data"]) == told_of
    assert not await answer(queue, owned, "yes")
    assert (await ask(queue, owned, "n2")) == Asked(b'"no"')
    assert (await queue.read_kept(owned.task.task_id)).results == {"publish": b'"no"'}
    await end(queue, owned)
    assert [kind for kind, _ in await told(redis)] == ["ask", "task"]
    assert not await redis.exists(f"{{rtq}}:asked:{owned.task.task_id}")


@pytest.mark.gen_test
async def test_only_what_is_asked_can_be_answered(queue: QueueService) -> None:
    """By its user, of the note that they saw, with one of its options."""
    owned = await begun(queue)
    task_id = owned.task.task_id
    assert not await answer(queue, owned, "yes")
    await ask(queue, owned)
    for given in (
        (task_id, "b", "publish", "n1", "yes"),
        (task_id, "a", "print", "n1", "yes"),
        (task_id, "a", "publish", "n0", "yes"),
        (task_id, "a", "publish", "n1", "maybe"),
        ("no", "a", "publish", "n1", "yes"),
    ):
        assert not await queue.answer(*given)
    assert await answer(queue, owned, "yes")


@pytest.mark.gen_test
async def test_stale_attempt_asks_nothing(queue: QueueService, redis: Redis) -> None:
    owned = await begun(queue)
    await expire_leases(redis)
    await queue.cleanup_expired_tasks()
    assert await ask(queue, owned) is None
    assert await queue.withdraw(owned.task.task_id, owned.token, "publish") is None
    assert await told(redis) == []


@pytest.mark.gen_test
async def test_other_options_are_another_question(queue: QueueService, redis: Redis) -> None:
    owned = await begun(queue)
    task_id = owned.task.task_id
    await ask(queue, owned)
    await ask(queue, owned, "n2", options={"yes": "Publish"})
    assert await told(redis) == [
        ("ask", f"{task_id}:n1"),
        ("withdraw", f"{task_id}:n1:withdrawn"),
        ("ask", f"{task_id}:n2"),
    ]
    assert not await answer(queue, owned, "yes")
    assert await answer(queue, owned, "yes", "n2")


@pytest.mark.gen_test
async def test_question_that_nobody_waits_for_is_withdrawn(
    queue: QueueService, redis: Redis
) -> None:
    """Unless the answer was first; asked again it is another one."""
    owned = await begun(queue)
    task_id = owned.task.task_id
    await ask(queue, owned)
    for _ in range(2):
        assert await queue.withdraw(task_id, owned.token, "publish") == Asked(None)
    assert not await answer(queue, owned, "yes")
    await ask(queue, owned, "n2")
    assert await answer(queue, owned, "yes", "n2")
    assert await queue.withdraw(task_id, owned.token, "publish") == Asked(b'"yes"')
    kinds = [kind for kind, _ in await told(redis)]
    assert kinds == ["ask", "withdraw", "ask"]


@pytest.mark.gen_test
@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled"])
async def test_questions_end_with_the_task(queue: QueueService, redis: Redis, ending: str) -> None:
    owned = await begun(queue)
    task_id = owned.task.task_id
    await ask(queue, owned, "n1")
    await ask(queue, owned, "n2", name="print")
    if ending == "cancelled":
        await queue.cancel_task(task_id)
    else:
        await end(queue, owned, success=ending == "completed")
    assert not await answer(queue, owned, "yes")
    assert sorted(await told(redis)) == [
        ("ask", f"{task_id}:n1"),
        ("ask", f"{task_id}:n2"),
        ("task", task_id),
        ("withdraw", f"{task_id}:n1:withdrawn"),
        ("withdraw", f"{task_id}:n2:withdrawn"),
    ]
    assert not await redis.exists(f"{{rtq}}:asked:{task_id}")
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
@pytest.mark.parametrize("junk", [b"", b"x", msgpack.packb([1]), msgpack.packb(["n", "x", []])])
async def test_unreadable_question_stops_nothing(
    queue: QueueService, redis: Redis, junk: bytes
) -> None:
    owned = await begun(queue)
    await ask(queue, owned)
    await redis.hset(f"{{rtq}}:asked:{owned.task.task_id}", "publish", junk)
    assert not await answer(queue, owned, "yes")
    await ask(queue, owned, "n2")
    await redis.hset(f"{{rtq}}:asked:{owned.task.task_id}", "publish", junk)
    await end(queue, owned)
    assert [kind for kind, _ in await told(redis)] == ["ask", "ask", "task"]
    assert not await redis.exists(f"{{rtq}}:asked:{owned.task.task_id}")


@pytest.mark.gen_test
async def test_question_that_an_earlier_version_left_goes_with_the_task(
    queue: QueueService, redis: Redis
) -> None:
    """It ends a task and does not know what that asks."""
    owned = await begun(queue)
    task_id = owned.task.task_id
    await ask(queue, owned)
    asked = f"{{rtq}}:asked:{task_id}"
    left = await redis.dump(asked)
    await end(queue, owned, success=False)
    await redis.restore(asked, 0, left)
    assert await queue.check_invariants() == [f"ended task {task_id} asks"]
    await queue.purge(TaskState.FAILED)
    assert not await redis.exists(asked)


# The side of the handler


@pytest.mark.gen_test
async def test_handler_gets_the_option_and_a_later_attempt_the_same() -> None:
    """Its question is what the task says meanwhile."""
    run, record = make_run()
    record.answers["publish"] = b'"no"'
    options = {"yes": "Publish", "no": "Drop"}
    assert await run.ask("publish", "Publish\nit?", options, "x" * 9999, "warning") == "no"
    [question] = record.questions
    assert (question.title, question.severity) == ("Publish it?", "warning")
    assert len(question.content or "") == 2000
    assert record.messages == ["Publish it?"]
    assert await run.ask("publish", "Again?", options) == "no"
    later, again = make_run(kept={"publish": b'"no"'}, attempt=2)
    assert await later.ask("publish", "Publish it?", options) == "no"
    assert (len(record.questions), again.questions) == (1, [])


@pytest.mark.gen_test
async def test_question_is_the_step_of_its_name() -> None:
    run, record = make_run()
    record.answers["publish"] = b'"yes"'
    run.set_plan(["publish", "send"])
    await run.ask("publish", "Publish it?", {"yes": "Publish"})
    assert run.snapshot()["marks"] == "cp"


@pytest.mark.gen_test
async def test_question_without_an_answer_raises_in_time() -> None:
    run, _ = make_run()
    with pytest.raises(TimeoutError, match=r"nobody has answered 'publish' within 0\.5 s"):
        await run.ask("publish", "Publish it?", {"yes": "Publish"}, timeout=0.5)


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("the name of a result", {"name": ""}),
    ("the name of a result", {"name": "a\nb"}),
    ("a notification has a title", {"title": ""}),
    ("severity is one of", {"severity": "loud"}),
    ("options are labels by ids", {"options": ["yes"]}),
    ("1 to 5 options", {"options": {}}),
    ("1 to 5 options", {"options": dict.fromkeys("abcdef", "A")}),
    ("the id of an option", {"options": {"Yes!": "Yes"}}),
    ("the id of an option", {"options": {1: "Yes"}}),
    ("option yes has a label", {"options": {"yes": ""}}),
    ("a timeout is a number of seconds", {"timeout": -1}),
    ("a timeout is a number of seconds", {"timeout": "1"}),
    ("a timeout is a number of seconds", {"timeout": float("nan")}),
]


@pytest.mark.gen_test
@pytest.mark.parametrize(("fault", "wrong"), WRONG)
async def test_bad_question_is_refused(fault: str, wrong: dict[str, Any]) -> None:
    given: dict[str, Any] = {"name": "n", "title": "T", "options": {"yes": "Yes"}} | wrong
    run, record = make_run()
    with pytest.raises(ValueError, match=fault):
        await run.ask(**given)
    with pytest.raises(ValueError, match=fault):
        SyncRun(record, asyncio.run).ask(**given)
    assert (record.questions, record.reports) == ([], [])


@pytest.mark.gen_test
async def test_nothing_is_asked_for_a_task_that_is_lost() -> None:
    class Lost(Record):
        def check(self) -> None:
            raise LeaseLost("t1")

    lost = Lost()
    with pytest.raises(LeaseLost):
        await Run(lost).ask("n", "T", {"yes": "Yes"})
    with pytest.raises(LeaseLost):
        SyncRun(lost, asyncio.run).ask("n", "T", {"yes": "Yes"})
    assert lost.questions == []


@attrs.frozen
class Nothing:
    """No parameters."""


async def waits(params: Nothing, run: Run) -> str:
    return await run.ask("publish", "Publish it?", {"yes": "Publish", "no": "Drop"})


def waits_plainly(params: Nothing, run: SyncRun) -> str:
    return run.ask("publish", "Publish it?", {"yes": "Publish", "no": "Drop"})


async def waits_briefly(params: Nothing, run: Run) -> str:
    return await run.ask("publish", "Publish it?", {"yes": "Publish"}, timeout=60)


def asking(function: Callable[..., Any]) -> Kind:
    kind = Kind("asks", Nothing)
    kind.handler(function)
    return kind


@pytest.mark.parametrize("function", [waits, waits_plainly])
def test_tests_of_an_author_answer(function: Callable[..., Any]) -> None:
    task = run_task(asking(function), {}, answers={"publish": "no"})
    assert (task.result, task.kept) == ("no", {"publish": "no"})
    assert [one.title for one in task.questions] == ["Publish it?"]


def test_tests_of_an_author_do_not_wait() -> None:
    assert isinstance(run_task(asking(waits), {}).error, LookupError)
    assert isinstance(run_task(asking(waits), {}, answers={"publish": "x"}).error, LookupError)
    assert isinstance(run_task(asking(waits_briefly), {}).error, TimeoutError)
