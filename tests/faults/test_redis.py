"""Redis goes away, stands still, loses connections or data, and comes back."""

import asyncio
import functools
import json
import random
import time
from typing import Any

import pytest

from services.notifications import NotificationDraft, NotificationService, NotificationType
from tests.faults import faults
from tests.faults.clients import ME, Client
from tests.faults.conftest import Play
from tests.faults.crowd import SSE, WS, Crowd
from tests.faults.faults import Fault, name_of
from tests.faults.fleet import Form
from tests.faults.system import Answer, System, open_client
from tests.peers import Peers
from tests.realtime import EventStream
from tests.waiting import stopwatch, until
from tornado_rt.mongo import open_database
from tornado_rt.protocol import ERROR_EVENT, Message

pytestmark = pytest.mark.long

# Until when after an outage everybody has the first event, and a new request its answer [s].
BACK_SECONDS = 3.0
REFUSED_SECONDS = 2.0
NOTICED_SECONDS = 5.0
# Until when a loss that nothing shows is found [s].
SILENT_SECONDS = 6.0
PREFIX = "{rtq}:"


@pytest.mark.parametrize(
    "fault",
    [faults.kill_redis, faults.freeze_redis, faults.cut_subscriptions, faults.cut_connections],
    ids=name_of,
)
def test_fault_of_redis_under_load_loses_nothing(play: Play, fault: Fault) -> None:
    """Sockets and streams stay open, and each message comes once."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng) as crowd:
            crowd.flow()
            await until(lambda: crowd.news_to_all(0), what="there is something for everybody")
            await fault(system, rng)
            back = time.monotonic()
            await until(lambda: crowd.news_to_all(back), what="it goes on for everybody")
            await crowd.settle()
            await crowd.stored_once()
            assert crowd.reconnects() == 0

    play(scenario)


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_outage_is_said_and_ends_within_3_s(play: Play, how: str) -> None:
    """Open sockets and streams say `degraded`, get local news, and go on without reconnecting."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng, users=2) as crowd, Peers() as peers:
            socket = await peers.open(system.servers[0].port, WS, system.token("wire"))
            stream = await EventStream.open(
                system.servers[1].port, SSE, {"Authorization": f"Bearer {system.token('wire')}"}
            )
            task_id = await crowd.submit(8.0)
            watcher = crowd.watchers[task_id]
            await until(lambda: watcher.journal.progress, what="the task runs")
            await _take_away(system, how)
            async with asyncio.timeout(NOTICED_SECONDS):
                assert (await socket.message_of("error"))["data"]["code"] == "degraded"
                assert await _problem_of(stream) == "degraded"
            await stream.close()
            await _local_news(crowd)
            back = time.monotonic()
            await _bring_back(system, how)
            await until(
                lambda: crowd.complete_but_tasks() and watcher.journal.last_news > back,
                BACK_SECONDS,
                "what was missed is there",
            )
            assert crowd.reconnects() + watcher.reconnects == 0
            await system.ask(system.servers[0], "DELETE", f"/api/tasks/{task_id}", watcher.user)
            await crowd.settle()

    play(scenario)


async def _take_away(system: System, how: str) -> None:
    if how == "killed":
        await system.redis_server.kill()
    else:
        system.redis_server.freeze()


async def _bring_back(system: System, how: str) -> None:
    if how == "killed":
        system.redis_server.start()
    else:
        system.redis_server.thaw()
    await system.redis_server.ready()


async def _problem_of(stream: EventStream) -> str:
    async for event in stream.events():
        if event["event"] == ERROR_EVENT:
            return str(json.loads(event["data"])["code"])
    raise AssertionError("the stream has ended")


async def _local_news(crowd: Crowd) -> None:
    """Notify each user by the server that their first client is on; that one has it at once."""
    for user, (client, _) in crowd.listeners.items():
        title = await crowd.notify(user, client.server)
        await until(functools.partial(client.has, title), 1.9, "local news")


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_new_requests_are_refused_at_once_without_redis(play: Play, how: str) -> None:
    """They get 503 with Retry-After, and a WebSocket 1013, in under 2 s; later they are served."""

    async def scenario(system: System, _: random.Random) -> None:
        await _take_away(system, how)
        await asyncio.gather(_is_refused_everywhere(system), _socket_is_refused(system))
        server = system.servers[0]
        async with (
            system.fleet.following(Form.NODE, "back", ME, server=server) as socket,
            system.fleet.following(Form.ASYNC, "back", ME, server=server) as stream,
        ):
            # A WebSocket stays, and asks for its topic again; an answer to a stream is 503.
            await until(lambda: stream.reconnects, what="it was refused")
            assert socket.gateway.connections == 1
            assert [socket.up, stream.up] == [False, False]
            await _bring_back(system, how)
            await until(lambda: socket.up and stream.up, BACK_SECONDS, "they are back")

    play(scenario)


