"""Servers and workers are killed, frozen, replaced; clients come back, or go elsewhere."""

import asyncio
import contextlib
import functools
import json
import os
import random
import time

import pytest

from tests.faults.clients import ME, AsyncPython, Client, Script
from tests.faults.conftest import Play
from tests.faults.counts import Row, check
from tests.faults.crowd import WS, Crowd
from tests.faults.gateway import Straight
from tests.faults.system import System, Worker, open_client
from tests.peers import Peer, Peers
from tests.realtime import EventStream
from tests.waiting import until
from tornado_rt.protocol import ERROR_EVENT, ErrorCode

pytestmark = pytest.mark.long

STORM = int(os.environ.get("RT_FAULT_STORM", "200"))
STORM_USERS = 10
STORM_MESSAGES = 3
# One of this many clients of a storm is in Python, the others in Node.
PYTHON_EVERY = 10
LIMIT = 4
TASK_LIMIT = 8
FORGOTTEN_SECONDS = 30.0
FOLLOWED_SECONDS = 1.0


def test_clients_of_a_killed_server_resume_on_another(play: Play) -> None:
    """They find on it all that they missed, and go on."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng) as crowd:
            crowd.flow()
            await until(lambda: crowd.news_to_all(0), what="there is something for everybody")
            killed = rng.choice(system.servers)
            moved = [client for client in crowd.clients if client.server is killed]
            await killed.kill()
            await until(lambda: all(one.reconnects for one in moved), what="they are elsewhere")
            back = time.monotonic()
            await until(lambda: crowd.news_to_all(back), what="it goes on for everybody")
            await killed.restart()
            await crowd.settle()
            assert not any(one.journal.resyncs for one in moved)

    play(scenario)


def test_rolling_restart_loses_nothing(play: Play) -> None:
    """Three servers stop and start one after another under load; sockets close with 1001."""

    async def scenario(system: System, rng: random.Random) -> None:
        third = system.add_server()
        await third.restart()
        async with Crowd(system, rng, users=4) as crowd:
            crowd.flow()
            for server in tuple(system.servers):
                assert await server.stop() == 0
                await server.restart()
            await crowd.settle()
            assert {code for one in crowd.clients for code in one.journal.codes} == {1001}
        await system.remove(third)

    play(scenario)


def test_worker_continued_after_its_lease_changes_nothing(play: Play) -> None:
    """Another has taken its task meanwhile; the end is the other's, and comes once."""

    async def scenario(system: System, rng: random.Random) -> None:
        system.add_worker()
        async with Crowd(system, rng, users=1) as crowd:
            # Long enough that it has not ended when its worker is frozen, also on a slow machine.
            task_id = await crowd.submit(5.0)
            watcher = crowd.watchers[task_id]
            await until(lambda: _working(system, watcher), what="somebody works")
            frozen = _working(system, watcher)
            assert frozen is not None
            frozen.freeze()
            await until(
                lambda: _working(system, watcher) not in (None, frozen), 20, "another works"
            )
            frozen.thaw()
            await crowd.settle()
            await crowd.stored_once()
            path = f"/api/tasks/{task_id}"
            attempts = [shown["attempt"] for shown in watcher.journal.progress]
            task = (await system.ask(crowd.server(), "GET", path, watcher.user)).body
            assert (task["status"], task["attempt"], attempts) == ("completed", 2, sorted(attempts))
        await system.remove(system.workers[-1])

    play(scenario)


def _working(system: System, watcher: Client) -> Worker | None:
    """Return whose progress was the last to be told."""
    for shown in reversed(watcher.journal.progress):
        for worker in system.workers:
            if shown["message"] == f"by {worker.pid}" and shown["status"] == "processing":
                return worker
    return None


