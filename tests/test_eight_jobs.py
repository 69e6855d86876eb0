"""Eight jobs that developers have brought, each done from outside, over HTTP.

The server is `run.py --kinds …`, started in a folder of the developer's. Tokens are the
application's own.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.conftest import ROOT
from tests.jobs.application import JOBS, Application, Command, part, running_application
from tests.jobs.receivers import Receiver, receiving, serving_wsgi
from tests.jobs.shop import Shop
from tests.waiting import wait_until

pytestmark = pytest.mark.long

KINDS = ("film", "agent", "report", "invoice")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """One server for all jobs."""
    with running_application(tmp_path_factory.mktemp("jobs"), KINDS) as app:
        for name in ("customers", "numbers"):
            (app.folder / name).mkdir()
        yield app


@attrs.frozen
class Film:
    """A film that a camera records while it is transcoded."""

    path: Path

    @classmethod
    def begin(cls, app: Application, name: str, frames: int) -> "Film":
        """Begin to record a film of this many frames."""
        film = cls(app.folder / name)
        film.path.write_text(f"{frames}\n")
        return film

    def record(self, frames: int) -> None:
        """Record more frames."""
        with self.path.open("a") as file:
            file.write("FRAME\n" * frames)


def transcode(app: Application, user: str, name: str) -> str:
    """Have a film transcoded; return the task's id."""
    return app.submit(user, "video.transcode", {"path": name})


def says(app: Application, user: str, task_id: str, message: str) -> bool:
    """Say whether this is what a task told last."""
    return bool(app.task(user, task_id)["message"] == message)


# A film is transcoded


def test_film_is_followed_frame_by_frame(app: Application) -> None:
    """Its steps have their weights, percent inside the long one moves the whole."""
    film = Film.begin(app, "holiday.mov", 105)
    body = {"kind": "video.transcode", "params": {"path": "holiday.mov"}}
    submitted = app.ask("anna", "POST", "/api/tasks", body)
    task_id = submitted.body["task_id"]
    address = f"/api/tasks/{task_id}"
    assert (submitted.status, submitted.headers["Location"]) == (202, address)
    links = {"self": address, "events": address, "socket": f"/api/ws/tasks/{task_id}"}
    assert submitted.body == {
        "task_id": task_id,
        "kind": "video.transcode",
        "label": "holiday.mov as 1080p",
        "status": "queued",
        "position": 1,
        "links": links | {"page": f"/?task={task_id}"},
    }
    film.record(42)
    with app.follow("anna", task_id) as stream:
        shown = stream.until(lambda data: data["message"] == "42 of 105 frames")
        halfway = {
            "label": "holiday.mov as 1080p",
            "status": "processing",
            "progress": 41.0,
            "current_step": 1,
            "current_step_name": "Writing the film",
            "total_steps": 3,
        }
        assert part(shown, halfway) == halfway
        assert [(step["name"], step["weight"], step["status"]) for step in shown["steps"]] == [
            ("probe", 0.05, "completed"),
            ("transcode", 0.9, "current"),
            ("upload", 0.05, "pending"),
        ]
        assert shown["remaining_time"] > 0
        film.record(63)
        events = list(stream)
    percents = [event.data["progress"] for event in events if event.type == "progress"]
    assert percents == sorted(percents)
    assert percents[-1] == 100.0
    result = {"path": "holiday.1080p", "frames": 105}
    finished = {"task_id": task_id, "final_status": "completed", "result": result}
    assert (events[-1].type, events[-1].data) == ("finished", finished)
    task = app.task("anna", task_id)
    ended = {
        "kind": "video.transcode",
        "params": {"path": "holiday.mov", "preset": "1080p"},
        "status": "completed",
        "message": "Done",
        "result": result,
        "error": None,
        "attempt": 1,
        "max_attempts": 5,
    }
    assert part(task, ended) == ended
    assert task["created_at"] <= task["started_at"] < task["ended_at"]
    wait_until(
        lambda: titles(app, "anna") == ["Your film is ready", "holiday.mov as 1080p: completed"]
    )


