"""The commands that ask a running server, as a user runs them, and the stream that they follow."""

import asyncio
import contextlib
import itertools
import json
import os
import pty
import re
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from services.worker.loading import import_function
from settings import Settings
from tests.browsing import ask
from tests.client_forms import FaultyPeer, forward, header
from tests.conftest import ROOT, ServerProcess, Write
from tests.forks import run
from tests.receiving import answering
from tornado_rt import __version__
from tornado_rt.command.client import BadAddress, NotAnswered, Remote
from tornado_rt.command.drawing import counted, end_of, line_of
from tornado_rt.command.pace import Pace
from tornado_rt_client import verbs
from tornado_rt_client.events import Event, Finished, Progress
from tornado_rt_client.records import Snapshot

pytestmark = pytest.mark.long

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
ANALYSIS = '{"symbol": "AAPL"}'


def asked(server: ServerProcess, *arguments: str, **environment: str) -> Any:
    """Run a command that asks the server, on its data folder."""
    environment |= {"RT_DATA_DIR": str(server.data_dir), "RT_URL": server.url}
    return run(*arguments, **environment)


def answered(server: ServerProcess, path: str, *, user: str = "alice", method: str = "GET") -> Any:
    made = asked(server, "token", "--user", user)
    request = urllib.request.Request(
        server.url + path,
        headers={"Authorization": f"Bearer {made.stdout.strip()}", "Accept": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_version_is_that_of_the_package() -> None:
    shown = run("--version")
    assert (shown.returncode, shown.stdout) == (0, f"run.py {__version__}\n")


def test_submit_prints_the_id_of_a_task_with_all_that_was_given(
    server_process: ServerProcess,
) -> None:
    options = ["--label", "Apples", "--priority", "low", "--key", "k", "--tag", "a", "--tag", "b"]
    made = asked(
        server_process,
        *("submit", "analysis", ANALYSIS, *options, "--delay", "1000", "--user", "carol"),
    )
    assert (made.returncode, made.stderr) == (0, "")
    path = f"/api/tasks/{made.stdout.strip()}"
    task = answered(server_process, path, user="carol")
    assert task["status"] == "delayed"
    told = {name: task[name] for name in ("label", "priority", "key", "tags", "user_id")}
    assert told == {
        "label": "Apples",
        "priority": "low",
        "key": "k",
        "tags": ["a", "b"],
        "user_id": "carol",
    }
    answered(server_process, path, user="carol", method="DELETE")
    ended = asked(server_process, "watch", made.stdout.strip())
    # A token that is made here sees the tasks of all users.
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1].startswith("cancelled")


def test_dry_run_says_when_a_task_would_end_and_submits_none(
    server_process: ServerProcess,
) -> None:
    def count() -> int:
        return len(answered(server_process, "/api/tasks", user="dora")["items"])

    told = asked(server_process, "submit", "analysis", ANALYSIS, "--dry-run", "--user", "dora")
    assert (told.returncode, told.stderr) == (0, "")
    starts, *_, takes, ends = told.stdout.splitlines()
    assert starts.startswith("starts in 0:00 (0:00 to 0:0")
    assert re.fullmatch(r"takes \d+:\d\d \(\d+:\d\d to \d+:\d\d\)", takes)
    assert re.fullmatch(r"ends at \S+Z \(\S+Z to \S+Z\)", ends)
    assert count() == 0
    refused = asked(server_process, "submit", "analysis", ANALYSIS, "--dry-run", "--watch")
    assert refused.returncode == 2


def test_submitted_task_is_watched_to_its_end(server_process: ServerProcess) -> None:
    ended = asked(server_process, "submit", "analysis", ANALYSIS, "--watch")
    assert (ended.returncode, ended.stderr) == (0, "")
    task_id, *lines, last = ended.stdout.splitlines()
    assert answered(server_process, f"/api/tasks/{task_id}")["status"] == "completed"
    assert any("Market analyst" in line for line in lines)
    assert len(lines) > 5
    status, _, result = last.partition(": ")
    assert (status, json.loads(result)["symbol"]) == ("completed", "AAPL")
    again = asked(server_process, "watch", task_id)
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, last)


