"""Sending: to one, to many, to all; once by a key; by templates; counted into digests."""

from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from settings import Settings
from tests.api import Client, frame, frame_of, serving
from tests.waiting import until

Token = Callable[..., str]
Json = dict[str, Any]
PATH = "/api/notifications"


@pytest.fixture
def idle(settings: Settings, redis: Redis, database: Any) -> Settings:
    """Settings of a server that runs no task, on empty stores."""
    return settings


def body(**more: Any) -> Json:
    """Return a request to tell alice, but for the changes."""
    usual: Json = {"user_id": "alice", "type": "order.sent", "title": "Sent"}
    return usual | more


async def titles(client: Client, user: str, make_token: Token) -> list[str]:
    """Return the titles in a user's list."""
    answer = await client.as_user(make_token(user)).get(PATH)
    return [one["title"] for one in answer.body["items"]]


@pytest.mark.gen_test
async def test_list_of_users_is_told_each_once(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("app", scope="rt:publish")) as app:
        users = [f"u{n}" for n in range(300)]
        asked = {"user_ids": [*users, "u0"], "type": "alert", "title": "All of you"}
        sent = await app.post(PATH, asked)
        assert sent.status == 201, sent.body
        assert [one["user_id"] for one in sent.body["items"]] == users
        for user in ("u0", "u299"):
            assert await titles(app, user, make_token) == ["All of you"]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (body(user_ids=["a"]), "name user_id, user_ids or all, and only one of them"),
        (body(user_id=None, user_ids=[]), "user_ids must have at least one item"),
        (body(user_id=None, user_ids=["a"] * 1001), "user_ids must have at most 1000 items"),
        ({"type": "alert", "title": "x"}, "user_id is required"),
        ({"user_id": "alice", "type": "alert"}, "title is required"),
        (body(template="task.completed"), "name title or template, and not both"),
        (body(dedupe_key="a", group_key="b"), "name dedupe_key or group_key, and not both"),
        (body(type="Not a type"), "type must have 1 to 64 of a-z, 0-9, dot, _ and -"),
        (body(actions=[{"id": "a", "label": "A"}]), "action a must have either link or answer"),
    ],
)
async def test_request_that_is_wrong_is_refused(
    idle: Settings, make_token: Token, asked: Json, said: str
) -> None:
    async with serving(idle, make_token("alice", scope="rt:publish")) as alice:
        answer = await alice.post(PATH, asked)
        assert (answer.status, answer.body["errors"]) == (422, [said])
        assert await titles(alice, "alice", make_token) == []


@pytest.mark.gen_test
async def test_others_are_told_only_with_the_scope(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("alice")) as alice:
        for asked in (body(user_id="bob"), body(user_id=None, user_ids=["alice", "bob"])):
            assert (await alice.post(PATH, asked)).status == 403
        asked = body(user_id=None, all=True)
        assert (await alice.post(PATH, asked)).status == 403
        assert (await alice.post(PATH, body(user_id=None, user_ids=["alice"]))).status == 201


@pytest.mark.gen_test
async def test_request_of_a_key_is_sent_once(idle: Settings, make_token: Token) -> None:
    """Another request under it is refused, another sender's key is another."""
    async with serving(idle, make_token("alice")) as alice:
        key = {"Idempotency-Key": "k"}
        first = await alice.send("POST", PATH, body(), key)
        again = await alice.send("POST", PATH, body(), key)
        assert (again.status, again.body["id"]) == (201, first.body["id"])
        other = await alice.send("POST", PATH, body(title="Other"), key)
        assert other.status == 422
        app = alice.as_user(make_token("app", scope="rt:publish"))
        assert (await app.send("POST", PATH, body(title="Third"), key)).status == 201
        assert await titles(alice, "alice", make_token) == ["Third", "Sent"]


@pytest.mark.gen_test
async def test_template_is_worded_in_the_language_of_who_is_told(
    idle: Settings, make_token: Token
) -> None:
    async with serving(idle, make_token("app", scope="rt:publish")) as app:
        german = app.as_user(make_token("german"))
        await german.send("PUT", f"{PATH}/preferences", {"locale": "de-AT"})
        asked = {
            "user_ids": ["german", "other"],
            "type": "system",
            "template": "task.completed",
            "variables": {"label": "<b>{label}</b>"},
        }
        assert (await app.post(PATH, asked)).status == 201
        [told] = await titles(app, "german", make_token)
        assert told.startswith("<b>{label}</b>: ")
        assert told != "<b>{label}</b>: completed"
        assert await titles(app, "other", make_token) == ["<b>{label}</b>: completed"]
        for wrong in ({"template": "task.complete"}, {"variables": {}}):
            answer = await app.post(PATH, asked | wrong)
            assert answer.status == 422


