"""The topic `tasks`: a list of all of one's tasks that stays true."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from settings import Settings
from tests.api import Client, frame, frame_of, serving
from tests.realtime import EventStream

Token = Callable[..., str]


@pytest.fixture
def quiet(settings: Settings, redis: Redis, database: Any) -> Settings:
    """Settings of a server that runs no task and sends no heartbeats."""
    return settings.changed(
        worker_concurrency=0, ws_heartbeat_seconds=0.0, sse_heartbeat_seconds=0.0
    )


async def followed(client: Client, last_id: str | None = None) -> tuple[Any, dict[str, Any]]:
    """Follow the tasks on a socket; return it and the answer."""
    socket = await client.socket("/api/ws")
    await frame(socket)
    data = {"topic": "tasks", "last_id": last_id}
    await socket.write_message(json.dumps({"type": "subscribe", "data": data}))
    return socket, await frame(socket)


async def told(socket: Any) -> list[tuple[str, str]]:
    """Return the tasks and their states in the next change."""
    message = await frame(socket)
    assert (message["type"], message["topic"]) == ("changed", "tasks"), message
    return [(item["task_id"], item["status"]) for item in message["data"]["items"]]


async def carried(stream: EventStream) -> dict[str, Any]:
    """Return the message of the next event, with the id of the event."""
    event = await stream.event()
    return {**json.loads(event["data"]), "place": event.get("id")}


@pytest.mark.gen_test
async def test_list_comes_first_and_then_each_change(quiet: Settings, make_token: Token) -> None:
    async with serving(quiet, make_token("alice")) as alice:
        old = await alice.submit()
        first, opened = await followed(alice)
        listed = (await alice.get("/api/tasks")).body
        assert [item["task_id"] for item in listed["items"]] == [old]
        assert opened["data"] == {"recovered": False, "snapshot": listed}
        other, _ = await followed(alice)
        bob = alice.as_user(make_token("bob"))
        await bob.submit()
        task = await alice.submit("MSFT")
        for socket in (first, other):
            assert await told(socket) == [(task, "queued")]
        [claim, _, _] = (await alice.core.queue.claim("w", 3, kinds=["analysis"])).claims
        assert claim.task.task_id == old
        for socket in (first, other):
            assert set(await told(socket)) == {(old, "processing"), (task, "processing")}
        await alice.core.queue.ack_task(old, token=claim.token, result={"a": 1})
        for socket in (first, other):
            assert await told(socket) == [(old, "completed")]


@pytest.mark.gen_test
async def test_item_of_a_change_fits_the_item_of_the_list(
    quiet: Settings, make_token: Token
) -> None:
    """A client replaces the fields that it has by those that come."""
    async with serving(quiet, make_token("alice")) as alice:
        socket, _ = await followed(alice)
        task = await alice.submit(delay=60)
        await alice.delete(f"/api/tasks/{task}")
        items = [(await frame(socket))["data"]["items"][0] for _ in range(2)]
        [listed] = (await alice.get("/api/tasks")).body["items"]
        assert items[0]["run_at"] > items[0]["created_at"]
        item = items[1]
        for name in ("task_id", "kind", "label", "status", "attempt", "created_at", "ended_at"):
            assert item[name] == listed[name], name
        assert item["progress"] == listed["progress"]


@pytest.mark.gen_test
async def test_changes_while_away_come_once(quiet: Settings, make_token: Token) -> None:
    """On a socket, on a stream, and at another server."""
    token = make_token("alice")
    async with serving(quiet, token) as here, serving(quiet, token) as there:
        socket, opened = await followed(here)
        socket.protocol.stream.close()
        tasks = [await here.submit() for _ in range(3)]
        socket, answer = await followed(there, opened["id"])
        assert answer["data"] == {"recovered": True}
        assert [await told(socket) for _ in tasks] == [[(task, "queued")] for task in tasks]
        stream = await here.stream("/api/stream?topics=me,tasks")
        seen = [await carried(stream) for _ in range(3)]
        assert [one.get("topic") for one in seen] == [None, "me", "tasks"]
        await stream.close()
        for task in tasks:
            await there.delete(f"/api/tasks/{task}")
        place = {"Last-Event-ID": seen[-1]["place"]}
        again = await there.stream("/api/stream?topics=me,tasks", **place)
        found = []
        while len(found) < 3:
            message = await carried(again)
            if message.get("type") == "changed":
                found += [(item["task_id"], item["status"]) for item in message["data"]["items"]]
        assert found == [(task, "cancelled") for task in tasks]
        await again.close()


@pytest.mark.gen_test
async def test_what_cannot_be_resumed_begins_with_the_list(
    quiet: Settings, make_token: Token
) -> None:
    few = quiet.changed(task_events=2)
    async with serving(few, make_token("alice")) as alice:
        socket, opened = await followed(alice)
        socket.protocol.stream.close()
        for _ in range(3):
            await alice.submit()
        socket, answer = await followed(alice, opened["id"])
        # A client that is cut off here gets another resync.
        assert (answer["data"], answer["id"]) == ({"recovered": False}, opened["id"])
        resync = await frame(socket)
        assert (resync["type"], resync["data"]["reason"]) == ("resync", "trimmed")
        listed = await frame(socket)
        assert (listed["type"], listed["topic"]) == ("list", "tasks")
        assert listed["data"] == (await alice.get("/api/tasks")).body
        task = await alice.submit()
        assert await told(socket) == [(task, "queued")]
        again, _ = await followed(alice, resync["id"])
        assert (await frame(again))["type"] == "resync"
        last, answer = await followed(alice, listed["id"])
        assert answer["data"] == {"recovered": True}
        assert await told(last) == [(task, "queued")]


@pytest.mark.gen_test
async def test_watch_that_is_lost_is_noticed(
    quiet: Settings, redis: Redis, make_token: Token
) -> None:
    """Redis was away for longer than it keeps the changes, and a task was made meanwhile."""
    async with serving(quiet, make_token("alice")) as alice:
        socket, _ = await followed(alice)
        await redis.delete("{rtq}:watch:alice")
        task = await alice.submit()
        resync = await frame_of(socket, "resync")
        assert resync["data"]["reason"] == "epoch"
        listed = await frame(socket)
        assert [item["task_id"] for item in listed["data"]["items"]] == [task]
        other = await alice.submit()
        assert await told(socket) == [(other, "queued")]