def test_failed_task_is_exit_1_with_its_error(server_process: ServerProcess) -> None:
    ended = asked(server_process, "submit", "analysis", '{"symbol": "NONE"}', "--watch")
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1].startswith("failed: unknown symbol 'NONE'")


def test_parameters_are_read_from_the_standard_input(server_process: ServerProcess) -> None:
    ended = subprocess.run(
        [
            sys.executable,
            str(ROOT / "run.py"),
            "submit",
            "analysis",
            "-",
            "--url",
            server_process.url,
        ],
        input=ANALYSIS,
        env={**os.environ, "RT_DATA_DIR": str(server_process.data_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    task = answered(server_process, f"/api/tasks/{ended.stdout.strip()}")
    assert task["params"]["symbol"] == "AAPL"


def test_notification_reaches_its_user(server_process: ServerProcess) -> None:
    arguments = ["--type", "alert", "--severity", "warning", "--link", "/orders/7"]
    sent = asked(server_process, "notify", "dora", "Limit reached", "at 7", *arguments)
    assert (sent.returncode, sent.stderr) == (0, "")
    [one] = answered(server_process, "/api/notifications", user="dora")["items"]
    fields = ("id", "title", "content", "type", "severity", "link")
    assert [one[name] for name in fields] == [
        *(sent.stdout.strip(), "Limit reached", "at 7"),
        *("alert", "warning", "/orders/7"),
    ]


def test_steps_are_drawn_live_on_a_terminal(server_process: ServerProcess) -> None:
    ours, theirs = pty.openpty()
    watching = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), "submit", "analysis", ANALYSIS, "--watch"],
        env={
            **os.environ,
            "RT_DATA_DIR": str(server_process.data_dir),
            "RT_URL": server_process.url,
            "TERM": "xterm",
            "COLUMNS": "100",
            "LINES": "40",
        },
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b"".join(iter(lambda: read_terminal(ours), b"")).decode()
    os.close(ours)
    assert watching.wait(60) == 0
    drawn = shown.split("\x1b[2K")
    assert any("✓" in part and "·" in part for part in (shown, *drawn))
    assert "Write the report" in shown
    assert "100.0%" in shown
    assert 'completed: {"symbol": "AAPL"' in shown
    # Each drawing takes the place of the one before.
    assert len(drawn) > 20


def read_terminal(descriptor: int) -> bytes:
    # A terminal whose other end is closed raises.
    with contextlib.suppress(OSError):
        return os.read(descriptor, 65536)
    return b""


def test_refusal_of_the_server_is_one_line_and_exit_1(server_process: ServerProcess) -> None:
    for arguments, told in (
        (["watch", "none"], "there is no task none, and no batch"),
        (["submit", "none"], "there is no kind none"),
        (
            ["submit", "analysis", '{"simbol": 1}'],
            "params has unknown fields: simbol; params.symbol is required",
        ),
        (["watch", "none", "--token", "bad"], "the token is not valid"),
    ):
        ended = asked(server_process, *arguments)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.startswith("run.py: the server refuses: "), ended.stderr
        assert ended.stderr.count("\n") == 1
        assert told in ended.stderr or "--token" in arguments


def test_token_of_the_environment_is_used(server_process: ServerProcess, tmp_path: Path) -> None:
    made = asked(server_process, "token", "--user", "erin")
    environment = {"RT_TOKEN": made.stdout.strip(), "RT_DATA_DIR": str(tmp_path / "none")}
    sent = run("notify", "erin", "To myself", "--url", server_process.url, **environment)
    assert (sent.returncode, sent.stderr) == (0, "")
    [one] = answered(server_process, "/api/notifications", user="erin")["items"]
    assert one["title"] == "To myself"
    refused = run("notify", "frank", "No", "--url", server_process.url, **environment)
    assert refused.returncode == 1
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["submit", "analysis", "{"], 2, "the parameters are not JSON: "),
        (["watch", "x"], 2, "there is no secret in "),
        (["watch", "x", "--url", "nowhere"], 2, "there is no secret in "),
        (["watch", "x", "--token", "t", "--url", "nowhere"], 2, "url: nowhere is no address"),
        (["watch", "x", "--token", "t", "--port", "0"], 2, "url: name the address"),
        (["watch", "x", "--token", "t", "--url", "http://127.0.0.1:1"], 1, "no server answers at "),
        (["watch"], 2, "the following arguments are required: ID"),
        (["notify", "bob"], 2, "the following arguments are required: TITLE"),
        (["submit", "--token", "ä", "k"], 2, "token: it is none"),
    ],
)
def test_command_that_cannot_ask_is_one_line(
    tmp_path: Path, arguments: list[str], status: int, told: str
) -> None:
    ended = run(*arguments, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert ended.stderr.startswith(f"run.py: {told}")
    assert ended.stderr.count("\n") == 1
    # A folder with a secret of no server would be found by the next command.
    assert not list(tmp_path.iterdir())


def test_handler_is_found_in_the_current_folder(write: Write) -> None:
    """As kinds are; an installed command has no other folder of the application."""
    write("handler_of_here.py", "async def analyse(task, progress): ...")
    assert import_function("handler_of_here:analyse", Settings()).__name__ == "analyse"


@attrs.define
class Script:
    """A server that gives its answers in turn, and closes each connection."""

    answers: list[bytes]
    places: list[str | None] = attrs.field(factory=list)
    url: str = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note where the client wants to go on, and give the next answer."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        named = dict(line.split(": ", 1) for line in head[1:] if line)
        self.places.append(named.get("Last-Event-Id"))
        writer.write(self.answers.pop(0))
        with contextlib.suppress(OSError):
            await writer.drain()
            writer.close()
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def playing(*answers: bytes) -> AsyncIterator[Script]:
    script = Script(list(answers))
    server = await asyncio.start_server(script.answer, "127.0.0.1", 0)
    async with server:
        script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield script


def event(number: int, kind: str, **data: Any) -> bytes:
    return f"id: e-{number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()


async def followed(*answers: bytes) -> tuple[list[Event], list[str | None]]:
    """Follow a task; return its events, and the places at which the requests wanted to go on."""
    async with playing(*answers) as script, asyncio.timeout(60):
        return await all_of(script.url), script.places


async def all_of(url: str) -> list[Event]:
    return [one async for one in Remote(url, lambda: "t").follow(verbs.watch_task("t"))]


def test_stream_that_is_cut_goes_on_where_it_was() -> None:
    quick = b"retry: 10\n"
    begun = HEAD + quick + event(1, "connected", heartbeat_interval=10) + event(2, "progress")
    half = event(3, "progress", progress=2)
    events, places = asyncio.run(
        followed(
            begun + half[: len(half) // 2],
            BUSY,
            HEAD + quick + half + b'event: problem\ndata: {"code": "going_away"}\n\n',
            HEAD + event(4, "finished", task_id="t", final_status="completed"),
        )
    )
    assert [(type(one), one.id) for one in events] == [
        *((Progress, "e-2"), (Progress, "e-3"), (Finished, "e-4"))
    ]
    assert places == [None, "e-2", "e-2", "e-3"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            b'HTTP/1.1 404 No\r\nContent-Length: 24\r\n\r\n{"detail": "no such one"}'[:-1] + b"}",
            "the server refuses: status 404",
        ),
        (
            b'HTTP/1.1 422 No\r\nContent-Length: 37\r\n\r\n{"detail": "d", "errors": ["a", "b"]}',
            "the server refuses: a; b",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>hi", "200 text/html instead of"),
        (BUSY, "the server refuses: status 503"),
        (b"no HTTP at all\r\n\r\n", "no server answers at"),
    ],
)
def test_first_answer_that_is_no_stream_is_told(answer: bytes, told: str) -> None:
    with pytest.raises(NotAnswered, match=told):
        asyncio.run(followed(answer))


def test_server_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tornado_rt.command.client.AWAY_SECONDS", 0.1)
    begun = HEAD + b"retry: 1\n" + event(1, "connected", heartbeat_interval=10)
    with pytest.raises(NotAnswered, match="status 503"):
        asyncio.run(followed(begun, *[BUSY] * 1000))


def test_silent_stream_is_lost() -> None:
    over, requests = asyncio.Event(), itertools.count(1)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(requests)
        writer.write(HEAD + b"retry: 1\n" + event(number, "connected", heartbeat_interval=0.05))
        if number == 2:
            writer.write(event(3, "finished", task_id="t"))
            over.set()
        # The first says no more, and stays open.
        await over.wait()

    async def follow() -> list[Event]:
        async with answering(answer) as url, asyncio.timeout(60):
            return await all_of(url)

    assert [type(one) for one in asyncio.run(follow())] == [Finished]
    assert next(requests) == 3


@pytest.mark.parametrize("command", [["submit", "analysis", ANALYSIS], ["notify", "gina", "Once"]])
def test_lost_answer_is_asked_for_again(server_process: ServerProcess, command: list[str]) -> None:
    """A task is made once: the second request has the key of the first."""
    token = asked(server_process, "token", "--user", "gina").stdout.strip()
    lost = forward(server_process.url, loses=True)
    with FaultyPeer([lost, forward(server_process.url, loses=False)]) as peer:
        made = run(*command, "--url", peer.url, "--token", token)
    assert (made.returncode, made.stderr) == (0, "")
    keys = [header(head, "Idempotency-Key") for head in peer.heads]
    assert len(keys) == 2
    assert keys[0]
    assert keys[0] == keys[1]
    path = "/api/tasks" if command[0] == "submit" else "/api/notifications"
    listed = answered(server_process, path, user="gina")["items"]
    name = "task_id" if command[0] == "submit" else "id"
    titles = [one[name] for one in listed if command[0] == "submit" or one["title"] == "Once"]
    assert titles == [made.stdout.strip()]


def test_batch_is_watched_to_its_end(server_process: ServerProcess) -> None:
    """The number of its done tasks is told; a task that failed is exit 1."""
    for symbols, status in ((["AAPL", "MSFT"], 0), (["AAPL", "NONE"], 1)):
        token = asked(server_process, "token", "--user", "alice").stdout.strip()
        made = ask(server_process, "POST", "/api/batches", token, {"symbols": symbols})
        watched = asked(server_process, "watch", made["batch_id"])
        assert (watched.returncode, watched.stderr) == (status, "")
        *lines, last = watched.stdout.splitlines()
        assert lines
        assert all(" of 2 done" in line for line in lines)
        end = "partial: 2 of 2 done, 1 failed" if status else "completed: 2 of 2 done"
        assert last == end


def test_address_must_be_one_of_the_web() -> None:
    for url in ("", "localhost:8888", "ftp://a", "http://"):
        with pytest.raises(BadAddress):
            Remote(url, lambda: "t")


def told(task: dict[str, Any]) -> Pace:
    pace = Pace()
    pace.take(Snapshot.read(task))
    return pace


def test_lines_have_no_control_characters() -> None:
    evil = "a\x1b[2Jb\nc"
    task = {"status": "processing", "progress": 1.0, "current_step_name": evil, "message": evil}
    for line in (line_of(told(task)), end_of(Finished("t", "completed", {evil: evil}))):
        assert line.isprintable()


def test_line_says_what_is_counted() -> None:
    assert counted({"done": 42, "total": 105, "unit": "frames"}) == "42 of 105 frames"
    assert counted({"done": 42}) == "42"
    waiting = {"status": "queued", "progress": 0, "position": 3, "message": "Waiting"}
    assert line_of(told(waiting)) == "queued   0.0%  position 3  Waiting"
