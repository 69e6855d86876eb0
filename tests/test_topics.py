"""Many topics on one connection: `/api/ws`, `/api/stream` and `/api/publish`."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from settings import Settings
from tests.api import Client, frame, frame_of, serving
from tests.realtime import EventStream

Token = Callable[..., str]
Frame = dict[str, Any]


@pytest.fixture
def quiet(settings: Settings, redis: Redis, database: Any) -> Settings:
    """Settings of a server that runs no task and says nothing by itself, on empty stores."""
    return settings.changed(ws_heartbeat_seconds=0.0, sse_heartbeat_seconds=0.0)


async def ask(socket: Any, type_: str, topic: str, **more: Any) -> None:
    """Send a request about a topic."""
    data = {"topic": topic, **({"last_id": more.pop("last_id")} if "last_id" in more else {})}
    await socket.write_message(json.dumps({"type": type_, "data": data, **more}))


async def opened(client: Client) -> Any:
    """Open a socket of many topics."""
    socket = await client.socket("/api/ws")
    first = await frame(socket)
    assert first["type"] == "connected"
    assert first["data"]["user_id"] == "alice"
    assert "topic" not in first
    return socket


async def envelope(stream: EventStream) -> Frame:
    """Return the next event: what it carries, with its own id as `place`."""
    assert stream.status == 200, stream.headers
    event = await stream.event()
    carried: Frame = json.loads(event["data"])
    if event["event"] != "connected":
        # An `error` has another name here.
        assert event["event"] in (carried["type"], "problem")
    return {**carried, "place": event.get("id")}


async def status_of(client: Client, path: str, **headers: str) -> int:
    """Return how a request for a stream is answered."""
    stream = await client.stream(path, **headers)
    await stream.close()
    return stream.status


async def publish(client: Client, topic: str, data: Any) -> str:
    answer = await client.post("/api/publish", {"topic": topic, "data": data})
    assert answer.status == 202, answer.body
    return str(answer.body["id"])


@pytest.mark.gen_test
async def test_socket_follows_what_it_subscribes(quiet: Settings, make_token: Token) -> None:
    """Each topic is snapshot first, then live; every message names its topic."""
    token = make_token("alice", scope="rt:publish", topics=["room:*"])
    async with serving(quiet, token) as alice:
        task = await alice.submit(delay=99)
        socket = await opened(alice)
        await ask(socket, "subscribe", "me", ref=1)
        first = await frame(socket)
        assert (first["type"], first["topic"], first["ref"]) == ("subscribed", "me", 1)
        assert first["data"]["unread_count"] == 0
        assert first["data"]["recovered"] is False
        await ask(socket, "subscribe", f"task:{task}", ref="t")
        second = await frame(socket)
        assert (second["type"], second["topic"]) == ("subscribed", f"task:{task}")
        assert second["data"]["snapshot"]["task_id"] == task
        third = await frame(socket)
        assert (third["type"], third["topic"]) == ("progress", f"task:{task}")
        await ask(socket, "subscribe", "room:1")
        fourth = await frame(socket)
        assert fourth["data"] == {"recovered": False, "snapshot": None}
        assert "ref" not in fourth
        sent = {"user_id": "alice", "type": "alert", "title": "hello"}
        await alice.post("/api/notifications", sent)
        told = await frame_of(socket, "notification")
        assert (told["topic"], told["data"]["title"]) == ("me", "hello")
        id_ = await publish(alice, "room:1", [1, {"a": None}])
        assert await frame_of(socket, "message") == {
            "type": "message",
            "topic": "room:1",
            "data": [1, {"a": None}],
            "id": id_,
        }
        await alice.delete(f"/api/tasks/{task}")
        end = await frame_of(socket, "finished")
        assert (end["topic"], end["data"]["final_status"]) == (f"task:{task}", "cancelled")
        # The topic has ended, the connection has not.
        await publish(alice, "room:1", 2)
        assert (await frame(socket))["data"] == 2


@pytest.mark.gen_test
async def test_topic_that_was_left_is_silent(quiet: Settings, make_token: Token) -> None:
    token = make_token("alice", scope="rt:publish", topics="room:1 room:2")
    async with serving(quiet, token) as alice:
        socket = await opened(alice)
        for topic in ("room:1", "room:2"):
            await ask(socket, "subscribe", topic)
            assert (await frame(socket))["topic"] == topic
        await ask(socket, "unsubscribe", "room:1", ref=7)
        left = await frame(socket)
        assert left == {
            "type": "unsubscribed",
            "topic": "room:1",
            "ref": 7,
            "data": {"ref": 7},
        }
        await publish(alice, "room:1", "no")
        await publish(alice, "room:2", "yes")
        assert (await frame(socket))["data"] == "yes"
        assert alice.core.hub.stats().by_topic.get("app") == 1
        # One that was not followed is left as well.
        await ask(socket, "unsubscribe", "room:1")
        assert (await frame(socket))["type"] == "unsubscribed"


REFUSED = [
    ("task:none", "not_found"),
    ("batch:none", "not_found"),
    ("room:2", "forbidden"),
    ("secret", "forbidden"),
    ("task:", "bad_request"),
    ("user:alice", "bad_request"),
    ("broadcast", "bad_request"),
    ("workers", "forbidden"),
    ("a b", "bad_request"),
    ("x" * 200, "bad_request"),
    ("x" * 300, "bad_message"),
    ("", "bad_message"),
]


@pytest.mark.gen_test
@pytest.mark.parametrize(("topic", "code"), REFUSED)
async def test_topic_that_cannot_be_followed_says_why(
    quiet: Settings, make_token: Token, topic: str, code: str
) -> None:
    """The others go on, on a socket and on a stream."""
    token = make_token("alice", scope="rt:publish", topics=["room:1"])
    async with serving(quiet, token) as alice:
        socket = await opened(alice)
        await ask(socket, "subscribe", "room:1")
        assert (await frame(socket))["type"] == "subscribed"
        await ask(socket, "subscribe", topic, ref=[1])
        error = await frame(socket)
        assert (error["type"], error["topic"], error["ref"]) == ("error", topic, [1])
        assert error["data"]["code"] == code, error
        await publish(alice, "room:1", 1)
        assert (await frame(socket))["data"] == 1
        if code == "bad_message":
            return
        stream = await alice.stream(f"/api/stream?topics=room:1,{topic.replace(' ', '%20')}")
        assert (await envelope(stream))["user_id"] == "alice"
        refused = await envelope(stream)
        assert (refused["type"], refused["topic"]) == ("problem", topic)
        assert refused["data"]["code"] == code
        assert (await envelope(stream))["type"] == "subscribed"
        await stream.close()


@pytest.mark.gen_test
async def test_bad_requests_about_topics_are_refused(quiet: Settings, make_token: Token) -> None:
    async with serving(quiet, make_token("alice")) as alice:
        socket = await opened(alice)
        for data in ({}, {"topic": 1}, {"topic": "me", "last_id": "x"}, {"topic": "me", "a": 1}, 5):
            await socket.write_message(json.dumps({"type": "subscribe", "ref": 1, "data": data}))
            error = await frame(socket)
            assert (error["type"], error["ref"]) == ("error", 1), error
            assert error["data"]["code"] == "bad_message"
        bad = ("", "topics=", "topics=,", "topics=me&last_id=x", "topics=me&last_id=e-1")
        for query in bad:
            assert await status_of(alice, f"/api/stream?{query}") == 400, query
        assert await status_of(alice, "/api/stream?topics=task:none") == 404
        many = ",".join(f"room:{number}" for number in range(101))
        assert await status_of(alice, f"/api/stream?topics={many}") == 400
        assert await status_of(alice.as_user(""), "/api/stream?topics=me") == 401


@pytest.mark.gen_test
async def test_topics_of_a_connection_are_bounded(quiet: Settings, make_token: Token) -> None:
    few = quiet.changed(max_topics_per_connection=2)
    async with serving(few, make_token("alice", topics=["*"])) as alice:
        socket = await opened(alice)
        for topic in ("a", "b", "a"):
            await ask(socket, "subscribe", topic)
            assert (await frame(socket))["type"] == "subscribed"
        await ask(socket, "subscribe", "c")
        error = await frame(socket)
        assert (error["data"]["code"], error["topic"]) == ("conflict", "c")
        await ask(socket, "unsubscribe", "a")
        await frame(socket)
        await ask(socket, "subscribe", "c")
        assert (await frame(socket))["type"] == "subscribed"
        assert await status_of(alice, "/api/stream?topics=a,b,c") == 400


BODIES: list[tuple[Any, int]] = [
    ({"topic": "a", "data": "x" * 65_534}, 202),
    ({"topic": "a"}, 202),
    ({"topic": "a", "data": "x" * 65_535}, 422),
    ({"topic": "me", "data": 1}, 422),
    ({"topic": "tasks", "data": 1}, 422),
    ({"topic": "task:1", "data": 1}, 422),
    ({"topic": "user:alice", "data": 1}, 422),
    ({"topic": "", "data": 1}, 422),
    ({"topic": "-a", "data": 1}, 422),
    ({"topic": "a,b", "data": 1}, 422),
    ({"topic": "a" * 129, "data": 1}, 422),
    ({"data": 1}, 422),
    ({"topic": 5, "data": 1}, 422),
    ([], 422),
    (b"{", 400),
]


@pytest.mark.gen_test
async def test_what_can_be_published(quiet: Settings, make_token: Token) -> None:
    async with serving(quiet, make_token("alice", scope="rt:publish")) as alice:
        for body, status in BODIES:
            answer = await alice.post("/api/publish", body)
            assert answer.status == status, (str(body)[:50], answer.body)
        deep: Any = None
        for _ in range(40):
            deep = [deep]
        assert (await alice.post("/api/publish", {"topic": "a", "data": deep})).status in (400, 422)
        bob = alice.as_user(make_token("bob"))
        assert (await bob.post("/api/publish", {"topic": "a", "data": 1})).status == 403


@pytest.mark.gen_test
async def test_action_goes_to_the_topic_that_knows_it(quiet: Settings, make_token: Token) -> None:
    async with serving(quiet, make_token("alice")) as alice:
        tasks = [await alice.submit(delay=99) for _ in range(2)]
        socket = await opened(alice)
        await socket.write_message(json.dumps({"type": "read", "ref": 1, "data": {"all": True}}))
        assert (await frame(socket))["data"]["code"] == "unknown_type"
        for topic in ("me", *(f"task:{one}" for one in tasks)):
            await ask(socket, "subscribe", topic)
            await frame_of(socket, "subscribed")
        await socket.write_message(json.dumps({"type": "read", "ref": 2, "data": {"all": True}}))
        assert (await frame_of(socket, "done"))["data"]["ref"] == 2
        await socket.write_message(json.dumps({"type": "cancel", "ref": 3}))
        error = await frame_of(socket, "error")
        assert (error["data"]["ref"], error["data"]["code"]) == (3, "bad_message")
        await socket.write_message(json.dumps({"type": "cancel", "topic": f"task:{tasks[1]}"}))
        assert (await frame_of(socket, "finished"))["topic"] == f"task:{tasks[1]}"
        # Now there is only one that it can mean.
        await socket.write_message(json.dumps({"type": "cancel"}))
        assert (await frame_of(socket, "finished"))["topic"] == f"task:{tasks[0]}"


@pytest.mark.gen_test
async def test_token_that_allows_less_ends_topics(quiet: Settings, make_token: Token) -> None:
    async with serving(quiet, make_token("alice", topics=["room:*", "hall"])) as alice:
        socket = await opened(alice)
        for topic in ("me", "room:1", "hall"):
            await ask(socket, "subscribe", topic)
            assert (await frame(socket))["type"] == "subscribed"
        less = make_token("alice", topics=["hall"])
        await socket.write_message(json.dumps({"type": "auth", "data": {"token": less}}))
        error = await frame(socket)
        assert (error["topic"], error["data"]["code"]) == ("room:1", "forbidden")
        publisher = alice.as_user(make_token("pub", scope="rt:publish"))
        await publish(publisher, "room:1", "no")
        await publish(publisher, "hall", "yes")
        assert (await frame(socket))["data"] == "yes"


@pytest.mark.gen_test
async def test_ticket_allows_the_topics_of_its_token(quiet: Settings, make_token: Token) -> None:
    async with serving(quiet, make_token("alice", topics=["room:1"])) as alice:
        ticket = (await alice.post("/api/auth/ticket")).body["ticket"]
        guest = alice.as_user("")
        stream = await guest.stream(f"/api/stream?topics=room:1&ticket={ticket}")
        assert (await envelope(stream))["topics"] == ["room:1"]
        await stream.close()


@pytest.mark.gen_test
async def test_stream_has_one_id_for_all_topics(quiet: Settings, make_token: Token) -> None:
    """One who comes back with it gets of each topic what came after; with more topics too."""
    token = make_token("alice", scope="rt:publish", topics=["*"])
    async with serving(quiet, token) as alice:
        stream = await alice.stream("/api/stream?topics=a,b,me")
        first = await envelope(stream)
        assert first["topics"] == ["a", "b", "me"]
        begun = [await envelope(stream) for _ in range(3)]
        assert [one["type"] for one in begun] == ["subscribed"] * 3
        await publish(alice, "a", 1)
        await publish(alice, "b", 2)
        seen = [await envelope(stream) for _ in range(2)]
        assert [(one["topic"], one["data"]) for one in seen] == [("a", 1), ("b", 2)]
        await stream.close()
        await publish(alice, "a", 3)
        await publish(alice, "c", 4)
        sent = {"user_id": "alice", "type": "alert", "title": "five"}
        await alice.post("/api/notifications", sent)

        async def since(place: Any, topics: str) -> list[tuple[str, Any]]:
            again = await alice.stream(f"/api/stream?topics={topics}", **{"Last-Event-ID": place})
            await envelope(again)
            found = []
            for _ in range(5):
                found.append(await envelope(again))
                if len([one for one in found if one["type"] != "subscribed"]) == 2:
                    break
            await again.close()
            recovered = [one["data"]["recovered"] for one in found if one["type"] == "subscribed"]
            assert all(recovered)
            return [(one["topic"], one["data"]) for one in found if one["type"] != "subscribed"]

        found = await since(seen[1]["place"], "a,b,me")
        assert found[0] == ("a", 3)
        assert (found[1][0], found[1][1]["title"]) == ("me", "five")
        found = await since(seen[0]["place"], "b,a")
        assert sorted(found) == [("a", 3), ("b", 2)]
        found = await since(begun[-1]["place"], "a")
        assert found == [("a", 1), ("a", 3)]
        # A client that was cut off before the snapshots gets them again.
        again = await alice.stream("/api/stream?topics=a", **{"Last-Event-ID": str(first["place"])})
        await envelope(again)
        assert (await envelope(again))["data"] == {"recovered": False, "snapshot": 3}
        await again.close()


@pytest.mark.gen_test
async def test_stream_ends_when_all_its_topics_have(quiet: Settings, make_token: Token) -> None:
    async with serving(quiet, make_token("alice")) as alice:
        tasks = [await alice.submit(delay=99) for _ in range(2)]
        path = "/api/stream?topics=" + ",".join(f"task:{one}" for one in tasks)
        stream = await alice.stream(path)
        for task in tasks:
            await alice.delete(f"/api/tasks/{task}")
        place, ended = None, []
        while len(ended) < 2:
            one = await envelope(stream)
            place = one["place"] or place
            if one.get("type") == "finished":
                ended.append(one["topic"])
        assert sorted(ended) == sorted(f"task:{one}" for one in tasks)
        with pytest.raises(EOFError):
            await stream.event()
        await stream.close()
        # That is what stops an EventSource from coming again.
        assert await status_of(alice, path, **{"Last-Event-ID": str(place)}) == 204


@pytest.mark.gen_test
async def test_history_of_a_topic_is_bounded_and_a_gap_is_told(
    quiet: Settings, make_token: Token, redis: Redis
) -> None:
    few = quiet.changed(topic_history=3)
    token = make_token("alice", scope="rt:publish", topics=["*"])
    async with serving(few, token) as alice:
        ids = [await publish(alice, "a", number) for number in range(6)]
        socket = await opened(alice)

        async def since(last_id: str) -> list[Any]:
            await ask(socket, "subscribe", "a", last_id=last_id)
            first = await frame(socket)
            assert first["type"] == "subscribed"
            count = 3 if last_id != ids[3] else 2
            found = [await frame(socket) for _ in range(count + (not first["data"]["recovered"]))]
            return [one["data"] for one in found]

        assert await since(ids[3]) == [4, 5]
        assert await since(ids[2]) == [3, 4, 5]
        assert await since(ids[1]) == [{"reason": "trimmed"}, 3, 4, 5]
        assert await since("other-2") == [{"reason": "epoch"}, 3, 4, 5]
        await ask(socket, "subscribe", "a")
        assert (await frame(socket))["data"] == {"recovered": False, "snapshot": 5}
        keys = [key async for key in redis.scan_iter("{rt}:topic*")]
        assert min([await redis.pttl(key) for key in keys]) > 0
        # The server ignores entries of another program.
        await redis.rpush("{rt}:topic-log:a", b"garbage", b'{"type":"message","data":1}')
        await ask(socket, "subscribe", "a", last_id=ids[5])
        assert (await frame(socket))["type"] == "subscribed"
        # Redis loses the topic: a resync says so, and the next message arrives.
        for key in keys:
            await redis.delete(key)
        await publish(alice, "a", "new")
        assert (await frame(socket))["data"] == {"reason": "epoch"}
        assert (await frame(socket))["data"] == "new"
