"""The commands, as a user runs them."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from redis import Redis

from services.queue import Ack, Outcome, QueueService
from tests.certificates import make_certificate
from tests.conftest import ROOT, SECRET, ServerProcess, program, start_server, stop_server
from tests.forks import run
from tests.ports import free_port
from tests.waiting import wait_until
from tornado_rt.redis import open_redis
from tornado_rt.stores import running_addresses

pytestmark = pytest.mark.long


def token(server: ServerProcess, user: str = "alice", *scopes: str) -> str:
    arguments = [f"--scope={scope}" for scope in scopes]
    made = run("token", "--user", user, *arguments, RT_DATA_DIR=str(server.data_dir))
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def ask(server: ServerProcess, bearer: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        server.url + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {bearer}", "Accept": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_written(server: ServerProcess) -> bool:
    """Say whether Redis has handed all it knows to the kernel."""
    with Redis.from_url(running_addresses(server.data_dir).redis_url) as redis:
        return redis.info("persistence")["aof_buffer_length"] == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start servers; whatever still runs at the end is stopped."""
    started: list[ServerProcess] = []

    def begin(**environment: str) -> ServerProcess:
        started.append(start_server(folder, RT_DRAIN_SECONDS="0", **environment))
        return started[-1]

    yield begin
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


Start = Callable[..., ServerProcess]