def titles(app: Application, user: str) -> list[str]:
    """Return what a user was notified of."""
    items = app.ask(user, "GET", "/api/notifications").body["items"]
    return sorted(item["title"] for item in items)


def test_film_is_cancelled_halfway(app: Application) -> None:
    """Its handler ends and cleans up; where it was stays to be seen."""
    film = Film.begin(app, "wedding.mov", 10)
    film.record(5)
    task_id = transcode(app, "ben", "wedding.mov")
    half_written = film.path.with_suffix(".1080p")
    with app.follow("ben", task_id) as stream:
        stream.until(lambda data: data["message"] == "5 of 10 frames")
        assert half_written.exists()
        cancelled = app.ask("ben", "DELETE", f"/api/tasks/{task_id}")
        assert (cancelled.status, cancelled.body["status"]) == (200, "cancelled")
        finished = list(stream)[-1]
    assert finished.data == {"task_id": task_id, "final_status": "cancelled"}
    wait_until(lambda: not half_written.exists(), what="the handler has cleaned up")
    kept = {"status": "cancelled", "progress": 50.0, "result": None, "attempt": 1}
    task = app.task("ben", task_id)
    assert part(task, kept) == kept
    assert [one["outcome"] for one in task["attempts"]] == ["cancelled"]


def test_user_transcodes_two_films_at_once(app: Application) -> None:
    """The third waits and says for what; another user's starts."""
    films = [Film.begin(app, f"serial{number}.mov", 1) for number in range(4)]
    first, second, third = (transcode(app, "cleo", f"serial{number}.mov") for number in range(3))
    others = transcode(app, "dora", "serial3.mov")
    for user, task_id in (("cleo", first), ("cleo", second), ("dora", others)):
        wait_until(lambda at=(user, task_id): says(app, *at, "Writing the film"))
    waiting = {
        "code": "kind_user_limit",
        "message": "one of its user's running tasks of video.transcode to end",
    }
    task = app.task("cleo", third)
    assert (task["status"], task["position"], task["waiting_for"]) == ("queued", 1, waiting)
    running = app.tasks("cleo", status="processing", kind="video.transcode")
    assert {task["task_id"] for task in running} == {first, second}
    for film in films:
        film.record(1)
    for user, task_id in (("cleo", first), ("cleo", third), ("dora", others)):
        ended = app.ended(user, task_id)
        assert ended["status"] == "completed"
        assert ended["waiting_for"] is None


def test_wrong_film_is_refused_with_every_fault(app: Application) -> None:
    """Before it waits, and in words."""
    body = {"kind": "video.transcode", "params": {"preset": "4k", "size": 3}, "priority": "urgent"}
    refused = app.ask("anna", "POST", "/api/tasks", body)
    assert refused.status == 422
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.body["errors"] == [
        "priority must be one of highest, high, normal, low, lowest",
        "params has unknown fields: size",
        "params.path is required",
        "params.preset must be one of 720p, 1080p",
    ]
    body = {"kind": "video.transcod", "params": {"path": "a.mov"}}
    refused = app.ask("anna", "POST", "/api/tasks", body)
    told = "there is no kind video.transcod; did you mean video.transcode?"
    assert (refused.status, refused.body["detail"]) == (422, told)


# An agent answers


