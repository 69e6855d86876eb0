"""The operator's API over HTTP, with real stores, and over two servers where that matters."""

import asyncio
import getpass
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from services.admin import AdminLog
from services.admin.bulk import TAKES
from services.console import AskedAction, CommandFault, run_noted
from services.queue import TaskState
from settings import Settings
from tests.api import Answer, Client, event_of, frame, frame_of, serving
from tests.waiting import until

Token = Callable[..., str]
SYMBOL = {"symbol": "AAPL"}


@pytest.fixture
def idle(settings: Settings, redis: Redis, database: Any) -> Settings:
    """Settings of a server that runs no task, on empty stores."""
    return settings.changed(queue_user_limit=0, queue_global_limit=0)


@pytest.fixture
def root(make_token: Token) -> str:
    return make_token("root", scope="rt:admin")


async def acts(admin: Client, count: int, **query: str) -> list[dict[str, Any]]:
    """Return the newest entries of the log, the oldest of them first, once there are this many."""
    more = "".join(f"&{name}={value}" for name, value in query.items())

    async def read() -> list[dict[str, Any]] | None:
        items = (await admin.get(f"/api/admin/log?limit=500{more}")).body["items"]
        return items[:count][::-1] if len(items) >= count else None

    return await until(read)


async def status_of(client: Client, task_id: str) -> str:
    status: str = (await client.get(f"/api/tasks/{task_id}")).body["status"]
    return status


async def fail(client: Client, task_id: str) -> None:
    """Have a task fail that is the next in the line."""
    queue = client.core.queue
    claim = await queue.dequeue_task("w", ["analysis"])
    assert claim is not None
    assert claim.task.task_id == task_id
    assert await queue.ack_task(task_id, False, token=claim.token, error="no such host")


async def bulk(admin: Client, verb: str, **body: Any) -> Answer:
    return await admin.post(f"/api/admin/tasks/{verb}", body)