def stop(server: ServerProcess) -> None:
    """Stop a server: it exits with 0 and leaves no process."""
    stores = children(server.process.pid)
    assert len(stores) == 2
    assert stop_server(server) == 0
    assert not any(is_alive(pid) for pid in stores)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server without a worker that others can reach: one for all tests that leave it as it was.

    One of its settings has a name that there is not.
    """
    server = start_server(
        tmp_path_factory.mktemp("bare") / "data",
        RT_DRAIN_SECONDS="0",
        RT_WORKER_CONCURRENCY="0",
        RT_HOST="0.0.0.0",
        RT_PROT="1",
    )
    yield server
    stop(server)


@pytest.mark.parametrize(
    "url",
    [{"RT_MONGODB_URL": "mongodb://127.0.0.1:9/"}, {"RT_REDIS_URL": "redis://127.0.0.1:9/"}],
)
def test_store_that_is_not_there_is_one_line_and_exit_1(folder: Path, url: dict[str, str]) -> None:
    failed = run(RT_DATA_DIR=str(folder), RT_PORT="0", **url)
    assert failed.returncode == 1
    lines = [line for line in failed.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    assert "a store does not answer" in lines[0]


def test_token_has_its_scopes_and_life() -> None:

    made = run(
        "token", "--user", "u", "--scope", "a", "--scope", "b", "--ttl", "60", RT_JWT_SECRET=SECRET
    )
    claims = jwt.decode(made.stdout.strip(), SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["scope"]) == ("u", "a b")
    assert 50 < claims["exp"] - time.time() <= 60


def test_server_says_where_to_look_and_its_curl_line_works(server_process: ServerProcess) -> None:
    """The printed commands, typed in as they are, show the task to its end."""
    printed = server_process.log.read_text()
    assert f"{server_process.url}/" in printed
    begin = printed.index("TOKEN=")
    lines = printed[begin:].splitlines()[:2]
    shown = subprocess.run(
        ["bash", "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60, check=True
    )
    assert "event: finished" in shown.stdout
    assert '"final_status":"completed"' in shown.stdout


def test_no_token_is_printed_unless_the_demo_login_is_asked_for(
    start: Start, bare: ServerProcess
) -> None:
    assert "eyJ" not in bare.log.read_text()
    asked = start(RT_DEMO_LOGIN="true", RT_JWT_SECRET=SECRET)
    printed = asked.log.read_text()
    assert "The demo login is off: a secret or key is configured" in printed
    assert "eyJ" not in printed
    stop(asked)


def test_make_run_asks_for_the_demo_login() -> None:
    made = subprocess.run(
        [program("make"), "-n", "run"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "RT_DEMO_LOGIN=${RT_DEMO_LOGIN:-true} .venv/bin/python run.py" in made.stdout


def test_own_secret_beyond_this_machine_is_warned_of(bare: ServerProcess) -> None:
    logged = bare.log.read_text()
    assert "own_secret_beyond_this_machine" in logged
    assert '"variable": "RT_PROT", "meant": "RT_PORT"' in logged


def test_key_of_tls_with_a_password_is_refused(folder: Path, tmp_path: Path) -> None:
    """Rather than to ask for it."""
    whole = make_certificate(tmp_path).path.read_bytes()
    private = serialization.load_pem_private_key(whole, None)
    key = tmp_path / "key.pem"
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    files = {"RT_TLS_CERTIFICATE": str(tmp_path / "certificate.pem"), "RT_TLS_KEY": str(key)}
    failed = run(RT_DATA_DIR=str(folder), RT_PORT="0", **files)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith("run.py: tls_key: the key is encrypted")


def test_data_folder_with_an_unreadable_secret_is_one_line(folder: Path) -> None:
    folder.mkdir()
    for content in (b"", b"abc", b"\xff" * 40):
        (folder / "jwt_secret").write_bytes(content)
        for command in ([], ["token", "--user", "a"]):
            failed = run(*command, RT_DATA_DIR=str(folder), RT_PORT="0")
            assert (failed.returncode, failed.stdout) == (2, "")
            assert failed.stderr.count("\n") == 1
            assert str(folder / "jwt_secret") in failed.stderr


def test_everything_survives_sigkill(start: Start) -> None:
    """The stores die with the server, and the next one finds all that was acknowledged."""
    server = start(RT_WORKER_CONCURRENCY="0")
    alice = token(server)
    task = ask(server, alice, "/api/tasks", {"symbol": "AAPL"})["task_id"]
    draft = {"user_id": "alice", "type": "alert", "title": "kept"}
    ask(server, alice, "/api/notifications", draft)
    stores = children(server.process.pid)
    assert len(stores) == 2
    wait_until(lambda: is_written(server))
    server.process.kill()
    server.process.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in stores))
    again = start()
    wait_until(lambda: ask(again, alice, f"/api/tasks/{task}")["status"] == "completed")
    wait_until(lambda: len(ask(again, alice, "/api/notifications")["items"]) == 2)
    titles = [item["title"] for item in ask(again, alice, "/api/notifications")["items"]]
    assert titles == ["AAPL: analysis completed", "kept"]
    stop(again)


def test_second_server_on_the_same_folder_is_refused(bare: ServerProcess) -> None:
    second = run(RT_DATA_DIR=str(bare.data_dir), RT_PORT="0")
    assert second.returncode == 1
    assert "another server runs on the data folder" in second.stderr


def test_store_that_dies_is_started_again(start: Start) -> None:
    server = start()
    alice = token(server)
    for pid in children(server.process.pid):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(children(server.process.pid)) == 2)

    def answers(path: str, field: str, body: dict[str, Any] | None = None) -> bool:
        try:
            return bool(ask(server, alice, path, body)[field])
        except OSError:
            return False

    # Redis, then MongoDB: which of them is back first is not said.
    wait_until(lambda: answers("/api/tasks", "task_id", {"symbol": "IBM"}))
    wait_until(lambda: answers("/api/notifications", "items"))
    stop(server)


def test_worker_process_runs_the_tasks_of_a_server(bare: ServerProcess) -> None:
    """On the running server's stores; it stops with what it was doing handed back.

    Its settings are not the server's: the limits over all kinds stay.
    """
    alice, admin = token(bare), token(bare, "root", "rt:admin")
    limits = ask(bare, admin, "/api/queue/limits")["limits"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("RT_")}
    command = [sys.executable, str(ROOT / "run.py"), "worker"]
    command += ["--handler", "examples.stock_analysis:analyse", "--concurrency", "2"]
    worker = subprocess.Popen(
        command,
        env=env
        | {
            "RT_DATA_DIR": str(bare.data_dir),
            "RT_STEP_SECONDS": "0",
            "RT_QUEUE_GLOBAL_LIMIT": str(limits["global_limit"] + 7),
        },
    )
    try:
        task = ask(bare, alice, "/api/tasks", {"symbol": "AAPL"})["task_id"]
        wait_until(lambda: ask(bare, alice, f"/api/tasks/{task}")["status"] == "completed")
        assert ask(bare, admin, "/api/queue/limits")["limits"] == limits
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0


def test_queue_is_seen_to_from_the_command_line(bare: ServerProcess) -> None:
    """Dead tasks are shown, revived and discarded on the running server."""
    alice, data = token(bare), {"RT_DATA_DIR": str(bare.data_dir)}
    ids = [ask(bare, alice, "/api/tasks", {"symbol": "AAPL"})["task_id"] for _ in range(2)]
    die_all(bare)
    shown = run("queue", "dead", **data)
    assert {json.loads(line)["task_id"] for line in shown.stdout.splitlines()} == set(ids)
    first = run("queue", "dead", "--kind", "analysis", "--user", "alice", "--limit", "1", **data)
    assert (first.returncode, first.stdout) == (0, shown.stdout.splitlines(keepends=True)[0])
    assert first.stderr == "run.py: there are more dead tasks than the 1 shown: see --limit\n"
    other = run("queue", "dead", "--user", "bob", **data)
    assert (other.returncode, other.stdout, other.stderr) == (0, "", "")
    revived = run("queue", "retry", ids[0], **data)
    assert (revived.returncode, revived.stdout) == (0, "1 task run again\n")
    discarded = run("queue", "discard", "none", ids[1], "other", **data)
    assert (discarded.returncode, discarded.stdout) == (1, "1 task discarded\n")
    missing = "run.py: there is no task none\nrun.py: there is no task other\n"
    assert discarded.stderr == missing
    assert run("queue", "dead", **data).stdout == ""
    again = run("queue", "retry", ids[1], ids[0], **data)
    assert (again.returncode, again.stdout) == (1, "0 tasks run again\n")
    waiting = f"run.py: task {ids[0]} is queued: only what failed can be run again\n"
    assert again.stderr == f"run.py: there is no task {ids[1]}\n{waiting}"
    assert run("queue", "check", **data).stdout == "every task is in its place\n"


def die_all(server: ServerProcess) -> None:
    """Let every task use up its attempts."""

    async def use_up() -> None:
        async with open_redis(running_addresses(server.data_dir).redis_url) as redis:
            queue = QueueService(redis)
            while claims := (await queue.claim("w", 10, kinds=["analysis"])).claims:
                for claim in claims:
                    again = Ack(claim.task.task_id, claim.token, Outcome.RETRY, error="x")
                    await queue.end_attempt(again)

    asyncio.run(use_up())


def test_worker_without_a_server_says_what_to_do(folder: Path) -> None:
    failed = run("worker", RT_DATA_DIR=str(folder))
    assert failed.returncode == 1
    assert "no server runs on the data folder" in failed.stderr


OWN_KINDS = ROOT / "tests" / "fixtures" / "own_kinds.py"


@pytest.fixture
def kinds(tmp_path: Path) -> Path:
    """A module of kinds in a folder of its own."""
    folder = tmp_path / "mine"
    folder.mkdir()
    return Path(shutil.copy(OWN_KINDS, folder / "mywork.py"))


def test_check_says_what_a_module_has(kinds: Path) -> None:
    """By its name from its folder, and by its path from anywhere."""
    here = run("check", "mywork", cwd=kinds.parent)
    assert (here.returncode, here.stdout) == (0, "mywork: 3 kinds, nothing wrong\n"), here.stderr
    there = run("check", str(kinds))
    assert (there.returncode, there.stdout) == (0, f"{kinds}: 3 kinds, nothing wrong\n")


def test_check_loads_modules_together_as_a_start_does(kinds: Path, folder: Path) -> None:
    """Also those that are written with a comma; what is wrong between two is told once."""
    for name in ("one", "two"):
        (kinds.parent / f"{name}.py").write_text(kinds.read_text())
    fault = "both one and two have a kind 'report'"
    for names in (["one", "two"], ["one,two"]):
        failed = run("check", *names, "mywork.py", cwd=kinds.parent)
        assert failed.returncode == 1
        assert failed.stdout.splitlines().count(fault) == 1
        assert "nothing wrong" not in failed.stdout
    refused = run("worker", "--kinds", "one,two", cwd=kinds.parent, RT_DATA_DIR=str(folder))
    assert refused.returncode == 2
    assert fault in refused.stderr
    alone = run("check", "one, ,", "nothing", cwd=kinds.parent)
    told = "there is no module 'nothing'\none: 3 kinds, nothing wrong\n"
    assert (alone.returncode, alone.stdout) == (1, told)


def test_check_calls_configure_as_a_start_does(kinds: Path) -> None:
    kinds.write_text(
        "from tests.fixtures import own_kinds\n"
        "def configure(settings):\n    globals()['kind'] = own_kinds.transcode\n"
    )
    made = run("check", "mywork", cwd=kinds.parent)
    assert (made.returncode, made.stdout) == (0, "mywork: 1 kind, nothing wrong\n")
    kinds.write_text("def configure():\n    pass\n")
    failed = run("check", "mywork", cwd=kinds.parent)
    assert failed.returncode == 1
    assert failed.stdout.startswith("configure() of mywork failed: TypeError: configure() takes 0")


def test_check_of_no_module_is_one_line_and_exit_2() -> None:
    failed = run("check", "")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == "run.py: check: name a module\n"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("import nothing_of_this_name", "nothing_of_this_name"),
        ("def (", "line 1"),
        ("x = 1", "no kind"),
        (
            "from tornado_rt.work import Kind\nimport attrs\n"
            "@attrs.frozen\nclass P: pass\nk = Kind('k', P)",
            "no handler",
        ),
        ("from tornado_rt.work import Kind\nk = Kind('Not A Name', int)", "not 'Not A Name'"),
        ("raise SystemExit(0)", "SystemExit"),
    ],
)
def test_check_says_what_is_wrong_with_a_module(kinds: Path, written: str, told: str) -> None:
    kinds.write_text(written)
    failed = run("check", "mywork", cwd=kinds.parent)
    assert failed.returncode == 1
    assert told in failed.stdout
    assert "Traceback" not in failed.stdout + failed.stderr


def test_module_of_kinds_that_is_not_there_is_one_line_and_exit_2(folder: Path) -> None:
    for command in ([], ["worker"]):
        failed = run(*command, "--kinds", "no.such.module", RT_DATA_DIR=str(folder))
        lines = [line for line in failed.stderr.splitlines() if not line.startswith("{")]
        assert (failed.returncode, len(lines)) == (2, 1)
        assert "no.such.module" in lines[0]


def test_worker_of_own_kinds_is_watched_on_a_port_of_its_own(
    start: Start, folder: Path, kinds: Path
) -> None:
    """The server has not the module: it knows the kinds by Redis, and never takes their tasks."""
    server = start()
    alice, port = token(server), free_port()
    body = {"kind": "report", "params": {"name": "daily"}}
    env = {name: value for name, value in os.environ.items() if not name.startswith("RT_")}
    command = [sys.executable, str(ROOT / "run.py"), "worker", "--kinds", "mywork"]
    command += ["--worker-port", str(port), "--handler", ""]
    env["RT_DATA_DIR"], log = str(folder), kinds.with_suffix(".log")
    with log.open("wb") as output:
        worker = subprocess.Popen(command, cwd=kinds.parent, env=env, stderr=output)
    try:
        wait_until(lambda: "report" in served_kinds(server, alice))
        task = ask(server, alice, "/api/tasks", body)["task_id"]
        wait_until(lambda: ask(server, alice, f"/api/tasks/{task}")["status"] == "completed")
        url = f"http://127.0.0.1:{port}"
        assert json.loads(fetch(url + "/healthz")) == {"status": "ok"}
        assert json.loads(fetch(url + "/readyz")) == {"status": "ready"}
        wait_until(lambda: b'rt_tasks_total{kind="report"' in fetch(url + "/metrics"))
        assert metrics_at(url) == metrics_at(server.url)
        # The gauges of the queue are the same in both.
        assert b'\nrt_queue_depth{kind="report"} 0.0' in fetch(url + "/metrics")
        assert b"\nrt_outbox_lag_seconds " in fetch(url + "/metrics")
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
    task = ask(server, alice, "/api/tasks", body)["task_id"]
    wait_until(lambda: waits_for(server, alice, task) == "worker")
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    [said] = [line for line in logged if line["event"] == "worker_serves"]
    assert said["kinds"] == ["plain", "report", "video.transcode"]
    stop(server)


DEPLOYED = """
import attrs
from tornado_rt.work import Kind, Run, Schedule

