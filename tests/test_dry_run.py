"""`POST /api/tasks?dry_run=true` and the same of batches: what a submission would come to."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from services.queue import QueueService
from settings import Settings
from tests.api import Client, serving
from tests.conftest import ROOT
from tests.waiting import until
from tornado_rt.protocol import iso_time

Token = Callable[..., str]
REPORT = {"kind": "report", "params": {"name": "daily"}}
BATCH = {"kind": "report", "items": [{"params": {"name": "a"}}, {"params": {"name": "b"}}]}
KNOWN = (
    *("dry_run", "kind", "position", "starts_in", "starts_in_low", "starts_in_high"),
    *("remaining_time", "remaining_low", "remaining_high"),
    *("starts_at", "ends_at", "ends_at_low", "ends_at_high"),
)


@pytest.fixture
def idle(settings: Settings, redis: Redis, database: Any) -> Settings:
    """Settings of a server that has the kinds and runs nothing."""
    kinds = str(ROOT / "tests" / "fixtures" / "own_kinds.py")
    return settings.changed(kinds=[kinds])


async def dry(client: Client, body: Any, path: str = "/api/tasks", **more: Any) -> dict[str, Any]:
    answer = await client.post(f"{path}?dry_run=true", body, **more)
    assert answer.status == 200, answer.body
    told: dict[str, Any] = answer.body
    return told


async def count(client: Client) -> int:
    return len((await client.get("/api/tasks")).body["items"])


async def work(queue: QueueService, redis: Redis) -> None:
    """Let a worker be there that claims nothing, and the length of the kind known."""
    await queue.announce_worker("w1", ["report"], {"concurrency": 1})
    await redis.hset(f"{queue.prefix}pace", "report", 100)


@pytest.mark.gen_test
async def test_dry_run_says_when_a_task_would_start_and_end(
    idle: Settings, make_token: Token, redis: Redis, queue: QueueService
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        unserved = await dry(alice, REPORT)
        assert unserved["waiting_for"]["code"] == "worker"
        assert (unserved["starts_in"], unserved["starts_at"], unserved["ends_at"]) == (None,) * 3
        await work(queue, redis)
        for _ in range(3):
            assert (await alice.post("/api/tasks", REPORT)).status == 202
        told = await dry(alice, {**REPORT, "label": "Mine"})
        assert told.keys() == {*KNOWN, "label", "waiting_for"}
        assert (told["dry_run"], told["kind"], told["label"]) == (True, "report", "Mine")
        assert (told["position"], told["waiting_for"]["code"]) == (4, "line")
        assert told["starts_in_low"] < told["starts_in"] < told["starts_in_high"]
        assert told["starts_in"] == pytest.approx(300, rel=0.2)
        assert told["remaining_low"] < told["remaining_time"] < told["remaining_high"]
        assert told["starts_at"] < told["ends_at"]
        assert told["ends_at_low"] < told["ends_at"] < told["ends_at_high"]
        later = datetime.now(UTC) + timedelta(hours=1)
        told = await dry(alice, {**REPORT, "run_at": iso_time(later)})
        assert told["starts_at"][:19] == iso_time(later)[:19]
        assert (told["position"], told["waiting_for"]["code"]) == (None, "schedule")
        assert await count(alice) == 3


@pytest.mark.gen_test
async def test_dry_run_of_a_batch_ends_with_its_last_task(
    idle: Settings, make_token: Token, redis: Redis, queue: QueueService
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        await work(queue, redis)
        told = await dry(alice, BATCH, "/api/batches")
        assert told.keys() == {*KNOWN, "total"}
        assert (told["total"], told["position"], told["starts_in"]) == (2, 1, 0)
        assert told["remaining_time"] == pytest.approx(200, rel=0.2)
        assert await count(alice) == 0


WRONG: dict[str, tuple[str, str, Any]] = {
    "no body": ("/api/tasks", "dry_run=true", None),
    "no kind": ("/api/tasks", "dry_run=true", {"kind": "none"}),
    "a wrong parameter": ("/api/tasks", "dry_run=true", {**REPORT, "params": {"pages": "x"}}),
    "an unknown field": ("/api/tasks", "dry_run=true", {**REPORT, "typo": 1}),
    "too long a delay": ("/api/tasks", "dry_run=true", {**REPORT, "delay": 1e9}),
    "a wrong item": ("/api/batches", "dry_run=true", {**BATCH, "items": [{"params": 1}]}),
    "no items": ("/api/batches", "dry_run=true", {**BATCH, "items": []}),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("wrong", WRONG)
async def test_dry_run_refuses_as_a_submission_does(
    idle: Settings, make_token: Token, wrong: str
) -> None:
    path, query, body = WRONG[wrong]
    async with serving(idle, make_token("alice")) as alice:
        dry_run = await alice.post(f"{path}?{query}", body)
        real = await alice.post(path, body)
        assert real.status in (400, 422)
        assert (dry_run.status, dry_run.body) == (real.status, real.body)


QUERIES = ("dry_run=1", "dry_run=", "dry_run=True", "dry_run=true&dry_run=true")


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/api/tasks", "/api/batches"])
@pytest.mark.parametrize(
    "query", ["dry_run=1", "dry_run=", "dry_run=True", "dry_run=true&dry_run=true"]
)
async def test_dry_run_is_true_or_false(
    idle: Settings, make_token: Token, path: str, query: str
) -> None:
    """Nobody submits what they meant to ask about."""
    body = REPORT if path == "/api/tasks" else BATCH
    async with serving(idle, make_token("alice")) as alice:
        answer = await alice.post(f"{path}?{query}", body)
        assert (answer.status, answer.body["detail"]) == (422, "dry_run must be true or false")
        assert await count(alice) == 0
        assert (await alice.post(f"{path}?dry_run=false", body)).status == 202


@pytest.mark.gen_test
async def test_dry_run_meets_limits_keys_and_unique_rules(
    idle: Settings, make_token: Token, redis: Redis, queue: QueueService
) -> None:
    bounded = idle.changed(queue_max_waiting_per_user=2)
    async with serving(bounded, make_token("alice")) as alice:
        await work(queue, redis)
        held = {**REPORT, "unique": {"key": "u"}}
        there = (await alice.post("/api/tasks", held)).body["task_id"]
        assert (await dry(alice, held))["task_id"] == there
        rejected = {**REPORT, "unique": {"key": "u", "on_conflict": "reject"}}
        refused = await alice.post("/api/tasks?dry_run=true", rejected)
        assert (refused.status, refused.body["task_id"]) == (409, there)
        assert (await alice.post("/api/batches?dry_run=true", BATCH)).status == 429
        assert (await alice.post("/api/tasks", REPORT)).status == 202
        full = await alice.post("/api/tasks?dry_run=true", REPORT)
        assert full.status == 429
        assert "Retry-After" in full.headers
        # In the place of one that waits there is room.
        replacing = {**REPORT, "unique": {"key": "u", "on_conflict": "replace"}}
        assert "task_id" not in await dry(alice, replacing)


@pytest.mark.gen_test
async def test_batch_on_the_wire_has_its_time_left(
    idle: Settings, make_token: Token, redis: Redis, queue: QueueService
) -> None:
    """As JSON, on the event stream and on the socket."""
    async with serving(idle, make_token("alice")) as alice:
        batch_id = (await alice.post("/api/batches", BATCH)).body["batch_id"]
        path = f"/api/batches/{batch_id}"
        names = ("remaining_time", "remaining_low", "remaining_high")

        async def left() -> list[float | None]:
            shown = (await alice.get(path)).body
            return [shown[name] for name in names]

        assert await left() == [None] * 3
        await work(queue, redis)
        middle, low, high = await left()
        assert middle == pytest.approx(200, rel=0.2)
        assert low is not None
        assert high is not None
        assert low < 200 < high
        assert (await alice.delete(path)).status == 200

        async def is_over() -> bool:
            return await left() == [0, 0, 0]

        assert await until(is_over)
