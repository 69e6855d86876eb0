"""Tasks of an author's own kinds, from outside over HTTP."""

import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from services.queue import Ack, Outcome, QueueService
from settings import Settings
from tests.api import Client, event_of, frame_of, notified, serving
from tests.conftest import ROOT
from tests.waiting import until
from tornado_rt.work.kind import OWN_FIELDS
from tornado_rt.work.values import MOST_SECONDS

pytestmark = pytest.mark.long

Token = Callable[..., str]
ENDS = ("completed", "failed", "cancelled", "dead")


@pytest.fixture
def kinds(tmp_path: Path) -> str:
    """The path of a module of kinds, in a folder that is not ours."""
    # A process imports one module of a name.
    name = re.sub(r"\W", "_", f"kinds_of_{tmp_path.name}") + ".py"
    return str(shutil.copy(ROOT / "tests" / "fixtures" / "own_kinds.py", tmp_path / name))


@pytest.fixture
def idle(settings: Settings, redis: Redis, database: Any, kinds: str) -> Settings:
    """Settings of a server that has the kinds and runs nothing."""
    return settings.changed(kinds=[kinds])


@pytest.fixture
def working(idle: Settings) -> Settings:
    """Settings of a server that has the kinds and a worker."""
    return idle.changed(worker_concurrency=3)


# A kind whose tasks count what they do.
COUNTED = """

@attrs.frozen
class Counted:
    fails: bool = False
    size: int = 1


counted = Kind("counted", Counted, shown=("size",))


@counted.handler
async def run_counted(params: Counted, run: Run) -> int:
    run.update(done=1, total=2, unit="files")
    if params.fails:
        raise TaskError("it was asked for")
    return 1
"""


def film(**params: Any) -> dict[str, Any]:
    return {"kind": "video.transcode", "params": {"path": "a.mp4", **params}}


def paper(name: str = "daily", **params: Any) -> dict[str, Any]:
    return {"kind": "report", "params": {"name": name, **params}}


async def submitted(client: Client, body: dict[str, Any]) -> str:
    answer = await client.post("/api/tasks", body)
    assert answer.status == 202, answer.body
    task_id: str = answer.body["task_id"]
    return task_id


async def look(client: Client, task_id: str) -> dict[str, Any]:
    task: dict[str, Any] = (await client.get(f"/api/tasks/{task_id}")).body
    return task


async def ended(client: Client, task_id: str) -> dict[str, Any]:
    """Wait until a task has ended; return it."""

    async def is_over() -> dict[str, Any] | None:
        task = await look(client, task_id)
        return task if task["status"] in ENDS else None

    task = await until(is_over)
    assert task is not None
    return task


async def labels(client: Client, query: str) -> list[str]:
    answer = await client.get(f"/api/tasks?{query}")
    assert answer.status == 200, answer.body
    return [one["label"] for one in answer.body["items"]]


@pytest.mark.gen_test
async def test_kind_of_ten_lines_is_watched_to_its_end(
    working: Settings, make_token: Token
) -> None:
    """Its own steps, its own label, its result, and a notification in its own words."""
    async with serving(working, make_token("alice")) as alice:
        made = await alice.post("/api/tasks", film(preset="720p"))
        assert made.status == 202
        assert (made.body["kind"], made.body["label"]) == ("video.transcode", "a.mp4 as 720p")
        stream = await alice.stream(made.body["links"]["events"])
        connected = await event_of(stream, "connected")
        shown = connected["snapshot"]
        assert (shown["label"], shown["preset"]) == ("a.mp4 as 720p", "720p")
        finished = await event_of(stream, "finished")
        assert finished["result"] == {"written": "a.mp4.720p"}
        await stream.close()
        task = await look(alice, made.body["task_id"])
        names = [(one["name"], one["description"], one["status"]) for one in task["steps"]]
        assert names == [
            ("probe", "probe", "completed"),
            ("transcode", "Transcode", "completed"),
            ("upload", "upload", "completed"),
        ]
        assert task["progress"] == 100
        [told] = (await until(lambda: notified(alice)))["items"]
        assert (told["title"], told["type"]) == ("a.mp4 as 720p: completed", "system")
        assert told["metadata"]["kind"] == "video.transcode"


@pytest.mark.gen_test
async def test_task_asks_its_user_and_goes_on_with_the_answer(
    working: Settings, make_token: Token
) -> None:
    """By a notification of two buttons; it is answered once."""
    async with serving(working, make_token("alice")) as alice:
        task_id = await submitted(alice, paper("daily", how="ask"))
        [asked] = (await until(lambda: notified(alice)))["items"]
        assert (asked["title"], asked["source"]) == ("Publish daily?", "report")
        assert asked["link"] == f"/?task={task_id}"
        assert asked["actions"] == [
            {"id": "yes", "label": "Publish", "answer": True},
            {"id": "no", "label": "Throw it away", "answer": True},
        ]
        assert asked["metadata"]["question"] == "publish"
        assert (await look(alice, task_id))["message"] == "Publish daily?"
        actions = f"/api/notifications/{asked['id']}/actions"
        assert (await alice.post(f"{actions}/maybe")).status == 404
        other = alice.as_user(make_token("bob"))
        assert (await other.post(f"{actions}/yes")).status == 404
        assert (await alice.post(f"{actions}/no")).body["answered"]["action"] == "no"
        assert (await alice.post(f"{actions}/yes")).status == 409
        assert (await ended(alice, task_id))["result"] == ["daily", "no"]


@pytest.mark.gen_test
async def test_question_of_an_ended_task_is_answered_no_more(
    working: Settings, make_token: Token
) -> None:
    """It is archived on every device, without its buttons."""
    async with serving(working, make_token("alice")) as alice:
        socket = await alice.socket("/api/ws/notifications")
        task_id = await submitted(alice, paper(how="ask"))
        asked = (await frame_of(socket, "notification"))["data"]
        assert (await alice.delete(f"/api/tasks/{task_id}")).status == 200
        while (one := (await frame_of(socket, "changed"))["data"]["items"][0])["actions"]:
            pass
        assert (one["id"], one["archived_at"] is not None) == (asked["id"], True)
        answer = await alice.post(f"/api/notifications/{asked['id']}/actions/yes")
        assert answer.status == 404
        # The end of the task alone is left.
        told = await until(lambda: notified(alice))
        assert [one["metadata"]["status"] for one in told["items"]] == ["cancelled"]


@pytest.mark.gen_test
async def test_quota_takes_no_question_that_a_task_waits_for(
    working: Settings, make_token: Token
) -> None:
    """It is pinned until it is answered."""
    small = working.changed(notification_quota=3)
    async with serving(small, make_token("alice")) as alice:
        task_id = await submitted(alice, paper(how="ask"))
        [asked] = (await until(lambda: notified(alice)))["items"]
        assert asked["pinned"]
        for n in range(9):
            news = {"user_id": "alice", "type": "news", "title": str(n)}
            assert (await alice.post("/api/notifications", news)).status == 201

        async def titles() -> list[str]:
            listed = (await alice.get("/api/notifications")).body["items"]
            return [one["title"] for one in listed]

        await until(titles, equal=["8", "7", asked["title"]])
        answer = await alice.post(f"/api/notifications/{asked['id']}/actions/yes")
        assert not answer.body["pinned"]
        assert (await ended(alice, task_id))["result"] == ["daily", "yes"]


