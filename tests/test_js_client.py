"""The JavaScript client on a real server: the installed package, in Node and in Chromium."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, ServerProcess, program
from tests.js_forms import (
    CLIENT,
    SECONDS,
    Driven,
    JsError,
    NodeForm,
    page_form,
    run,
)
from tests.waiting import wait_until
from tornado_rt import __version__
from tornado_rt.protocol import RECONNECT, RECONNECT_RANGES

pytestmark = pytest.mark.long

FORMS = ["node", "node-socket", "chromium"]
STATIC = ROOT / "static"


@pytest.fixture(params=FORMS)
def form(
    request: pytest.FixtureRequest, js_package: Path, client_server: ServerProcess
) -> Iterator[Driven]:
    """A place where the client runs."""
    if request.param == "chromium":
        with page_form(request.getfixturevalue("browser"), client_server.url) as page:
            yield page
        return
    node = NodeForm(js_package, sockets=request.param == "node-socket")
    yield node
    node.close()


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """A user that no other test has."""
    return str(request.node.name)


@pytest.fixture
def opened(form: Driven, client_server: ServerProcess, user: str, make_token: Any) -> Driven:
    """The place, with a client `a` of this user."""
    token = make_token(user, scope="rt:publish", topics=["room:*"])
    form.open("a", client_server.url, token)
    return form


def ask(form: Driven, source: str, *args: Any) -> Any:
    """Return the value of an expression about the client `a`."""
    return form.run(f"const client = driver.clients.a; return {source}", *args)


# The package


def test_package_has_what_a_program_needs_and_no_more(js_package: Path) -> None:
    """It was packed from the sources alone: the modules are those that the server serves."""
    installed = js_package / "node_modules" / "tornado-rt-client"
    assert sorted(one.name for one in installed.iterdir()) == [
        *("LICENSE", "README.md", "locales", "package.json"),
        *("rt-client.d.ts", "rt-client.js", "rt-elements.d.ts", "rt-elements.js"),
    ]
    for name in ("rt-client.js", "rt-elements.js", "locales/zh-CN.js"):
        assert (installed / name).read_bytes() == (STATIC / name).read_bytes(), "run build.mjs"
    assert json.loads((installed / "package.json").read_text())["version"] == __version__


def test_parts_decide_without_a_server() -> None:
    """The tests of the parts, by Node's own runner."""
    tests = sorted((CLIENT / "test").glob("*.test.js"))
    printed = run(program("node"), "--test", *tests, cwd=CLIENT)
    assert "# fail 0" in printed
    assert "# pass 0" not in printed


def test_table_of_close_codes_is_that_of_the_server(tmp_path: Path) -> None:
    """Until `connected` has come there is only the client's own."""
    module = (CLIENT / "src" / "protocol.js").as_uri()
    tables = "JSON.stringify([m.RECONNECT, m.RECONNECT_RANGES])"
    source = f"import('{module}').then(m => console.log({tables}))"
    assert json.loads(run(program("node"), "-e", source, cwd=tmp_path)) == [
        RECONNECT,
        RECONNECT_RANGES,
    ]


def test_module_ends_the_process_by_itself(
    js_package: Path, client_server: ServerProcess, user: str, make_token: Any
) -> None:
    """A program that has its result need not close anything."""
    (js_package / "program.mjs").write_text(
        'import { Client } from "tornado-rt-client";\n'
        "const client = new Client(process.argv[2], { token: process.argv[3] });\n"
        'const task = await client.submit("client.echo", { value: 7 });\n'
        "console.log(await task.result({ timeout: 60 }));\n"
    )
    node = program("node")
    assert run(node, "program.mjs", client_server.url, make_token(user), cwd=js_package) == "7\n"


# Tasks and batches


def test_task_is_submitted_watched_and_has_a_result(opened: Driven) -> None:
    """The snapshot comes first, and the end last."""
    events = ask(
        opened,
        "client.submit('client.echo', {value: {a: [1]}}, {label: 'Mine'}).then(async task =>"
        " [task.id, await driver.collect(task), await task.result({timeout: 60}),"
        " (await task.read()).status])",
    )
    id_, [first, *_, last], result, status = events
    assert (first["type"], first["snapshot"]["task_id"]) == ("progress", id_)
    assert first["snapshot"]["label"] == "Mine"
    assert (last["type"], last["status"], last["result"]) == ("finished", "completed", {"a": [1]})
    assert result == {"a": [1]}
    assert status == "completed"
    assert opened.transports("a") == {opened.transport}