def test_agent_answers_in_steps_that_it_finds_on_the_way(app: Application) -> None:
    """Without a plan at first; what was said is kept while the model is overloaded."""
    with receiving() as model:
        question = {"text": "北京今天天气怎么样？", "model": model.url}
        task_id = app.submit("emil", "agent.answer", question)
        with app.follow("emil", task_id) as stream:
            first = model.next()
            assert first.body == {"messages": [{"role": "user", "content": "北京今天天气怎么样？"}]}
            shown = stream.until(lambda data: data["message"] == "正在思考…")
            planless = {
                "label": "北京今天天气怎么样？",
                "progress": 0.0,
                "total_steps": 0,
                "current_step_name": "",
                "steps": [],
                "remaining_time": None,
            }
            assert part(shown, planless) == planless
            first.answer(200, {"content": "我查一下", "place": "北京", "tokens": 12})
            shown = stream.until(lambda data: data["total_steps"] and "思考" in data["message"])
            assert [(step["description"], step["status"]) for step in shown["steps"]] == [
                ("查询天气：北京", "completed")
            ]
            assert (shown["total_steps"], shown["progress"]) == (1, 50.0)
            overloaded = model.next()
            said = overloaded.body["messages"]
            assert [one["content"] for one in said][1:] == ["我查一下", "晴，21 度"]
            overloaded.answer(529, Retry_After="0.3")
            wait_until(lambda: app.task("emil", task_id)["status"] == "delayed")
            waits = app.task("emil", task_id)
            assert waits["waiting_for"]["code"] == "schedule"
            again = model.next()
            assert again.body["messages"] == said
            again.answer(200, {"content": "北京今天晴，21 度。", "tokens": 45})
            finished = list(stream)[-1]
        assert model.idle
    result = {"answer": "北京今天晴，21 度。", "tokens": 57}
    assert finished.data == {"task_id": task_id, "final_status": "completed", "result": result}
    task = app.task("emil", task_id)
    told = [(one["attempt"], one["outcome"], one["error"]) for one in task["attempts"]]
    assert told == [(1, "retry", "模型过载"), (2, "completed", None)]
    assert task["result"] == result


# A report is made every night


def test_nightly_report_stands_in_the_code_of_its_kind(app: Application) -> None:
    """Its owner sees when it is made next, by the clock of their town, and may have it made now."""
    path = "/api/schedules/report.nightly:sales"
    wait_until(lambda: app.ask("rosa", "GET", path).status, equal=200)
    berlin = ZoneInfo("Europe/Berlin")
    tonight = datetime.now(berlin).replace(hour=4, minute=30, second=0, microsecond=0)
    while tonight < datetime.now(berlin) or tonight.isoweekday() > 5:
        tonight += timedelta(days=1)
    listed = {
        "name": "report.nightly:sales",
        "user_id": "rosa",
        "kind": "report.nightly",
        "params": {"department": "sales"},
        "cron": "30 4 * * mon-fri",
        "timezone": "Europe/Berlin",
        "overlap": "skip",
        "missed": "last",
        "enabled": True,
        "source": "code",
        "next_at": tonight.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        "last_at": None,
        "last_task_id": None,
    }
    assert part(app.ask("rosa", "GET", path).body, listed) == listed
    [found] = app.ask("rosa", "GET", "/api/schedules").body["items"]
    assert part(found, listed) == listed
    assert app.ask("sven", "GET", path).status == 404
    (app.folder / "numbers" / "sales").write_text("1\n2\n39\n")
    made = app.ask("rosa", "POST", f"{path}/run")
    assert (made.status, made.body["label"]) == (202, "Report of sales")
    task = app.ended("rosa", made.body["task_id"])
    assert task["result"] == {"department": "sales", "total": 42}


def test_report_is_tried_until_it_can_be_made(app: Application) -> None:
    """Every second here, but one at a time: the next ones are skipped until this one is made."""
    body = {
        "name": "costs",
        "kind": "report.nightly",
        "params": {"department": "costs"},
        "every": 1,
        "overlap": "skip",
        "tags": ["costs"],
    }
    made = app.ask("theo", "POST", "/api/schedules", body)
    assert (made.status, made.headers["Location"]) == (201, "/api/schedules/costs")
    path = "/api/schedules/costs"

    def is_skipped() -> bool:
        because: str | None = app.ask("theo", "GET", path).body["skipped_because"]
        return because == "the last task has not ended"

    wait_until(is_skipped, what="another time has come")
    schedule = app.ask("theo", "GET", path).body
    told = {"fired": 1}
    assert part(schedule, told) == told
    [task] = app.tasks("theo", tag="costs")
    assert task["task_id"] == schedule["last_task_id"]
    assert app.ask("theo", "PUT", path, {"enabled": False}).body["next_at"] is None
    (app.folder / "numbers" / "costs").write_text("5")
    task = app.ended("theo", task["task_id"])
    assert (task["status"], task["result"]) == ("completed", {"department": "costs", "total": 5})
    *errors, last = task["attempts"]
    assert (last["outcome"], last["error"], last["attempt"]) == ("completed", None, task["attempt"])
    why = "FileNotFoundError: [Errno 2] No such file or directory: 'numbers/costs'"
    assert {(one["outcome"], one["error"]) for one in errors} == {("error", why)}
    assert app.ask("theo", "DELETE", path).status == 204
    assert len(app.tasks("theo", tag="costs")) == 1