@pytest.mark.gen_test
async def test_forged_question_answers_no_task(
    working: Settings, redis: Redis, make_token: Token
) -> None:
    """One that somebody has written, with what stands in a question."""
    async with serving(working, make_token("alice")) as alice:
        task_id = await submitted(alice, paper(how="ask"))
        [asked] = (await until(lambda: notified(alice)))["items"]
        offers = [{"id": "yes", "label": "Go on", "answer": True}]
        forged = {
            "type": "prize",
            "title": "A prize",
            "actions": offers,
            "metadata": asked["metadata"],
        }
        made = await alice.post("/api/notifications", forged | {"user_id": "alice"})
        assert made.status == 201, made.body
        url = f"/api/notifications/{made.body['id']}/actions/yes"
        assert (await alice.post(url)).status == 200
        true = f"/api/notifications/{asked['id']}/actions/no"
        assert (await alice.post(true)).status == 200
        assert (await ended(alice, task_id))["result"] == ["daily", "no"]


@pytest.mark.gen_test
async def test_task_as_json_says_all_that_is_known_of_it(
    working: Settings, make_token: Token
) -> None:
    async with serving(working, make_token("alice")) as alice:
        body = film() | {"tags": ["night", "night", "eu"], "priority": "high", "key": "acme"}
        task = await ended(alice, await submitted(alice, body))
        assert task["params"] == {"path": "a.mp4", "preset": "1080p", "crf": 23}
        assert task["result"] == {"written": "a.mp4.1080p"}
        told = {name: task[name] for name in ("kind", "label", "priority", "key", "tags", "error")}
        assert told == {
            "kind": "video.transcode",
            "label": "a.mp4 as 1080p",
            "priority": "high",
            "key": "acme",
            "tags": ["night", "eu"],
            "error": None,
        }
        times = [datetime.fromisoformat(task[f"{name}_at"]) for name in ("created", "started")]
        assert times == sorted(times)
        assert all(one.tzinfo == UTC for one in times)
        [attempt] = task["attempts"]
        assert (attempt["attempt"], attempt["outcome"]) == (1, "completed")
        assert attempt["ended_at"] == task["ended_at"]
        assert (task["waiting_for"], task["schedule"]) == (None, None)


@pytest.mark.gen_test
async def test_faults_of_a_body_are_all_told_in_words(idle: Settings, make_token: Token) -> None:
    """Those of the parameters, each at its path, beside the others."""
    wrong = {
        "kind": "video.transcode",
        "params": {"preset": 5, "crf": "x", "size": 1},
        "label": "x" * 201,
        "priority": "soon",
        "tags": ["ok", ""],
        "timeout": -1,
        "max_attempts": 101,
        "unique": {"key": "k", "while": "asleep"},
        "surprise": 1,
    }
    async with serving(idle, make_token("alice")) as alice:
        answer = await alice.post("/api/tasks", wrong)
        assert answer.status == 422
        assert set(answer.body["errors"]) == {
            "params has unknown fields: size",
            "params.path is required",
            "params.preset must be a string",
            "params.crf must be an integer",
            "label must have 1 to 200 characters",
            "priority must be one of highest, high, normal, low, lowest",
            "tags[1] must have 1 to 64 characters",
            "timeout must be from 0 to 2592000",
            "max_attempts must be from 1 to 100",
            'unique.while must be "waiting" or "running", or seconds up to 2592000',
            "unknown fields: surprise",
        }
        stats = (await alice.get("/api/queue/stats")).body
        assert stats["queued"] == 0


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"kind": "nothing"}, "nothing"),
        ({"kind": 5}, "kind must be a string"),
        ({"kind": ""}, "kind must have 1 to 64 characters"),
        (film(preset="4k"), "params.preset"),
        ({"kind": "video.transcode"}, "params.path is required"),
        ({"kind": "video.transcode", "params": []}, "params must be a JSON object"),
        ({"kind": "video.transcode", "params": None}, "params must be a JSON object"),
        (film(path="x" * 70_000), "params has 70"),
        (film() | {"tags": ["t"] * 21}, "tags must have at most 20 items"),
        (film() | {"tags": ["t" * 65]}, "tags[0] must have 1 to 64 characters"),
        (film() | {"key": "k" * 201}, "key must have at most 200 characters"),
        (film() | {"delay": 2592001}, "delay must be from 0 to 2592000"),
        (film() | {"run_at": "tomorrow"}, "run_at must be a time such as"),
        (film() | {"run_at": "9999-01-01T00:00:00Z"}, "run_at must be at most 2592000 s from now"),
        ({"symbol": "A", "run_at": "9999-01-01T00:00:00Z"}, "run_at must be at most 2592000 s"),
        (film() | {"unique": {}}, "unique.key is required"),
        (film() | {"unique": {"key": "k", "while": True}}, "unique.while must be"),
        (film() | {"unique": {"key": "k", "on_conflict": "ask"}}, "unique.on_conflict must be"),
        (film() | {"callback_url": "ftp://x"}, "callback_url"),
        (film() | {"notify": 1}, "notify must be true or false"),
        ({"kind": "analysis", "params": {"symbol": "A", "research_depth": 6}}, "params.research"),
        ({"kind": "analysis", "params": {}}, "params.symbol is required"),
    ],
)
async def test_wrong_submission_is_422(
    idle: Settings, make_token: Token, body: dict[str, Any], told: str
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        answer = await alice.post("/api/tasks", body)
        assert (answer.status, answer.headers["Content-Type"]) == (422, "application/problem+json")
        said = " ".join([answer.body["detail"], *answer.body.get("errors", [])])
        assert told in said
        assert "body.params" not in said


DEEP: Any = 1
for _ in range(40):
    DEEP = [DEEP]

# Faults of a wrong body: each once, at a place that is in the body, and no other.
TOLD: list[tuple[dict[str, Any], list[str]]] = [
    (film(crf=DEEP), ["params nests deeper than 32 levels"]),
    (film(path="x" * 70_000), ["params has 70011 bytes as JSON; at most 65536 are allowed"]),
    ({"kind": "", "params": {"a": 1}}, ["kind must have 1 to 64 characters"]),
    ({"kind": "a\nb"}, ["kind must not hold control characters"]),
    ({"kind": "nope", "label": 5}, ["label must be a string", "there is no kind nope"]),
    ({"kind": 5, "params": {"path": 5}}, ["kind must be a string"]),
    ({"params": {"path": "a.mkv"}}, ["kind is required"]),
    ({}, ["kind is required"]),
    ({"symbl": "A"}, ["unknown fields: symbl", "kind is required"]),
    (
        film() | {"tags": [1, None, "a\nb", ""]},
        [
            "tags[0] must be a string",
            "tags[1] must be a string",
            "tags[2] must not hold control characters",
            "tags[3] must have 1 to 64 characters",
        ],
    ),
    (film() | {"callback_url": ""}, ["callback_url must have 1 to 2000 characters"]),
    (
        film() | {"callback_url": "http://a b"},
        ["callback_url must be ASCII, without spaces, backslashes and line breaks"],
    ),
]


@pytest.mark.gen_test
@pytest.mark.parametrize(("body", "told"), TOLD)
async def test_each_fault_is_told_once_and_no_other(
    idle: Settings, make_token: Token, body: dict[str, Any], told: list[str]
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        answer = await alice.post("/api/tasks", body)
        assert (answer.status, answer.body["errors"]) == (422, told)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("max_attempts", 10**15 - 1),
        ("timeout", MOST_SECONDS),
        ("budget_seconds", MOST_SECONDS),
        ("delay", MOST_SECONDS),
    ],
)
async def test_largest_number_that_is_taken_is_read_again(
    idle: Settings, make_token: Token, name: str, most: int
) -> None:
    """Also where no setting bounds it."""
    settings = idle.changed(
        task_max_attempts=0, task_max_timeout_seconds=0, task_max_delay_seconds=0
    )
    async with serving(settings, make_token("alice")) as alice:
        task = await look(alice, await submitted(alice, film() | {name: most}))
        assert task["status"] == ("delayed" if name == "delay" else "queued")
        assert (task["max_attempts"] == most) == (name == "max_attempts")
        over = await alice.post("/api/tasks", film() | {name: most + 1})
        assert over.status == 422
        least = 1 if name == "max_attempts" else 0
        assert over.body["errors"] == [f"{name} must be from {least} to {most}"]


