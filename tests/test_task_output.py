"""`GET /api/tasks/{id}/output`: what a task has told, also before anybody looked."""

from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from services.output import lines_of
from services.queue import LoggedEvents, QueueService
from settings import Settings
from tests.client_forms import Form
from tests.client_forms import form as form
from tests.conftest import ServerProcess
from tests.queueing import claim, enqueue, read
from tests.whys import Token, asked

LOG = "{rtq}:log:task:"
# As these tests' tasks say it, which have no time.
WAITING = (None, "Waiting")


async def tell(queue: QueueService, *messages: str) -> str:
    """Have a running task tell some messages; return its id."""
    task_id = await enqueue(queue)
    [owned] = await claim(queue)
    for number, message in enumerate(messages):
        fragment = f'"message":"{message}","updated_at":"{number}"'.encode()
        assert await queue.report_progress(task_id, owned.token, fragment, float(number))
    return task_id


async def lines(queue: QueueService, task_id: str) -> list[tuple[str, str]]:
    logged, task = await queue.read_logged(task_id), await read(queue, task_id)
    return [(one["updated_at"], one["message"]) for one in lines_of(logged, task.snapshot)]


@pytest.mark.gen_test
async def test_messages_are_told_in_their_order_each_once(
    redis: Redis, queue: QueueService
) -> None:
    """Of equal ones in a row the first counts; the last is in no log yet."""
    task_id = await tell(queue, "one", "two", "two", "one", "three")
    told = [WAITING, ("0", "one"), ("1", "two"), ("3", "one"), ("4", "three")]
    assert await lines(queue, task_id) == told
    assert not (await queue.read_logged(task_id)).older


@pytest.mark.gen_test
async def test_log_that_was_cut_says_that_something_came_before(
    redis: Redis, make_queue: Callable[..., QueueService]
) -> None:
    queue = make_queue(max_events=3)
    task_id = await tell(queue, *map(str, range(9)))
    found = await lines(queue, task_id)
    assert found[-1] == ("8", "8")
    assert found == [(str(n), str(n)) for n in range(9 - len(found), 9)]
    assert len(found) < 9
    assert (await queue.read_logged(task_id)).older


@pytest.mark.gen_test
async def test_log_that_is_gone_says_so(redis: Redis, queue: QueueService) -> None:
    task_id = await tell(queue, "one", "two")
    await redis.delete(LOG + task_id)
    assert await queue.read_logged(task_id) == LoggedEvents([], older=True)
    assert await lines(queue, task_id) == [("1", "two")]


@pytest.mark.gen_test
async def test_garbage_in_a_log_hides_no_line(redis: Redis, queue: QueueService) -> None:
    task_id = await tell(queue, "one", "two")
    for garbage in (b"\xff", b"[]", b"{}", b'{"type":"progress"}', b'{"type":"progress","data":1}'):
        await redis.lpush(LOG + task_id, garbage)
    assert await lines(queue, task_id) == [WAITING, ("0", "one"), ("1", "two")]


@pytest.mark.gen_test
async def test_task_that_there_is_not_has_no_log(redis: Redis, queue: QueueService) -> None:
    assert await queue.read_logged("none") == LoggedEvents([], older=False)


@pytest.mark.gen_test
async def test_output_is_its_owners_and_an_admins(
    settings: Settings, make_token: Token, database: Any, redis: Redis
) -> None:
    """It is told in the reader's language, else in that of the task."""
    async with asked(settings, make_token, worker_concurrency=0) as site:
        task_id = await site.submit("quick", locale="zh-CN")
        path = f"/api/tasks/{task_id}"
        waiting = (await site.alice.get(path)).body["message"]
        for user in (site.alice, site.admin):
            found = await user.get(f"{path}/output")
            assert found.headers["Content-Language"] == "zh-CN"
            assert (found.body["locale"], found.body["older"]) == ("zh-CN", False)
            [line] = found.body["items"]
            assert line["message"] == waiting != "Waiting"
            assert (line["status"], line["attempt"]) == ("queued", 0)
        [line] = (await site.alice.get(f"{path}/output?locale=en")).body["items"]
        assert line["message"] == "Waiting"
        for user, id_ in ((site.bob, task_id), (site.alice, "none"), (site.admin, "none")):
            answer = await user.get(f"/api/tasks/{id_}/output")
            assert (answer.status, answer.body["detail"]) == (404, f"there is no task {id_}")


def test_clients_read_the_output(form: Form, client_server: ServerProcess) -> None:
    client = form.client(client_server.url, user="output-of-a-client")
    task = form.call(client.submit("client.echo", {"steps": 2}))
    form.call(task.result(timeout=60))
    found = form.call(task.output())
    assert [one["message"] for one in found.items][-1] == "Done"
    assert not found.older