def test_task_without_a_result_says_why(opened: Driven, tmp_path: Path) -> None:
    """Failed and cancelled are errors of their own; a task that failed can run again."""
    failing = "client.submit('client.fails').then(t => (driver.failed = t).result({timeout: 60}))"
    with pytest.raises(JsError, match=r"TaskFailed.*not meant to be"):
        ask(opened, failing)
    with pytest.raises(JsError, match="TaskFailed"):
        ask(opened, "driver.failed.retry().then(() => driver.failed.result({timeout: 60}))")
    (tmp_path / "gate").touch()
    gated = (
        "client.submit('client.gated', {gate: args[0]})"
        ".then(task => (driver.held = task).result({timeout: 0.2}))"
    )
    with pytest.raises(JsError) as late:
        ask(opened, gated, str(tmp_path / "gate"))
    assert late.value.name == "TimeoutError"
    aborting = (
        "(() => { const ending = new AbortController();"
        " setTimeout(() => ending.abort(new Error('enough')), 50);"
        " return driver.held.result({signal: ending.signal}) })()"
    )
    with pytest.raises(JsError, match="enough"):
        ask(opened, aborting)
    ask(opened, "driver.held.cancel()")
    with pytest.raises(JsError, match="TaskCancelled"):
        ask(opened, "driver.held.result({timeout: 60})")
    with pytest.raises(JsError) as conflict:
        ask(opened, "driver.clients.a.submit('client.echo', {steps: 0}).then(t => t.retry())")
    assert conflict.value.status == 409


def test_listeners_are_told_of_a_task(opened: Driven) -> None:
    """Listeners that are added one after another miss nothing, and a late one repeats nothing."""
    ask(
        opened,
        "client.submit('client.echo', {value: 1}).then(task => {"
        " driver.task = task; driver.heard = [];"
        " for (const type of ['progress', 'finished', 'error']) "
        " task.addEventListener(type, (e) => driver.heard.push([e.type, e.detail.status])) })",
    )
    wait_until(lambda: ["finished", "completed"] in opened.run("return driver.heard"), SECONDS)
    opened.run("driver.task.addEventListener('finished', () => driver.heard.push(['late', null]))")
    heard = opened.run("return driver.heard")
    assert [one[0] for one in heard if one[0] != "progress"] == ["finished"]


def test_loop_that_is_left_leaves_the_topic(opened: Driven, tmp_path: Path) -> None:
    """Then the connection rests."""
    gate = tmp_path / "gate"
    gate.touch()
    left = ask(
        opened,
        "client.submit('client.gated', {gate: args[0]}).then(async task => {"
        " for await (const event of task) return [task.id, event.type] })",
        str(gate),
    )
    assert left[1] == "progress"
    opened.wait_for("a", "idle")
    gate.unlink()
    assert ask(opened, "client.task(args[0]).result({timeout: 60})", left[0]) == 0


def test_batch_is_watched_to_its_end(opened: Driven) -> None:
    """A batch has tasks, a progress and an end."""
    batch = ask(
        opened,
        "client.submitBatch('client.echo', [{value: 1}, {value: 2}]).then(async batch => {"
        " const events = []; for await (const event of batch) events.push(event);"
        " const tasks = []; for await (const task of batch.tasks()) tasks.push(task.status);"
        " return [events, tasks, (await batch.read()).completed, await batch.result()] })",
    )
    [first, *_, last], tasks, completed, again = batch
    assert (first["type"], first["snapshot"]["total"]) == ("progress", 2)
    assert last["status"] == again["status"] == "completed"
    assert (tasks, completed) == (["completed", "completed"], 2)


def test_submission_is_made_once(opened: Driven) -> None:
    """The same idempotency key is the same task."""
    twice = (
        "Promise.all([1, 2].map(() => client.submit('client.echo', {}, {idempotencyKey: 'one'})))"
    )
    one, other = ask(opened, f"{twice}.then(tasks => tasks.map(task => task.id))")
    assert one == other


# The rest of the verbs


