"""Workers elsewhere whose connection, server or Redis goes away: nothing is lost, nothing twice."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import attrs
import pytest
from redis.asyncio import Redis

from settings import Settings
from tests.api import Client
from tests.conftest import SECRET, start_server, stop_server
from tests.peers import TEXT, Peers, client_frame
from tests.realtime import start_redis
from tests.remote_worker import FILM, connect, lease, office, read, submit
from tests.waiting import until

Token = Callable[..., str]


@pytest.fixture
def quiet(settings: Settings, redis: Redis, database: Any) -> Settings:
    """Settings of a server without a worker of its own, and without limits over all kinds."""
    return settings.changed(queue_user_limit=0, queue_global_limit=0)


async def seconds_left(redis: Redis, task_id: str) -> float:
    """Return how long the lease of a task lasts."""
    ends = await redis.zscore("{rtq}:processing", task_id)
    seconds, microseconds = await redis.time()
    return 0.0 if ends is None else float(ends) / 1000 - seconds - microseconds / 1e6


@pytest.mark.gen_test
async def test_worker_that_is_cut_off_and_returns_goes_on(
    quiet: Settings, redis: Redis, make_token: Token
) -> None:
    """It is told which of its tasks are still its own, and takes no more than it has room for."""
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work(slots=3)
        for name in "abcd":
            await submit(alice, name)
        a, b, c = sorted(await worker.tasks(3), key=lambda one: str(one["label"]))
        worker.cut()
        # It has some seconds to come back, not the whole lease.
        await until(lambda: is_short(redis, a["task_id"]))
        await alice.delete(f"/api/tasks/{c['task_id']}")
        back = await connect(machine)
        gone = {"task_id": "gone", "token": "9"}
        running = [lease(one) for one in (a, b, c, gone)]
        working = await back.work(slots=3, running=running)
        assert [one["state"] for one in working["running"]] == [
            "yours",
            "yours",
            "cancelled",
            "lost",
        ]
        assert await seconds_left(redis, a["task_id"]) > 200
        [told] = await back.items("ack", lease(a, outcome="completed", result="a"))
        assert told["became"] == "completed"
        shown = await read(alice, a["task_id"])
        assert (shown["attempt"], shown["attempts"][0]["outcome"]) == (1, "completed")
        # All places are in use until the worker has stopped what is not its own.
        assert not back.waiting
        told = await back.items("ack", lease(gone, outcome="released"))
        assert [one["became"] for one in told] == ["lost"]
        assert (await back.task())["label"] == "d"
        [told] = await back.items("ack", lease(c, outcome="released"))
        assert told["became"] == "cancelled"
        [told] = await back.items("ack", lease(b, outcome="completed"))
        assert told["became"] == "completed"


@pytest.mark.gen_test
async def test_worker_that_answers_no_ping_is_closed_and_its_leases_are_short(
    quiet: Settings, redis: Redis, make_token: Token
) -> None:
    """By 4510; a worker that answers is not, though it says nothing."""
    beating = quiet.changed(ws_heartbeat_seconds=0.3)
    async with office(beating, make_token) as (alice, machine), Peers() as peers:
        port = urlsplit(machine.url).port or 0
        deaf, quiet_one = [
            await peers.open(port, "/api/ws/worker", machine.token) for _ in range(2)
        ]
        for peer, name in ((deaf, "deaf"), (quiet_one, "quiet")):
            data = {"worker_id": name, "kinds": [FILM], "slots": 1}
            peer.send(client_frame(TEXT, json.dumps({"type": "work", "data": data}).encode()))
            await peer.message_of("working")
        ids = [await submit(alice, name) for name in "ab"]
        # Each has one of the two.
        [lost] = (await deaf.message_of("tasks"))["data"]["items"]
        [kept] = (await quiet_one.message_of("tasks"))["data"]["items"]
        assert {lost["task_id"], kept["task_id"]} == set(ids)
        answering = asyncio.create_task(quiet_one.message_of("never"))
        assert await deaf.close_code() == 4510
        await until(lambda: is_short(redis, lost["task_id"]))
        assert await seconds_left(redis, kept["task_id"]) > 200
        assert not answering.done()
        answering.cancel()


async def is_short(redis: Redis, task_id: str) -> bool:
    return 0 < await seconds_left(redis, task_id) < 35


@pytest.mark.gen_test
async def test_tasks_of_a_worker_that_does_not_return_go_to_another(
    quiet: Settings, make_token: Token
) -> None:
    settings = quiet.changed(remote_return_seconds=1.0)
    async with office(settings, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work()
        task_id = await submit(alice)
        await worker.task()
        other = await connect(machine, "w2")
        await other.work()
        worker.cut()
        again = await other.task()
        assert (again["task_id"], again["attempt"]) == (task_id, 2)
        shown = await read(alice, task_id)
        assert shown["attempts"][0]["outcome"] == "lost"


@pytest.mark.gen_test
@pytest.mark.parametrize("processes", [1, 2])
async def test_second_connection_takes_the_place_of_the_first(
    quiet: Settings, redis: Redis, make_token: Token, processes: int
) -> None:
    """Also one to another process: the first is closed, and its tasks keep their leases."""
    async with office(quiet, make_token) as (alice, machine):
        first = await connect(machine)
        await first.work()
        task_id = await submit(alice)
        task = await first.task()
        if processes == 1:
            second = await connect(machine)
            working = await second.work(running=[lease(task)])
            assert await first.closed() == 4409
        else:
            async with office(quiet, make_token) as (_, elsewhere):
                second = await connect(elsewhere)
                working = await second.work(running=[lease(task)])
                assert await first.closed() == 4409
                [told] = await second.items("extend", lease(task))
                assert told["state"] == "yours"
        assert [one["state"] for one in working["running"]] == ["yours"]
        assert await seconds_left(redis, task_id) > 200 or processes == 2
        assert (await read(alice, task_id))["attempt"] == 1


@pytest.mark.gen_test
async def test_late_loss_of_a_first_connection_leaves_the_leases_of_the_second(
    quiet: Settings, redis: Redis, make_token: Token
) -> None:
    """A process that was not told of the second connection changes nothing."""
    async with office(quiet, make_token) as (alice, machine):
        first = await connect(machine)
        await first.work()
        task_id = await submit(alice)
        await first.task()
        # As the other process writes it, without its message.
        name = b"remote:machine:w1"
        told = await redis.hget("{rtq}:workers", name)
        assert told is not None
        await redis.hset("{rtq}:workers", name, told[:-20] + b'other"}')
        first.cut()
        await until(lambda: is_gone(machine))
        assert await seconds_left(redis, task_id) > 200
        assert await redis.hexists("{rtq}:workers", name)


async def is_gone(client: Client) -> bool:
    text = (await client.get("/metrics")).body.decode()
    return 'rt_remote_workers{transport="websocket"} 0.0' in text


@pytest.mark.gen_test
async def test_ack_that_had_no_answer_is_repeated_after_the_return(
    quiet: Settings, make_token: Token
) -> None:
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work()
        task_id = await submit(alice)
        task = await worker.task()
        await worker.say("ack", items=[lease(task, outcome="completed", result=5)])

        async def is_completed() -> bool:
            return bool((await read(alice, task_id))["status"] == "completed")

        await until(is_completed)
        worker.cut()
        back = await connect(machine)
        await back.work(running=[lease(task)])
        [told] = await back.items("ack", lease(task, outcome="completed", result=5))
        assert told["became"] == "completed"
        await submit(alice, "next")
        assert (await back.task())["label"] == "next"


@pytest.mark.gen_test
async def test_server_that_stops_says_so_and_shortens_nothing(
    quiet: Settings, redis: Redis, make_token: Token
) -> None:
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work()
        task_id = await submit(alice)
        task = await worker.task()
    assert await worker.closed() == 1001
    assert await seconds_left(redis, task_id) > 200
    async with office(quiet, make_token) as (alice, machine):
        back = await connect(machine)
        working = await back.work(running=[lease(task)])
        assert [one["state"] for one in working["running"]] == ["yours"]
        [told] = await back.items("ack", lease(task, outcome="completed"))
        assert told["became"] == "completed"


@pytest.mark.gen_test
async def test_worker_outlives_a_server_that_is_killed(tmp_path: Path, make_token: Token) -> None:
    """The server comes back, with its kinds and limits, and the worker goes on."""
    folder = tmp_path / "data"
    options = {"RT_JWT_SECRET": SECRET, "RT_WORKER_CONCURRENCY": "0", "RT_REDIS_FSYNC": "always"}
    server = start_server(folder, **options)
    opened: list[Any] = []
    try:
        machine = Client(server.url, make_token("m", scope="rt:work"), cast(Any, None), opened)
        alice = machine.as_user(make_token("alice"))
        worker = await connect(machine)
        await worker.work()
        await submit(alice)
        task = await worker.task()
        [told] = await worker.items("report", lease(task, step="encode", fraction=0.4))
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(30)
        server = start_server(folder, **options)
        machine = attrs.evolve(machine, url=server.url)
        alice = attrs.evolve(alice, url=server.url)
        back = await connect(machine)
        working = await back.work(running=[lease(task)])
        assert [one["state"] for one in working["running"]] == ["yours"]
        shown = await read(alice, task["task_id"])
        assert [one["status"] for one in shown["steps"]] == ["completed", "current"]
        [told] = await back.items("report", lease(task, message="still here"))
        assert told["state"] == "yours"
        assert (await read(alice, task["task_id"]))["progress"] == shown["progress"]
        [told] = await back.items("ack", lease(task, outcome="completed", result=1))
        assert told["became"] == "completed"
        assert (await read(alice, task["task_id"]))["attempt"] == 1
    finally:
        for socket in opened:
            socket.close()
        stop_server(server)


@pytest.mark.gen_test
async def test_redis_away_and_back(quiet: Settings, tmp_path: Path, make_token: Token) -> None:
    """An ack waits for it, a report is told to come again, and then tasks come as before."""
    address = tmp_path / "redis.sock"
    server = await start_redis(address)
    settings = quiet.changed(redis_url=f"unix://{address}")
    try:
        async with office(settings, make_token) as (alice, machine):
            worker = await connect(machine)
            await worker.work(slots=2)
            await submit(alice, "a")
            await submit(alice, "b")
            first, second = await worker.tasks(2)
            server.send_signal(signal.SIGSTOP)
            ref = await worker.say("ack", items=[lease(first, outcome="completed", result=3)])
            answer = await worker.ask("report", items=[lease(second, progress=50)])
            assert answer["type"] == "error"
            assert answer["data"]["code"] == "degraded"
            server.send_signal(signal.SIGCONT)
            acked = await worker.next(lambda one: one.get("ref") == ref)
            assert [one["became"] for one in acked["data"]["items"]] == ["completed"]

            async def is_told() -> bool:
                one = await worker.ask("report", items=[lease(second, progress=50)])
                return one["type"] == "reported"

            await until(is_told)
            await until(lambda: submit_one(alice))
            assert (await worker.task())["label"] == "c"
            assert (await read(alice, first["task_id"]))["result"] == 3
    finally:
        server.send_signal(signal.SIGCONT)
        server.terminate()
        await server.wait()


async def submit_one(client: Client) -> bool:
    answer = await client.post("/api/tasks", {"kind": "film", "params": {"path": "c"}})
    return bool(answer.status == 202)


@pytest.mark.gen_test
async def test_emptied_redis_learns_the_kinds_again(
    quiet: Settings, redis: Redis, make_token: Token
) -> None:
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work([FILM])
        await redis.flushall()

        async def is_taken() -> bool:
            return await submit_one(alice)

        await until(is_taken)
        assert (await worker.task())["label"] == "c"