def test_report_that_cannot_be_made_is_told(app: Application) -> None:
    """To its owner and to the address that the schedule names, with the reason."""
    with receiving() as receiver:
        body = {
            "kind": "report.nightly",
            "params": {"department": "rumours"},
            "cron": "0 0 29 2 *",
            "max_attempts": 2,
            "callback_url": receiver.url,
        }
        assert app.ask("uta", "PUT", "/api/schedules/rumours", body).status == 201
        made = app.ask("uta", "POST", "/api/schedules/rumours/run")
        why = "FileNotFoundError: [Errno 2] No such file or directory: 'numbers/rumours'"
        failed = {
            "task_id": made.body["task_id"],
            "label": "Report of rumours",
            "status": "failed",
            "error": why,
        }
        call = receiver.next()
        call.answer(200)
        assert part(call.body, failed) == failed
    wait_until(lambda: titles(app, "uta"), equal=["Report of rumours: failed"])
    [news] = app.ask("uta", "GET", "/api/notifications").body["items"]
    told = {"severity": "error", "content": why, "link": f"/?task={made.body['task_id']}"}
    assert part(news, told) == told
    outcomes = [one["outcome"] for one in app.task("uta", made.body["task_id"])["attempts"]]
    assert outcomes == ["error", "failed"]


# Three kinds in one worker


@pytest.fixture(scope="module")
def office(app: Application) -> Iterator[Command]:
    """A worker beside the server, which has never seen its kinds."""
    worker = Command(app, "worker", "--kinds", str(JOBS / "office.py"), "--concurrency", "4")
    worker.start()
    yield worker
    assert worker.stop() == 0


def serves(app: Application, kind: str) -> bool:
    """Say whether a worker runs a kind."""
    known = app.kinds().get(kind)
    return known is not None and known["workers"] > 0


def test_slow_kind_does_not_hold_up_the_others(
    app: Application, office: Command, tmp_path: Path
) -> None:
    """Its limit leaves slots for them; its tasks wait for each other."""
    wait_until(lambda: serves(app, "pdf.render"), what="the worker is known")
    described = {
        "title": "pdf.render",
        "label": "{paper}",
        "max_attempts": 3,
        "workers": 1,
        "limits": {"limit": 2, "user_limit": 0, "key_limit": 0, "rate": "", "key_rate": ""},
    }
    assert part(app.kinds()["pdf.render"], described) == described
    paper = tmp_path / "paper"
    slow = [app.submit("finn", "pdf.render", {"paper": str(paper)}) for _ in range(4)]
    wait_until(lambda: app.kinds()["pdf.render"]["running"], equal=2)
    quick = [
        app.submit("finn", "mail.send", {"to": f"guest{number}", "outbox": str(tmp_path)})
        for number in range(10)
    ]
    small = app.submit("finn", "image.thumbnail", {"picture": "a.png"})
    for number, task_id in enumerate(quick):
        assert app.ended("finn", task_id)["result"] == {"sent": f"guest{number}"}
    assert app.ended("finn", small)["result"] == [120, 80]
    assert [app.task("finn", task_id)["status"] for task_id in slow] == [
        *["processing"] * 2,
        *["queued"] * 2,
    ]
    held = {"code": "kind_limit", "message": "a running task of pdf.render to end"}
    # The server may believe for a second that a worker which has just come is not there.
    wait_until(
        lambda: [app.task("finn", task_id).get("waiting_for") for task_id in slow],
        equal=[None, None, held, held],
    )
    paper.write_text("")
    assert [app.ended("finn", task_id)["result"] for task_id in slow] == ["paper"] * 4