async def _is_refused_everywhere(system: System) -> None:
    calls = [
        ("GET", "/api/tasks"),
        ("GET", "/api/tasks/t"),
        ("POST", "/api/tasks"),
        ("GET", "/api/queue/stats"),
        ("GET", SSE),
        ("POST", "/api/auth/ticket"),
    ]
    answers = await asyncio.gather(
        *(
            system.ask(server, method, path, "alice", {"symbol": "0.1"})
            for server in system.servers
            for method, path in calls
        )
    )
    wrong = [answer for answer in answers if not _is_refusal(answer)]
    assert not wrong


def _is_refusal(answer: Answer) -> bool:
    told = "Retry-After" in answer.headers
    return answer.status == 503 and told and answer.seconds < REFUSED_SECONDS


async def _socket_is_refused(system: System) -> None:
    async with Peers() as peers, stopwatch() as seconds:
        socket = await peers.open(system.servers[0].port, WS, system.token("bob"))
        error = await socket.message_of("error")
        assert error["data"]["code"] == "degraded"
        assert await socket.message() is None
        assert socket.code == 1013
        assert seconds() < REFUSED_SECONDS


def test_notification_is_stored_at_once_without_redis(play: Play) -> None:
    """A request that writes one while Redis stands still waits less than 2 s."""

    async def scenario(system: System, _: random.Random) -> None:
        system.redis_server.freeze()
        body = {"user_id": "alice", "type": "alert", "title": "t"}
        answers = await asyncio.gather(
            *(
                system.ask(one, "POST", "/api/notifications", "alice", body)
                for one in system.servers
            )
        )
        assert [answer.status for answer in answers] == [201] * len(answers)
        assert max(answer.seconds for answer in answers) < REFUSED_SECONDS

    play(scenario)


def test_messages_published_while_a_subscription_is_cut_are_found(play: Play) -> None:
    """A server that stood still while its subscription was cut reads what it missed."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng) as crowd:
            frozen, other = rng.sample(system.servers, 2)
            frozen.freeze()
            await faults.cut_subscriptions(system, rng)
            for _ in range(10):
                await crowd.notify(server=other)
            frozen.thaw()
            await crowd.settle(10)
            assert crowd.reconnects() == 0

    play(scenario)


def test_news_of_two_processes_during_an_outage_reach_the_clients_of_both(play: Play) -> None:
    """When Redis is back, the others get the messages that only one process's clients had."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng, users=2) as crowd:
            await system.redis_server.kill()
            for server in rng.sample(system.servers, 2) * 2:
                await asyncio.gather(*(crowd.notify(user, server) for user in crowd.users))
            await system.redis_server.restart()
            await crowd.settle(BACK_SECONDS)
            assert crowd.reconnects() == 0

    play(scenario)


def test_client_that_moves_during_an_outage_misses_nothing(play: Play) -> None:
    """Its cursor is of local news; what the other process was told before them is replayed."""

    async def scenario(system: System, rng: random.Random) -> None:
        first, second = rng.sample(system.servers, 2)
        async with Crowd(system, rng, users=1) as crowd:
            user = crowd.users[0]
            async with (
                system.fleet.following(Form.NODE, user, ME, server=second) as socket,
                system.fleet.following(Form.ASYNC, user, ME, server=second) as stream,
            ):
                clients = (socket, stream)
                await until(lambda: all(one.up for one in clients), what="they are connected")
                await system.redis_server.kill()
                early = await crowd.notify(user, first)
                late = await crowd.notify(user, second)
                await until(lambda: all(one.has(late) for one in clients), 1.9, "local news came")
                for one in clients:
                    one.gateway.cut()
                await system.redis_server.restart()
                await until(lambda: all(one.has(early) for one in clients), what="the other news")

    play(scenario)


@pytest.mark.parametrize("moves", [False, True], ids=["stays", "moves"])
def test_local_news_hide_nothing_that_was_lost_before_them(play: Play, moves: bool) -> None:
    """The subscription was cut, then Redis died: what came between is read from before it."""

    async def scenario(system: System, rng: random.Random) -> None:
        first, second = rng.sample(system.servers, 2)
        async with Crowd(system, rng, users=1) as crowd:
            user = crowd.users[0]
            async with system.fleet.following(Form.NODE, user, ME, server=first) as client:
                await until(lambda: client.up, what="the client is connected")
                first.freeze()
                await faults.cut_subscriptions(system, rng)
                lost = [await crowd.notify(user, second) for _ in range(3)]
                await system.redis_server.kill()
                first.thaw()
                late = await crowd.notify(user, first)
                await until(lambda: client.has(late), 1.9, "local news came")
                if moves:
                    client.gateway.cut()
                await system.redis_server.restart()
                await until(lambda: all(map(client.has, lost)), what="the others came")
                # They may have come before: a version that does not follow makes the log be read.
                await until(lambda: bool(client.reconnects), what="it came back", equal=moves)
            await crowd.settle(BACK_SECONDS)

    play(scenario)


