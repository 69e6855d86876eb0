"""Notifications over the whole server, as clients of the first version use them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from settings import Settings
from tests.api import event_of, frame, frame_of, serving

Token = Callable[..., str]


@pytest.fixture
def idle(settings: Settings, redis: Redis, database: Any) -> Settings:
    """Settings of a server that runs no task, on empty stores."""
    return settings


@pytest.mark.gen_test
async def test_notifications_are_kept_counted_marked_and_deleted(
    idle: Settings, make_token: Token
) -> None:
    """By cursor and by page; other tabs are told what was read."""
    async with serving(idle, make_token("alice")) as alice:
        tab = await alice.socket("/api/ws/notifications")
        await frame(tab)
        ids = []
        for number in range(5):
            draft = {"user_id": "alice", "type": "alert", "title": f"n{number}"}
            made = await alice.post("/api/notifications", draft)
            assert made.status == 201
            ids.append(made.body["id"])
        pushed = [(await frame_of(tab, "notification"))["data"]["id"] for _ in range(5)]
        assert pushed == ids
        first = (await alice.get("/api/notifications?limit=2")).body
        assert [item["id"] for item in first["items"]] == [ids[4], ids[3]]
        rest = (await alice.get(f"/api/notifications?limit=3&before={first['next']}")).body
        assert [item["id"] for item in rest["items"]] == [ids[2], ids[1], ids[0]]
        assert rest["next"] is None
        paged = (await alice.get("/api/notifications?page=2&page_size=2")).body
        assert [item["id"] for item in paged["items"]] == [ids[2], ids[1]]
        assert (paged["total"], paged["page"], paged["page_size"]) == (5, 2, 2)
        marked = await alice.post(f"/api/notifications/{ids[0]}/read")
        assert marked.body["status"] == "read"
        assert (await frame_of(tab, "read"))["data"] == {"ids": [ids[0]]}
        counts = (await alice.get("/api/notifications/unread_count")).body
        assert counts == {"unread": 4, "unseen": 4, "version": 6}
        unread = (await alice.get("/api/notifications?status=unread&type=alert")).body
        assert len(unread["items"]) == 4
        await tab.write_message(json.dumps({"type": "read", "data": {"ids": [ids[1]]}}))
        assert (await frame_of(tab, "read"))["data"] == {"ids": [ids[1]]}
        assert (await alice.post("/api/notifications/read_all")).body == {"marked": 3}
        assert set((await frame_of(tab, "read"))["data"]["ids"]) == set(ids[2:])
        assert (await frame_of(tab, "read"))["data"] == {"all": True}
        assert (await alice.delete(f"/api/notifications/{ids[0]}")).status == 204
        assert (await alice.get("/api/notifications?page=1")).body["total"] == 4


@pytest.mark.gen_test
@pytest.mark.parametrize("data", [{}, {"ids": "x"}, {"ids": [1]}, {"everything": True}, [], 5])
async def test_bad_read_message_gets_an_error(idle: Settings, make_token: Token, data: Any) -> None:
    async with serving(idle, make_token("alice")) as alice:
        tab = await alice.socket("/api/ws/notifications")
        await frame(tab)
        await tab.write_message(json.dumps({"type": "read", "data": data}))
        assert (await frame(tab))["data"]["code"] == "bad_message"
        await tab.write_message("ping")
        assert (await frame(tab))["type"] == "heartbeat"


@pytest.mark.gen_test
async def test_missed_notifications_are_replayed(idle: Settings, make_token: Token) -> None:
    """On both transports, by the id of the last one seen."""
    async with serving(idle, make_token("alice")) as alice:
        tab = await alice.socket("/api/ws/notifications")
        begin = (await frame(tab))["id"]
        tab.close()
        draft = {"user_id": "alice", "type": "alert", "title": "x"}
        ids = [(await alice.post("/api/notifications", draft)).body["id"] for _ in range(3)]
        back = await alice.socket(f"/api/ws/notifications?last_id={begin}")
        assert (await frame(back))["data"]["recovered"] is True
        frames = [await frame(back) for _ in range(3)]
        assert [one["data"]["id"] for one in frames] == ids
        stream = await alice.stream(
            "/api/notifications/stream", **{"Last-Event-ID": frames[0]["id"]}
        )
        assert (await event_of(stream, "notification"))["id"] == ids[1]
        assert (await event_of(stream, "notification"))["id"] == ids[2]
        await stream.close()


@pytest.mark.gen_test
async def test_publisher_notifies_anybody_and_an_admin_everybody(
    idle: Settings, make_token: Token
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        publisher = alice.as_user(make_token("shop", scope="rt:publish"))
        admin = alice.as_user(make_token("root", scope="rt:admin"))
        tabs = [await c.socket("/api/ws/notifications") for c in (alice, publisher)]
        for tab in tabs:
            await frame(tab)
        draft = {"type": "system", "title": "down at noon"}
        made = await publisher.post("/api/notifications", draft | {"user_id": "alice"})
        assert made.status == 201
        assert (await frame_of(tabs[0], "notification"))["data"]["id"] == made.body["id"]
        sent = await admin.post("/api/broadcast", draft)
        assert sent.status == 202
        for tab in tabs:
            assert (await frame_of(tab, "notification"))["data"]["id"] == sent.body["id"]
        assert (await alice.get("/api/notifications")).body["unread"] == 1