def test_kind_that_nobody_serves_waits_for_a_worker(
    app: Application, office: Command, tmp_path: Path
) -> None:
    """It is known after its worker has gone, and its parameters are still looked at."""
    wait_until(lambda: serves(app, "mail.send"), what="the worker is known")
    assert office.stop() == 0
    wait_until(lambda: not serves(app, "mail.send"), what="the worker has gone")
    body = {"kind": "mail.send", "params": {"to": 5}}
    refused = app.ask("gina", "POST", "/api/tasks", body)
    told = ["params.to must be a string", "params.outbox is required"]
    assert (refused.status, refused.body["errors"]) == (422, told)
    task_id = app.submit("gina", "mail.send", {"to": "guest", "outbox": str(tmp_path)})
    nobody = {"code": "worker", "message": "a worker that runs mail.send"}
    wait_until(lambda: app.task("gina", task_id).get("waiting_for"), equal=nobody)
    office.start()
    assert app.ended("gina", task_id)["result"] == {"sent": "guest"}


# A shop enqueues


@pytest.fixture
def shop(app: Application) -> Iterator[tuple[Shop, Receiver]]:
    """A shop, and what it is called back by."""
    with receiving() as receiver:
        yield Shop(app.url, receiver.url, app.token), receiver


def test_django_view_enqueues_an_order_once(app: Application, shop: tuple[Shop, Receiver]) -> None:
    """However often it is clicked; the shop is called back when it has ended."""
    enqueue, receiver = shop
    (app.folder / "customers" / "hugo").write_text("Hugo, Berlin")
    order = {"number": 17, "customer": "hugo", "cents": 1999}
    with serving_wsgi(enqueue.django) as url:
        status, first = post(url, order)
        assert (status, first["label"]) == (202, "Invoice for hugo")
        assert post(url, order)[1]["task_id"] == first["task_id"]
        status, refused = post(url, order | {"cents": 5})
        told = "this idempotency key was used for another request"
        assert (status, refused["detail"]) == (422, told)
    call = receiver.next()
    call.answer(503, Retry_After="0")
    repeated = receiver.next()
    repeated.answer(200)
    assert repeated.body == call.body
    assert call.headers["X-Event-Id"] == repeated.headers["X-Event-Id"] == call.body["event_id"]
    task = app.task("hugo", first["task_id"])
    assert call.body == {
        "event_id": call.body["event_id"],
        "kind": "task",
        "task_kind": "shop.invoice",
        "task_id": first["task_id"],
        "batch_id": "",
        "label": "Invoice for hugo",
        "tags": ["shop", "order-17"],
        "status": "completed",
        "result": {"to": "Hugo, Berlin", "total": "19.99"},
        "error": None,
        "ended_at": task["ended_at"],
    }
    assert [one["task_id"] for one in app.tasks("hugo", tag="order-17")] == [first["task_id"]]


def post(url: str, body: Any) -> tuple[int, dict[str, Any]]:
    """Send an order; return what the view answered."""
    try:
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


def test_fastapi_view_is_told_why_an_order_failed(
    app: Application, shop: tuple[Shop, Receiver]
) -> None:
    """In words, and without another attempt."""
    enqueue, receiver = shop
    order = {"number": 18, "customer": "iris", "cents": 500}
    status, answer = asyncio.run(call_asgi(enqueue.fastapi, order))
    assert (status, answer["status"]) == (202, "queued")
    call = receiver.next()
    call.answer(204)
    failed = {
        "task_id": answer["task_id"],
        "status": "failed",
        "result": None,
        "error": "there is no customer iris",
    }
    assert part(call.body, failed) == failed
    task = app.task("iris", answer["task_id"])
    assert (task["status"], task["attempt"], task["max_attempts"]) == ("failed", 1, 3)


