"""Why a user has not heard of the end of a task: each fault is made for real."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from tornado.httpclient import HTTPClientError

from settings import Settings
from tests.api import Client, frame_of
from tests.killed_stores import stored
from tests.peers import connect, upgrade
from tests.receiving import Received, receiving
from tests.waiting import until
from tests.whys import Site, Token, asked, codes, fact


@pytest.fixture(autouse=True)
def _emptied(redis: Redis, database: Any) -> None:
    """Each test begins without tasks and notifications."""


async def prefer(user: Client, **preferences: Any) -> None:
    """Change what a user wants to be told of."""
    answer = await user.send("PUT", "/api/notifications/preferences", preferences)
    assert answer.status == 200, answer.body


async def expire(site: Site, make_token: Token, path: str) -> None:
    """Open a socket of Alice's and wait until its token has expired.

    On a busy machine a token may expire before the socket is open: then the next lasts longer.
    """
    for seconds in (2, 10, 40):
        brief = site.alice.as_user(make_token("alice", ttl=seconds))
        try:
            socket = await brief.socket(path)
            await frame_of(socket, "connected")
            break
        except (HTTPClientError, AssertionError):
            continue
    while await asyncio.wait_for(socket.read_message(), 60) is not None:
        pass
    assert socket.close_code == 4401


async def fill(site: Site) -> None:
    """Send everybody something large, of which nothing is stored."""
    body = {"type": "system", "title": "t", "content": "x" * 5000, "metadata": {"x": "x" * 8000}}
    assert (await site.admin.post("/api/broadcast", body)).status == 202


@pytest.mark.gen_test
async def test_delivered_and_read(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        socket = await site.alice.socket("/api/ws/notifications")
        await frame_of(socket, "connected")
        task_id = await site.submit("quick")
        told = await frame_of(socket, "notification")
        found = await site.heard(task_id, "delivered")
        assert found["cause"]["text"] == (
            "its end was sent to 1 open connections of alice, and is not read yet"
        )
        assert fact(found, "sent")["transport"] == "websocket"
        await site.alice.post(f"/api/notifications/{told['data']['id']}/read")
        read = await site.heard(task_id, "read")
        assert codes(read)[-1] == "read"


@pytest.mark.gen_test
async def test_nobody_connected(settings: Settings, make_token: Token) -> None:
    """Then a device comes, and has it."""
    async with asked(settings, make_token) as site:
        task_id = await site.submit("quick")
        found = await site.heard(task_id, "nobody_connected")
        assert fact(found, "ended")["cause"].endswith("completed it")
        socket = await site.alice.socket("/api/ws/notifications")
        await frame_of(socket, "connected")
        await site.heard(task_id, "came_back")


@pytest.mark.gen_test
async def test_muted_type(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        await prefer(site.alice, types={"system": {"push": False, "email": False}})
        found = await site.heard(await site.submit("quick"), "muted_type")
        assert found["cause"]["text"] == (
            "its notification was kept and not pushed: alice has muted the type system"
        )


@pytest.mark.gen_test
async def test_muted_severity(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        await prefer(site.alice, least_severity="error")
        await site.heard(await site.submit("quick"), "muted_severity")


@pytest.mark.gen_test
async def test_quiet_hours(settings: Settings, make_token: Token) -> None:
    now = datetime.now(UTC)
    begin, end = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (-2, 2))
    async with asked(settings, make_token) as site:
        await prefer(site.alice, quiet_hours={"from": begin, "to": end, "timezone": "UTC"})
        found = await site.heard(await site.submit("quick"), "quiet_hours")
        assert found["cause"]["text"].endswith("it came in the quiet hours of alice")


@pytest.mark.gen_test
async def test_slow_reader(settings: Settings, make_token: Token) -> None:
    """It reads nothing of what comes, until more waits for it than may."""
    async with asked(settings, make_token, max_pending_bytes=20_000) as site:
        port = int(site.alice.url.rpartition(":")[2])
        reader, writer = await connect(port, receive_bytes=4096)
        try:
            writer.write(upgrade("/api/ws/notifications", make_token("alice")))
            await reader.readuntil(b"\r\n\r\n")
            stats = site.alice.core.hub.stats
            await until(lambda: stats().total_connections)
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            while stats().total_connections:
                await asyncio.gather(*(fill(site) for _ in range(20)))
            found = await site.heard(await site.submit("quick"), "slow_reader")
            assert "was closed at" in found["cause"]["text"]
            assert "with 4508: it read too slowly" in found["cause"]["text"]
        finally:
            writer.close()


@pytest.mark.gen_test
async def test_expired_token(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        await expire(site, make_token, "/api/ws/notifications")
        found = await site.heard(await site.submit("quick"), "token_expired")
        assert found["cause"]["text"].endswith("with 4401: its token had expired")


@pytest.mark.gen_test
async def test_token_that_expires_while_its_task_runs(
    settings: Settings, make_token: Token
) -> None:
    """A user who follows only the task, and wanted no notification, has not heard of its end."""
    async with asked(settings, make_token) as site:
        task_id = await site.hold("other", notify=False)
        await expire(site, make_token, f"/api/ws/tasks/{task_id}")
        site.let_go()
        found = await site.heard(task_id, "token_expired")
        assert fact(found, "device_closed")["close_code"] == 4401


@pytest.mark.gen_test
async def test_outbox_while_mongodb_is_away(
    settings: Settings, make_token: Token, tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    async with (
        stored(folder) as (mongodb, _),
        asked(settings, make_token, mongodb_url=mongodb.url) as site,
    ):
        task_id = await site.hold("other")
        await mongodb.kill()
        site.let_go()
        found = await site.heard(task_id, "outbox_store_away")
        assert found["cause"]["text"].endswith("for MongoDB does not answer")
        await mongodb.restart()
        await site.heard(task_id, "nobody_connected")


@pytest.mark.gen_test
async def test_callback_to_a_private_address(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        task_id = await site.submit("quick", callback_url="http://127.0.0.1:1/hook")
        found = await site.told(task_id, "post_refused")
        assert found["cause"]["text"].startswith("the post to 127.0.0.1 was given up: ")


@pytest.mark.gen_test
async def test_webhook_that_answers_500(settings: Settings, make_token: Token) -> None:
    """Until it answers, by the schedule of all deliveries."""
    received = Received([500, 200])
    more = {"callback_allow_private": True, "delivery_retry_scale": 0.5}
    async with receiving(received) as url, asked(settings, make_token, **more) as site:
        body = {"url": url, "events": ["task.*"]}
        assert (await site.alice.post("/api/webhooks", body)).status == 201
        task_id = await site.submit("quick")
        found = await site.told(task_id, "post_failing")
        assert "failed 1 times: the receiver answered 500" in found["cause"]["text"]
        assert "post_attempt" in codes(found)
        later = await site.told(task_id, "nobody_connected", "late")
        assert "post_delivered" in codes(later)


@pytest.mark.gen_test
async def test_task_of_which_nobody_wanted_to_hear(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        found = await site.told(await site.submit("quick", notify=False), "completed", "late")
        assert found["heard"]["code"] == "not_asked"