@pytest.mark.gen_test
async def test_search_finds_tasks_of_everybody(
    idle: Settings, make_token: Token, root: str
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        admin, bob = alice.as_user(root), alice.as_user(make_token("bob"))
        first, second = await alice.submit("AAPL"), await bob.submit("MSFT")
        page = (await admin.get("/api/admin/tasks")).body
        assert [one["task_id"] for one in page["items"]] == [second, first]
        assert page["items"][0]["user_id"] == "bob"
        assert "result" not in page["items"][0]
        for query, expected in {
            "q=aapl": [first],
            f"q={second}": [second],
            "user=bob&kind=analysis": [second],
            "status=queued&status=failed&limit=1": [second],
            "tag=none": [],
            "until=2020-01-01T00:00:00Z": [],
        }.items():
            page = (await admin.get(f"/api/admin/tasks?{query}")).body
            assert [one["task_id"] for one in page["items"]] == expected, query
        page = (await admin.get("/api/admin/tasks?limit=1")).body
        page = (await admin.get(f"/api/admin/tasks?before={page['next']}")).body
        assert [one["task_id"] for one in page["items"]] == [first]
        for wrong in ("before=x", "limit=201", "status=lost", "since=today"):
            assert (await admin.get(f"/api/admin/tasks?{wrong}")).status == 400, wrong


@pytest.mark.gen_test
async def test_cancel_of_many_is_taken_back(idle: Settings, make_token: Token, root: str) -> None:
    """Tasks that waited go back to their places; once, and only those that were changed."""
    async with serving(idle, make_token("alice")) as alice:
        admin = alice.as_user(root)
        ids = [await alice.submit("AAPL") for _ in range(5)]
        other = await alice.submit("MSFT")
        done = (await bulk(admin, "cancel", filter={"q": "aapl"})).body
        assert (done["changed"], done["skipped"], done["next"]) == (5, 0, None)
        assert [await status_of(alice, one) for one in (ids[0], other)] == ["cancelled", "queued"]
        undo = {"undo": done["undo"]}
        assert (await admin.post("/api/admin/undo", undo)).body == {"undone": 5}
        first = await alice.core.queue.dequeue_task("w", ["analysis"])
        assert first is not None
        assert first.task.task_id == ids[0]
        assert (await admin.post("/api/admin/undo", undo)).status == 404
        again = (await bulk(admin, "cancel", ids=[ids[0], ids[1], "none"])).body
        assert (again["changed"], again["skipped"]) == (2, 1)
        # A task that ran is not run again.
        assert (await admin.post("/api/admin/undo", {"undo": again["undo"]})).body == {"undone": 1}
        assert await status_of(alice, ids[0]) == "cancelled"


@pytest.mark.gen_test
async def test_undo_of_a_delayed_task_keeps_its_time(
    idle: Settings, make_token: Token, root: str
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        admin = alice.as_user(root)
        made = await alice.post("/api/tasks", SYMBOL | {"delay": 3600})
        task, waits = made.body["task_id"], await alice.submit("MSFT")
        before = (await alice.get(f"/api/tasks/{task}")).body
        for asked in ({"ids": [task, waits]}, {"filter": {"user": "alice"}}):
            done = (await bulk(admin, "cancel", **asked)).body
            assert await status_of(alice, task) == "cancelled"
            undone = (await admin.post("/api/admin/undo", {"undo": done["undo"]})).body
            assert undone == {"undone": 2}
            after = (await alice.get(f"/api/tasks/{task}")).body
            assert (after["status"], after["run_at"]) == ("delayed", before["run_at"])
            assert await status_of(alice, waits) == "queued"


@pytest.mark.gen_test
async def test_discard_is_done_when_it_can_be_taken_back_no_more(
    idle: Settings, make_token: Token, root: str, redis: Redis
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        admin, queue = alice.as_user(root), alice.core.queue
        ids = [await alice.submit() for _ in range(3)]
        for one in ids:
            await fail(alice, one)
        waits = await alice.submit()
        done = (await bulk(admin, "discard", ids=[*ids[:2], waits])).body
        assert (done["changed"], done["skipped"], done["undo_seconds"]) == (2, 1, 10)
        assert (await admin.post("/api/admin/undo", {"undo": done["undo"]})).body == {"undone": 2}
        done = (await bulk(admin, "discard", filter={"q": "host", "user": "alice"})).body
        assert done["changed"] == 3
        # One that is run again meanwhile is kept.
        assert (await bulk(admin, "retry", ids=[ids[0]])).body["changed"] == 1
        for one in await redis.zrange("{rtq}:discarding", 0, -1):
            await redis.zadd("{rtq}:discarding", {one: 1})
        await queue.keep_up()
        assert [await queue.get_task(one) is None for one in ids] == [False, True, True]
        assert not await redis.exists("{rtq}:discarding")
        assert (await admin.get("/api/admin/tasks?q=host")).body["items"][0]["task_id"] == ids[0]


@pytest.mark.gen_test
async def test_retry_by_filter_goes_on_where_it_ended(
    idle: Settings, make_token: Token, root: str
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        admin = alice.as_user(root)
        for _ in range(5):
            await fail(alice, await alice.submit())
        wanted, count, place = {"status": ["failed"]}, 0, ""
        while place is not None:
            body = (await bulk(admin, "retry", filter=wanted, limit=2, before=place)).body
            assert body["changed"] <= 2
            assert body["undo"] is None
            count, place = count + body["changed"], body["next"]
        assert count == 5
        stats = (await admin.get("/api/queue/stats")).body
        assert (stats["failed"], stats["queued"]) == (0, 5)


@pytest.mark.gen_test
async def test_wrong_bodies_of_bulk_are_refused(idle: Settings, root: str) -> None:
    async with serving(idle, root) as admin:
        for body in (
            {},
            {"ids": ["a"], "filter": {"q": "a"}},
            {"filter": {}},
            {"filter": {"nope": 1}},
            {"filter": {"status": ["lost"]}},
            {"filter": {"since": "today"}},
            {"ids": ["a"] * 1001},
            {"ids": ["a" * 65]},
            {"ids": [1]},
            {"filter": {"q": "a"}, "limit": 1001},
            {"filter": {"q": "a"}, "before": "x"},
        ):
            answer = await admin.post("/api/admin/tasks/cancel", body)
            assert answer.status == 422, (body, answer.body)
        assert (await admin.post("/api/admin/tasks/explode", {})).status == 404


@pytest.mark.gen_test
async def test_running_tasks_have_worker_lease_and_step(
    idle: Settings, make_token: Token, root: str
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        admin, queue = alice.as_user(root), alice.core.queue
        ids = [await alice.submit() for _ in range(3)]
        claims = [await queue.dequeue_task(f"w{n % 2}", ["analysis"]) for n in range(3)]
        page = (await admin.get("/api/admin/running?limit=2")).body
        assert len(page["items"]) == 2
        rest = (await admin.get(f"/api/admin/running?after={page['next']}")).body
        items = page["items"] + rest["items"]
        assert sorted(one["task_id"] for one in items) == sorted(ids)
        assert rest["next"] is None
        one = next(one for one in items if one["task_id"] == ids[0])
        assert (one["worker_id"], one["attempt"], one["user_id"]) == ("w0", 1, "alice")
        assert 0 < one["lease_seconds"] <= queue.visibility_seconds
        assert one["step"]
        mine = (await admin.get("/api/admin/running?worker=w1")).body["items"]
        assert [one["task_id"] for one in mine] == [ids[1]]
        assert (await admin.get("/api/admin/running?user=bob")).body["items"] == []
        assert (await admin.get("/api/admin/running?after=1")).status == 400
        assert all(claims)


@pytest.mark.gen_test
async def test_drained_worker_claims_nothing_until_it_is_resumed(
    idle: Settings, root: str, redis: Redis
) -> None:
    async with serving(idle, root) as admin:
        queue = admin.core.queue
        await queue.announce_worker("host:1", ["analysis"], {"host": "h", "concurrency": 2})
        [shown] = (await admin.get("/api/admin/workers")).body["items"]
        assert (shown["worker_id"], shown["slots"], shown["draining"]) == ("host:1", 2, False)
        answer = await admin.send("POST", "/api/admin/workers/host%3A1/drain")
        assert answer.body == {"worker_id": "host:1", "draining": True, "running": 0}
        await admin.submit()
        assert await queue.dequeue_task("host:1", ["analysis"]) is None
        assert (await admin.get("/api/admin/workers")).body["items"][0]["draining"]
        assert (await admin.post("/api/admin/workers/host:1/resume")).status == 200
        assert await queue.dequeue_task("host:1", ["analysis"]) is not None
        assert (await admin.post("/api/admin/workers/none/drain")).status == 404
        await admin.post("/api/admin/workers/host:1/drain")
        await queue.withdraw_worker("host:1")
        assert not await redis.exists("{rtq}:draining")


@pytest.mark.gen_test
async def test_connections_of_all_processes_are_listed_and_closed(
    idle: Settings, make_token: Token, root: str
) -> None:
    alice = make_token("alice")
    async with serving(idle, alice) as here, serving(idle, alice) as there:
        admin = here.as_user(root)
        sockets = [await one.socket("/api/ws/notifications") for one in (here, there)]
        stream = await there.stream("/api/notifications/stream")
        for socket in sockets:
            await frame(socket)
        await event_of(stream, "connected")
        other = await there.as_user(root).socket("/api/ws/notifications")
        await frame(other)
        page = (await admin.get("/api/admin/connections?limit=2")).body
        assert (page["processes"], page["total"], len(page["items"])) == (2, 4, 2)
        rest = (await admin.get(f"/api/admin/connections?after={page['next']}")).body
        items = page["items"] + rest["items"]
        assert len({one["id"] for one in items}) == 4
        assert rest["next"] is None
        assert len({one["process"] for one in items}) == 2
        assert [one["user_id"] for one in items] == ["alice", "alice", "alice", "root"]
        assert items[0]["topics"] == ["user:alice", "broadcast"]
        since = [one["since"] for one in items]
        assert since == sorted(since)
        assert all(one["seconds"] >= 0 for one in items)
        only = (await admin.get("/api/admin/connections?transport=sse&user=alice")).body["items"]
        assert [one["transport"] for one in only] == ["sse"]
        closed = await admin.post("/api/admin/connections/close", {"id": items[1]["id"]})
        assert closed.body == {"closed": 1}
        closed = await admin.post("/api/admin/connections/close", {"user": "alice"})
        assert closed.body == {"closed": 2}
        error = await event_of(stream, "problem")
        assert error == {"code": "forbidden", "message": "an admin has closed this connection"}
        await stream.close()
        for socket in sockets:
            while await asyncio.wait_for(socket.read_message(), 60) is not None:
                pass
            assert socket.close_code == 4403
        left = (await admin.get("/api/admin/connections")).body["items"]
        assert [one["user_id"] for one in left] == ["root"]
        for wrong in ({}, {"id": "a", "user": "b"}, {"nope": 1}):
            assert (await admin.post("/api/admin/connections/close", wrong)).status == 422


@pytest.mark.gen_test
async def test_changes_of_admins_are_noted_and_reading_is_not(
    idle: Settings, make_token: Token, root: str
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        admin = alice.as_user(root)
        task = await alice.submit()
        await admin.get("/api/admin/log")
        await admin.post("/api/queue/pause", {"kind": "analysis"})
        await admin.send("PUT", "/api/settings", {"nope": 1})
        await admin.delete(f"/api/tasks/{task}")
        made = await admin.post(
            "/api/webhooks",
            {"url": "https://example.com/", "events": ["task.*"], "application": True},
        )
        # Acts of others are not noted, nor acts that an admin may not do.
        await alice.delete(f"/api/tasks/{task}")
        assert (await alice.post("/api/queue/pause", {})).status == 403
        found = await acts(admin, 4)
        assert [(one["action"], one["status"]) for one in found] == [
            ("POST /api/queue/pause", 200),
            ("PUT /api/settings", 422),
            (f"DELETE /api/tasks/{task}", 200),
            ("POST /api/webhooks", made.status),
        ]
        first = found[0]
        assert (first["user_id"], first["via"], first["data"]) == (
            "root",
            "http",
            {"kind": "analysis"},
        )
        assert first["result"] == {"kind": "analysis", "paused": True, "running": 0}
        assert first["address"] == "127.0.0.1"
        assert first["at"]
        assert "no setting" in found[1]["result"]["detail"]
        if made.status == 201:
            assert made.body["secret"] not in str(found[3])
        assert (await admin.get("/api/admin/log?user=alice")).body["items"] == []


@pytest.mark.gen_test
async def test_log_is_bounded_and_read_in_pages(idle: Settings, root: str) -> None:
    async with serving(idle.changed(admin_log_entries=5), root) as admin:
        for number in range(8):
            await admin.send("PUT", "/api/queue/limits", {"user_limit": number})
        await acts(admin, 5)

        async def numbers() -> list[int]:
            place, found = "", list[int]()
            while place is not None:
                page = (await admin.get(f"/api/admin/log?limit=2&before={place}")).body
                found += [one["data"]["user_limit"] for one in page["items"]]
                place = page["next"]
            return found

        assert await until(lambda: _is([7, 6, 5, 4, 3], numbers()))
        long = await admin.send("PUT", "/api/queue/limits", {"x" * 5000: 1})
        assert long.status == 422
        [last] = await acts(admin, 1, user="root")
        assert isinstance(last["data"], str)
        assert len(last["data"]) <= 2048


@pytest.mark.gen_test
async def test_any_place_of_the_log_has_a_page(idle: Settings, root: str) -> None:
    """Two numbers of at most 20 digits; Redis takes less of them, and none before the first."""
    async with serving(idle, root) as admin:
        await admin.send("PUT", "/api/queue/limits", {"user_limit": 1})
        [only] = await acts(admin, 1)
        milliseconds, number = map(int, only["id"].split("-"))
        counts = {
            "0-0": 0,
            "0-1": 0,
            "1-0": 0,
            only["id"]: 0,
            f"{milliseconds}-{number + 1}": 1,
            f"{milliseconds + 1}-0": 1,
            f"{2**64 - 1}-{2**64 - 1}": 1,
            f"{2**64}-{2**64}": 1,
            f"{'9' * 20}-0": 1,
        }
        for place, count in counts.items():
            answer = await admin.get(f"/api/admin/log?before={place}")
            assert (place, answer.status, len(answer.body["items"])) == (place, 200, count)


async def _is(wanted: list[int], found: Any) -> bool:
    return bool(await found == wanted)


@pytest.mark.gen_test
async def test_commands_are_noted(idle: Settings, root: str) -> None:
    async with serving(idle, root) as admin:
        queue = admin.core.queue
        log = AdminLog(admin.core.redis, queue.prefix, 100)
        await run_noted(queue, log.note, "pause", AskedAction(kind="analysis"))
        await run_noted(queue, log.note, "limits", AskedAction(names=["analysis"]))
        await run_noted(queue, log.note, "limits", AskedAction(names=["analysis", "limit=3"]))
        with pytest.raises(CommandFault):
            await run_noted(queue, log.note, "purge", AskedAction())
        found = await acts(admin, 3)
        assert [(one["action"], one["status"]) for one in found] == [
            ("queue pause", 0),
            ("queue limits", 0),
            ("queue purge", 1),
        ]
        assert {one["user_id"] for one in found} == {f"system:{getpass.getuser()}"}
        assert found[0]["data"] == {"kind": "analysis"}
        assert found[0]["via"] == "command"


@pytest.mark.gen_test
async def test_overview_and_series_say_how_everything_stands(
    idle: Settings, make_token: Token, root: str
) -> None:
    """Also live, to admins alone; one point for all processes."""
    async with serving(idle, root) as admin, serving(idle, root):
        await fail(admin, await admin.submit())
        await admin.submit()
        shown = (await admin.get("/api/admin/overview")).body
        assert (shown["stats"]["failed"], shown["processes"], shown["submitted"]) == (1, 2, 2)
        [kind] = [one for one in shown["kinds"] if one["kind"] == "analysis"]
        assert (kind["queued"], kind["failed"], kind["completed"]) == (1, 1, 0)
        assert kind["oldest_seconds"] >= 0
        socket = await admin.socket("/api/ws")
        await socket.write_message('{"type": "subscribe", "data": {"topic": "admin"}}')
        opened = await frame_of(socket, "subscribed")
        assert "snapshot" in opened["data"]
        point = (await frame_of(socket, "message"))["data"]
        assert point["kinds"]["analysis"]["queued"] == 1
        assert point["submitted"] == 2
        series = (await admin.get("/api/admin/series?step=5")).body
        assert series["step"] == 5
        assert series["points"][-1] == point
        times = [one["at"] for one in series["points"]]
        assert times == sorted(set(times))
        assert (await admin.get("/api/admin/series?step=60")).body["points"]
        assert (await admin.get("/api/admin/series?step=7")).status == 400
        alice = await admin.as_user(make_token("alice")).socket("/api/ws")
        await alice.write_message('{"type": "subscribe", "data": {"topic": "admin"}}')
        assert (await frame_of(alice, "error"))["data"]["code"] == "forbidden"
        assert (await admin.post("/api/publish", {"topic": "admin", "data": 1})).status == 422


@pytest.mark.gen_test
async def test_webhooks_of_all_are_listed(idle: Settings, make_token: Token, root: str) -> None:
    async with serving(idle, make_token("alice")) as alice:
        admin = alice.as_user(root)
        wanted = {"url": "https://example.com/", "events": ["task.completed"]}
        for _ in range(3):
            assert (await alice.post("/api/webhooks", wanted)).status == 201
        page = (await admin.get("/api/admin/webhooks?limit=2")).body
        rest = (await admin.get(f"/api/admin/webhooks?after={page['next']}")).body
        items = page["items"] + rest["items"]
        assert [one["user_id"] for one in items] == ["alice"] * 3
        assert rest["next"] is None
        assert all(one["answers"] == [] and "secret" not in one for one in items)
        assert len({one["id"] for one in items}) == 3


def test_states_of_the_verbs_are_all_states_but_completed() -> None:
    assert {state for states in TAKES.values() for state in states} == set(TaskState) - {
        TaskState.COMPLETED
    }
