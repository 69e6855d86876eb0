"""The worker of the Python client on a real server, over both transports."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.client_forms import SECONDS
from tests.conftest import SECRET, ServerProcess, start_server, stop_server
from tests.elsewhere import KINDS, Place, status_of, worker_program, working
from tests.waiting import wait_until
from tornado_rt.work import Kind
from tornado_rt_client import (
    Client,
    Finished,
    Forbidden,
    Invalid,
    Mint,
    Progress,
    TaskCancelled,
    TaskFailed,
    Unauthorized,
    Worker,
)
from tornado_rt_client.worker.parts import KindError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that has no kinds of its own but the analysis."""
    server = start_server(
        tmp_path_factory.mktemp("elsewhere") / "data",
        RT_JWT_SECRET=SECRET,
        RT_DRAIN_SECONDS="0",
        RT_QUEUE_USER_LIMIT="0",
        RT_QUEUE_GLOBAL_LIMIT="0",
        RT_REQUESTS_PER_SECOND="0",
        RT_REMOTE_RETURN_SECONDS="1",
    )
    yield server
    stop_server(server)


@pytest.fixture(params=["websocket", "http"])
def transport(request: pytest.FixtureRequest) -> str:
    """The worker's transport."""
    return str(request.param)


@pytest.fixture
def client(server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of a user that no other test has."""
    with Client(server.url, secret=SECRET, user=request.node.name) as client:
        yield client


@pytest.fixture
def worker(server: ServerProcess, transport: str) -> Iterator[Worker]:
    """A worker of the test kinds."""
    with working(server.url, transport=transport) as worker:
        yield worker


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A folder with a gate, which is opened at the end."""
    place = Place(tmp_path)
    yield place
    place.open()


def result(client: Client, kind: str, params: Any, **more: Any) -> Any:
    return client.submit(kind, params, **more).result(timeout=SECONDS)


@pytest.mark.usefixtures("worker")
def test_results_come_as_they_were_returned(client: Client) -> None:
    """All values of JSON, and null."""
    for value in (None, 0, "text", [1, {"a": 2.5}], {"deep": [[]]}, False):
        assert result(client, "away.echo", {"value": value}) == value


@pytest.mark.usefixtures("worker")
def test_progress_is_seen_as_of_a_worker_inside(client: Client) -> None:
    """Its steps, counts and label; a plain function runs in a thread."""
    task = client.submit("away.steps", {"value": "four"})
    *events, end = task.watch(timeout=SECONDS)
    assert isinstance(end, Finished)
    # Not in the main thread.
    assert (end.task_id, end.status, end.result) == (task.id, "completed", False)
    shown = [one.snapshot for one in events if isinstance(one, Progress)]
    assert {one.label for one in shown} == {"of four"}
    told = [one.progress for one in shown]
    assert told == sorted(told)
    assert (shown[-1].message, shown[-1].progress) == ("Done", 100)
    assert "second" in {one.current_step_name for one in shown}
    assert {"1 of 4 pieces", "4 of 4 pieces"} & {one.message for one in shown}
    kept = client.request("GET", f"/api/tasks/{task.id}")
    assert [(one["name"], one["status"]) for one in kept["steps"]] == [
        ("first", "completed"),
        ("second", "completed"),
    ]


@pytest.mark.usefixtures("worker")
def test_steps_may_be_found_on_the_way(client: Client) -> None:
    """The server is told the new plan."""
    task = client.submit("away.grown", {})
    assert task.result(timeout=SECONDS) == "found"
    kept = client.request("GET", f"/api/tasks/{task.id}")
    assert [one["name"] for one in kept["steps"]] == ["seek", "find", "dig"]


@pytest.mark.usefixtures("worker")
def test_once_results_and_state_reach_the_next_attempt(client: Client, place: Place) -> None:
    """The function is called once, whatever number of attempts."""
    assert result(client, "away.once", place.params) == {
        "made": 1,
        "state": {"attempts": 2},
        "attempt": 2,
    }
    assert place.count("made") == 1


@pytest.mark.usefixtures("worker")
def test_user_is_told_and_asked(client: Client, place: Place) -> None:
    """The answer reaches the handler at once."""
    task = client.submit("away.asks", place.params)

    def question() -> Any:
        return next((one for one in client.inbox() if one.title == "Which word?"), None)

    asked = wait_until(question, what="the user is asked")
    assert "Something to decide" in [one.title for one in client.inbox()]
    assert status_of(client, task.id) == "processing"
    client.inbox().answer(asked.id, "no")
    assert task.result(timeout=5) == "no"


@pytest.mark.usefixtures("worker")
def test_failures_are_told_as_inside(client: Client, place: Place) -> None:
    """By the text of a TaskError, the type of another error, and the timeout of the kind."""
    with pytest.raises(TaskFailed, match="it was not meant to be"):
        result(client, "away.fails", {})
    with pytest.raises(TaskFailed, match="ValueError: a mistake"):
        result(client, "away.breaks", {})
    with pytest.raises(TaskFailed, match=r"took longer than 0\.2 s"):
        result(client, "away.late", place.params)
    place.await_count("stopped", 1)


@pytest.mark.usefixtures("worker")
def test_budget_of_all_attempts_ends_a_task(client: Client, place: Place) -> None:
    task = client.submit("away.gated", place.params, budget_seconds=0.3)
    with pytest.raises(TaskFailed, match=r"took longer than 0\.3 s in all attempts"):
        task.result(timeout=SECONDS)


@pytest.mark.parametrize("kind", ["away.gated", "away.threaded", "away.silent"])
@pytest.mark.usefixtures("worker")
def test_cancellation_reaches_the_handler(client: Client, place: Place, kind: str) -> None:
    """On the loop and in a thread; also one that reports nothing."""
    task = client.submit(kind, place.params)
    place.await_count("begun", 1)
    task.cancel()
    place.await_count("stopped", 1)
    with pytest.raises(TaskCancelled):
        task.result(timeout=SECONDS)
    # Its slot is free.
    assert result(client, "away.echo", {"value": 1}) == 1


@pytest.mark.usefixtures("worker")
def test_parameters_are_checked_by_the_schema_that_was_told(client: Client) -> None:
    with pytest.raises(Invalid, match=r"params\.folder"):
        client.submit("away.gated", {})
    assert {"away.echo", "away.gated"} <= {one.kind for one in client.kinds()}


def test_slots_are_never_exceeded(
    server: ServerProcess, client: Client, tmp_path: Path, transport: str
) -> None:
    """Six tasks for two slots: the others wait for an end."""
    places = []
    for number in range(6):
        (tmp_path / str(number)).mkdir()
        places.append(Place(tmp_path / str(number)))
    with working(server.url, transport=transport, concurrency=2):
        tasks = [client.submit("away.gated", place.params) for place in places]
        for ended in range(6):
            expected = min(ended + 2, 6)
            wait_until(lambda: sum(one.count("begun") for one in places), equal=expected)
            running = [one for one in places if one.count("begun") and one.gate.exists()]
            assert len(running) <= 2
            running[0].open()
        assert all(task.result(timeout=SECONDS)["attempt"] == 1 for task in tasks)


def test_stop_lets_tasks_end_and_hands_back_the_rest(
    server: ServerProcess, client: Client, tmp_path: Path, transport: str
) -> None:
    """One that gives in ends as completed; another worker goes on with the other."""
    for name in ("stays", "yields"):
        (tmp_path / name).mkdir()
    stays, yields = Place(tmp_path / "stays"), Place(tmp_path / "yields")
    (yields.folder / "gives-in").touch()
    with working(server.url, transport=transport):
        tasks = [client.submit("away.gated", one.params) for one in (stays, yields)]
        stays.await_count("begun", 1)
        yields.await_count("begun", 1)
    assert tasks[1].result(timeout=1)["attempt"] == 1
    stays.await_count("stopped", 1)
    assert status_of(client, tasks[0].id) == "queued"
    stays.open()
    with working(server.url, transport=transport):
        # A task that was handed back has lost no attempt.
        assert tasks[0].result(timeout=SECONDS)["attempt"] == 1
    assert stays.count("begun") == 2


def test_tasks_may_have_processes_of_their_own(server: ServerProcess, client: Client) -> None:
    """Each in another one, with the same reports."""
    with working(server.url, processes=True):
        pids = {result(client, "away.where", {}) for _ in range(2)}
        assert len(pids) == 2
        assert os.getpid() not in pids
        *events, end = client.submit("away.steps", {"value": "four"}).watch(timeout=SECONDS)
        assert (end.status, end.result) == ("completed", True)
        shown = [one.snapshot for one in events if isinstance(one, Progress)]
        assert [one for one in shown if 0 < one.progress < 100], shown


def test_kind_of_the_program_itself_can_be_given(server: ServerProcess, client: Client) -> None:
    """As an object; its processes could not import it."""

    @attrs.frozen
    class Nothing:
        pass

    own = Kind("away.own", Nothing)

    @own.handler
    async def run(_: Any, __: Any) -> str:
        return "own"

    with working(server.url, own):
        assert result(client, "away.own", {}) == "own"
    run.__module__ = "__main__"
    with pytest.raises(KindError, match="stands in the program itself"):
        Worker(server.url, [own], secret=SECRET, processes=True)


@pytest.mark.parametrize(
    ("kinds", "why"),
    [
        ([], "a worker needs a kind"),
        (["no.such.module"], "there is no module 'no.such.module'"),
        (["nothing.py"], "there is no Python file nothing.py"),
        ([3], "3 is no Kind"),
        ([Kind("idle", attrs.make_class("P", []))], "kind 'idle' has no handler"),
    ],
)
def test_kinds_that_cannot_be_used_are_told(kinds: list[Any], why: str) -> None:
    with pytest.raises(KindError, match=why):
        Worker("http://localhost", kinds, secret=SECRET)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"concurrency": 0}, "concurrency is from 1 to 1000"),
        ({"grace_seconds": -1}, "0 or more"),
        ({"worker_id": "a b"}, "a worker_id has"),
        ({"transport": "pigeon"}, "pigeon"),
        ({"secret": None}, "either a token, or a secret"),
    ],
)
def test_wrong_arguments_are_told(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Worker("http://localhost", [KINDS], **{"secret": SECRET, **wrong})
    with pytest.raises(ValueError, match="must begin with http"):
        Worker("localhost", [KINDS], secret=SECRET)


def test_refused_worker_says_why_and_ends(server: ServerProcess, transport: str) -> None:
    """Nobody waits for a worker that can never work."""
    for token, error in (("a.b.c", Unauthorized), (Mint(SECRET, "u"), Forbidden)):
        with (
            pytest.raises(error),
            working(server.url, token=token, secret=None, transport=transport) as worker,
        ):
            wait_until(lambda: worker.is_over, what="the worker has ended")


def test_command_ends_by_a_signal_and_tells_what_is_wrong(
    server: ServerProcess, client: Client
) -> None:
    """0 after SIGTERM, 1 when it is refused, 2 for wrong arguments."""
    with worker_program(server.url) as process:
        assert result(client, "away.echo", {"value": 1}) == 1
        process.terminate()
        assert process.wait(SECONDS) == 0
    with worker_program(server.url, RT_TOKEN="a.b.c") as process:
        told, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 1
        assert "the server refuses this worker: 401" in told
    with worker_program(server.url, kinds="no.such.module") as process:
        told, _ = process.communicate(timeout=SECONDS)
        assert (process.returncode, told.strip()) == (2, "there is no module 'no.such.module'")
