"""Log lines say of which request, user, task, connection and process they are; probes are quiet."""

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.conftest import ROOT, ServerProcess, start_server, stop_server
from tests.forks import run
from tests.waiting import wait_until

KINDS = """
import attrs
import structlog
from tornado_rt.work import Kind

log = structlog.get_logger()

@attrs.frozen
class Nothing:
    pass

told = Kind("told", Nothing)

@told.handler
async def tell(params, run):
    log.info("handler_speaks")
"""


# Two lines of libraries, and what Python itself logs of a task that nobody has awaited.
LIBRARIES = """
import asyncio, logging
from tornado_rt.logs import configure_logging

configure_logging("INFO")
logging.getLogger("tornado.general").warning("closed by %s", "the peer")
logging.getLogger("redis").info("not from here on")

async def main():
    asyncio.create_task(fail())
    await asyncio.sleep(0)

async def fail():
    raise LookupError("lost")

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("logs")
    (folder / "kinds.py").write_text(KINDS)
    started = start_server(folder / "data", RT_KINDS=str(folder / "kinds.py"), RT_DRAIN_SECONDS="0")
    yield started
    stop_server(started)


@pytest.fixture(scope="module")
def token(server: ServerProcess) -> str:
    return run("token", "--user", "alice", RT_DATA_DIR=str(server.data_dir)).stdout.strip()


def lines(server: ServerProcess, **wanted: Any) -> list[dict[str, Any]]:
    """Return the lines of the log that have these fields."""
    written = server.log.read_text().splitlines()
    read = [json.loads(one) for one in written if one.startswith("{")]
    return [one for one in read if wanted.items() <= one.items()]


def line(server: ServerProcess, **wanted: Any) -> dict[str, Any]:
    """Return the one line that has these fields, once it is there."""
    wait_until(lambda: bool(lines(server, **wanted)), 60)
    [found] = lines(server, **wanted)
    return found


def ask(
    server: ServerProcess, path: str, token: str = "", body: Any = None, **headers: str
) -> tuple[str, Any]:
    """Return the id that the answer has, and the answer."""
    request = urllib.request.Request(
        server.url + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Accept": "application/json", "Authorization": f"Bearer {token}", **headers},
    )
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as refused:
        answer = refused
    with answer:
        return answer.headers["X-Request-Id"], json.loads(answer.read())


@pytest.mark.parametrize("given", ["a", "0123-abc_DEF.~+/=:@", "x" * 128])
def test_request_keeps_the_id_that_it_came_with(
    server: ServerProcess, token: str, given: str
) -> None:
    told, _ = ask(server, "/api/notifications", token, **{"X-Request-Id": given})
    assert told == given
    found = line(server, request_id=given)
    assert found["event"] == "request"
    assert (found["user_id"], found["address"]) == ("alice", "127.0.0.1")
    assert (found["path"], found["status"]) == ("/api/notifications", 200)
    assert found["pid"] == line(server, event="server_serves")["pid"]


@pytest.mark.parametrize("given", ["", "a b", 'a"b', "x" * 129, "{}", "\xe9"])
def test_request_gets_an_id_in_place_of_one_that_is_not_well_formed(
    server: ServerProcess, token: str, given: str
) -> None:
    told, _ = ask(server, "/api/notifications", token, **{"X-Request-Id": given})
    assert re.fullmatch("[0-9a-f]{16}", told)
    line(server, request_id=told)


def test_refused_request_has_its_id_too(server: ServerProcess) -> None:
    told, _ = ask(server, "/api/notifications", "none", **{"X-Request-Id": "refused.1"})
    assert told == "refused.1"
    assert line(server, request_id="refused.1")["user_id"] is None
    told, _ = ask(server, "/nothing", **{"X-Request-Id": "refused.2"})
    assert (told, line(server, request_id=told)["status"]) == ("refused.2", 404)


def test_task_is_named_by_its_submission_and_by_what_its_handler_logs(
    server: ServerProcess, token: str
) -> None:
    told, made = ask(server, "/api/tasks", token, {"kind": "told", "params": {}})
    assert line(server, request_id=told)["task_id"] == made["task_id"]
    spoken = line(server, event="handler_speaks", task_id=made["task_id"])
    assert (spoken["kind"], spoken["user_id"], spoken["attempt"]) == ("told", "alice", 1)
    assert "request_id" not in spoken


def test_connection_is_named_by_the_request_that_opened_it(
    server: ServerProcess, token: str
) -> None:
    protocols = [Subprotocol("rt.v1"), Subprotocol(f"auth.{token}")]
    address = f"{server.url.replace('http', 'ws')}/api/ws/notifications"
    with connect(
        address, subprotocols=protocols, additional_headers={"X-Request-Id": "socket.1"}
    ) as socket:
        assert socket.response is not None
        assert socket.response.headers["X-Request-Id"] == "socket.1"
        found = line(server, request_id="socket.1")
        assert (found["connection"], found["status"]) == ("socket.1", 101)
    request = urllib.request.Request(
        f"{server.url}/api/notifications/stream",
        headers={"Authorization": f"Bearer {token}", "X-Request-Id": "stream.1"},
    )
    with urllib.request.urlopen(request, timeout=60) as stream:
        assert stream.headers["X-Request-Id"] == "stream.1"
        found = line(server, request_id="stream.1")
        assert (found["connection"], found["status"]) == ("stream.1", 200)


def test_probes_are_not_logged(server: ServerProcess) -> None:
    for path in ("/healthz", "/readyz"):
        ask(server, path)
    urllib.request.urlopen(f"{server.url}/metrics", timeout=60).close()
    told, _ = ask(server, "/nothing")
    line(server, request_id=told)
    assert not {"/healthz", "/readyz", "/metrics"} & {one.get("path") for one in lines(server)}


def test_start_and_stop_are_lines(tmp_path: Path) -> None:
    started = start_server(tmp_path / "data", RT_DRAIN_SECONDS="0")
    assert stop_server(started) == 0
    told = [one["event"] for one in lines(started) if one["event"].startswith("server_")]
    assert told == ["server_serves", "server_stops", "server_stopped"]
    assert line(started, event="server_serves")["url"] == started.url


@pytest.mark.parametrize("command", [[], ["worker"], ["queue", "dead"]])
def test_variable_that_no_setting_has_is_warned_of_by_every_command(
    server: ServerProcess, command: list[str]
) -> None:
    """The server refuses to start then: another runs on the folder."""
    environment = {"RT_DATA_DIR": str(server.data_dir), "RT_PROT": "1", "RT_PORT": "0"}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *command],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as errors:
        told = json.loads(errors.readline())
        process.send_signal(signal.SIGTERM)
        errors.read()
    process.wait(60)
    assert told["event"] == "unknown_setting"
    assert (told["variable"], told["meant"], told["level"]) == ("RT_PROT", "RT_PORT", "warning")


def test_libraries_log_in_the_same_form() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIBRARIES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    [closed, lost] = map(json.loads, done.stderr.splitlines())
    for one in (closed, lost):
        assert one.pop("timestamp").endswith("Z")
        assert one.pop("pid") > 0
    assert closed == {
        "event": "closed by the peer",
        "level": "warning",
        "logger": "tornado.general",
    }
    assert (lost["level"], lost["logger"]) == ("error", "asyncio")
    assert lost["exception"].endswith("LookupError: lost")