@pytest.mark.gen_test
async def test_fields_that_a_task_has_for_itself_are_all_known(
    working: Settings, make_token: Token, kinds: str
) -> None:
    """So that no parameter that a kind shows can stand in the place of one."""
    with open(kinds, "a") as module:
        module.write(COUNTED)
    async with serving(working, make_token("alice")) as alice:
        found: set[str] = set()
        shown = {"symbol", "preset", "size"}
        batch = {"kind": "counted", "items": [{"params": {"fails": True}}, {}]}
        made = await alice.post("/api/batches", batch)
        for n in (1, 2):
            path = f"/api/tasks/{made.body['batch_id']}-{n}"
            stream = await alice.stream(path)
            connected = await event_of(stream, "connected")
            finished = await event_of(stream, "finished")
            await stream.close()
            found |= {*connected["snapshot"], *finished, *(await alice.get(path)).body}
        later = film() | {"delay": 60}
        found |= set(await look(alice, await submitted(alice, later)))
        # More than may run at once: the last one stands in the line.
        many = [await submitted(alice, paper(how="wait")) for _ in range(4)]
        found |= set(await look(alice, many[-1]))
        for task_id in many:
            await alice.delete(f"/api/tasks/{task_id}")
        # Stored snapshots have these in the place of `steps`.
        kept = {"plan", "marks", "times", "usual"}
        # Of tasks that are late, silent, inside a step, or find their steps on the way.
        of_some = {"revised", "revised_at", "slow_since", "stalled_since"}
        of_some |= {"step_progress", "steps_open"}
        assert (found - shown) | kept | of_some == OWN_FIELDS


@pytest.mark.gen_test
async def test_kind_analysis_is_the_same_as_the_body_without_a_kind(
    working: Settings, make_token: Token
) -> None:
    async with serving(working, make_token("alice")) as alice:
        params = {"analysts": ["news"], "research_depth": 1}
        bodies = (
            {"symbol": "IBM", "params": params},
            {"kind": "analysis", "params": {"symbol": "IBM", **params}},
        )
        tasks = [await ended(alice, await submitted(alice, body)) for body in bodies]
        for name in ("kind", "label", "params", "symbol", "result", "status"):
            assert tasks[0][name] == tasks[1][name]
        assert (tasks[0]["label"], tasks[0]["symbol"]) == ("IBM", "IBM")
        assert len(tasks[0]["steps"]) == len(tasks[1]["steps"]) > 10


@pytest.mark.gen_test
async def test_label_may_be_given_in_any_language(working: Settings, make_token: Token) -> None:
    async with serving(working, make_token("alice")) as alice:
        label = "Película nº 7 👩‍💻 日本"
        task = await ended(alice, await submitted(alice, film() | {"label": label}))
        assert task["label"] == label
        [told] = (await until(lambda: notified(alice)))["items"]
        assert told["title"] == f"{label}: completed"


@pytest.mark.gen_test
async def test_label_that_the_kind_makes_is_cut_to_the_bound(
    idle: Settings, make_token: Token
) -> None:
    short = idle.changed(task_label_length=10)
    async with serving(short, make_token("alice")) as alice:
        for body in (paper("n" * 16), {"symbol": "n" * 16}):
            made = await alice.post("/api/tasks", body)
            assert made.body["label"] == "n" * 10
        batch = {"kind": "report", "items": [{"params": {"name": "n" * 16}}]}
        batch_id = (await alice.post("/api/batches", batch)).body["batch_id"]
        assert await labels(alice, f"batch={batch_id}") == ["n" * 10]


@pytest.mark.gen_test
async def test_kind_without_plan_and_parameters_runs(working: Settings, make_token: Token) -> None:
    """A plain function in a thread; its result is any JSON."""
    async with serving(working, make_token("alice")) as alice:
        task = await ended(alice, await submitted(alice, {"kind": "plain"}))
        assert (task["status"], task["label"], task["steps"]) == ("completed", "plain", [])
        assert isinstance(task["result"], str)


@pytest.mark.gen_test
async def test_exception_is_tried_again_and_each_attempt_is_told(
    working: Settings, make_token: Token
) -> None:
    async with serving(working, make_token("alice")) as alice:
        task = await ended(alice, await submitted(alice, paper(fails=1)))
        assert (task["status"], task["result"]) == ("completed", ["daily"])
        first, second = task["attempts"]
        assert (first["attempt"], first["outcome"]) == (1, "error")
        assert "attempt 1 broke" in first["error"]
        assert (second["attempt"], second["outcome"], second["error"]) == (2, "completed", None)