def test_inbox_is_listed_counted_changed_and_live(opened: Driven, user: str) -> None:
    """Its items and counts stay true by the events alone."""
    ask(opened, "client.inbox.addEventListener('update', () => {})")
    ids = [
        ask(
            opened,
            "client.notify(args[0], {type: 'alert', title: args[1]}).then(n => n.id)",
            user,
            t,
        )
        for t in ("one", "two", "three")
    ]
    shown = "[client.inbox.items.map(n => n.title), client.inbox.counts.unread]"
    wait_until(lambda: ask(opened, shown), SECONDS, equal=[["three", "two", "one"], 3])
    done = ask(opened, "client.inbox.archive(args[0])", ids[2])
    assert done["changed"] == 1
    wait_until(lambda: ask(opened, shown), SECONDS, equal=[["two", "one"], 2])
    ask(opened, "client.inbox.undo(args[0])", done["undo"])
    ask(opened, "client.inbox.read([args[0], args[1]])", *ids[:2])
    wait_until(lambda: ask(opened, shown), SECONDS, equal=[["three", "two", "one"], 1])
    ask(opened, "client.inbox.snooze(args[0], {seconds: 3600})", ids[0])
    ask(opened, "client.inbox.delete({filter: {status: 'read'}})")
    ask(opened, "client.inbox.readAll()")
    wait_until(lambda: ask(opened, shown), SECONDS, equal=[["three"], 0])
    for wrong in ("[]", "''", "undefined", "{}"):
        with pytest.raises(JsError, match="name ids"):
            ask(opened, f"client.inbox.delete({wrong})")
    listed = ask(opened, "client.inbox.list({state: 'snoozed'})")
    assert [one["id"] for one in listed["items"]] == [ids[0]]


def test_inbox_has_more_pages(opened: Driven, user: str) -> None:
    """A notification on a page that was not read yet does not come by a change of it."""
    titles = [f"n{number}" for number in range(25)]
    for title in titles:
        ask(opened, "client.notify(args[0], {type: 'alert', title: args[1]})", user, title)
    ask(opened, "client.inbox.addEventListener('update', () => {})")
    wait_until(lambda: ask(opened, "client.inbox.items.length"), SECONDS, equal=20)
    every = ask(opened, "driver.collect(client.inbox.pages({limit: 10}))")
    assert [one["title"] for one in every] == titles[::-1]
    ask(opened, "client.inbox.more()")
    assert ask(opened, "client.inbox.items.map(n => n.title)") == titles[::-1]
    assert ask(opened, "client.inbox.hasMore") is False


def test_all_tasks_are_a_list_that_stays_true(opened: Driven) -> None:
    """Each that is made or ends changes it."""
    ask(opened, "client.tasks.addEventListener('update', () => {})")
    ask(
        opened,
        "client.submit('client.echo', {value: 1}, {delay: 600}).then(t => { driver.later = t })",
    )
    ask(opened, "client.submit('client.echo', {value: 1}).then(t => t.result())")
    shown = "client.tasks.items.map(task => task.status)"
    wait_until(lambda: ask(opened, shown), SECONDS, equal=["completed", "delayed"])
    ask(opened, "driver.later.cancel()")
    wait_until(lambda: ask(opened, shown), SECONDS, equal=["completed", "cancelled"])


def test_topics_are_published_and_followed(opened: Driven) -> None:
    """A second reader begins with the last message, without a word to the server."""
    ask(opened, "client.publish('room:1', {n: 0})")
    opened.follow("a", "room:1")
    wait_until(lambda: opened.told("a", "room:1"), SECONDS, equal=[{"n": 0}])
    ask(opened, "client.publish('room:1', {n: 1})")
    wait_until(lambda: opened.told("a", "room:1"), SECONDS, equal=[{"n": 0}, {"n": 1}])
    second = (
        "(async () => { for await (const event of client.subscribe('room:1')) return event })()"
    )
    event = ask(opened, second)
    assert (event["data"], event["isSnapshot"]) == ({"n": 1}, True)


def test_schedules_are_put_listed_run_and_dropped(opened: Driven) -> None:
    """A schedule makes a task when asked, and goes."""
    for name in ("b", "a"):
        fields = {"kind": "client.echo", "every": 3600, "params": {"value": 7}}
        assert ask(opened, "client.schedules.put(...args)", name, fields)["name"] == name
    listed = ask(opened, "driver.collect(client.schedules)")
    assert [one["name"] for one in listed] == ["a", "b"]
    assert ask(opened, "client.schedules.run('a').then(task => task.result({timeout: 60}))") == 7
    for name in ("a", "b"):
        ask(opened, "client.schedules.delete(args[0])", name)
    with pytest.raises(JsError) as gone:
        ask(opened, "client.schedules.get('a')")
    assert gone.value.status == 404