@pytest.mark.gen_test
async def test_digest_is_one_line_with_its_parts(idle: Settings, make_token: Token) -> None:
    """Fifty failures: one line with the newest and the count, one unread, opened into all."""
    async with serving(idle, make_token("alice")) as alice:
        for n in range(50):
            sent = await alice.post(PATH, body(title=f"failure {n}", group_key="batch"))
            assert sent.status == 201
        page = (await alice.get(PATH)).body
        [line] = page["items"]
        assert (line["title"], line["count"], page["unread"]) == ("failure 49", 50, 1)
        parts = (await alice.get(f"{PATH}/{line['id']}/parts?limit=100")).body["items"]
        assert [one["title"] for one in parts] == [f"failure {n}" for n in range(49, -1, -1)]
        # A read one is new again with the next one.
        await alice.post(f"{PATH}/{line['id']}/read")
        await alice.post(PATH, body(title="failure 50", group_key="batch"))
        page = (await alice.get(PATH)).body
        assert [one["count"] for one in page["items"]] == [51]
        assert page["unread"] == 1
        await alice.post(PATH, body(title="other", group_key="other"))
        assert [one["count"] for one in (await alice.get(PATH)).body["items"]] == [1, 51]


@pytest.mark.gen_test
async def test_muted_one_is_kept_and_not_pushed(idle: Settings, make_token: Token) -> None:
    """A device learns of it, and of no news."""
    async with serving(idle, make_token("alice")) as alice:
        chosen = {"types": {"order.sent": {"push": False, "email": False}}}
        assert (await alice.send("PUT", f"{PATH}/preferences", chosen)).status == 200
        kept = (await alice.get(f"{PATH}/preferences")).body
        assert kept["types"] == chosen["types"]
        socket = await alice.socket("/api/ws/notifications")
        await frame(socket)
        await alice.post(PATH, body())
        told = await frame(socket)
        assert (told["type"], told["data"]["items"][0]["muted"]) == ("changed", True)
        assert (await frame_of(socket, "unread_count"))["data"]["unread"] == 1
        await alice.post(PATH, body(type="alert"))
        assert (await frame(socket))["type"] == "notification"


@pytest.mark.gen_test
@pytest.mark.parametrize("path", [PATH, "/api/broadcast"])
async def test_all_known_users_are_told_by_a_task(
    idle: Settings, make_token: Token, path: str
) -> None:
    """It shows its progress; under its key it is sent once."""
    settings = idle.changed(worker_concurrency=1)
    async with serving(settings, make_token("app", scope="rt:publish rt:admin")) as app:
        users = [f"u{n}" for n in range(230)]
        await app.post(PATH, {"user_ids": users, "type": "alert", "title": "first"})
        how = {"all": True} if path == PATH else {"persist": True}
        asked = {"type": "system", "title": "second"} | how
        key = {"Idempotency-Key": "all"}
        sent = await app.send("POST", path, asked, key)
        assert sent.status == 202, sent.body
        task = sent.body["links"]["self"]

        async def status() -> Any:
            return (await app.get(task)).body["status"]

        await until(status, 60, equal="completed")
        done = (await app.get(task)).body
        assert done["result"] == {"users": 230, "failed": 0}
        assert (await app.send("POST", path, asked, key)).body["task_id"] == sent.body["task_id"]
        for user in ("u0", "u229"):
            assert await titles(app, user, make_token) == ["second", "first"]


@pytest.mark.gen_test
async def test_nobody_makes_the_tasks_of_the_server(idle: Settings, make_token: Token) -> None:
    settings = idle.changed(worker_concurrency=1)
    async with serving(settings, make_token("alice")) as alice:
        request = {"user_ids": ["bob"], "type": "alert", "title": "x"}
        asked = {"kind": "rt.announcement", "params": {"request": request}}
        assert (await alice.post("/api/tasks", asked)).status == 422
        items = [{"params": {"request": request}}]
        batch = {"kind": "rt.announcement", "items": items}
        assert (await alice.post("/api/batches", batch)).status == 422
        kinds = (await alice.get("/api/kinds")).body["items"]
        assert "rt.announcement" not in [one["kind"] for one in kinds]


@pytest.mark.gen_test
async def test_broadcast_is_shaped_as_a_notification(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("app", scope="rt:admin rt:publish")) as app:
        made = (await app.post(PATH, body(user_id="app"))).body
        socket = await app.socket("/api/ws/notifications")
        await frame(socket)
        sent = await app.post("/api/broadcast", {"type": "system", "title": "To all"})
        assert sent.status == 202
        told = (await frame_of(socket, "notification"))["data"]
        assert (told["id"], told["title"], told["user_id"]) == (sent.body["id"], "To all", None)
        assert told.keys() == made.keys()
        wrong = {"type": "system", "title": "x", "persist": "true"}
        assert (await app.post("/api/broadcast", wrong)).status == 422