@attrs.frozen
class Params:
    {field}: str

deployed = Kind("dep.k", Params, limit={limit}, schedules=[{schedule}])

@deployed.handler
async def run(params: Params, run: Run) -> str:
    return params.{field}
"""
WRONG_SCHEDULE = 'Schedule(name="often", every=60, params={"no": "such"})'


@pytest.fixture
def deployed(bare: ServerProcess, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A kind that a worker of a running server runs: its entry in `/api/kinds`."""
    module = tmp_path / "v1.py"
    module.write_text(DEPLOYED.format(field="old", limit=3, schedule=""))
    env = {name: value for name, value in os.environ.items() if not name.startswith("RT_")}
    command = [sys.executable, str(ROOT / "run.py"), "worker", "--kinds", str(module)]
    worker = subprocess.Popen(
        [*command, "--handler", ""], env=env | {"RT_DATA_DIR": str(bare.data_dir)}
    )
    try:
        wait_until(lambda: "dep.k" in served_kinds(bare, token(bare)))
        yield shown_kind(bare)
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0


def shown_kind(server: ServerProcess) -> dict[str, Any]:
    """Return what is known of the deployed kind."""
    items = ask(server, token(server), "/api/kinds")["items"]
    [found] = [one for one in items if one["kind"] == "dep.k"]
    told = ("version", "params_schema", "limits", "workers")
    return {name: found[name] for name in told}