async def call_asgi(application: Any, body: Any) -> tuple[int, dict[str, Any]]:
    """Call an ASGI application as its server would; return its answer."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await application({"type": "http", "method": "POST", "path": "/"}, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


# The application's own tokens

ODD = [
    "auth0|5f7c2b",
    "urn:customer:7/ü?a=b#c",
    "客户 七",
    "{rtq}:active",
    "o'brien \\ %2F",
    "*",
    "9" * 255,
]


@pytest.mark.parametrize("user", ODD, ids=range(len(ODD)))
def test_user_may_have_any_name(app: Application, user: str) -> None:
    """Their tasks and their news are theirs, over every way."""
    Film.begin(app, "none.mov", 0)
    task_id = transcode(app, user, "none.mov")
    assert app.ended(user, task_id)["user_id"] == user
    assert [task["task_id"] for task in app.tasks(user)] == [task_id]
    wait_until(lambda: len(titles(app, user)) == 2, what="both notifications are there")
    assert app.ask("somebody else", "GET", f"/api/tasks/{task_id}").status == 404
    [found] = app.tasks("admin", "rt:admin", user=user, q=task_id)
    assert (found["task_id"], found["user_id"]) == (task_id, user)


@pytest.mark.parametrize("scope", ["rt:admin", "read rt:admin write", ["orders", "rt:admin"]])
def test_admin_runs_again_what_failed_for_another(app: Application, scope: Any) -> None:
    """And sees everybody's; a user does neither."""
    customer = f"jana {scope}"
    task_id = app.submit("jana", "shop.invoice", {"customer": customer, "cents": 100})
    assert app.ended("jana", task_id)["error"] == f"there is no customer {customer}"
    path = f"/api/tasks/{task_id}"
    assert app.ask("kurt", "GET", path).status == 404
    assert app.ask("kurt", "DELETE", path).status == 404
    assert app.ask("kurt", "POST", f"{path}/retry").status == 404
    assert app.ask("kurt", "GET", "/api/tasks?user=jana").status == 403
    [found] = app.tasks("root", scope, user="jana", status="failed", limit="1")
    assert found["task_id"] == task_id

    (app.folder / "customers" / customer).write_text("Jana, Ulm")
    again = app.ask("root", "POST", f"{path}/retry", scope=scope)
    assert (again.status, again.body["task_id"]) == (202, task_id)
    task = app.ended("jana", task_id)
    assert (task["status"], task["user_id"], task["error"]) == ("completed", "jana", None)
    assert [one["outcome"] for one in task["attempts"]] == ["failed", "completed"]


def test_admin_finds_what_failed_for_anybody(app: Application) -> None:
    """And has all of it run again by one request."""
    failed = {
        user: app.submit(user, "shop.invoice", {"customer": "nobody", "cents": 1}, tags=["june"])
        for user in ("nina", "otto")
    }
    for user, task_id in failed.items():
        assert app.ended(user, task_id)["status"] == "failed"
    found = app.tasks("root", "rt:admin", user="*", status="failed", tag="june")
    assert {task["user_id"]: task["task_id"] for task in found} == failed
    (app.folder / "customers" / "nobody").write_text("Nobody, Bonn")
    body = {"kind": "shop.invoice", "status": "failed", "tag": "june"}
    assert app.ask("nina", "POST", "/api/tasks/retry", body | {"user": "otto"}).status == 403
    again = app.ask("root", "POST", "/api/tasks/retry", body, scope="rt:admin")
    assert (again.status, again.body) == (200, {"retried": 2})
    for user, task_id in failed.items():
        assert app.ended(user, task_id)["status"] == "completed"