@pytest.mark.gen_test
async def test_task_that_waits_for_another_attempt_says_why(
    idle: Settings, make_token: Token, redis: Redis
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        task_id = await submitted(alice, paper())
        assert (await look(alice, task_id))["error"] is None
        queue = QueueService(redis)
        (claim,) = (await queue.claim("one", 1, kinds=["report"])).claims
        reason = "no paper in the tray"
        assert await queue.end_attempt(
            Ack(task_id, claim.token, Outcome.ERROR, error=reason, delay=60.0)
        )
        task = await look(alice, task_id)
        assert (task["status"], task["error"]) == ("delayed", reason)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("params", "status", "attempts"),
    [({"fails": 9}, "failed", 2), ({"how": "final"}, "failed", 1), ({"how": "again"}, "dead", 2)],
)
async def test_failure_ends_as_its_author_means(
    working: Settings, make_token: Token, params: dict[str, Any], status: str, attempts: int
) -> None:
    async with serving(working, make_token("alice")) as alice:
        task = await ended(alice, await submitted(alice, paper(**params)))
        assert (task["status"], len(task["attempts"])) == (status, attempts)
        assert task["error"]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("params", "more", "told"),
    [
        ({"fails": 1}, {"max_attempts": 1}, "attempt 1 broke"),
        ({"how": "wait"}, {"timeout": 0.2, "max_attempts": 1}, "0.2 s"),
        ({"how": "wait"}, {"budget_seconds": 0.2}, "0.2 s"),
    ],
)
async def test_submitter_may_bound_a_task_more_tightly(
    working: Settings,
    make_token: Token,
    params: dict[str, Any],
    more: dict[str, Any],
    told: str,
) -> None:
    async with serving(working, make_token("alice")) as alice:
        task = await ended(alice, await submitted(alice, paper(**params) | more))
        assert (task["status"], len(task["attempts"])) == ("failed", 1)
        assert told in task["error"]


@pytest.mark.gen_test
async def test_urgent_task_starts_before_those_that_wait_longer(
    idle: Settings, working: Settings, make_token: Token
) -> None:
    alone = working.changed(worker_concurrency=1)
    async with serving(idle, make_token("alice")) as alice:
        bodies = [paper(f"p{n}") | {"priority": one} for n, one in enumerate(("low", "normal"))]
        ids = [await submitted(alice, body) for body in [*bodies, paper("p2", how="")]]
        ids.append(await submitted(alice, paper("p3") | {"priority": "highest"}))
        async with serving(alone, alice.token):
            tasks = [await ended(alice, task_id) for task_id in ids]
        begun = sorted(tasks, key=lambda one: str(one["started_at"]))
        assert [one["label"] for one in begun] == ["p3", "p1", "p2", "p0"]


@pytest.mark.gen_test
async def test_what_failed_is_run_again_by_its_owner(working: Settings, make_token: Token) -> None:
    """With all its attempts; what waits, runs or has completed is not."""
    async with serving(working, make_token("alice")) as alice:
        failed = await submitted(alice, paper(fails=2))
        await ended(alice, failed)
        bob = alice.as_user(make_token("bob"))
        assert (await bob.post(f"/api/tasks/{failed}/retry")).status == 404
        again = await alice.post(f"/api/tasks/{failed}/retry")
        assert (again.status, again.body["task_id"]) == (202, failed)
        assert again.headers["Location"] == f"/api/tasks/{failed}"
        await ended(alice, failed)
        done = await submitted(alice, film())
        await ended(alice, done)
        refused = await alice.post(f"/api/tasks/{done}/retry")
        assert (refused.status, done in refused.body["detail"]) == (409, True)
        assert (await alice.post("/api/tasks/unknown/retry")).status == 404
        one_of_it = {"unique": {"key": "sales"}}
        first = await submitted(alice, paper(how="final") | one_of_it)
        await ended(alice, first)
        other = await submitted(alice, paper(how="wait") | one_of_it)
        refused = await alice.post(f"/api/tasks/{first}/retry")
        assert (refused.status, refused.body["task_id"]) == (409, other)


@pytest.mark.gen_test
async def test_admin_runs_again_what_a_filter_finds(working: Settings, make_token: Token) -> None:
    async with serving(working, make_token("alice")) as alice:
        admin = alice.as_user(make_token("root", scope="rt:admin"))
        ids = [await submitted(alice, paper(how="final") | {"tags": [f"t{n}"]}) for n in range(3)]
        for task_id in ids:
            await ended(alice, task_id)
        asked = {"user": "alice", "kind": "report", "status": "failed", "tag": "t1"}
        assert (await admin.post("/api/tasks/retry", asked)).body == {"retried": 1}
        await until(lambda: has_ended_twice(alice, ids[1]))
        other = await admin.post("/api/tasks/retry", {"user": "alice", "kind": "plain"})
        assert other.body == {"retried": 0}
        body = {"kind": "report", "items": [{"params": paper(how="final")["params"]}]}
        batch_id = (await alice.post("/api/batches", body)).body["batch_id"]
        await ended(alice, f"{batch_id}-1")
        assert (await alice.post("/api/tasks/retry", {"batch": "other"})).body == {"retried": 0}
        assert (await alice.post("/api/tasks/retry", {"batch": batch_id})).body == {"retried": 1}
        await until(lambda: has_ended_twice(alice, f"{batch_id}-1"))
        nobody = await admin.post("/api/tasks/retry", {"kind": "typo"})
        assert (nobody.status, nobody.body["detail"]) == (404, "there is no kind typo")
        for bad in ({"status": "completed"}, {"before": "x"}, {"limit": 0}):
            assert (await admin.post("/api/tasks/retry", bad)).status == 422


@pytest.mark.gen_test
async def test_user_runs_his_own_again_by_filter(working: Settings, make_token: Token) -> None:
    """Without a user it is himself, and of an admin everybody; another's needs an admin."""
    async with serving(working, make_token("alice")) as alice:
        bob = alice.as_user(make_token("bob"))
        admin = alice.as_user(make_token("root", scope="rt:admin"))
        hers, his = await submitted(alice, paper(how="final")), await submitted(bob, paper(fails=9))
        await ended(alice, hers)
        await ended(bob, his)
        for user in ("alice", "*"):
            refused = await bob.post("/api/tasks/retry", {"user": user})
            assert (refused.status, refused.body["detail"]) == (
                403,
                "this needs the scope rt:admin",
            )
        assert (await bob.post("/api/tasks/retry", {"tag": "other"})).body == {"retried": 0}
        for body in ({}, {"user": "bob"}, {"user": "", "status": "failed"}):
            assert (await bob.post("/api/tasks/retry", body)).body == {"retried": 1}
            await ended(bob, his)
        assert len((await look(alice, hers))["attempts"]) == 1
        for everybody in ({}, {"user": "*"}):
            assert (await admin.post("/api/tasks/retry", everybody)).body == {"retried": 2}
            await ended(alice, hers)
            await ended(bob, his)


async def all_failed(client: Client, core: QueueService, count: int) -> list[str]:
    """Return the ids of tasks that have failed, of a server that runs nothing."""
    ids = []
    for _ in range(count):
        ids.append(await submitted(client, paper()))
        [claim] = (await core.claim("w", 1, kinds=["report"])).claims
        await core.ack_task(claim.task.task_id, False, token=claim.token, error="broken")
    return ids