def test_start_that_is_refused_leaves_the_kinds_that_run(
    bare: ServerProcess, deployed: dict[str, Any], tmp_path: Path
) -> None:
    """This holds for every reason, for a worker, a server, and several processes of one."""
    wrong, right = tmp_path / "wrong.py", tmp_path / "right.py"
    wrong.write_text(DEPLOYED.format(field="new", limit=7, schedule=WRONG_SCHEDULE))
    right.write_text(DEPLOYED.format(field="new", limit=7, schedule=""))
    stores, port = running_addresses(bare.data_dir), bare.url.rpartition(":")[2]
    shared = {
        "RT_DATA_DIR": str(tmp_path / "second"),
        "RT_REDIS_URL": stores.redis_url,
        "RT_MONGODB_URL": stores.mongodb_url,
    }
    as_worker = ["worker", "--handler", "", "--kinds"]
    taken = {"RT_PORT": port, "RT_WORKER_PORT": port}
    free = {"RT_PORT": "0", "RT_WORKER_PORT": str(free_port())}
    no_tls = free | {"RT_TLS_CERTIFICATE": "/nothing.pem"}
    short = free | {"RT_JWT_SECRET": "short"}
    schedule = "schedule 'often': params.new is required"
    for arguments, module, environment, status, told in (
        (as_worker, wrong, free, 2, schedule),
        (as_worker, right, taken, 2, f"worker_port: {port} at "),
        (as_worker, right, no_tls, 2, "tls_certificate"),
        (["--kinds"], wrong, free, 2, schedule),
        (["--kinds"], right, taken, 2, f"port: {port} at "),
        (["--kinds"], right, no_tls, 2, "tls_certificate"),
        (["--kinds"], right, short, 2, "jwt_secret"),
        (["--processes", "2", "--kinds"], wrong, free, 2, schedule),
        (["--processes", "2", "--kinds"], right, taken, 2, f"port: {port} at "),
    ):
        refused = run(*arguments, str(module), **shared, **environment)
        assert (refused.returncode, told in refused.stderr) == (status, True), refused.stderr
        assert shown_kind(bare) == deployed, arguments
    alice = token(bare)
    task = ask(bare, alice, "/api/tasks", {"kind": "dep.k", "params": {"old": "x"}})["task_id"]
    wait_until(lambda: ask(bare, alice, f"/api/tasks/{task}")["status"] == "completed")


