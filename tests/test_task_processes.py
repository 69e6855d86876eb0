"""Tasks in processes of their own that do anything, while the loop goes on."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from services.kinds import load_kinds
from services.queue import QueueService, TaskState
from services.worker import Target, legacy_target, load_targets
from settings import Settings
from tests.conftest import ROOT
from tests.waiting import has_job, until
from tests.working import ended, enqueue, working
from tornado_rt.work.attempts.process import await_fork_server_end

pytestmark = pytest.mark.long

MODULE = """
import json, os, signal, struct, subprocess, sys, threading, time
import attrs
from tornado_rt.work import Kind

def pipe(progress):
    return progress._connection.fileno()

def handle(task, progress):
    how = task.symbol
    progress.update_progress(f"begun {os.getpid()}.")
    if how == "STALL":
        os.write(pipe(progress), struct.pack("!I", 100) + b"half")
        time.sleep(60)
    if how == "STOP":
        os.kill(os.getpid(), signal.SIGSTOP)
    if how == "CUT":
        os.write(pipe(progress), struct.pack("!I", 100) + b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "CLOSE":
        os.close(pipe(progress))
        time.sleep(60)
    if how == "EXIT":
        os._exit(0)
    if how == "GROUP":
        os.killpg(0, signal.SIGKILL)
    if how == "STREAMS":
        for descriptor in (0, 1, 2):
            os.close(descriptor)
        sys.stdout = sys.stderr = None
        raise ValueError("on purpose")
    if how == "THREAD":
        thread = threading.Thread(target=sys.exit, args=("in a thread",))
        thread.start()
        thread.join()
        threading.Thread(target=time.sleep, args=(60,)).start()
        raise ValueError("on purpose")
    if how == "HUGE":
        os.write(pipe(progress), b"\\xff" * 100)
        time.sleep(60)
    if how == "NOISE":
        os.write(pipe(progress), struct.pack("!I", 5) + b"noise")
        time.sleep(60)
    if how in SENT:
        content = SENT[how]
        os.write(pipe(progress), struct.pack("!I", len(content)) + content)
        time.sleep(60)
    if how == "CHILD":
        os.set_inheritable(pipe(progress), True)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(5)"], close_fds=False)
        os._exit(0)
    if how in ("PARENT", "LEAVE"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        if how == "LEAVE":
            return {"child": child.pid}
        progress.update_progress(f"child {child.pid}.")
        time.sleep(60)
    if how == "LARGE":
        return {"x": "a" * 200_000}
    return {}

ENDING = b'["ending",{"outcome":"%s","result":%s,"error":"","delay":%s,"trace":""}]'
LAST = b'["ending",{"outcome":"completed","result":{},"report":%s,"last":%s}]'
FRAGMENT = {
    **dict.fromkeys(("progress", "current_step", "elapsed_time"), 0),
    **dict.fromkeys(("plan", "remaining_time", "estimated_total_time")),
    **dict.fromkeys(("marks", "message", "current_step_name"), ""),
}
REPORT = json.dumps([json.dumps(FRAGMENT)[1:-1], 0, None, None]).encode()
SENT = {
    "LIST": b"[1,2,3]",
    "NULL": b"null",
    "KIND": b'["nothing",{}]',
    "STEP": b'["step",[99,"x"]]',
    "NO-DICT": ENDING % (b"completed", b"[1]", b"null"),
    "DEEP": ENDING % (b"completed", b'{"x":' * 40 + b"1" + b"}" * 40, b"null"),
    "OUTCOME": ENDING % (b"cancelled", b"{}", b"null"),
    "DELAY": ENDING % (b"retry", b"{}", b'"soon"'),
    "SHORT": b'["report",["x"]]',
    "FIELDS": b'["report",["\\\\"progress\\\\":1",1,null,null]]',
    "BEHIND": b'["report",["\\\\"progress\\\\":1},{\\\\"x\\\\":1",1,null,null]]',
    "PLAN": b'["report",["",1,null,"[7]"]]',
    "STATE": b'["report",["",1,"[7]",null]]',
    "NAME": b'["keep",[1,"","1"]]',
    "VALUE": b'["keep",[1,"x","{"]]',
    "NOTE": b'["note",[1,null,7,{}]]',
    "END": b'["ending",{"outcome":"completed","result":{},"report":{}}]',
    "LAST": LAST % (REPORT, b'"\\\\"progress\\\\":1"'),
}

@attrs.frozen
class Params:
    symbol: str

class Progress:
    def __init__(self, run):
        self._connection, self.update_progress = run._sink._pipe.connection, run.update

kind = Kind("kind", Params, retry_errors=False)

@kind.handler
def run_kind(params, run):
    return handle(params, Progress(run))
"""
DIED = "the task's process died"
OURS = "the task's process sent what is no message of ours"
REASONS = {
    "CUT": DIED,
    "CLOSE": DIED,
    "EXIT": DIED,
    "GROUP": DIED,
    "STREAMS": "ValueError: on purpose",
    "THREAD": "ValueError: on purpose",
    "HUGE": "the task's process sent a message of 4294967295 bytes",
    "NOISE": "the task's process sent what cannot be read",
    "LIST": OURS,
    "NULL": OURS,
    "OUTCOME": OURS,
    "DELAY": OURS,
    "KIND": OURS,
    "DEEP": "the result nests deeper than 32 levels",
    "CHILD": DIED,
}
OF_HANDLERS = {
    "STEP": "StepUnknown: the plan has no step 99",
    "NO-DICT": "the result is a dict or None, not list",
}
OF_KINDS = {
    "STEP": OURS,
    "NO-DICT": None,
    "SHORT": OURS,
    "FIELDS": OURS,
    "BEHIND": OURS,
    "PLAN": OURS,
    "STATE": OURS,
    "NAME": OURS,
    "VALUE": OURS,
    "NOTE": OURS,
    "END": OURS,
    "LAST": OURS,
}


@pytest.fixture
def queue(redis: Redis) -> QueueService:
    return QueueService(redis, user_limit=0, global_limit=0)


@pytest.fixture(params=["handler", "kind"])
def kind(request: pytest.FixtureRequest) -> str:
    """The name of a kind whose target runs a handler of (task, progress), or one of its own."""
    return str(request.param)


@pytest.fixture
def targets(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Target]:
    name = "processes_" + re.sub(r"\W", "_", tmp_path.name)
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = Settings(worker_processes=True)
    if kind == "kind":
        return load_targets(load_kinds([name]), settings)
    return {kind: legacy_target(f"{name}:handle", settings)}


@contextlib.asynccontextmanager
async def never_blocked() -> AsyncIterator[None]:
    """Measure the longest time between two turns of the loop: at most a second.

    A thread measures the same, so that a machine that stands still is not taken for a loop that is
    blocked.
    """
    longest, ended = {"loop": 0.0, "thread": 0.0}, threading.Event()

    def note(name: str, last: float) -> float:
        now = time.monotonic()
        longest[name] = max(longest[name], now - last)
        return now

    async def tick() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            last = note("loop", last)

    def tick_beside() -> None:
        last = time.monotonic()
        while not ended.wait(0.01):
            last = note("thread", last)

    ticking = asyncio.create_task(tick())
    beside = asyncio.create_task(asyncio.to_thread(tick_beside))
    try:
        yield
    finally:
        ticking.cancel()
        ended.set()
        await beside
    assert longest["loop"] - longest["thread"] < 1, longest


@pytest.mark.gen_test
async def test_process_may_send_or_close_anything(
    redis: Redis, queue: QueueService, targets: dict[str, Target], kind: str
) -> None:
    """One after the other, so that none may keep the slot."""
    reasons = REASONS | (OF_KINDS if kind == "kind" else OF_HANDLERS)
    async with never_blocked(), working(redis, queue, targets, concurrency=1):
        ids = {symbol: await enqueue(queue, symbol, kind=kind) for symbol in [*reasons, "LARGE"]}
        good = await ended(queue, await enqueue(queue, "GOOD", "bob", kind=kind))
        assert good.status == TaskState.COMPLETED
        found = {symbol: await ended(queue, task_id) for symbol, task_id in ids.items()}
    large = found.pop("LARGE")
    assert large.result == {"x": "a" * 200_000}
    assert {symbol: task.error for symbol, task in found.items()} == reasons
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
@pytest.mark.parametrize("symbol", ["STALL", "STOP"])
async def test_process_that_stands_still_is_killed_with_its_task(
    redis: Redis, queue: QueueService, targets: dict[str, Target], kind: str, symbol: str
) -> None:
    async with never_blocked(), working(redis, queue, targets, concurrency=1):
        task_id = await enqueue(queue, symbol, kind=kind)
        pid = int(await until(lambda: reported(queue, task_id)))
        await queue.cancel_task(task_id)
        good = await ended(queue, await enqueue(queue, "GOOD", "bob", kind=kind))
        assert good.status == TaskState.COMPLETED
        await until(lambda: not has_job(f"task-{task_id}"))
        await until(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.gen_test
@pytest.mark.parametrize("symbol", ["PARENT", "LEAVE"])
async def test_what_a_process_has_started_ends_with_its_task(
    redis: Redis, queue: QueueService, targets: dict[str, Target], kind: str, symbol: str
) -> None:
    """When it is cancelled, and when it returns."""
    async with never_blocked(), working(redis, queue, targets, concurrency=1):
        task_id = await enqueue(queue, symbol, kind=kind)
        if symbol == "PARENT":
            pid = int(await until(lambda: reported(queue, task_id, b"child ")))
            await queue.cancel_task(task_id)
        else:
            result = (await ended(queue, task_id)).result
            assert result is not None
            pid = result["child"]
        await until(lambda: not Path(f"/proc/{pid}").exists())


async def reported(queue: QueueService, task_id: str, word: bytes = b"begun ") -> bytes:
    """Return the id of a process that a task has told behind a word; nothing before that."""
    data = (await queue.read_events("task", task_id)).snapshot.data
    return data.partition(word)[2].partition(b".")[0]


def test_next_start_waits_until_the_killed_fork_server_has_died(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It refuses connections before; its end is left to multiprocessing unless it was taken."""
    dying = subprocess.Popen(["sleep", "0.3"])
    server: Any = SimpleNamespace(_forkserver_pid=dying.pid)
    monkeypatch.setattr(forkserver, "_forkserver", server)
    await_fork_server_end()
    assert os.waitid(os.P_PID, dying.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    assert server._forkserver_pid == dying.pid
    assert dying.wait() == 0
    await_fork_server_end()
    assert server._forkserver_pid is None


def run_alone(folder: Path, module: str, script: str, **environment: str) -> str:
    """Run a script in a folder that is not ours, beside a module `alone`; return its output.

    Nothing may be written to the standard error. A `settings` of the folder is not ours.
    """
    (folder / "alone.py").write_text(module)
    (folder / "work").mkdir()
    (folder / "work" / "settings.py").write_text("raise ValueError('another settings')")
    (folder / "script.py").write_text(script)
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(ROOT)!r}]; import script"],
        cwd=folder / "work",
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


IMPORTED = """
import os

IMPORTED_IN = os.getpid()

def tell(connection):
    import signal
    from tornado_rt.work.attempts.channel import pack
    names = ("PYTHONPATH", "PYTHONSAFEPATH", "TORNADO_RT_BEFORE")
    told = {
        "imported": IMPORTED_IN != os.getpid(),
        "guarded": signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL,
        "environment": [os.environ.get(name) for name in names],
    }
    os.write(connection.fileno(), pack("told", told))
    signal.pause()
"""
STARTING = """
import asyncio, json, os
from tornado_rt.work.attempts.endings import LOST
from tornado_rt.work.attempts.process import TaskProcesses
from alone import tell

async def talk(channel):
    print(json.dumps((await channel.receive())[1]))
    return LOST

asyncio.run(TaskProcesses(["alone"], 0).run(tell, (), "one", talk))
assert "TORNADO_RT_BEFORE" not in os.environ
"""


def test_fork_server_has_imported_what_tasks_need_wherever_it_was_started(tmp_path: Path) -> None:
    """Orders for that are not told to a handler's own children."""
    told = json.loads(run_alone(tmp_path, IMPORTED, STARTING))
    assert told == {
        "imported": True,
        "guarded": True,
        "environment": [str(tmp_path), "1", None],
    }


ENDLESS = """
import asyncio

def tell(task, progress):
    while True:
        progress.update_progress("I am here")

async def tell_later(task, progress):
    while True:
        await progress.update_progress("I am here")
        await asyncio.sleep(0)
"""
LEAVING = """
from multiprocessing import get_context
from services.analysis import AnalysisTask
from services.queue import TaskState
from services.worker.legacy_child import run_handler
from tornado_rt.work.attempts.target import Rules
from settings import Settings

context = get_context("spawn")
for name in ("tell", "tell_later"):
    ours, theirs = context.Pipe()
    task = AnalysisTask("one", "alice", "AAPL", {}, None, TaskState.PROCESSING, 1, 0.0, None)
    arguments = (f"alone:{name}", Settings(), Rules(), task, [], None, theirs)
    process = context.Process(target=run_handler, args=arguments)
    process.start()
    theirs.close()
    assert ours.poll(30)
    ours.close()
    process.join(30)
    print(process.exitcode)
"""


def test_process_that_outlives_its_worker_ends_without_a_word(tmp_path: Path) -> None:
    assert run_alone(tmp_path, ENDLESS, LEAVING).split() == ["0", "0"]


@pytest.mark.gen_test
async def test_process_that_dies_while_its_worker_stops_is_handed_back(
    redis: Redis, queue: QueueService, targets: dict[str, Target], kind: str
) -> None:
    """As when a supervisor kills all: the attempt does not count."""
    async with working(redis, queue, targets, grace=20) as worker:
        task_id = await enqueue(queue, "STOP", kind=kind, max_attempts=1)
        pid = int(await until(lambda: reported(queue, task_id)))
        worker.stop()
        os.kill(pid, signal.SIGKILL)
    task = await queue.get_task(task_id)
    assert task is not None
    assert (task.status, task.attempt) == (TaskState.QUEUED, 0)


@pytest.mark.gen_test
async def test_fork_server_that_was_killed_is_started_again(
    redis: Redis, queue: QueueService, targets: dict[str, Target], kind: str
) -> None:
    server: Any = forkserver._forkserver
    async with never_blocked(), working(redis, queue, targets, concurrency=1):
        for _ in range(2):
            task = await ended(queue, await enqueue(queue, "GOOD", kind=kind))
            assert task.status == TaskState.COMPLETED
            os.kill(server._forkserver_pid, signal.SIGKILL)
