"""MongoDB goes away or stands still, and comes back."""

import asyncio
import random
from typing import Any

import pytest

from tests.faults import faults
from tests.faults.conftest import Play
from tests.faults.crowd import Crowd
from tests.faults.faults import Fault, name_of
from tests.faults.system import System
from tests.waiting import until

TASKS = 8


def test_tasks_that_end_without_mongodb_make_one_notification_each(play: Play) -> None:
    """Ends meanwhile wait in the outbox; reads answer 503; open sockets stay open."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng) as crowd:
            tasks = [await crowd.submit(rng.uniform(0.1, 0.5)) for _ in range(TASKS)]
            await system.mongodb.kill()
            await until(lambda: _all_ended(crowd, tasks), 60, "every task has ended")
            refused = await system.ask(crowd.server(), "GET", "/api/notifications", "alice")
            assert (refused.status, "Retry-After" in refused.headers) == (503, True)
            await system.mongodb.restart()
            await crowd.settle()
            await crowd.stored_once()
            assert crowd.reconnects() == 0

    play(scenario)


def _all_ended(crowd: Crowd, tasks: list[str]) -> bool:
    return all(crowd.watchers[task_id].journal.ends for task_id in tasks)


@pytest.mark.parametrize("fault", [faults.kill_mongodb, faults.freeze_mongodb], ids=name_of)
def test_fault_of_mongodb_under_load_loses_nothing(play: Play, fault: Fault) -> None:
    """All acknowledged notifications are stored, once, and come."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng) as crowd:
            crowd.flow()
            await until(lambda: crowd.news_to_all(0), what="there is something for everybody")
            await fault(system, rng)
            await crowd.settle()
            await crowd.stored_once()
            assert crowd.reconnects() == 0

    play(scenario)


def test_frozen_mongodb_loses_and_doubles_nothing(play: Play) -> None:
    """Tasks end while it stands still; after it each has one notification."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng) as crowd:
            system.mongodb.freeze()
            tasks = [await crowd.submit(rng.uniform(0.05, 0.2)) for _ in range(TASKS)]
            writes = [asyncio.create_task(crowd.notify()) for _ in range(4)]
            await until(lambda: _all_ended(crowd, tasks), 60, "every task has ended")
            system.mongodb.thaw()
            await asyncio.gather(*writes)
            await crowd.settle()
            await crowd.stored_once()
            assert crowd.reconnects() == 0

    play(scenario)


def test_progress_goes_on_without_mongodb(play: Play) -> None:
    """A task can be submitted, watched and cancelled: none of it needs MongoDB."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng, users=1) as crowd:
            await system.mongodb.kill()
            task_id = await crowd.submit(30.0)
            watcher = crowd.watchers[task_id]
            await until(lambda: len(watcher.journal.progress) > 2, what="progress comes")
            path = f"/api/tasks/{task_id}"
            answer = await system.ask(watcher.server, "DELETE", path, watcher.user)
            assert answer.status == 200, answer
            await until(lambda: watcher.ended, what="the end comes")
            await system.mongodb.restart()
            await crowd.settle()

    play(scenario)


def test_servers_are_ready_again_by_themselves(play: Play) -> None:
    """Without MongoDB a server says that it is not ready, and ready again after."""

    async def scenario(system: System, rng: random.Random) -> None:
        server: Any = rng.choice(system.servers)

        async def answers(status: int) -> bool:
            return (await system.ask(server, "GET", "/readyz", "a")).status == status

        await system.mongodb.kill()
        await until(lambda: answers(503), what="it is not ready")
        await system.mongodb.restart()
        await until(lambda: answers(200), what="it is ready")

    play(scenario)