@pytest.mark.gen_test
async def test_running_again_takes_room_as_a_submission_does(
    idle: Settings, make_token: Token
) -> None:
    """Alone and by filter, for the owner; an admin is not stopped."""
    bounded = idle.changed(queue_max_waiting_per_user=2)
    async with serving(bounded, make_token("alice")) as alice:
        admin = alice.as_user(make_token("root", scope="rt:admin"))
        ids = await all_failed(alice, alice.core.queue, 6)
        answers = [await alice.post(f"/api/tasks/{task_id}/retry") for task_id in ids[:3]]
        assert [one.status for one in answers] == [202, 202, 429]
        assert answers[2].headers["Retry-After"] == "5"
        assert answers[2].body["detail"] == "at most 2 tasks of a user may wait"
        assert (await alice.get("/api/queue/stats")).body["queued"] == 2
        await alice.delete(f"/api/tasks/{ids[0]}")
        full = await alice.post("/api/tasks/retry", {})
        assert (full.status, full.headers["Retry-After"]) == (429, "5")
        assert full.body["detail"] == "at most 2 tasks of a user may wait; 1 of these run again"
        assert (await alice.get("/api/queue/stats")).body["queued"] == 2
        assert (await admin.post(f"/api/tasks/{ids[0]}/retry")).status == 202
        assert (await admin.post("/api/tasks/retry", {"user": "alice"})).body == {"retried": 3}
        assert (await alice.get("/api/queue/stats")).body["queued"] == 6


@pytest.mark.gen_test
async def test_filter_goes_on_behind_what_was_run_again(
    working: Settings, make_token: Token
) -> None:
    async with serving(working, make_token("alice")) as alice:
        ids = [await submitted(alice, paper(how="final")) for _ in range(3)]
        for task_id in ids:
            await ended(alice, task_id)
        admin = alice.as_user(make_token("root", scope="rt:admin"))
        newest = (await alice.get("/api/tasks?limit=1")).body["next"]
        rest = await admin.post("/api/tasks/retry", {"user": "alice", "before": newest})
        assert rest.body == {"retried": 2}
        for task_id in ids[:2]:
            await until(partial(has_ended_twice, alice, task_id))
        assert (await look(alice, ids[2]))["attempt"] == 1


async def has_ended_twice(client: Client, task_id: str) -> bool:
    task = await look(client, task_id)
    return task["status"] in ENDS and len(task["attempts"]) == 2


@pytest.mark.gen_test
async def test_notify_false_makes_no_notification(working: Settings, make_token: Token) -> None:
    async with serving(working, make_token("alice")) as alice:
        await ended(alice, await submitted(alice, paper("quiet") | {"notify": False}))
        await ended(alice, await submitted(alice, paper("loud")))
        [told] = (await until(lambda: notified(alice)))["items"]
        assert told["title"] == "loud: completed"


@pytest.mark.gen_test
async def test_handler_notifies_its_user_while_it_runs(
    working: Settings, make_token: Token
) -> None:
    async with serving(working, make_token("alice")) as alice:
        await submitted(alice, paper(how="tell"))

        async def both() -> list[str] | None:
            items = (await alice.get("/api/notifications")).body["items"]
            return [one["title"] for one in items] if len(items) == 2 else None

        assert await until(both) == ["daily: completed", "Half of it"]


@pytest.mark.gen_test
async def test_unique_key_makes_one_task_of_many_requests(
    idle: Settings, make_token: Token
) -> None:
    """The other request is given the first one's task, replaces it, or is told of it."""
    async with serving(idle, make_token("alice")) as alice:

        def asked(on_conflict: str) -> dict[str, Any]:
            rule = {"key": "k", "while": "waiting", "on_conflict": on_conflict}
            return paper() | {"unique": rule}

        first = await submitted(alice, asked("return"))
        assert await submitted(alice, asked("return")) == first
        refused = await alice.post("/api/tasks", asked("reject"))
        assert (refused.status, refused.body["task_id"]) == (409, first)
        assert first in refused.body["detail"]
        second = await submitted(alice, asked("replace"))
        assert second != first
        assert (await look(alice, first))["status"] == "cancelled"
        bob = alice.as_user(make_token("bob"))
        assert await submitted(bob, asked("reject")) not in (first, second)


@pytest.mark.gen_test
async def test_waiting_task_says_what_it_waits_for(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("alice")) as alice:
        admin = alice.as_user(make_token("root", scope="rt:admin"))
        waits = await submitted(alice, film())
        assert (await look(alice, waits))["waiting_for"] == {
            "code": "worker",
            "message": "a worker that runs video.transcode",
        }
        far = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        later = await look(alice, await submitted(alice, film() | {"run_at": far}))
        assert later["status"] == "delayed"
        assert later["waiting_for"]["code"] == "schedule"
        assert later["run_at"] in later["waiting_for"]["message"]
        await admin.post("/api/queue/pause", {"kind": "video.transcode"})
        assert (await look(alice, waits))["waiting_for"] == {
            "code": "paused",
            "message": "an admin to resume video.transcode",
        }
        [listed] = (await alice.get("/api/tasks?status=queued")).body["items"]
        assert listed["waiting_for"]["code"] == "paused"


@pytest.mark.gen_test
async def test_pause_of_all_kinds_is_shown_and_said(idle: Settings, make_token: Token) -> None:
    """Beside that of a kind by its name, which resuming all does not end."""
    async with serving(idle, make_token("root", scope="rt:admin")) as admin:
        kind = {"kind": "report"}
        waits = await submitted(admin, paper())

        async def shown() -> list[bool]:
            kinds = (await admin.get("/api/kinds")).body
            [report] = [one for one in kinds["items"] if one["kind"] == "report"]
            over_all = (await admin.get("/api/queue/limits")).body["paused"]
            of_kind = (await admin.get("/api/kinds/report/limits")).body["paused"]
            assert (kinds["paused_all"], report["paused"]) == (over_all, of_kind)
            return [over_all, of_kind]

        async def reason() -> str:
            task = await look(admin, waits)
            assert task["waiting_for"]["code"] == "paused"
            assert "starts_in" not in task
            return str(task["waiting_for"]["message"])

        assert await shown() == [False, False]
        await admin.post("/api/queue/pause")
        await admin.post("/api/queue/pause", kind)
        assert await shown() == [True, True]
        assert await reason() == "an admin to resume all kinds"
        resumed = await admin.post("/api/queue/resume", kind)
        assert resumed.body == {**kind, "paused": False, "paused_all": True}
        assert await shown() == [True, False]
        assert await reason() == "an admin to resume all kinds"
        await admin.post("/api/queue/pause", kind)
        resumed = await admin.post("/api/queue/resume")
        assert resumed.body == {"kind": "", "paused": False, "paused_all": False}
        assert await shown() == [False, True]
        assert await reason() == "an admin to resume report"
        await admin.post("/api/queue/resume", kind)
        assert (await look(admin, waits))["waiting_for"]["code"] == "worker"


