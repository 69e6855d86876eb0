"""Readiness says whether writes go through; a store that is full or lost refuses in words."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from redis import Redis

from tests.conftest import SECRET, ServerProcess, start_server, stop_server
from tests.waiting import until
from tornado_rt.stores import running_addresses


def ask(server: ServerProcess, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    claims = {"sub": "alice", "exp": time.time() + 600, "scope": ""}
    headers = {
        "Authorization": "Bearer " + jwt.encode(claims, SECRET, algorithm="HS256"),
        "Accept": "application/json",
    }
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, content, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    started = start_server(
        tmp_path / "data",
        RT_JWT_SECRET=SECRET,
        RT_DRAIN_SECONDS="0",
        RT_STEP_SECONDS="0.2",
        RT_WORKER_GRACE_SECONDS="0",
    )
    yield started
    stop_server(started)


@pytest.fixture
def store(server: ServerProcess) -> Iterator[Redis]:
    with Redis.from_url(running_addresses(server.data_dir).redis_url) as client:
        yield client


def submit(server: ServerProcess, **more: Any) -> tuple[int, Any]:
    return ask(server, "POST", "/api/tasks", {"symbol": "AAPL", **more})


def status_of(server: ServerProcess, task_id: str) -> str:
    return str(ask(server, "GET", f"/api/tasks/{task_id}")[1]["status"])


@pytest.mark.gen_test(timeout=60)
async def test_full_redis_refuses_more_and_lets_what_runs_end(
    server: ServerProcess, store: Redis
) -> None:
    running = submit(server)[1]["task_id"]
    waiting = submit(server, delay=600)[1]["task_id"]
    await until(lambda: status_of(server, running) == "processing", 5, "a running task")
    store.config_set("maxmemory", 1)
    status, problem = submit(server)
    assert (status, problem["detail"][:13]) == (503, "Redis is full")
    await until(lambda: ask(server, "GET", "/readyz")[0] == 503, 5, "not ready")
    assert "Redis is full" in ask(server, "GET", "/readyz")[1]["errors"][0]
    assert ask(server, "DELETE", f"/api/tasks/{waiting}")[0] == 200
    assert status_of(server, waiting) == "cancelled"
    await until(lambda: status_of(server, running) == "completed", 20, "the end of a task")
    store.config_set("maxmemory", 0)
    assert submit(server)[0] == 202
    await until(lambda: ask(server, "GET", "/readyz")[0] == 200, 5, "ready again")


@pytest.mark.gen_test(timeout=60)
async def test_redis_that_takes_no_writes_is_not_ready(server: ServerProcess, store: Redis) -> None:
    store.config_set("min-replicas-to-write", 1)
    await until(lambda: ask(server, "GET", "/readyz")[0] == 503, 5, "not ready")
    errors = ask(server, "GET", "/readyz")[1]["errors"]
    assert errors[0].startswith("Redis does not take writes: ")
    store.config_set("min-replicas-to-write", 0)
    await until(lambda: ask(server, "GET", "/readyz")[0] == 200, 5, "ready again")


@pytest.mark.gen_test(timeout=60)
async def test_many_probes_are_one_write_a_second(server: ServerProcess, store: Redis) -> None:
    before = store.info("commandstats")["cmdstat_set"]["calls"]
    began = time.monotonic()
    for _ in range(50):
        assert ask(server, "GET", "/readyz")[0] == 200
    writes = store.info("commandstats")["cmdstat_set"]["calls"] - before
    assert writes <= time.monotonic() - began + 2


@pytest.mark.gen_test(timeout=60)
async def test_folder_that_is_moved_stops_writes_until_it_is_back(server: ServerProcess) -> None:
    away = server.data_dir.with_name("away")
    server.data_dir.rename(away)
    await until(lambda: ask(server, "GET", "/readyz")[0] == 503, 2, "not ready")
    status, problem = submit(server)
    assert status == 503
    assert "the data folder was removed" in problem["detail"]
    assert server.log.read_text().count("data_folder_lost") == 1
    away.rename(server.data_dir)
    await until(lambda: ask(server, "GET", "/readyz")[0] == 200, 3, "ready again")
    assert submit(server)[0] == 202
