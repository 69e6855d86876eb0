"""Servers are replaced while tasks run: what a task has done once is not done again."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.faults.clients import Client
from tests.faults.fleet import WATCHING, Fleet
from tests.faults.system import ENVIRONMENT, Server, System
from tests.jobs.deploys import GATE, STEPS
from tests.waiting import until

pytestmark = pytest.mark.long

TASKS = 20
USER = "deployer"
KINDS = ("deploy.coroutine", "deploy.plain")
# On a busy machine tasks in processes take half a minute.
SECONDS = 90.0
SETTINGS = ENVIRONMENT | {
    "RT_KINDS": str(Path(__file__).parents[1] / "jobs" / "deploys.py"),
    "RT_WORKER_CONCURRENCY": "16",
    # Less than some steps take.
    "RT_WORKER_GRACE_SECONDS": "0.1",
    # Longer than a busy machine keeps a worker from extending its leases.
    "RT_QUEUE_VISIBILITY_SECONDS": "20",
    "RT_QUEUE_USER_LIMIT": "0",
    "RT_QUEUE_GLOBAL_LIMIT": "0",
}

Replace = Callable[["Rollout", Server, int], Awaitable[None]]


@pytest.fixture(scope="module")
def stores(runner: asyncio.Runner, js_package: Path) -> Iterator[System]:
    """Two stores, and no server yet."""
    system = System(servers=0, workers=0)
    fleet = Fleet(system, js_package)
    runner.run(system.__aenter__())
    runner.run(fleet.__aenter__())
    yield system
    runner.run(fleet.__aexit__())
    complaints = system.complaints()
    runner.run(system.__aexit__())
    assert not complaints, "\n".join(complaints)


@pytest.fixture(scope="module", params=["in the server", "in processes"])
def system(
    runner: asyncio.Runner, stores: System, request: pytest.FixtureRequest
) -> Iterator[System]:
    """Two servers that work themselves, each task in the server or in a process of its own."""
    own = {
        "RT_REDIS_URL": stores.redis_server.url,
        "RT_MONGODB_URL": stores.mongodb.url,
        "RT_WORKER_PROCESSES": str(request.param == "in processes").lower(),
    }
    for name in ("first", "second"):
        server = Server(f"{name} {request.param}", stores.folder, SETTINGS | own)
        stores.servers.append(server)
        server.start()
    runner.run(_ready(stores))
    yield stores
    for server in tuple(stores.servers):
        runner.run(stores.remove(server))


async def _ready(system: System) -> None:
    await asyncio.gather(*(server.ready() for server in system.servers))


@attrs.frozen
class Line:
    """A line of a task's journal."""

    what: str
    step: str
    pid: str

    def is_kept(self, step: int) -> bool:
        """Say whether it says that this step is kept."""
        return (self.what, self.step) == ("kept", STEPS[step])


def _processes(journal: list[Line]) -> list[str]:
    """Return the processes that have written a journal, one after the other."""
    return [pid for pid, _ in itertools.groupby(journal, key=lambda line: line.pid)]


@attrs.frozen
class Rollout:
    """Some tasks, and what they have written down in a folder."""

    system: System
    folder: Path
    tasks: dict[str, Client]

    def open(self, steps: int) -> None:
        """Let this many steps begin, and no more."""
        fresh = self.folder / "fresh"
        fresh.write_text(str(steps))
        fresh.replace(self.folder / GATE)

    def journal(self, task_id: str) -> list[Line]:
        """Return what a task has done so far."""
        path = self.folder / task_id
        text = path.read_text() if path.exists() else ""
        return [Line(*line.split()) for line in text.splitlines()]

    async def arrive(self, step: int) -> None:
        """Let three steps begin, and wait until some tasks have the first behind them."""
        self.open(step + 3)

        def some_have() -> bool:
            journals = map(self.journal, self.tasks)
            kept = [any(line.is_kept(step) for line in journal) for journal in journals]
            return sum(kept) > TASKS / 4

        await until(some_have, SECONDS, "some tasks are amid their steps")

    def moved(self) -> int:
        """Count how often a task has gone on in another process."""
        return sum(max(len(_processes(self.journal(one))) - 1, 0) for one in self.tasks)

    def all_ended(self) -> bool:
        """Say whether all watchers have seen the end of their task."""
        for watcher in self.tasks.values():
            if watcher.failed is not None:
                raise watcher.failed
        return all(watcher.journal.ends for watcher in self.tasks.values())

    async def shown(self, task_id: str) -> dict[str, Any]:
        """Return a task as it is."""
        path = f"/api/tasks/{task_id}"
        shown: dict[str, Any] = (
            await self.system.ask(self.system.servers[0], "GET", path, USER)
        ).body
        return shown