@pytest.mark.gen_test
async def test_next_task_waits_for_a_busy_worker_to_be_free(
    working: Settings, make_token: Token
) -> None:
    busy = working.changed(worker_concurrency=3, queue_user_limit=0, queue_global_limit=0)
    async with serving(busy, make_token("alice")) as alice:
        running = [await submitted(alice, paper(how="wait")) for _ in range(3)]
        for task_id in running:
            await until(lambda at=task_id: is_running(alice, at))
        following = await look(alice, await submitted(alice, paper()))
        assert following["position"] == 1
        assert following["waiting_for"] == {
            "code": "worker",
            "message": "a worker that runs report to be free",
        }
        behind = await look(alice, await submitted(alice, paper()))
        assert behind["waiting_for"] == {"code": "line", "message": "its turn"}
        for task_id in running:
            await alice.delete(f"/api/tasks/{task_id}")
        await ended(alice, behind["task_id"])


@pytest.mark.gen_test
async def test_limits_hold_and_say_so(working: Settings, make_token: Token) -> None:
    """Those of the kind for a user; others of theirs start meanwhile."""
    roomy = working.changed(queue_user_limit=0, queue_global_limit=0)
    async with serving(roomy, make_token("alice")) as alice:
        admin = alice.as_user(make_token("root", scope="rt:admin"))
        changed = await admin.send("PUT", "/api/kinds/report/limits", {"user_limit": 1})
        assert changed.body["limits"]["user_limit"] == 1
        first = await submitted(alice, paper(how="wait"))
        await until(lambda: is_running(alice, first))
        second = await submitted(alice, paper("held"))
        held = await look(alice, second)
        assert held["waiting_for"] == {
            "code": "kind_user_limit",
            "message": "one of its user's running tasks of report to end",
        }
        await ended(alice, await submitted(alice, film()))
        await alice.delete(f"/api/tasks/{first}")
        assert (await ended(alice, second))["status"] == "completed"


async def is_running(client: Client, task_id: str) -> bool:
    return (await look(client, task_id))["status"] == "processing"


@pytest.mark.gen_test
async def test_tasks_are_found_by_what_is_asked_for(idle: Settings, make_token: Token) -> None:
    """Newest first, page by page; none of another user."""
    async with serving(idle, make_token("alice")) as alice:
        begun = datetime.now(UTC)
        for number in range(5):
            body = paper(f"r{number}") | {"tags": ["odd" if number % 2 else "even"]}
            await submitted(alice, body)
        await submitted(alice, film())
        await submitted(alice.as_user(make_token("bob")), paper("bobs"))
        assert await labels(alice, "kind=report") == ["r4", "r3", "r2", "r1", "r0"]
        assert await labels(alice, "tag=odd") == ["r3", "r1"]
        assert await labels(alice, "q=A.MP4") == ["a.mp4 as 1080p"]
        assert await labels(alice, "status=processing") == []
        assert len(await labels(alice, "status=queued")) == 6
        later = (begun + timedelta(hours=1)).isoformat().replace("+", "%2B")
        before = (begun - timedelta(hours=1)).isoformat().replace("+", "%2B")
        assert len(await labels(alice, f"since={before}&until={later}")) == 6
        assert await labels(alice, f"since={later}") == []
        first = (await alice.get("/api/tasks?limit=4")).body
        rest = (await alice.get(f"/api/tasks?limit=4&before={first['next']}")).body
        assert len(first["items"]) == 4
        assert [one["label"] for one in rest["items"]] == ["r1", "r0"]
        assert rest["next"] is None
        assert await labels(alice, "until=1970-01-01T00:00:00Z") == []
        assert len(await labels(alice, "since=1970-01-01T00:00:00Z")) == 6
        cancelled = (await alice.get("/api/tasks?tag=odd&limit=1")).body["items"][0]["task_id"]
        await alice.delete(f"/api/tasks/{cancelled}")
        assert await labels(alice, "tag=odd&status=queued&status=cancelled") == ["r3", "r1"]
        assert await labels(alice, "status=dead&status=cancelled") == ["r3"]
        for bad in ("status=gone", "limit=0", "limit=x", "since=tomorrow", "before=x"):
            assert (await alice.get(f"/api/tasks?{bad}")).status == 400


