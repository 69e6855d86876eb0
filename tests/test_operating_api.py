"""Statistics, metrics and settings of a running server."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from settings import Settings
from tests.api import event_of, frame, frame_of, serving
from tests.conftest import ROOT

Token = Callable[..., str]


@pytest.fixture
def idle(settings: Settings, redis: Redis, database: Any) -> Settings:
    """Settings of a server that runs no task, on empty stores."""
    return settings


@pytest.mark.gen_test
async def test_statistics_name_users_to_an_admin_only(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("alice")) as alice:
        await frame(await alice.socket("/api/ws/notifications"))
        stream = await alice.stream("/api/notifications/stream")
        await stream.event()
        stats = (await alice.get("/api/ws/stats")).body
        assert (stats["total_users"], stats["total_connections"]) == (1, 2)
        assert stats["by_transport"] == {"websocket": 1, "sse": 1}
        assert "users" not in stats
        admin = alice.as_user(make_token("root", scope="rt:admin"))
        assert (await admin.get("/api/ws/stats")).body["users"] == {"alice": 2}
        await stream.close()


@pytest.mark.gen_test
async def test_statistics_and_metrics_say_the_same(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("root", scope="rt:admin")) as admin:
        tab = await admin.socket("/api/ws/notifications")
        stream = await admin.stream("/api/notifications/stream")
        await event_of(stream, "connected")
        await admin.post("/api/broadcast", {"type": "system", "title": "news"})
        await frame_of(tab, "notification")
        await event_of(stream, "notification")
        stats = (await admin.get("/api/ws/stats")).body
        text = (await admin.get("/metrics")).body.decode()
        found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
        expected = {
            "rt_users": stats["total_users"],
            'rt_connections{transport="websocket"}': stats["by_transport"]["websocket"],
            'rt_connections{transport="sse"}': stats["by_transport"]["sse"],
            'rt_subscribers{kind="user"}': stats["by_topic"]["user"],
            'rt_subscribers{kind="broadcast"}': stats["by_topic"]["broadcast"],
            "rt_messages_delivered_total": stats["messages_delivered"],
            "rt_messages_conflated_total": stats["messages_conflated"],
            "rt_messages_dropped_total": stats["messages_dropped"],
            "rt_bytes_delivered_total": stats["bytes_delivered"],
            "rt_closed_slow_total": stats["closed_slow"],
        }
        assert {name: float(found[name]) for name in expected} == expected
        assert stats["total_connections"] == stats["by_topic"]["broadcast"] == 2
        assert (stats["messages_delivered"], stats["users"]) == (4, {"root": 2})
        assert stats["bytes_delivered"] > 1000
        page = (ROOT / "docs/operations.md").read_text()
        # The library adds a gauge to each counter that has a value.
        served = re.findall(r"^# TYPE (rt_\w+)(?<!_created) (\w+)$", text, re.MULTILINE)
        told = re.findall(r"^\| `(rt_\w+)` \| (\w+) \|", page, re.MULTILINE)
        assert sorted(told) == sorted(served)
        await stream.close()


@pytest.mark.gen_test
async def test_changed_settings_are_followed_by_open_streams(
    idle: Settings, make_token: Token
) -> None:
    """In every process, within a second; a bad one changes nothing."""
    token = make_token("root", scope="rt:admin")
    async with serving(idle, token) as here, serving(idle, token) as there:
        stream = await there.stream("/api/notifications/stream")
        await event_of(stream, "connected")
        for bad in (
            {"nope": 1},
            {"sse_heartbeat_interval_seconds": -1},
            {"sse_heartbeat_interval_seconds": "1"},
            [],
        ):
            assert (await here.send("PUT", "/api/settings", bad)).status == 422
        changed = await here.send("PUT", "/api/settings", {"sse_heartbeat_interval_seconds": 0.05})
        assert changed.body["sse_heartbeat_interval_seconds"] == 0.05
        await asyncio.wait_for(event_of(stream, "heartbeat"), 20)
        assert (await there.get("/api/settings")).body == changed.body
        await stream.close()