@pytest.mark.parametrize("fault", faults.LOSING, ids=name_of)
def test_redis_that_lost_everything_goes_on(play: Play, fault: Fault) -> None:
    """Notifications are whole from MongoDB; who watched a lost task is told; new tasks run."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng) as crowd:
            lost = crowd.watchers[await crowd.submit(5.0)]
            await until(lambda: lost.journal.progress, what="the task runs")
            crowd.flow(tasks=False)
            await until(lambda: crowd.news_to_all(0), what="there is something for everybody")
            await fault(system, rng)
            crowd.forget_tasks()
            again = await crowd.submit(0.1)
            await crowd.settle()
            await until(lambda: lost.ended, what="the lost task's watcher is told")
            assert crowd.watchers[again].journal.ends == {again: 1}
            assert _epoch(crowd.watchers[again]) != _epoch(lost)
            assert crowd.reconnects() == 0

    play(scenario)


def _epoch(client: Client) -> str:
    return client.journal.last_id.rpartition("-")[0]


def test_failover_that_loses_writes_resyncs(play: Play) -> None:
    """Redis comes back as it was a moment ago: a watcher gets `resync`, a snapshot, and the end."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng, users=1) as crowd:
            task_id = await crowd.submit(4.0, form=Form.NODE)
            watcher = crowd.watchers[task_id]
            progress = watcher.journal.progress
            await until(lambda: len(progress) > 3, what="the task runs")
            system.redis_server.keep()
            seen = len(progress)
            await until(lambda: len(progress) > seen + 10, what="the task goes on")
            await system.redis_server.kill()
            system.redis_server.go_back()
            await system.redis_server.restart()
            await crowd.settle()
            assert watcher.journal.resyncs == ["epoch"]
            assert watcher.reconnects == 0

    play(scenario)


def test_silent_loss_on_a_task_is_found(play: Play) -> None:
    """An event that is in the log and was never published still comes."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng, users=1) as crowd:
            task_id = await _waiting_task(system, crowd.users[0])
            user, server = crowd.users[0], rng.choice(system.servers)
            following = system.fleet.following(Form.NODE, user, f"task:{task_id}", server=server)
            async with following as watcher:
                await until(lambda: watcher.journal.progress, what="the snapshot came")
                await _log_silently(system, task_id, {"task_id": task_id, "message": "silent"})
                await until(
                    lambda: any(p["message"] == "silent" for p in watcher.journal.progress),
                    SILENT_SECONDS,
                    "the silent event came",
                )
            await system.ask(server, "DELETE", f"/api/tasks/{task_id}", user)

    play(scenario)


async def _waiting_task(system: System, user: str) -> str:
    body = {"symbol": "0.1", "delay": 600}
    answer = await system.ask(system.servers[0], "POST", "/api/tasks", user, body)
    assert answer.status == 202, answer
    return str(answer.body["task_id"])


async def _log_silently(system: System, task_id: str, data: dict[str, str]) -> None:
    async with open_client(system.redis_server.url) as redis:
        epoch: Any = await redis.get(PREFIX + "epoch")
        record = f"{PREFIX}task:{task_id}"
        seq = int(await redis.hget(record, "event_seq") or 1) + 1
        frame = {"type": "progress", "data": data, "id": f"{epoch.decode()}-{seq}"}
        await redis.rpush(f"{PREFIX}log:task:{task_id}", json.dumps(frame))
        await redis.hset(record, mapping={"event_seq": seq, "logged": seq})


class _Nobody:
    """Publishes to nobody."""

    async def publish(self, topic: str, message: Message) -> bool:
        return True


def test_silent_loss_of_a_notification_is_found(play: Play) -> None:
    """A notification that is stored and was never published still comes."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng, users=2) as crowd:
            drafts = [
                NotificationDraft(user_id=user, type=NotificationType.ALERT, title=f"silent {user}")
                for user in crowd.users
            ]
            async with open_database(system.mongodb.url, "tornado_rt") as database:
                service = NotificationService(database, _Nobody())
                await service.prepare()
                for draft in drafts:
                    await service.create(draft)
                await service.close()
            await until(lambda: _have_all(crowd), SILENT_SECONDS, "the silent ones came")

    play(scenario)


def _have_all(crowd: Crowd) -> bool:
    return all(f"silent {one.user}" in one.journal.notifications for one in crowd.clients)