def test_killed_workers_lose_no_task(play: Play) -> None:
    """Each task ends once, however often its worker was killed."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng) as crowd:
            for _ in range(10):
                await crowd.submit(rng.uniform(0.1, 0.6))
            for share in (1, 3):
                await until(functools.partial(_have_ended, crowd, share), 60, "some have ended")
                await system.workers[0].kill()
                system.workers[0].start()
            await crowd.settle()
            await crowd.stored_once()

    play(scenario)


def _have_ended(crowd: Crowd, count: int) -> bool:
    return sum(bool(watcher.journal.ends) for watcher in crowd.watchers.values()) >= count


def test_limits_of_running_tasks_hold_over_all_workers(play: Play) -> None:
    """With two workers of four slots never more than eight run, and four of one user."""

    async def scenario(system: System, rng: random.Random) -> None:
        system.add_worker()
        system.add_worker()
        async with Crowd(system, rng) as crowd:
            user = crowd.users[0]
            for number in range(24):
                await crowd.submit(1.0, user if number % 2 else None)
            most, most_of_a_user = 0, 0
            async with open_client(system.redis_server.url) as redis:
                while not crowd.complete():
                    most = max(most, await redis.zcard("{rtq}:processing"))
                    active = await redis.hget("{rtq}:active", user)
                    most_of_a_user = max(most_of_a_user, int(active or 0))
                    await asyncio.sleep(0.005)
            await crowd.settle()
            assert 1 < most <= TASK_LIMIT
            assert 1 <= most_of_a_user <= LIMIT
        for worker in system.workers[1:]:
            await system.remove(worker)

    play(scenario)


def test_changed_settings_are_followed_by_open_streams_of_every_server(play: Play) -> None:
    """Within a second: streams of both servers beat faster, and then end as idle."""

    async def scenario(system: System, rng: random.Random) -> None:
        body = {"symbol": "0.1", "delay": 600}
        answer = await system.ask(rng.choice(system.servers), "POST", "/api/tasks", "idle", body)
        path = f"/api/tasks/{answer.body['task_id']}"
        headers = {"Authorization": f"Bearer {system.token('idle')}"}
        async with contextlib.AsyncExitStack() as stack:
            streams: list[list[dict[str, str]]] = []
            for server in system.servers:
                stream = await EventStream.open(server.port, path, headers)
                stack.push_async_callback(stream.close)
                streams.append([])
                job = asyncio.create_task(_note(stream, streams[-1]), name="stream")
                stack.callback(job.cancel)
            await until(lambda: all(streams), what="both are connected")
            await system.change_settings(sse_heartbeat_interval_seconds=0.1)
            await until(
                lambda: all(_beats(events) > 2 for events in streams),
                FOLLOWED_SECONDS,
                "both beat faster",
            )
            await system.change_settings(
                sse_heartbeat_interval_seconds=5, sse_task_max_idle_seconds=0.2
            )
            await until(lambda: all(map(_is_idle, streams)), FOLLOWED_SECONDS, "both end as idle")
            await system.change_settings(sse_task_max_idle_seconds=300)
        await system.ask(system.servers[0], "DELETE", path, "idle")

    play(scenario)


async def _note(stream: EventStream, events: list[dict[str, str]]) -> None:
    async for event in stream.events():
        events.append(event)


def _beats(events: list[dict[str, str]]) -> int:
    return sum(event["event"] == "heartbeat" for event in events)


def _is_idle(events: list[dict[str, str]]) -> bool:
    last = events[-1]
    return last["event"] == ERROR_EVENT and json.loads(last["data"])["code"] == ErrorCode.IDLE


def test_limit_of_connections_holds_over_all_servers(play: Play) -> None:
    """A user has this many in all; those of a killed server count no more."""

    async def scenario(system: System, _: random.Random) -> None:
        await system.change_settings(ws_max_connections_per_user=LIMIT)
        try:
            async with Peers() as peers:
                sockets = [await _dial(system, peers, number) for number in range(2 * LIMIT)]
                admitted = [socket for socket in sockets if socket.code is None]
                assert len(admitted) == LIMIT, "as many as the limit says are let in"
                assert {one.code for one in sockets if one not in admitted} == {4429}
                await system.servers[1].kill()
                is_admitted = functools.partial(_is_admitted, system, peers)
                await until(is_admitted, FORGOTTEN_SECONDS, "another is let in")
                await system.servers[1].restart()
        finally:
            await system.change_settings(ws_max_connections_per_user=0)

    play(scenario)


async def _dial(system: System, peers: Peers, number: int) -> Peer:
    """Connect to one server after another; the close code says whether that was refused."""
    server = system.servers[number % len(system.servers)]
    socket = await peers.open(server.port, WS, system.token("limited"))
    first = await socket.message()
    if first is not None and first["type"] == "error":
        await socket.message()
    return socket


async def _is_admitted(system: System, peers: Peers) -> bool:
    socket = await _dial(system, peers, 0)
    await socket.close()
    return socket.code is None


def test_resume_storm_after_a_restart(play: Play) -> None:
    """All clients of a killed server come back at once, and each finds what it missed."""

    async def scenario(system: System, rng: random.Random) -> None:
        stormed = rng.choice(system.servers)
        titles = [f"storm {number}" for number in range(STORM_MESSAGES)]
        users = [f"storm{number}" for number in range(STORM_USERS)]
        async with system.fleet.node() as node, contextlib.AsyncExitStack() as stack:

            def client(number: int) -> Client:
                user, gateway = users[number % STORM_USERS], Straight(stormed)
                if number % PYTHON_EVERY:
                    return Script(system, user, ME, server=stormed, host=node, gateway=gateway)
                return AsyncPython(system, user, ME, server=stormed, gateway=gateway)

            opening = (stack.enter_async_context(client(number)) for number in range(STORM))
            crowd = await asyncio.gather(*opening)
            await until(lambda: all(one.up for one in crowd), 60, "all are connected")
            await stormed.kill()
            for title in titles:
                await asyncio.gather(*(_post(system, user, title) for user in users))
            await stormed.restart()
            await until(
                lambda: all(one.has(title) for one in crowd for title in titles), 60, "all is there"
            )
            row = Row("storm")
            for one in crowd:
                row.add(dict.fromkeys(titles, 1), one.journal.notifications, one.name)
            check([row])

    play(scenario)


async def _post(system: System, user: str, title: str) -> None:
    server = next(server for server in system.servers if server.running)
    body = {"user_id": user, "type": "alert", "title": title}
    answer = await system.ask(server, "POST", "/api/notifications", user, body)
    assert answer.status == 201, answer
