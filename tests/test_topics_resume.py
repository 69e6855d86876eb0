"""Fifty topics, thirty cuts, two processes, a socket and a stream in turn: each message once."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest

from services.queue import Claim, QueueService
from tests.api import Client, frame
from tests.faults.system import System, open_client
from tests.queueing import fragment
from tests.realtime import EventStream
from tests.waiting import until
from tornado_rt.places import format_places
from tornado_rt.protocol import Cursor

Token = Callable[..., str]
ROOMS = 39
TASKS = 8
BATCHES = 1
CUTS = 30
# A busy Redis may not take what is published; each half minute it is looked for [s].
REPAIRED_SECONDS = 60.0
# The types that a client must see once, and those that each replace the one before.
EVERY = ("message", "notification")
NEWEST = ("progress", "finished")


class Degraded(Exception):
    """A store did not answer in time; a client comes back."""


@attrs.define
class Follower:
    """Follows topics over one connection after another, and comes back from where it was cut."""

    clients: list[Client]
    topics: list[str]
    # Up to where each topic came, and the id of the last event of a stream.
    last_ids: dict[str, str] = attrs.field(factory=dict)
    place: str = ""
    seen: dict[str, list[Any]] = attrs.field(factory=dict)
    ids: dict[str, list[str]] = attrs.field(factory=dict)
    resyncs: int = 0
    connections: int = 0
    _close: Callable[[], Any] = lambda: None
    _next: Callable[[], Awaitable[dict[str, Any]]] | None = None

    async def connect(self) -> None:
        """Open the next one: a socket, then two streams; after two of them at the other server."""
        client = self.clients[self.connections // 2 % len(self.clients)]
        is_socket = self.connections % 3 == 0
        self.connections += 1
        await (self._open_socket(client) if is_socket else self._open_stream(client))

    async def _open_socket(self, client: Client) -> None:
        self.place = ""
        socket = await client.socket("/api/ws")
        assert (await frame(socket))["type"] == "connected"
        for topic in self.topics:
            data = {"topic": topic, "last_id": self.last_ids.get(topic)}
            await socket.write_message(json.dumps({"type": "subscribe", "data": data}))
        connection: Any = socket
        self._next = lambda: frame(socket)
        self._close = lambda: connection.protocol.stream.close()

    async def _open_stream(self, client: Client) -> None:
        # After a socket it asks as that has left it, after a stream by the id of its last event.
        place = self.place or format_known(self.last_ids)
        headers = {"Last-Event-ID": place} if place else {}
        path = f"/api/stream?topics={','.join(self.topics)}"
        stream = await client.stream(path, **headers)
        while stream.status == 503:
            # A busy machine: a store did not answer in time.
            await stream.close()
            stream = await client.stream(path, **headers)
        assert stream.status == 200
        assert (await stream.event())["event"] == "connected"
        self._next = lambda: self._carried(stream)
        self._close = lambda: stream.writer.transport.abort()

    async def _carried(self, stream: EventStream) -> dict[str, Any]:
        event = await stream.event()
        self.place = event.get("id", self.place)
        carried: dict[str, Any] = json.loads(event["data"])
        return carried

    async def read(self, seconds: float) -> None:
        """Take messages for a while, then be cut off."""
        assert self._next is not None
        end = time.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                # Before Python 3.12 `asyncio.wait_for` may swallow a cancellation.
                while time.monotonic() < end:
                    self.take(await self._next())
        except (TimeoutError, Degraded):
            pass
        finally:
            self._close()

    async def know_all(self) -> None:
        """Take messages until each topic has told where it stands."""
        assert self._next is not None
        while len(self.last_ids) < len(self.topics):
            self.take(await self._next())

    def take(self, message: dict[str, Any]) -> None:
        """Note one message."""
        if "topic" not in message:
            # A heartbeat, or that a store was away for a moment.
            assert message.get("data", message).get("code", "degraded") == "degraded", message
            return
        type_, topic, id_ = message["type"], message["topic"], message.get("id")
        assert topic in self.topics, message
        if type_ == "error" and message["data"]["code"] == "degraded":
            raise Degraded
        assert type_ not in ("error", "problem"), message
        if type_ == "resync":
            self.resyncs += 1
        if id_:
            self.last_ids[topic] = id_
        if type_ in (*EVERY, *NEWEST) or (topic, type_) == ("tasks", "changed"):
            self.ids.setdefault(topic, []).append(id_)
            self.seen.setdefault(topic, []).append(message["data"])

    def told(self, topic: str) -> list[Any]:
        return self.seen.get(topic, [])


def format_known(last_ids: dict[str, str]) -> str:
    """Return the id of an event that has these cursors."""
    return format_places({topic: Cursor.parse(id_) for topic, id_ in last_ids.items()})


def states_of(changes: list[Any]) -> dict[str, str]:
    """Return the last state of each task."""
    return {item["task_id"]: item["status"] for one in changes for item in one["items"]}


@attrs.define
class Story:
    """Makes things happen: messages in rooms, notifications, and tasks that run to their end."""

    client: Client
    queue: QueueService
    rooms: list[str]
    sent: dict[str, list[int]] = attrs.field(factory=dict)
    titles: list[str] = attrs.field(factory=list)
    claims: list[Claim] = attrs.field(factory=list)
    count: int = 0

    async def step(self) -> None:
        """Let something happen."""
        self.count += 1
        chance = random.random()
        if chance < 0.6:
            room = random.choice(self.rooms)
            body = {"topic": room, "data": self.count}
            assert (await self.client.post("/api/publish", body)).status == 202
            self.sent.setdefault(room, []).append(self.count)
        elif chance < 0.8:
            title = f"news {self.count}"
            sent = {"user_id": "alice", "type": "alert", "title": title}
            assert (await self.client.post("/api/notifications", sent)).status == 201
            self.titles.append(title)
        elif self.claims:
            claim = random.choice(self.claims)
            done = min(self.count, 99)
            await self.queue.report_progress(claim.task.task_id, claim.token, fragment(done), 60.0)


@pytest.mark.gen_test
async def test_fifty_topics_through_thirty_cuts(make_token: Token) -> None:
    free = dict.fromkeys(("RT_QUEUE_USER_LIMIT", "RT_QUEUE_GLOBAL_LIMIT"), "0")
    token = make_token("alice", scope="rt:publish", topics=["room:*"])
    async with (
        System(2, 0, RT_QUEUE_VISIBILITY_SECONDS="300", **free) as system,
        open_client(system.redis_server.url) as redis,
        contextlib.AsyncExitStack() as closing,
    ):
        queue = QueueService(redis, user_limit=0, global_limit=0)
        here, there = (Client(server.url, token, None, []) for server in system.servers)
        closing.callback(lambda: [socket.close() for socket in (*here.opened, *there.opened)])
        item = {"params": {"seconds": 1}}
        task = {"kind": "fault.work", **item}
        tasks = [(await here.post("/api/tasks", task)).body["task_id"] for _ in range(TASKS)]
        made = await here.post("/api/batches", {"kind": "fault.work", "items": [item] * 2})
        claims = (await queue.claim("w", 100, kinds=["fault.work"])).claims
        rooms = [f"room:{number}" for number in range(ROOMS)]
        topics = [
            "me",
            "tasks",
            f"batch:{made.body['batch_id']}",
            *(f"task:{one}" for one in tasks),
            *rooms,
        ]
        assert len(topics) == 50
        follower, story = Follower([here, there], topics), Story(here, queue, rooms, claims=claims)

        async def happen() -> None:
            while follower.connections <= CUTS:
                await story.step()

        # A first subscription gets nothing of what was published before it.
        await follower.connect()
        await follower.know_all()
        job = asyncio.create_task(happen())
        for _ in range(CUTS):
            await follower.read(random.uniform(0.02, 0.6))
            await follower.connect()
        await job
        for claim in claims:
            await queue.ack_task(claim.task.task_id, token=claim.token, result={})
        last = asyncio.create_task(follower.read(300))
        # The ends of the tasks are told as notifications too.
        await until(lambda: len(follower.told("me")) >= len(story.titles) + TASKS, REPAIRED_SECONDS)
        await until(
            lambda: all(follower.told(room) == story.sent.get(room, []) for room in rooms),
            REPAIRED_SECONDS,
        )
        ended = [topic for topic in topics if topic.partition(":")[0] in ("task", "batch")]
        await until(lambda: all("final_status" in follower.told(one)[-1] for one in ended))
        await until(lambda: set(states_of(follower.told("tasks")).values()) == {"completed"})
        while not last.done():
            # Before Python 3.12 `asyncio.wait_for` may swallow a cancellation: ask again.
            last.cancel()
            await asyncio.wait([last], timeout=0.1)
        assert [one["title"] for one in follower.told("me") if one["title"] in story.titles] == (
            story.titles
        )
        assert follower.resyncs == 0
        for topic, ids in follower.ids.items():
            assert len(ids) == len(set(ids)), topic
            offsets = [Cursor.parse(id_).offset for id_ in ids]
            assert offsets == sorted(offsets), topic
        changes = [Cursor.parse(id_).offset for id_ in follower.ids["tasks"]]
        assert changes == list(range(changes[0], changes[-1] + 1))
        assert len(states_of(follower.told("tasks"))) == len(claims)
