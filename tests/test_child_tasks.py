"""A handler submits tasks: each once, in every form of handler."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from services.children import Children
from services.estimates import Estimates
from services.kinds import KindRegistry
from services.progress import PlanBook
from services.queue import Conflict, Job, NewTask, QueueFull, QueueService, Task, Unique
from services.queue.models import OnConflict
from services.submissions import TaskBounds
from services.tasks import TaskService
from settings import Settings
from tests.api import Client, serving
from tests.elsewhere import worker_program, working
from tests.embedded import embedded
from tests.kinds_children import Book, Wanted, book, page, plain, wanted
from tests.recorded import Record
from tests.remote_worker import FILM, Frame, connect, lease, office, submit
from tests.waiting import until
from tornado_rt.testing import run_task
from tornado_rt.work import LeaseLost, NotSubmitted, Run, Submission, SyncRun
from tornado_rt.work.attempts.queue import NO_SUBMITTER

pytestmark = pytest.mark.usefixtures("invariants")

KINDS = "tests.kinds_children"
# In each form: the name of the kind whose handler submits pages, and of one that asks for more.
FORMS = {"async": ("child.book", "child.wanted"), "plain": ("child.plain", "child.wanted_plainly")}
PLACES = ["here", "here in processes", "websocket", "http", "websocket in processes", "embedded"]
SECONDS = 30.0

Token = Callable[..., str]


@attrs.frozen
class Site:
    """A server whose tasks run in one of the places, and a client of its user."""

    client: Client

    async def submit(self, kind: str, params: Any, **more: Any) -> str:
        body = {"kind": kind, "params": params, **more}
        answer = await self.client.post("/api/tasks", body)
        assert answer.status == 202, answer.body
        task_id: str = answer.body["task_id"]
        return task_id

    async def read(self, task_id: str) -> dict[str, Any]:
        answer = await self.client.get(f"/api/tasks/{task_id}")
        assert answer.status == 200, answer.body
        task: dict[str, Any] = answer.body
        return task

    async def end(self, task_id: str) -> dict[str, Any]:
        async def ended() -> Any:
            task = await self.read(task_id)
            return task if task["ended_at"] else None

        return dict(await until(ended, seconds=SECONDS))

    async def run(self, kind: str, params: Any, **more: Any) -> Any:
        """Run a task to its end, and return its result."""
        task = await self.end(await self.submit(kind, params, **more))
        assert task["status"] == "completed", task
        return task["result"]

    async def pages(self) -> list[dict[str, Any]]:
        answer = await self.client.get("/api/tasks?kind=child.page&limit=100")
        items: list[dict[str, Any]] = answer.body["items"]
        return items

    async def children(self, task_id: str) -> set[str]:
        """Return the ids of the tasks that the handler of one has submitted."""
        answer = await self.client.get(f"/api/tasks?parent={task_id}")
        return {one["task_id"] for one in answer.body["items"]}


@pytest.fixture
def open_settings(settings: Settings, redis: Any, database: Any) -> Settings:
    """Settings without limits over all kinds, in which a worker that is gone is noticed soon."""
    return settings.changed(queue_user_limit=0, queue_global_limit=0, remote_return_seconds=1.0)


@asynccontextmanager
async def site_at(place: str, settings: Settings, token: str) -> AsyncIterator[Site]:
    """Run a server whose tasks run there."""
    where, _, processes = place.partition(" in ")
    if where in ("here", "embedded"):
        own = settings.changed(
            kinds=[KINDS], worker_concurrency=4, worker_processes=bool(processes)
        )
        if where == "here":
            async with serving(own, token) as client:
                yield Site(client)
        else:
            async with embedded(own, None) as host:
                client = host.client(token)
                yield Site(attrs.evolve(client, url=client.url + "/rt"))
        return
    async with serving(settings, token) as client:
        entered = working(client.url, KINDS, transport=where, processes=bool(processes))
        await asyncio.to_thread(entered.__enter__)
        try:
            yield Site(client)
        finally:
            await asyncio.to_thread(entered.__exit__, None, None, None)


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.gen_test
async def test_handler_submits_each_task_once(
    place: str, form: str, open_settings: Settings, make_token: Token
) -> None:
    """Of the same user; another attempt that comes to the same finds what there is."""
    kind, asks = FORMS[form]
    async with site_at(place, open_settings, make_token("alice")) as site:
        parent = await site.end(await site.submit(kind, {"pages": 2}, locale="en-GB"))
        assert (parent["status"], parent["attempt"], parent["parent_id"]) == ("completed", 2, None)
        made = parent["result"]
        assert len(set(made)) == 4
        tasks = [await site.end(task_id) for task_id in made]
        assert {one["task_id"] for one in await site.pages()} == set(made)
        assert [one["result"] for one in tasks] == [1, 2, 1, 2]
        assert {one["parent_id"] for one in tasks} == {parent["task_id"]}
        assert await site.children(parent["task_id"]) == set(made)
        assert await site.children(made[0]) == set()
        assert {one["user_id"] for one in tasks} == {"alice"}
        assert [one["locale"] for one in tasks] == ["en-GB", "en-GB", "en-GB", "zh-CN"]
        assert [one["tags"] for one in tasks] == [[], [], ["again"], []]
        why = (await site.client.get(f"/api/tasks/{made[0]}/why")).body
        begun = why["chain"][0]
        assert begun["code"] == "submitted_task"
        assert f"submitted by task {parent['task_id']}" in begun["text"]
        # The handler hears of each refusal.
        [unknown] = await site.run(asks, {"kind": "no.such"})
        assert unknown["status"] == 422
        assert "no.such" in unknown["text"]
        wrong = {"kind": "child.page", "params": {"number": 0}, "more": {"priority": "first"}}
        [told] = await site.run(asks, wrong)
        answer = await site.client.post(
            "/api/tasks", {"kind": "child.page", "params": {"number": 0}, "priority": "first"}
        )
        assert (told["status"], told["errors"]) == (answer.status, answer.body["errors"])


@pytest.mark.long
@pytest.mark.parametrize("place", ["here", "here in processes", "websocket"])
@pytest.mark.gen_test
async def test_limits_of_the_user_refuse_a_task(
    place: str, open_settings: Settings, make_token: Token
) -> None:
    settings = open_settings.changed(queue_max_waiting_per_user=2)
    async with site_at(place, settings, make_token("alice")) as site:
        later = {"kind": "child.page", "params": {"number": 1}, "more": {"delay": 600}, "times": 3}
        first, second, full = await site.run("child.wanted", later)
        assert first["id"] != second["id"]
        assert (full["status"], full["retry_after"]) == (429, 5.0)
        assert full["text"] == "at most 2 tasks of a user may wait"
        unique = {"unique": {"key": "k", "on_conflict": "reject"}}
    async with site_at(place, open_settings, make_token("bob")) as site:
        once = {"kind": "child.page", "params": {"number": 1}, "more": unique | {"delay": 600}}
        first, second = await site.run("child.wanted", once | {"times": 2})
        assert second["status"] == 409
        assert first["id"] in second["text"]


@pytest.mark.long
@pytest.mark.gen_test
async def test_process_that_is_killed_after_its_submit_makes_no_other(
    open_settings: Settings, make_token: Token
) -> None:
    async with site_at("here in processes", open_settings, make_token("alice")) as site:
        made = await site.run("child.killed", {})
        assert [one["task_id"] for one in await site.pages()] == [made]


@pytest.mark.long
@pytest.mark.gen_test
async def test_worker_elsewhere_that_is_killed_after_its_submit_makes_no_other(
    open_settings: Settings, make_token: Token, tmp_path: Path
) -> None:
    (tmp_path / "gate").touch()
    settings = open_settings.changed(queue_visibility_seconds=2)
    async with serving(settings, make_token("alice")) as client:
        site = Site(client)

        async def begin() -> Any:
            program = worker_program(client.url, kinds=KINDS)
            return program, await asyncio.to_thread(program.__enter__)

        first, process = await begin()
        # Its kinds are known once it works.
        await until(lambda: known(client), what="the kinds are known", seconds=SECONDS)
        task_id = await site.submit("child.gated", {"folder": str(tmp_path)})
        [made] = await until(site.pages, seconds=SECONDS)
        process.kill()
        await asyncio.to_thread(first.__exit__, None, None, None)
        (tmp_path / "gate").unlink()
        second, _ = await begin()
        try:
            task = await site.end(task_id)
            assert task["result"] == [made["task_id"], 2]
            assert len(await site.pages()) == 1
        finally:
            await asyncio.to_thread(second.__exit__, None, None, None)


async def known(client: Client) -> bool:
    items = (await client.get("/api/kinds")).body["items"]
    return any(one["kind"] == "child.gated" and one["workers"] for one in items)


@pytest.mark.gen_test
async def test_worker_in_another_language_submits(
    open_settings: Settings, make_token: Token
) -> None:
    """The item is answered with the id, or with what is refused; the attempt goes on."""
    async with office(open_settings, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work(slots=1)
        task_id = await submit(alice)
        task = await worker.task()

        async def ask(name: str, **body: Any) -> Frame:
            [told] = await worker.items("report", lease(task, submit={"name": name, "task": body}))
            assert (told.get("state"), told["submitted"]["name"]) == ("yours", name), told
            submitted: Frame = told["submitted"]
            return submitted

        film = {"kind": "film", "params": {"path": "b.mkv"}}
        made = await ask("b", **film)
        assert await ask("b", **film) == made
        assert (await ask("c", **film))["task_id"] != made["task_id"]
        child = (await alice.get(f"/api/tasks/{made['task_id']}")).body
        assert (child["parent_id"], child["label"]) == (task_id, "b.mkv")
        refused = (await ask("d", kind="film", params={}))["error"]
        assert (refused["status"], refused["message"]) == (422, "params.path is required")
        [told] = await worker.items("report", lease(task, submit={"name": "x"}))
        assert "items[0].submit.task" in told["error"]["message"]
        # The names and ids are there on a later attempt, and the old token submits nothing.
        [told] = await worker.items("ack", lease(task, outcome="retry", delay=0))
        assert told["became"] == "retry"
        stale = {"name": "e", "task": film}
        [told] = await worker.items("report", lease(task, submit=stale))
        assert told["state"] == "lost"
        assert "submitted" not in told
        again = await worker.task()
        while again["task_id"] != task_id:
            [told] = await worker.items("ack", lease(again, outcome="completed"))
            again = await worker.task()
        assert again["kept"]["b"] == made["task_id"]
        listed = (await alice.get("/api/tasks?kind=film")).body["items"]
        assert len(listed) == 3


@pytest.mark.gen_test
async def test_kept_ids_count_with_the_results_of_once(
    open_settings: Settings, make_token: Token
) -> None:
    settings = open_settings.changed(task_result_bytes=100)
    async with office(settings, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work()
        await submit(alice)
        task = await worker.task()
        for number in range(4):
            one = {"name": f"n{number}", "task": {**FILM_TASK, "delay": 600}}
            [told] = await worker.items("report", lease(task, submit=one))
            assert ("error" in told) == (number == 3)
    record = Record()
    with pytest.raises(ValueError, match="at most 40 are allowed"):
        await Run(record, most_bytes=40, kept={"a": b'"1234567890"'}).submit("film")
    assert record.submissions == []


FILM_TASK = {"kind": FILM["kind"], "params": {"path": "b.mkv"}}


@attrs.define
class Parents:
    """A parent that runs, in a queue."""

    queue: QueueService
    task: Task
    token: str

    async def submit(self, name: str = "a", **more: Any) -> str | None:
        new = NewTask(**{"kind": "k", "job": Job(label="child"), "first": b"", **more})
        return await self.queue.enqueue_child(self.task, self.token, name, new)

    async def claim_again(self) -> "Parents":
        """Give it to another worker, as when the first is gone."""
        await self.queue.expire_claims(["w"])
        await self.queue.cleanup_expired_tasks()
        return await claimed(self.queue)


async def claimed(queue: QueueService) -> Parents:
    found = await queue.claim("w", 1, kinds=["parent"])
    [claim] = found.claims
    return Parents(queue, claim.task, claim.token)


async def parent_in(queue: QueueService, job: Job | None = None) -> Parents:
    await queue.register_again()
    new = NewTask(kind="parent", job=job or Job(label="p"), first=b"")
    await queue.enqueue_task("alice", new)
    return await claimed(queue)


@pytest.mark.gen_test
async def test_worker_that_dies_before_it_hears_of_its_task_makes_no_other(
    queue: QueueService,
) -> None:
    """The task and the record of it are one change; the token of the dead one adds nothing."""
    first = await parent_in(queue)
    made = await first.submit()
    # Sent again, since the reply was lost.
    assert await first.submit() == made
    second = await first.claim_again()
    assert await second.submit() == made
    assert await first.submit("b") is None
    assert (await queue.read_kept(second.task.task_id)).results == {"a": json.dumps(made).encode()}
    assert await second.submit("b") != made
    assert (await queue.stats()).queued == 2
    # Also when the child has ended.
    assert made is not None
    await queue.cancel_task(made, "alice")
    assert await second.submit() == made


@pytest.mark.gen_test
async def test_child_keeps_trace_and_language_of_its_parent(queue: QueueService) -> None:
    """Also where nothing is recorded; a language that is given wins."""
    registry = KindRegistry({page.name: page})
    plans = PlanBook(queue.read_plans)
    tasks = TaskService(queue, registry, plans, TaskBounds(), Estimates(queue))
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    parent = await parent_in(queue, Job(label="p", locale="zh-CN", trace=trace))
    children, body = Children(tasks), {"kind": page.name, "params": {"number": 1}}
    for send, locale in ((children.submit, "zh-CN"), (children.submit_for, "en")):
        more = {"locale": locale} if locale == "en" else {}
        asked = Submission(locale, json.dumps(body | more).encode())
        made = await send(parent.task, parent.token, asked)
        assert made is not None
        child = await queue.get_task(made)
        assert child is not None
        assert (child.job.trace, child.job.locale) == (trace, locale)
        assert child.job.parent_id == parent.task.task_id
        assert json.loads(child.snapshot)["parent_id"] == parent.task.task_id


@pytest.mark.gen_test
async def test_refused_task_is_not_kept(make_queue: Callable[..., QueueService]) -> None:
    queue = make_queue(max_waiting_per_user=1)
    parent = await parent_in(queue)
    made = await parent.submit()
    with pytest.raises(QueueFull):
        await parent.submit("b")
    assert set((await queue.read_kept(parent.task.task_id)).results) == {"a"}
    assert made is not None
    await queue.cancel_task(made, "alice")
    assert await parent.submit("b") not in (None, made)


@pytest.mark.gen_test
async def test_unique_key_of_a_child_holds(queue: QueueService) -> None:
    parent = await parent_in(queue)
    rule = Unique(key="u", on_conflict=OnConflict.RETURN)
    made = await parent.submit("a", unique=rule)
    assert await parent.submit("b", unique=rule) == made
    with pytest.raises(Conflict):
        await parent.submit("c", unique=attrs.evolve(rule, on_conflict=OnConflict.REJECT))
    replaced = await parent.submit("d", unique=attrs.evolve(rule, on_conflict=OnConflict.REPLACE))
    assert replaced not in (None, made)
    kept = (await queue.read_kept(parent.task.task_id)).results
    assert {name: json.loads(value) for name, value in kept.items()} == {
        "a": made,
        "b": made,
        "d": replaced,
    }


@pytest.mark.gen_test
async def test_cancelled_parent_leaves_its_children(queue: QueueService) -> None:
    parent = await parent_in(queue)
    made = await parent.submit()
    await queue.cancel_task(parent.task.task_id, "alice")
    assert await parent.submit("b") is None
    assert made is not None
    child = await queue.get_task(made)
    assert child is not None
    assert child.status == "queued"


@pytest.mark.gen_test
async def test_equal_submissions_are_counted_and_refused_ones_are_not() -> None:
    """So that a handler that waits and tries again comes to the same on a later attempt."""

    class Full(Record):
        full = True

        async def submit(self, submission: Submission) -> str:
            if self.full:
                raise NotSubmitted("full", 429, retry_after=5)
            return await super().submit(submission)

    record = Full()
    run = Run(record)
    for _ in range(2):
        with pytest.raises(NotSubmitted):
            await run.submit("a", {"x": 1, "y": 2})
    record.full = False
    first = await run.submit("a", {"x": 1, "y": 2}, delay=1)
    second = await run.submit("a", {"y": 2, "x": 1}, delay=2)
    other = await run.submit("a", {"y": 2, "x": 2})
    assert [first, second, other] == ["task1", "task2", "task3"]
    names = [one.name for one in record.submissions]
    assert len(set(names)) == 3
    assert [one[-2:] for one in names] == [" 1", " 2", " 1"]
    later = Record()
    kept = {name: json.dumps(f"task{n}").encode() for n, name in enumerate(names, 1)}
    again = SyncRun(later, asyncio.run, kept=kept)
    assert again.submit("a", {"y": 2, "x": 2}) == other
    assert [again.submit("a", {"x": 1, "y": 2}) for _ in "ab"] == [first, second]
    assert later.submissions == []


@pytest.mark.gen_test
async def test_wrong_submissions_are_told() -> None:
    run = Run(Record(), kept={"taken": b"5"})
    with pytest.raises(NotSubmitted, match=r"params\.number must be at least 1") as refused:
        await run.submit(page, {"number": 0})
    assert (refused.value.status, len(refused.value.errors)) == (422, 1)
    with pytest.raises(NotSubmitted, match=r"JSON has no object, at \.params\.x"):
        await run.submit("a", {"x": object()})
    with pytest.raises(ValueError, match="the name of a result is one line"):
        await run.submit("a", name="")
    with pytest.raises(ValueError, match="'taken' is no id of a task"):
        await run.submit("a", name="taken")
    with pytest.raises(NotSubmitted, match="nobody takes"):
        await Run().submit("a")
    with pytest.raises(NotSubmitted, match="takes no tasks"):
        await NO_SUBMITTER.submit(Task.__new__(Task), "", Submission("a", b"{}"))
    run.fail("over")
    with pytest.raises(LeaseLost):
        await run.submit("a")


@pytest.mark.parametrize("kind", [book, plain])
def test_tests_of_an_author_see_what_was_submitted(kind: Any) -> None:
    task = run_task(kind, Book(pages=1), attempt=2)
    ids = [one["task_id"] for one in task.submitted]
    assert task.result == ids == ["test-1", "test-2", "test-3"]
    assert task.submitted[1] == {
        "task_id": "test-2",
        "kind": "child.page",
        "params": {"number": 1},
        "tags": ["again"],
    }
    assert task.submitted[2]["locale"] == "zh-CN"
    assert task.kept["last"] == "test-3"
    later = run_task(kind, Book(pages=1), attempt=3, kept=task.kept)
    assert (later.result, later.submitted) == (ids, [])


def test_tests_of_an_author_count_equal_submissions() -> None:
    asked = Wanted("child.page", {"number": 1}, {"delay": 3}, times=2)
    task = run_task(wanted, asked)
    assert [one["id"] for one in task.result] == ["test-1", "test-2"]
    assert {one["delay"] for one in task.submitted} == {3}
