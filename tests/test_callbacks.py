"""Callbacks and webhooks on their way: signed, in order, again until they have arrived."""

import asyncio
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis

from services.webhooks import WebhookRequest
from settings import Settings
from tests.api import Client, serving
from tests.conftest import SECRET, ServerProcess, start_server, stop_server
from tests.jobs.receivers import Receiver
from tests.jobs.receivers import receiving as receiving_in_thread
from tests.receiving import Received, receiving
from tests.telling import Told, delivered
from tests.waiting import until
from tornado_rt.auth import ADMIN

ATTEMPTS = 11
HANGING_SECONDS = 20.0


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a receiver that takes connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=500)) as listening:
        yield f"http://localhost:{listening.getsockname()[1]}/hang"


@pytest.mark.gen_test
async def test_callback_is_tried_again_with_the_same_id(
    redis: Redis, database: Any, told: Told
) -> None:
    """Another attempt follows every answer but 410; each is signed for its own time."""
    received = Received([503, 404, 301, 200])
    async with receiving(received) as url, delivered(redis, database, told) as webhooks:
        await webhooks.call_back("alice", url, {"a": 1}, event_id="e1", key="t")
        await until(lambda: len(received.requests) == 4)
    assert received.events == ["e1"] * 4
    assert {one.body for one in received.requests} == {b'{"a":1}'}
    assert told.callbacks == []


@pytest.mark.gen_test
async def test_wait_that_the_receiver_asks_for_is_kept(redis: Redis, database: Any) -> None:
    received = Received([503, 200], headers={"Retry-After": "1"})
    async with receiving(received) as url, delivered(redis, database) as webhooks:
        await webhooks.call_back("alice", url, {}, event_id="e1", key="t")
        await until(lambda: len(received.requests) == 2)
    first, second = received.requests
    assert second._start_time - first._start_time >= 0.9


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("url", "allow_private", "reason"),
    [
        ("{url}", False, "not sent: the receiver is not at a public address"),
        ("http://h:0/", True, "not sent: url must have a valid host and port"),
        ("http://nowhere.invalid/", True, "not sent: the receiver cannot be reached"),
    ],
)
async def test_submitter_is_told_why_a_callback_was_not_sent(
    redis: Redis, database: Any, told: Told, url: str, allow_private: bool, reason: str
) -> None:
    """At once for an address that stays what it is, else after the last attempt."""
    received = Received()
    async with (
        receiving(received) as here,
        delivered(redis, database, told, allow_private=allow_private, scale=1e-6) as webhooks,
    ):
        await webhooks.call_back("alice", url.format(url=here), {}, event_id="e1", key="t")
        await until(lambda: told.callbacks)
    assert told.callbacks == [("alice", "e1", reason)]
    assert received.requests == []


@pytest.mark.gen_test
@pytest.mark.parametrize(("status", "attempts"), [(410, 1), (500, ATTEMPTS)])
async def test_answer_that_refuses_is_told_by_its_number(
    redis: Redis, database: Any, told: Told, status: int, attempts: int
) -> None:
    received = Received([status])
    async with receiving(received) as url, delivered(redis, database, told, scale=0) as webhooks:
        await webhooks.call_back("alice", url, {}, event_id="e1", key="t")
        await until(lambda: told.callbacks)
    assert told.callbacks == [("alice", "e1", f"not sent: the receiver answered {status}")]
    assert len(received.requests) == attempts


@pytest.mark.gen_test
async def test_posts_of_a_key_arrive_in_their_order(redis: Redis, database: Any) -> None:
    """Though the first is refused five times; those of another key do not wait for it."""
    received = Received(refused=Counter({"a0": 5, "a2": 1}))
    async with receiving(received) as url, delivered(redis, database) as webhooks:
        await webhooks.create("alice", WebhookRequest(url=url))
        for event in ("a0", "a1", "a2", "a3", "b0", "b1"):
            about = {"key": event[0], "facts": {}}
            await webhooks.tell("note", "alice", {}, event_id=event, **about)
        await until(lambda: len(received.events) == 12)
    assert [one for one in received.events if one < "b"] == [
        *(["a0"] * 6),
        *("a1", "a2", "a2", "a3"),
    ]
    assert received.events.index("b1") < received.events.index("a1")


@pytest.mark.gen_test
async def test_one_webhook_that_hangs_delays_no_other(
    redis: Redis, database: Any, silent: str
) -> None:
    """Of the same user, told of the same events."""
    received = Received()
    async with (
        receiving(received) as url,
        delivered(redis, database, seconds=HANGING_SECONDS, per_host=2) as webhooks,
    ):
        for address in (silent, url):
            await webhooks.create("alice", WebhookRequest(url=address))
        began = time.monotonic()
        for number in range(30):
            await webhooks.tell(
                "note", "alice", {}, event_id=f"e{number}", key=f"k{number}", facts={}
            )
        await until(lambda: len(set(received.events)) == 30)
        assert time.monotonic() - began < HANGING_SECONDS


async def end(user: Client, url: str) -> str:
    """Submit a task and cancel it: its end is posted; return its id."""
    task_id = await user.submit(delay=999, callback_url=url)
    assert (await user.delete(f"/api/tasks/{task_id}")).status == 200
    return task_id


