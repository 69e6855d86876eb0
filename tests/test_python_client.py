"""The Python client in both forms, on a real server."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browsing import Relay
from tests.client_forms import SECONDS, FaultyPeer, Form, forward
from tests.client_forms import form as form
from tests.conftest import ServerProcess
from tests.waiting import wait_until
from tornado_rt_client import (
    Arrived,
    BatchProgress,
    Changed,
    Conflict,
    Counts,
    Estimate,
    Finished,
    Forbidden,
    Invalid,
    Message,
    NotFound,
    Progress,
    TaskCancelled,
    TaskFailed,
    TasksChanged,
    TasksListed,
    Unauthorized,
)


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """A user that no other test has."""
    return str(request.node.name)


@pytest.fixture
def client(form: Form, client_server: ServerProcess, user: str) -> Any:
    """A client of this user."""
    return form.client(client_server.url, user=user, scopes=["rt:publish"], topics=["room:*"])


@pytest.fixture
def relay(client_server: ServerProcess) -> Iterator[Relay]:
    """A way to the server that can be cut."""
    made = Relay(client_server.url)
    yield made
    made.close()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """A file that holds a task back while it is there."""
    path = tmp_path / "gate"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def count(gate: Path, number: int) -> None:
    """Let a gated task count."""
    gate.with_name(f"{gate.name}.{number}").touch()


def test_task_is_submitted_watched_and_has_a_result(form: Form, client: Any) -> None:
    """The snapshot comes first, and the end last."""
    task = form.call(client.submit("client.echo", {"value": {"a": [1, None]}}, label="Mine"))
    first, *_, last = form.each(task.watch(SECONDS))
    assert isinstance(first, Progress)
    assert (first.snapshot.task_id, first.snapshot.label) == (task.id, "Mine")
    assert isinstance(last, Finished)
    assert last.result == {"a": [1, None]}
    assert form.call(task.result(SECONDS)) == {"a": [1, None]}
    record = form.call(task.read())
    assert (record.status, record.result) == ("completed", {"a": [1, None]})
    assert record.data["params"]["steps"] == 3


def test_estimate_says_when_a_task_would_end_and_makes_none(form: Form, client: Any) -> None:
    label = f"Estimated {uuid.uuid4().hex}"
    told = form.call(client.estimate("client.echo", {"value": 1}, label=label))
    assert isinstance(told, Estimate)
    assert (told.kind, told.label, told.task_id) == ("client.echo", label, None)
    assert told.starts_in is not None
    batch = form.call(client.estimate_batch("client.echo", [{"value": n} for n in range(3)]))
    assert (batch.total, batch.batch_id) == (3, None)
    with pytest.raises(Invalid, match="typo"):
        form.call(client.estimate("client.echo", {"typo": 1}))
    assert all(one.label != label for one in form.each(client.tasks()))


def test_task_without_a_result_says_why(form: Form, client: Any, gate: Path) -> None:
    """Failed and cancelled are errors of their own; a task that failed can run again."""
    task = form.call(client.submit("client.fails"))
    with pytest.raises(TaskFailed, match="not meant to be") as failed:
        form.call(task.result(SECONDS))
    assert (failed.value.task_id, failed.value.status) == (task.id, "failed")
    form.call(task.retry())
    with pytest.raises(TaskFailed):
        form.call(task.result(SECONDS))
    held = form.call(client.submit("client.gated", {"gate": str(gate)}))
    with pytest.raises(TimeoutError):
        form.call(held.result(0.2))
    form.call(held.cancel())
    with pytest.raises(TaskCancelled):
        form.call(held.result(SECONDS))
    with pytest.raises(Conflict):
        form.call(form.call(client.submit("client.echo", {"steps": 0})).retry())


def test_watch_goes_on_after_every_cut(
    form: Form, client: Any, relay: Relay, user: str, gate: Path
) -> None:
    """The events of an absence come afterwards, in order and once."""
    task = form.call(client.submit("client.gated", {"gate": str(gate)}))
    away = form.client(relay.url, user=user)
    events = form.each(away.task(task.id).watch(SECONDS))
    seen = [next(events)]
    for number in (1, 3, 5):
        relay.is_away = True
        relay.cut()
        for one in (number, number + 1):
            count(gate, one)
            text = f"count {one}"
            wait_until(lambda text=text: form.call(task.read()).message == text, SECONDS)
        relay.is_away = False
        while getattr(seen[-1], "message", "") != f"count {number + 1}":
            seen.append(next(events))
    relay.cut()
    gate.unlink()
    seen += events
    told = [one.message for one in seen if isinstance(one, Progress)]
    assert [one for one in told if str(one).startswith("count")] == [
        f"count {number}" for number in range(1, 7)
    ]
    assert isinstance(seen[-1], Finished)
    assert seen[-1].result == 6
    ids = [one.id for one in seen]
    assert len(set(ids)) == len(ids)


def test_refusals_are_told_at_once(form: Form, client: Any, client_server: ServerProcess) -> None:
    """Nothing is tried again that cannot succeed, by a request or by a stream."""
    with pytest.raises(Invalid) as invalid:
        form.call(client.submit("client.echo", {"steps": "many", "typo": 1}))
    assert len(invalid.value.errors) == 2
    assert invalid.value.document["status"] == 422
    with pytest.raises(NotFound):
        next(form.each(client.task("nope").watch()))
    with pytest.raises(Forbidden):
        next(form.each(client.subscribe("hall:1")))
    with pytest.raises(Forbidden):
        next(form.each(client.subscribe("room:1", "hall:1")))
    stranger = form.client(client_server.url, token="nonsense")
    with pytest.raises(Unauthorized):
        form.call(stranger.submit("client.echo"))
    with pytest.raises(Unauthorized):
        next(form.each(stranger.inbox().watch()))


def test_tasks_are_listed_over_all_pages(form: Form, client: Any) -> None:
    """A list is read page by page, and filtered by the server."""
    ids = [form.call(client.submit("client.echo", tags=["page"])).id for _ in range(5)]
    form.call(client.submit("client.echo", tags=["other"]))
    assert [one.task_id for one in form.each(client.tasks(tag="page", limit=2))] == ids[::-1]


def test_submission_is_made_once(form: Form, client: Any) -> None:
    """The same idempotency key is the same task."""
    first, again = (
        form.call(client.submit("client.echo", idempotency_key="one")).id for _ in range(2)
    )
    assert first == again


def test_request_whose_answer_is_lost_is_done_once(
    form: Form, client: Any, client_server: ServerProcess, user: str
) -> None:
    """The repetition gets the answer of the first time."""
    lost, found = (forward(client_server.url, loses=loses) for loses in (True, False))
    with FaultyPeer([lost, found, lost, found]) as peer:
        away = form.client(peer.url, user=user)
        task = form.call(away.submit("client.echo", {"value": 1}, notify=False))
        told = form.call(away.notify(user, type="alert", title="once"))
        assert len(peer.heads) == 4
    assert [one.task_id for one in form.each(client.tasks())] == [task.id]
    assert [one.id for one in form.each(client.inbox())] == [told.id]


def test_batch_is_watched_to_its_end(form: Form, client: Any) -> None:
    """A batch has tasks, a progress and an end."""
    batch = form.call(client.submit_batch("client.echo", [{"value": n} for n in range(3)]))
    first, *_, last = form.each(batch.watch(SECONDS))
    assert isinstance(first, BatchProgress)
    assert first.snapshot.total == 3
    assert last.status == form.call(batch.wait(SECONDS)).status == "completed"
    assert len(list(form.each(batch.tasks()))) == 3
    assert form.call(batch.read()).completed == 3


def test_inbox_is_listed_counted_and_watched(
    form: Form, client: Any, relay: Relay, user: str
) -> None:
    """The counts come first, then each change; a cut loses and repeats nothing."""
    form.call(client.notify(user, type="alert", title="before"))
    away = form.client(relay.url, user=user)
    events = form.each(away.inbox().watch(SECONDS))
    first = next(events)
    assert isinstance(first, Counts)
    assert (first.counts.unread, first.counts.unseen) == (1, 1)
    relay.cut()
    sent = [form.call(client.notify(user, type="alert", title=f"n{n}")) for n in range(3)]
    arrived = [next(e for e in events if isinstance(e, Arrived)).notification for _ in sent]
    assert [one.id for one in arrived] == [one.id for one in sent]
    relay.cut()
    assert form.call(client.inbox().mark_read(sent[0].id)).unread == 3
    changed = next(one for one in events if isinstance(one, Changed))
    assert [(one.id, one.is_unread) for one in changed.items] == [(sent[0].id, False)]
    with pytest.raises(ValueError, match="name ids"):
        form.call(client.inbox().act("delete"))
    assert form.call(client.inbox().mark_all_read()).unread == 0
    assert form.call(client.inbox().unread_count()).unread == 0
    titles = [one.title for one in form.each(client.inbox(limit=2))]
    assert titles == ["n2", "n1", "n0", "before"]
    assert list(form.each(client.inbox(status="unread"))) == []


def test_topics_are_followed_on_one_connection(
    form: Form, client: Any, relay: Relay, user: str
) -> None:
    """The last message from before is a snapshot; a cut loses and repeats nothing of any topic."""
    form.call(client.publish("room:1", {"n": 0}))
    away = form.client(relay.url, user=user, topics=["room:*"])
    task = form.call(client.submit("client.echo", {"value": 1}))
    events = form.each(away.subscribe("room:1", f"task:{task.id}", timeout=SECONDS))
    seen = []
    while not any(isinstance(one, Finished) for one in seen):
        seen.append(next(events))
    [snapshot] = [one for one in seen if isinstance(one, Message)]
    assert (snapshot.data, snapshot.is_snapshot, snapshot.topic) == ({"n": 0}, True, "room:1")
    for number in range(1, 5):
        relay.cut()
        form.call(client.publish("room:1", {"n": number}))
        event = next(events)
        assert isinstance(event, Message)
        assert (event.data, event.is_snapshot) == ({"n": number}, False)


def test_all_tasks_are_followed(form: Form, client: Any, relay: Relay, user: str) -> None:
    """The list comes first; a task that is made while the stream is cut is told afterwards."""
    before = form.call(client.submit("client.echo", {"value": 1}, delay=600))
    events = form.each(form.client(relay.url, user=user).subscribe("tasks", timeout=SECONDS))
    listed = next(events)
    assert isinstance(listed, TasksListed)
    assert [(one.task_id, one.status) for one in listed.items] == [(before.id, "delayed")]
    relay.cut()
    form.call(before.cancel())
    after = form.call(client.submit("client.echo", {"value": 1}, delay=600))
    seen = [next(events), next(events)]
    assert all(isinstance(one, TasksChanged) for one in seen)
    assert [(one.task_id, one.status) for change in seen for one in change.items] == [
        (before.id, "cancelled"),
        (after.id, "delayed"),
    ]


def test_schedules_are_put_listed_and_dropped(form: Form, client: Any) -> None:
    """A schedule is replaced by its name, makes a task when asked, and goes."""
    schedules = client.schedules(limit=1)
    for name in ("b", "a"):
        made = form.call(schedules.put(name, kind="client.echo", every=3600, params={"value": 7}))
        assert (made.name, made.every, made.enabled) == (name, 3600, True)
    form.call(schedules.put("b", kind="client.echo", cron="0 3 * * *", timezone="Europe/Berlin"))
    assert [one.name for one in form.each(schedules)] == ["a", "b"]
    assert form.call(schedules.get("b")).cron == "0 3 * * *"
    assert form.call(form.call(schedules.run("a")).result(SECONDS)) == 7
    for name in ("a", "b"):
        form.call(schedules.delete(name))
    with pytest.raises(NotFound):
        form.call(schedules.get("a"))


def test_endpoint_without_a_verb_is_asked_by_its_path(form: Form, client: Any) -> None:
    """Each endpoint can be reached."""
    assert "queued" in form.call(client.request("GET", "/api/queue/stats"))
    kinds = {one.kind: one for one in form.call(client.kinds())}
    assert "steps" in kinds["client.echo"].params_schema["properties"]