@pytest.mark.gen_test
async def test_admin_sees_watches_and_cancels_everybodys_tasks(
    idle: Settings, make_token: Token
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        admin = alice.as_user(make_token("root", scope="rt:admin"))
        bob = alice.as_user(make_token("bob"))
        task_id = await submitted(alice, film())
        made = await alice.post("/api/batches", {"kind": "report", "items": [paper()]})
        assert made.status == 422
        batch = {"kind": "report", "items": [{"params": {"name": "x"}}]}
        batch_id = (await alice.post("/api/batches", batch)).body["batch_id"]
        for path in (f"/api/tasks/{task_id}", f"/api/batches/{batch_id}"):
            assert (await bob.get(path)).status == 404
            assert (await admin.get(path)).status == 200
            stream = await admin.stream(path)
            assert (await event_of(stream, "connected"))["user_id"] == "root"
            await stream.close()
        socket = await admin.socket(f"/api/ws/tasks/{task_id}")
        assert "connected" in str(await socket.read_message())
        assert await labels(admin, "user=alice") == ["x", "a.mp4 as 1080p"]
        assert await labels(admin, "") == await labels(admin, "user=") == []
        assert await labels(admin, f"batch={batch_id}") == ["x"]
        assert await labels(admin, f"batch={batch_id}&user=*") == ["x"]
        assert await labels(admin, f"batch={batch_id}&user=root") == []
        assert await labels(admin, "batch=unknown") == []
        assert await labels(bob, f"batch={batch_id}") == []
        assert (await bob.get("/api/tasks?user=alice")).status == 403
        assert (await bob.get("/api/tasks?user=*")).status == 403
        assert (await bob.get("/api/tasks?user=bob")).status == 200
        assert (await admin.delete(f"/api/tasks/{task_id}")).body["status"] == "cancelled"
        assert (await admin.delete(f"/api/batches/{batch_id}")).body["status"] == "cancelled"


@pytest.mark.gen_test
async def test_admin_lists_the_tasks_of_all_users(idle: Settings, make_token: Token) -> None:
    """In one list, page by page."""
    async with serving(idle, make_token("alice")) as alice:
        admin = alice.as_user(make_token("root", scope="rt:admin"))
        for name in ("alice", "bob", "carol"):
            await submitted(alice.as_user(make_token(name)), paper(f"{name}s"))
        found = (await admin.get("/api/tasks?user=*&limit=2")).body
        assert [(one["label"], one["user_id"]) for one in found["items"]] == [
            ("carols", "carol"),
            ("bobs", "bob"),
        ]
        assert await labels(admin, f"user=*&before={found['next']}") == ["alices"]


@pytest.mark.gen_test
async def test_batch_lays_the_items_over_the_common_parameters(
    working: Settings, make_token: Token
) -> None:
    """Its children are listed with status and error."""
    async with serving(working, make_token("alice")) as alice:
        body = {
            "kind": "report",
            "params": {"name": "common", "how": "final"},
            "items": [
                {"label": "first", "params": {"how": ""}},
                {"params": {"name": "second"}, "priority": "low", "key": "acme"},
            ],
        }
        made = await alice.post("/api/batches", body)
        assert (made.status, made.body["submitted"]) == (202, 2)
        stream = await alice.stream(made.body["links"]["events"])
        finished = await event_of(stream, "finished")
        assert (finished["final_status"], finished["completed"]) == ("partial", 1)
        await stream.close()
        path = f"/api/batches/{made.body['batch_id']}/tasks"
        children = (await alice.get(path)).body["items"]
        told = {one["label"]: (one["status"], one["error"], one["key"]) for one in children}
        assert told == {
            "first": ("completed", None, ""),
            "second": ("failed", "there is no such report", "acme"),
        }
        assert (await alice.as_user(make_token("bob")).get(path)).status == 404
        listed = await labels(alice, f"batch={made.body['batch_id']}&status=failed")
        assert listed == ["second"]
        [one] = (await until(lambda: notified(alice)))["items"]
        assert (one["title"], one["content"]) == ("Batch: partial", "1 of 2 completed")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"kind": "report", "items": []}, "items must name one or more"),
        ({"kind": "report", "items": [{}, {"params": {"name": 1}}]}, "items[1].params.name must"),
        ({"kind": "report", "items": [{"name": "x"}]}, "items[0] has unknown fields: name"),
        ({"kind": "report", "items": [{"label": ""}]}, "items[0].label must have 1 to 200"),
        ({"kind": "report"}, "items is required"),
        ({"kind": "nothing", "items": [{}]}, "nothing"),
        ({"kind": "report", "items": [{}] * 101}, "items must have at most 100 items"),
    ],
)
async def test_wrong_batch_is_422(
    idle: Settings, make_token: Token, body: dict[str, Any], told: str
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        answer = await alice.post("/api/batches", body)
        assert answer.status == 422
        assert told in " ".join([answer.body["detail"], *answer.body.get("errors", [])])
        assert (await alice.get("/api/queue/stats")).body["queued"] == 0


def films(*items: Any, **more: Any) -> dict[str, Any]:
    return {"kind": "video.transcode", "items": list(items), **more}


COMMON = {"params": {"preset": 5, "z": 1}}
A, B = {"params": {"path": "a"}}, {"params": {"path": "b", "y": 1}}
OTHER = {"params": {"path": "c", "preset": 6}}
TOLD_OF_BATCHES: list[tuple[dict[str, Any], list[str]]] = [
    (
        films({"label": 5, "params": {"path": 1}}, 7, {"params": {"crf": ""}}),
        [
            "items[0].label must be a string",
            "items[1] must be a JSON object",
            "items[0].params.path must be a string",
            "items[2].params.path is required",
            "items[2].params.crf must be an integer",
        ],
    ),
    (
        {"kind": "nope", "items": [{"label": 5}]},
        ["items[0].label must be a string", "there is no kind nope"],
    ),
    ({"kind": "video.transcode"}, ["items is required"]),
    ({"kind": "analysis", "symbols": ["A"]}, ["unknown fields: symbols", "items is required"]),
    (
        films(A, B, OTHER, **COMMON),
        [
            "params has unknown fields: z",
            "params.preset must be a string",
            "items[1].params has unknown fields: y",
            "items[2].params.preset must be a string",
        ],
    ),
    (
        films(A, B, A, **COMMON, priority=1),
        [
            "priority must be one of highest, high, normal, low, lowest",
            "params has unknown fields: z",
            "params.preset must be a string",
            "items[1].params has unknown fields: y",
        ],
    ),
    (films(A, params=[]), ["params must be a JSON object"]),
    (
        films({}, params={"path": "x" * 70_000}),
        ["params has 70011 bytes as JSON; at most 65536 are allowed"],
    ),
    (films(params={"path": 1}), ["items must name one or more"]),
    (
        {"symbols": ["A", 5, ""]},
        ["symbols[1] must be a string", "symbols[2] must have 1 to 64 characters"],
    ),
    ({"params": {"a": 1}}, ["kind is required", "items is required"]),
]


@pytest.mark.gen_test
@pytest.mark.parametrize(("body", "told"), TOLD_OF_BATCHES)
async def test_each_fault_of_a_batch_is_told_once_at_its_place(
    idle: Settings, make_token: Token, body: dict[str, Any], told: list[str]
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        answer = await alice.post("/api/batches", body)
        assert (answer.status, answer.body["errors"]) == (422, told)
        # A server that knows the kind by its schema alone says the same.
        stranger = idle.changed(kinds=[], data_dir=idle.server.data_dir / "other")
        async with serving(stranger, make_token("alice")) as other:
            again = await other.post("/api/batches", body)
            assert again.body["errors"] == answer.body["errors"]


@pytest.mark.gen_test
async def test_kinds_say_what_they_take_and_who_runs_them(
    working: Settings, make_token: Token
) -> None:
    async with serving(working, make_token("alice")) as alice:

        async def with_workers() -> dict[str, Any] | None:
            items = (await alice.get("/api/kinds")).body["items"]
            found = {one["kind"]: one for one in items}
            return found if all(one["workers"] for one in items) else None

        found = await until(with_workers)
        assert found is not None
        assert sorted(found) == ["analysis", "plain", "report", "video.transcode"]
        film_kind = found["video.transcode"]
        assert film_kind["title"] == "Transcode a film"
        assert film_kind["label"] == "{path} as {preset}"
        assert (film_kind["limits"]["limit"], film_kind["limits"]["user_limit"]) == (8, 2)
        assert (film_kind["max_attempts"], film_kind["timeout"]) == (5, 3600)
        numbers = {name: film_kind[name] for name in ("queued", "running", "workers", "paused")}
        assert numbers == {"queued": 0, "running": 0, "workers": 1, "paused": False}
        schema = film_kind["params_schema"]
        assert schema["required"] == ["path"]
        assert schema["properties"]["preset"]["default"] == "1080p"


@pytest.mark.gen_test
async def test_admin_pauses_drains_and_resumes(working: Settings, make_token: Token) -> None:
    """One kind; the others go on."""
    async with serving(working, make_token("root", scope="rt:admin")) as admin:
        runs = await submitted(admin, paper(how="wait"))
        await until(lambda: is_running(admin, runs))
        drained = await admin.post("/api/queue/drain", {"kind": "report"})
        assert (drained.status, drained.body["running"]) == (200, 1)
        waits = await submitted(admin, paper())
        await ended(admin, await submitted(admin, film()))
        assert (await look(admin, waits))["status"] == "queued"
        await admin.delete(f"/api/tasks/{runs}")
        assert (await admin.post("/api/queue/drain", {"kind": "report"})).body["running"] == 0
        assert (await admin.post("/api/queue/resume", {"kind": "report"})).status == 200
        await ended(admin, waits)
        assert (await admin.post("/api/queue/pause")).status == 200
        held = await submitted(admin, film())
        assert (await look(admin, held))["waiting_for"]["code"] == "paused"
        await admin.post("/api/queue/resume")
        await ended(admin, held)
        assert (await admin.post("/api/queue/pause", {"kind": "nothing"})).status == 404


@pytest.mark.gen_test
async def test_admin_purges_by_filter(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("alice")) as alice:
        admin = alice.as_user(make_token("root", scope="rt:admin"))
        for _ in range(3):
            await submitted(alice, paper())
        await submitted(alice, film())
        asked = {"status": "queued", "kind": "report", "limit": 2}
        assert (await admin.post("/api/queue/purge", asked)).body == {"purged": 2}
        stats = (await alice.get("/api/queue/stats")).body
        assert (stats["queued"], stats["cancelled"]) == (2, 2)
        gone = await admin.post("/api/queue/purge", {"status": "cancelled", "user": "alice"})
        assert gone.body == {"purged": 2}
        for bad in ({}, {"status": "processing"}, {"status": "queued", "limit": -1}):
            assert (await admin.post("/api/queue/purge", bad)).status == 422
        tagged = {"status": "queued", "tag": "drop"}
        assert (await admin.post("/api/queue/purge", tagged)).body == {"purged": 0}
        dropped = await submitted(alice, film() | {"tags": ["drop"]})
        assert (await admin.post("/api/queue/purge", tagged)).body == {"purged": 1}
        assert (await look(alice, dropped))["status"] == "cancelled"
        assert (await admin.post("/api/queue/purge", tagged | {"after": "2"})).body == {"purged": 0}
        wrong = await admin.post("/api/queue/purge", tagged | {"after": "2report/0"})
        assert wrong.status == 422
        nobody = {"status": "queued", "kind": "nothing"}
        assert (await admin.post("/api/queue/purge", nobody)).status == 404
        rest = {"status": "queued", "after": "2report/0", "user": "*"}
        assert (await admin.post("/api/queue/purge", rest)).body == {"purged": 2}
        for place in ("2", "/5", "./1", 5):
            assert (await admin.post("/api/queue/purge", rest | {"after": place})).status == 422


@pytest.mark.gen_test
async def test_admin_moves_limits_until_he_drops_them(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("root", scope="rt:admin")) as admin:
        path = "/api/kinds/video.transcode/limits"
        own = (await admin.get(path)).body
        assert (own["limits"]["limit"], own["changed"]) == (8, {})
        await admin.send("PUT", path, {"limit": 1})
        merged = (await admin.send("PUT", path, {"rate": "10/m"})).body
        assert merged["changed"] == {"limit": 1, "rate": "10/m"}
        assert (merged["limits"]["limit"], merged["limits"]["user_limit"]) == (1, 2)
        assert (await admin.delete(path)).body == own
        both = await admin.send("PUT", "/api/queue/limits", {"global_limit": 7, "order": "fair"})
        assert (both.body["limits"]["global_limit"], both.body["limits"]["order"]) == (7, "fair")
        assert (await admin.delete("/api/queue/limits")).body["changed"] == {}
        for bad in ({"limit": -1}, {"limit": "1"}, {"rate": "often"}, {"nope": 1}, []):
            assert (await admin.send("PUT", path, bad)).status == 422
        assert (await admin.get("/api/kinds/nothing/limits")).status == 404


ADMINS: list[tuple[str, str, Any]] = [
    ("POST", "/api/tasks/retry", {"user": "bob"}),
    ("POST", "/api/queue/pause", {}),
    ("POST", "/api/queue/resume", {}),
    ("POST", "/api/queue/drain", {}),
    ("POST", "/api/queue/purge", {"status": "queued"}),
    ("GET", "/api/queue/limits", None),
    ("PUT", "/api/queue/limits", {}),
    ("DELETE", "/api/queue/limits", None),
    ("GET", "/api/kinds/report/limits", None),
    ("PUT", "/api/kinds/report/limits", {}),
    ("DELETE", "/api/kinds/report/limits", None),
]


@pytest.mark.gen_test
async def test_operating_is_an_admins(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("alice")) as alice:
        for method, path, body in ADMINS:
            answer = await alice.send(method, path, body)
            assert (answer.status, method, path) == (403, method, path)
            nobody = await alice.as_user("").send(method, path, body)
            assert (nobody.status, method, path) == (401, method, path)


@pytest.mark.gen_test
async def test_metrics_tell_each_kind_apart(working: Settings, make_token: Token) -> None:
    async with serving(working, make_token("root", scope="rt:admin")) as admin:
        await ended(admin, await submitted(admin, paper(fails=1)))
        await admin.post("/api/queue/pause", {"kind": "video.transcode"})
        await submitted(admin, film())
        text = (await admin.get("/metrics")).body.decode()
        found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
        assert float(found['rt_queue_depth{kind="video.transcode"}']) == 1
        assert float(found['rt_queue_depth{kind="report"}']) == 0
        assert 0 <= float(found['rt_queue_oldest_seconds{kind="video.transcode"}']) < 30
        assert float(found['rt_tasks_total{kind="report",outcome="completed"}']) == 1
        assert float(found['rt_task_retries_total{kind="report"}']) == 1
        assert float(found['rt_task_run_seconds_count{kind="report"}']) == 2
        assert float(found['rt_task_wait_seconds_count{kind="report"}']) == 2
        assert float(found["rt_outbox_lag_seconds"]) < 30


@pytest.mark.gen_test
async def test_server_knows_a_kind_of_another_process_without_its_code(
    idle: Settings, working: Settings, make_token: Token
) -> None:
    """It validates by the schema, in the same words, and the other's worker runs it."""
    stranger = idle.changed(kinds=[], data_dir=idle.server.data_dir / "other")
    async with (
        serving(working, make_token("alice")),
        serving(stranger, make_token("alice")) as alice,
    ):
        wrong = await alice.post("/api/tasks", film(preset=5, size=1))
        assert set(wrong.body["errors"]) == {
            "params has unknown fields: size",
            "params.preset must be a string",
        }
        task = await ended(alice, await submitted(alice, film()))
        assert (task["label"], task["params"]["preset"]) == ("a.mp4 as 1080p", "1080p")
        assert task["result"] == {"written": "a.mp4.1080p"}
        assert [step["name"] for step in task["steps"]] == ["probe", "transcode", "upload"]


@pytest.mark.gen_test
async def test_server_takes_no_analysis_where_none_is_offered(
    idle: Settings, make_token: Token
) -> None:
    async with serving(idle.changed(worker_handler=""), make_token("alice")) as alice:
        answer = await alice.post("/api/tasks", {"symbol": "AAPL"})
        assert answer.status == 422
        assert "analysis" in answer.body["detail"]
        await submitted(alice, paper())


@pytest.mark.gen_test
async def test_same_idempotency_key_gives_the_same_task(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("alice")) as alice:
        key = {"Idempotency-Key": "k1"}
        first, again = [await alice.send("POST", "/api/tasks", paper(), key) for _ in range(2)]
        assert first.body == again.body
        other = await alice.send("POST", "/api/tasks", paper("other"), key)
        assert other.status == 422