async def callback_noted(user: Client) -> str | None:
    """Return what the newest notification says of its callback."""
    items = (await user.get("/api/notifications")).body["items"]
    return items[0]["metadata"].get("callback") if items else None


@pytest.mark.gen_test
async def test_server_posts_one_users_ends_whatever_anothers_receivers_do(
    settings: Settings,
    database: Any,
    redis: Redis,
    make_token: Callable[..., str],
    silent: str,
) -> None:
    """From the end of the task on, also at the host whose other receiver hangs."""
    open_ = settings.changed(callback_allow_private=True)
    received = Received()
    async with (
        receiving(received) as url,
        serving(open_, make_token("mallory")) as mallory,
    ):
        for _ in range(30):
            await end(mallory, silent)
        began = time.monotonic()
        alice = mallory.as_user(make_token("alice"))
        await end(alice, url.replace("127.0.0.1", "localhost"))
        await until(lambda: received.requests)
        assert time.monotonic() - began < HANGING_SECONDS
        assert await callback_noted(alice) is None


@pytest.mark.gen_test
async def test_server_tells_its_submitter_that_a_private_address_is_not_posted_to(
    settings: Settings,
    database: Any,
    redis: Redis,
    make_token: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The setting is off unless it is named, for every address to listen on and every proxy."""
    assert settings.server.host == "127.0.0.1"
    received = Received()
    async with receiving(received) as url:
        monkeypatch.setenv("http_proxy", url)
        async with serving(settings, make_token("alice")) as alice:
            await end(alice, url)
            noted = await until(lambda: callback_noted(alice))
            assert noted == "not sent: the receiver is not at a public address"
    assert received.requests == []


@pytest.mark.gen_test
async def test_deliveries_are_none_of_the_users_tasks(
    settings: Settings, database: Any, redis: Redis, make_token: Callable[..., str], silent: str
) -> None:
    """Not in lists, counts, kinds and metrics, nor against their limits."""
    one = settings.changed(callback_allow_private=True, queue_max_waiting_per_user=1)
    async with serving(one, make_token("alice", scope=ADMIN)) as alice:
        ended = [await end(alice, silent) for _ in range(3)]
        waiting = await alice.submit(delay=999)
        listed = [task["task_id"] for task in (await alice.get("/api/tasks")).body["items"]]
        assert listed == [waiting, *reversed(ended)]
        kinds = [one["kind"] for one in (await alice.get("/api/kinds")).body["items"]]
        assert "webhook" not in kinds
        stats = (await alice.get("/api/queue/stats")).body
        assert {name: count for name, count in stats.items() if count} == {
            "cancelled": 3,
            "delayed": 1,
        }
        metrics = (await alice.get("/metrics")).body
        assert (
            b'kind="webhook"' not in metrics.replace(b"rt_deliveries", b"").split(b"# HELP rt_t")[0]
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[[], ServerProcess]]:
    """A factory of real servers on one data folder, of which one runs at a time."""
    started: list[ServerProcess] = []

    def start() -> ServerProcess:
        one = start_server(
            tmp_path / "data",
            RT_JWT_SECRET=SECRET,
            RT_CALLBACK_ALLOW_PRIVATE="true",
            RT_DELIVERY_RETRY_SCALE="0.4",
            RT_DRAIN_SECONDS="0",
        )
        started.append(one)
        return one

    yield start
    for one in started:
        if one.process.poll() is None:
            stop_server(one)


def posted_once(receiver: Receiver, event_id: str, status: int) -> None:
    """Take the next post, which is of this event, and answer it."""
    request = receiver.next()
    assert request.headers["X-Event-Id"] == event_id
    request.answer(status)


@pytest.mark.gen_test
async def test_server_that_is_killed_between_two_attempts_delivers_after_its_restart(
    server: Callable[[], ServerProcess], make_token: Callable[..., str]
) -> None:
    """Once to the callback, and once to the webhook."""
    with receiving_in_thread() as callback, receiving_in_thread() as hook:
        first = await asyncio.to_thread(server)
        alice = Client(first.url, make_token("alice"), None, [])  # type: ignore[arg-type]
        made = await alice.post("/api/webhooks", {"url": hook.url, "events": ["task.*"]})
        assert made.status == 201
        task_id = await end(alice, callback.url)
        for receiver in (callback, hook):
            await asyncio.to_thread(posted_once, receiver, task_id, 503)

        async def noted() -> bool:
            shown = await alice.get(f"/api/webhooks/{made.body['id']}")
            return bool(shown.body["answers"])

        await until(noted)
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
        second = await asyncio.to_thread(server)
        for receiver in (callback, hook):
            await asyncio.to_thread(posted_once, receiver, task_id, 200)
        alice = attrs.evolve(alice, url=second.url)

        async def answers() -> list[int]:
            shown = await alice.get(f"/api/webhooks/{made.body['id']}")
            return [one["status"] for one in shown.body["answers"]]

        await until(answers, equal=[200, 503])
        # A later event comes behind them, and nothing between.
        last = await end(alice, callback.url)
        for receiver in (callback, hook):
            await asyncio.to_thread(posted_once, receiver, last, 200)
            assert receiver.idle