def metrics_at(url: str) -> list[bytes]:
    """Return the name and type of each metric that a process serves."""
    # The library adds a gauge to each counter that has a value.
    found = re.findall(rb"^# TYPE (\w+)(?<!_created) (\w+)$", fetch(url + "/metrics"), re.MULTILINE)
    return sorted(b" ".join(one) for one in found)


def served_kinds(server: ServerProcess, bearer: str) -> list[str]:
    """Return the kinds that a worker runs now."""
    items = ask(server, bearer, "/api/kinds")["items"]
    return [one["kind"] for one in items if one["workers"]]


def waits_for(server: ServerProcess, bearer: str, task_id: str) -> str:
    task = ask(server, bearer, f"/api/tasks/{task_id}")
    return str((task["waiting_for"] or {}).get("code", ""))


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        content: bytes = answer.read()
    return content


def test_queue_is_operated_from_the_command_line(start: Start, folder: Path, kinds: Path) -> None:
    """Pause, purge, limits and what failed, on the running server."""
    server = start(RT_WORKER_CONCURRENCY="0", RT_KINDS=str(kinds))
    alice, data = token(server), {"RT_DATA_DIR": str(folder)}

    def queue(*arguments: str) -> str:
        done = run("queue", *arguments, **data)
        assert done.returncode == 0, done.stderr
        return done.stdout

    body = {"kind": "report", "params": {"name": "daily"}}
    task = ask(server, alice, "/api/tasks", body)["task_id"]
    assert queue("drain", "report") == "0 tasks still running\n"
    assert waits_for(server, alice, task) == "paused"
    assert queue("resume", "report") == ""
    wait_until(lambda: waits_for(server, alice, task) == "worker")
    assert queue("pause") == "0 tasks still running\n"
    assert waits_for(server, alice, task) == "paused"
    queue("resume")
    shown = json.loads(queue("limits", "report", "limit=2", "rate=10/m"))
    assert shown["changed"] == {"limit": 2, "rate": "10/m"}
    assert json.loads(queue("limits", "--drop", "report"))["changed"] == {}
    assert json.loads(queue("limits"))["limits"]["global_limit"] == 3
    other = ask(server, alice, "/api/tasks", body | {"tags": ["drop"]})["task_id"]
    assert queue("purge", "--status", "queued", "--tag", "drop") == "1 task purged\n"
    assert ask(server, alice, f"/api/tasks/{other}")["status"] == "cancelled"
    assert ask(server, alice, f"/api/tasks/{task}")["status"] == "queued"
    everybodys = ("report", "--user", "*")
    assert queue("purge", "--status", "queued", *everybodys) == "1 task purged\n"
    again = queue("retry", "--status", "failed", "--user", "alice")
    assert again == "0 tasks run again\n"
    assert queue("--log-level", "ERROR", "retry", task) == "1 task run again\n"
    assert ask(server, alice, f"/api/tasks/{task}")["status"] == "queued"
    stop(server)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["purge"], "say which tasks: --status"),
        (["purge", "--status", "gone"], "--status"),
        (["purge", "--status", "processing"], "cancel them"),
        (["retry"], "name tasks, or say which"),
        (["retry", "--status", "queued"], "must be one of failed, dead"),
        ([], "name an action: dead, workers, check, retry, discard"),
        (["pause", "one", "two"], "name one kind"),
        (["pause", "one", "--kind", "two"], "name one kind"),
        (["pause", "--user", "bob"], "queue pause does not take --user"),
        (["pause", "--kind", ""], "--kind: must not be empty"),
        (["pause", ""], "must not be empty"),
        (["check", "foo", "bar"], "queue check takes no name: foo"),
        (["dead", "--status", "failed"], "queue dead does not take --status"),
        (["discard"], "name tasks"),
        (["discard", "--status", "dead", "--kind", "one"], "queue discard does not take --status"),
        (["retry", "a", "--kind", "one", "--user", "bob"], "name tasks, or say which by options"),
        (["retry", "a", "--limit", "1"], "name tasks, or say which by options"),
        (["dead", "--tag", "drop"], "queue dead does not take --tag"),
        (["limits", "analysis", "limit=1", "--drop"], "change limits, or drop their changes"),
        (["limits", "analysis", "limit=many"], "limit must be an integer"),
        (["limits", "analysis", "nope=1"], "there is no limit nope"),
    ],
)
def test_queue_command_that_is_not_whole_is_one_line_and_exit_2(
    server_process: ServerProcess, arguments: list[str], told: str
) -> None:
    failed = run("queue", *arguments, RT_DATA_DIR=str(server_process.data_dir))
    assert (failed.returncode, failed.stdout, failed.stderr.count("\n")) == (2, "", 1)
    assert told in failed.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["pause"],
        ["purge", "--status", "failed"],
        ["limits"],
        ["retry", "--kind"],
        ["retry", "--status", "dead", "--kind"],
        ["dead", "--kind"],
    ],
)
def test_kind_that_there_is_not_is_one_line_and_exit_1(
    server_process: ServerProcess, arguments: list[str]
) -> None:
    failed = run("queue", *arguments, "typo", RT_DATA_DIR=str(server_process.data_dir))
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "run.py: there is no kind typo\n"


def test_queue_that_there_is_not_is_said_and_not_made(bare: ServerProcess, tmp_path: Path) -> None:
    """Neither its keys nor a data folder."""
    url = running_addresses(bare.data_dir).redis_url
    for arguments in (["pause"], ["dead"], ["limits", "global_limit=1"]):
        failed = run("queue", *arguments, RT_REDIS_URL=url, RT_QUEUE_NAME="typo")
        assert (failed.returncode, failed.stdout, failed.stderr.count("\n")) == (1, "", 1)
        assert "run.py: there is no queue typo in this Redis" in failed.stderr
    with Redis.from_url(url) as redis:
        assert list(redis.scan_iter(match="{typo}*")) == []
    failed = run("queue", "dead", RT_DATA_DIR=str(tmp_path / "typo"))
    assert failed.returncode == 1
    assert "no server runs on the data folder" in failed.stderr
    assert list(tmp_path.iterdir()) == []