def test_refusals_are_told_at_once(opened: Driven) -> None:
    """Nothing is tried again that cannot succeed; other topics go on."""
    with pytest.raises(JsError, match="unknown fields: typo") as invalid:
        ask(opened, "client.submit('client.echo', {steps: 'many', typo: 1})")
    assert invalid.value.status == 422
    opened.follow("a", "room:1", "hall:1", "task:nope")
    wait_until(lambda: opened.log("a", "hall:1") and opened.log("a", "task:nope"), SECONDS)
    assert opened.log("a", "hall:1")[0][2][:2] == ["ApiError", 403]
    assert opened.log("a", "task:nope")[0][2][:2] == ["ApiError", 404]
    ask(opened, "client.publish('room:1', 'on')")
    wait_until(lambda: "on" in opened.told("a", "room:1"), SECONDS)
    for wrong in ("client.task('')", "client.task('../x')", "client.subscribe('a,b')"):
        with pytest.raises(JsError, match="TypeError"):
            ask(opened, wrong)
    assert "queued" in ask(opened, "client.request('GET', '/api/queue/stats')")
    kinds = {one["kind"] for one in ask(opened, "client.kinds()")}
    assert "client.echo" in kinds


def test_estimate_says_when_a_task_would_end_and_makes_none(opened: Driven) -> None:
    told = ask(opened, "client.estimate('client.echo', {value: 1}, {label: 'Estimated'})")
    assert (told["dry_run"], told["kind"], told["label"]) == (True, "client.echo", "Estimated")
    assert told["starts_in"] is not None
    batch = ask(opened, "client.estimateBatch('client.echo', [{value: 1}, {value: 2}])")
    assert batch["total"] == 2
    assert not any(
        one["label"] == "Estimated" for one in ask(opened, "client.tasks.list()")["items"]
    )
    with pytest.raises(JsError, match="typo"):
        ask(opened, "client.estimate('client.echo', {typo: 1})")


# Types

TYPED = """
import { ApiError, Client, type Task } from "tornado-rt-client";
import { ServerClock, timeLeft, type TaskSnapshot } from "tornado-rt-client";
import "tornado-rt-client/elements";

const client = new Client("https://example.org", { token: async () => "t" });
const task: Task = await client.submit("k", { a: 1 }, { label: "l", tags: ["t"] });
for await (const event of task) {
  if (event.type === "progress") console.log(event.percent.toFixed(), event.snapshot.label);
  else if (event.type === "finished") console.log(event.result, event.error?.length);
}
task.addEventListener("finished", ({ detail }) => console.log(detail.status === "completed"));
client.inbox.addEventListener("update", ({ detail }) => console.log(detail.counts.unread));
client.addEventListener("state", ({ detail }) => console.log(detail.retryIn));
console.log((await client.estimate("k", { a: 1 })).starts_in_high);
for await (const event of client.subscribe<{ n: number }>("room:1")) {
  if (event.type === "message") console.log(event.data.n + 1);
}
try {
  await client.inbox.read({ all: true });
} catch (error) {
  if (error instanceof ApiError) console.log(error.status + 1, error.errors.length);
}
console.log(task.timeLeft()?.finish.getTime(), task.startsIn(Date.now())?.seconds, client.skew);
const snapshot = (await task.read()) as TaskSnapshot;
const left = timeLeft(snapshot, new Date(), { skew: 1, receivedAt: 0 });
console.log(left?.latest?.getTime(), snapshot.steps?.[0].duration);
const clock = new ServerClock();
clock.hear("2026-11-30T12:00:00Z");
document.querySelector("rt-snapshot")!.snapshot = snapshot;
document.querySelector("rt-task")!.client = client;
// @ts-expect-error a state that there is not
client.state === "gone";
// @ts-expect-error a verb that there is not
client.inbox.forget("x");
"""


def test_types_are_those_of_the_verbs(js_package: Path, tmp_path: Path) -> None:
    """The compiler of TypeScript takes a program that uses them, and finds its faults."""
    folder = shutil.copytree(js_package, tmp_path / "installed", symlinks=True)
    try:
        options = ("--no-audit", "--no-fund", "--silent", "--no-save")
        run(program("npm"), "install", *options, "typescript@5.9", cwd=folder, seconds=120)
    except (AssertionError, subprocess.TimeoutExpired):
        if os.environ.get("RT_REQUIRE_PROGRAMS"):
            raise
        pytest.skip("no registry has typescript")
    (folder / "typed.mts").write_text(TYPED)
    options = ("--noEmit", "--strict", "--module", "nodenext", "--target", "es2022")
    libraries = ("--lib", "es2022,dom,dom.asynciterable,dom.iterable")
    compiler = folder / "node_modules" / "typescript" / "bin" / "tsc"
    run(program("node"), compiler, *options, *libraries, "typed.mts", cwd=folder)