def test_token_that_the_application_did_not_sign_is_refused(app: Application) -> None:
    """Also one that was signed by its public key, as if that was a secret."""
    strange = attrs.evolve(app, key=rsa.generate_private_key(65537, 2048)).token("lena")
    public = Path(app.environment["RT_JWT_PUBLIC_KEY"]).read_bytes()
    head, claims = (encoded({"alg": "HS256", "typ": "JWT"}), app.token("lena").split(".")[1])
    digest = hmac.new(public, f"{head}.{claims}".encode(), hashlib.sha256).digest()
    confused = f"{head}.{claims}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
    unsigned = f"{encoded({'alg': 'none'})}.{claims}."
    expired = app.token("lena", exp=time.time() - 1)
    for token in (strange, confused, unsigned, expired):
        refused = app.ask("lena", "GET", "/api/tasks", token=token)
        assert refused.status == 401
        assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]


def encoded(part: dict[str, str]) -> str:
    """Return a part of a token."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


# A client elsewhere


class Elsewhere:
    """The client of another machine, and what it is asked to do."""

    def __init__(self, app: Application, user: str) -> None:
        command = [sys.executable, "-I", "-S", str(JOBS / "elsewhere.py"), app.url, app.token(user)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}, text=True
        )

    def begin(self, *call: Any) -> None:
        """Ask it to do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Return what came of what it was asked."""
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def __enter__(self) -> "Elsewhere":
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.kill()


def test_client_elsewhere_comes_back_and_misses_nothing(app: Application) -> None:
    """With Python alone: by an event stream, cut off, by another, and by a WebSocket."""
    film = Film.begin(app, "trip.mov", 10)
    film.record(3)
    with Elsewhere(app, "mara") as client:
        client.begin("submit", {"kind": "video.transcode", "params": {"path": "trip.mov"}})
        task_id = client.end()["task_id"]
        client.begin("stream", task_id, "", "3 of 10 frames")
        first = client.end()["events"]
        film.record(4)
        wait_until(lambda: says(app, "mara", task_id, "7 of 10 frames"))
        client.begin("stream", task_id, first[-1]["id"], "7 of 10 frames")
        second = client.end()["events"]
        client.begin("socket", task_id, second[-1]["id"], "")
        film.record(3)
        third = client.end()
        client.begin("stream", task_id, third["events"][-1]["id"], "")
        assert client.end() == {"status": 204, "events": []}
    assert (third["status"], third["closed"]) == (101, [1000])
    connections = [first, second, third["events"]]
    assert [events[0]["type"] for events in connections] == ["connected"] * 3
    assert [events[0]["data"]["recovered"] for events in connections] == [False, True, True]
    told = [event for events in connections for event in events[1:]]
    assert {event["type"] for event in told[:-1]} == {"progress"}
    result = {"path": "trip.1080p", "frames": 10}
    finished = {"task_id": task_id, "final_status": "completed", "result": result}
    assert (told[-1]["type"], told[-1]["data"]) == ("finished", finished)
    assert told[-2]["data"]["progress"] == 100.0
    numbers = [int(event["id"].rpartition("-")[2]) for event in told]
    assert numbers == list(range(numbers[0], numbers[0] + len(told)))


# Unit tests of one's own work


def test_developer_tests_the_work_alone(tmp_path: Path) -> None:
    """By pytest in an empty folder, without a server's environment."""
    for source, target in (("film.py", "film.py"), ("film_tests.py", "test_film.py")):
        (tmp_path / target).write_bytes((JOBS / source).read_bytes())
    told = run_alone(tmp_path, "-m", "pytest", "-q")
    assert told.returncode == 0, told.stdout
    assert told.stdout.splitlines()[-1].startswith("5 passed")


def test_developer_is_told_what_is_wrong_with_a_module(tmp_path: Path) -> None:
    """By `run.py check`, before anything runs."""
    (tmp_path / "film.py").write_bytes((JOBS / "film.py").read_bytes())
    (tmp_path / "idea.py").write_text("from tornado_rt.work import Kind\n")
    told = run_alone(tmp_path, str(ROOT / "run.py"), "check", "film", "idea")
    assert (told.returncode, told.stdout.splitlines()) == (
        1,
        [f"idea has no kind; it is {tmp_path / 'idea.py'}", "film: 1 kind, nothing wrong"],
    )


def run_alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with nothing of ours in its environment but the path."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