async def roll_out(system: System, folder: Path, replace: Replace) -> Rollout:
    """Run twenty tasks, and replace one server after the other meanwhile."""
    rollout = Rollout(system, folder, {})
    rollout.open(0)
    async with contextlib.AsyncExitStack() as stack:
        for number in range(TASKS):
            kind, server = KINDS[number // 2 % 2], system.servers[number % 2]
            body = {"kind": kind, "params": {"folder": str(folder)}}
            answer = await system.ask(server, "POST", "/api/tasks", USER, body)
            assert answer.status == 202, answer
            task_id = answer.body["task_id"]
            form = WATCHING[number % len(WATCHING)]
            following = system.fleet.following(form, USER, f"task:{task_id}", server=server)
            rollout.tasks[task_id] = await stack.enter_async_context(following)
        for number, server in enumerate(system.servers):
            await replace(rollout, server, 4 * number)
        rollout.open(len(STEPS))
        await until(rollout.all_ended, SECONDS, "every watcher has seen its task end")
    return rollout


async def replace_by_stop(rollout: Rollout, server: Server, step: int) -> None:
    """Stop a server amid some steps, and start its successor.

    When others have its tasks, more steps may begin, also for those that it still runs.
    """
    await rollout.arrive(step)
    before = rollout.moved()
    stopping = asyncio.create_task(server.stop(), name="stopping")
    # It has nothing to hand on when the other was quicker.
    await until(lambda: rollout.moved() > before or stopping.done(), SECONDS)
    rollout.open(step + 4)
    assert await stopping == 0
    await server.restart()


async def replace_by_kill(rollout: Rollout, server: Server, step: int) -> None:
    """Kill a server amid some steps, and start its successor."""
    await rollout.arrive(step)
    await server.kill()
    await server.restart()


def check_steps(journal: list[Line]) -> None:
    """Check that no step was done again that was done, and that one process did it at a time."""
    processes = _processes(journal)
    assert len(processes) == len(set(processes)), f"one went on beside another: {journal}"
    kept: set[str] = set()
    for line in journal:
        assert line.what == "kept" or line.step not in kept, f"{line} again: {journal}"
        kept |= {line.step} if line.what == "kept" else set()
    for pid in processes:
        begun = [line.step for line in journal if (line.what, line.pid) == ("run", pid)]
        assert begun == sorted(set(begun)), f"{pid} did a step twice: {journal}"
    assert kept == set(STEPS), journal


async def check_tasks(rollout: Rollout) -> None:
    """Check the steps of each task, and that it has ended once for all who are told of it."""
    assert rollout.moved() > 0
    for task_id, watcher in rollout.tasks.items():
        check_steps(rollout.journal(task_id))
        assert watcher.journal.ends == {task_id: 1}
        assert watcher.journal.progress[-1]["progress"] == 100.0
        task = await rollout.shown(task_id)
        assert (task["status"], task["result"]) == ("completed", len(STEPS))
    system = rollout.system
    path = "/api/notifications?limit=100"

    async def told() -> list[str]:
        answer = await system.ask(system.servers[0], "GET", path, USER)
        of_tasks = [item["metadata"]["task_id"] for item in answer.body["items"]]
        return sorted(task_id for task_id in of_tasks if task_id in rollout.tasks)

    await until(told, SECONDS, "each is told once", equal=sorted(rollout.tasks))
    path = "/api/queue/check"
    checked = await system.ask(system.servers[0], "GET", path, USER, scope="rt:admin")
    assert checked.body == {"violations": []}


def test_rolling_restart_repeats_no_step_and_counts_no_attempt(
    runner: asyncio.Runner, system: System, tmp_path: Path
) -> None:
    """Tasks go on elsewhere from their last step."""

    async def scenario() -> None:
        rollout = await roll_out(system, tmp_path, replace_by_stop)
        await check_tasks(rollout)
        for task_id in rollout.tasks:
            task = await rollout.shown(task_id)
            assert task["attempt"] == 1
            assert [one["outcome"] for one in task["attempts"]] == ["completed"]

    runner.run(scenario())


def test_crash_repeats_no_step_that_was_kept(
    runner: asyncio.Runner, system: System, tmp_path: Path
) -> None:
    """Attempts count, and say that their worker was lost."""

    async def scenario() -> None:
        rollout = await roll_out(system, tmp_path, replace_by_kill)
        await check_tasks(rollout)
        tasks = [await rollout.shown(task_id) for task_id in rollout.tasks]
        for task in tasks:
            outcomes = [one["outcome"] for one in task["attempts"]]
            assert outcomes == [*["lost"] * (task["attempt"] - 1), "completed"]
        assert {task["attempt"] for task in tasks} & {2, 3}

    runner.run(scenario())
