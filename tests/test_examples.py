"""The examples and the first kind of the README, as a stranger runs them; and in unit tests."""

import asyncio
import itertools
import json
import os
import re
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from cronsim import CronSim

from examples import report as nightly
from examples import three_kinds, video
from examples.films import ffmpeg, frames
from services.checking import check_kinds
from services.kinds import load_kinds
from services.waiting import SHOWN, WORDS
from tests.conftest import ROOT, ServerProcess, program, start_server, stop_server
from tests.ports import free_port
from tests.waiting import until, wait_until
from tests.walks import blocks, make_checkout
from tornado_rt.testing import run_task, run_task_async

EXAMPLES = [f"examples/{name}.py" for name in ("video", "report", "three_kinds")]
ENDS = ("completed", "failed", "cancelled", "dead")


@attrs.frozen
class Site:
    """A running server and one user of it."""

    server: ServerProcess
    folder: Path
    token: str

    def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """Send a request; return its JSON, of a refusal too."""
        request = urllib.request.Request(
            self.server.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Accept": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refusal:
            return json.load(refusal)

    def submit(self, kind: str, params: Any, **more: Any) -> str:
        """Submit a task; return its id."""
        made = self.ask("/api/tasks", {"kind": kind, "params": params, **more})
        assert "task_id" in made, made
        task_id: str = made["task_id"]
        return task_id

    def task(self, task_id: str) -> dict[str, Any]:
        """Read a task."""
        task: dict[str, Any] = self.ask(f"/api/tasks/{task_id}")
        return task

    def ended(self, task_id: str) -> dict[str, Any]:
        """Wait for the end of a task; return it."""

        def over() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["status"] in ENDS else None

        task = wait_until(over, what="the task has ended")
        assert task is not None
        return task

    def titles(self) -> list[str]:
        """Return the titles of the user's notifications, the newest first."""
        return [one["title"] for one in self.ask("/api/notifications")["items"]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server that runs all examples, with folders of its own."""
    folder = tmp_path_factory.mktemp("examples")
    server = start_server(
        folder / "data",
        RT_KINDS=",".join(EXAMPLES),
        RT_WORKER_CONCURRENCY="8",
        RT_QUEUE_USER_LIMIT="0",
        RT_QUEUE_GLOBAL_LIMIT="0",
        RT_REQUESTS_PER_SECOND="0",
        RT_DRAIN_SECONDS="0",
        FILMS=str(folder / "films"),
        REPORTS=str(folder / "reports"),
        SHOP=str(folder / "shop"),
    )
    yield Site(server, folder, token(server.data_dir, "alice"))
    stop_server(server)


@pytest.fixture(scope="module")
def admin(site: Site) -> Site:
    """The same server, for an admin."""
    return attrs.evolve(site, token=token(site.server.data_dir, "root", "--scope=rt:admin"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the examples use in this process."""
    monkeypatch.setattr(video, "FILMS", tmp_path)
    monkeypatch.setattr(video, "READY", tmp_path / "ready")
    monkeypatch.setattr(nightly, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(three_kinds, "SHOP", tmp_path)
    return tmp_path


def token(data_dir: Path, user: str, *scopes: str) -> str:
    made = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "token", "--user", user, *scopes],
        env=os.environ | {"RT_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return made.stdout.strip()


def seconds_of(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def messages_of(reports: list[dict[str, Any]]) -> list[str]:
    return [one["message"] for one in reports]


@pytest.mark.parametrize("path", EXAMPLES)
def test_nothing_is_wrong_with_an_example(path: str) -> None:
    assert check_kinds(str(ROOT / path))[1] == []


def test_film_is_transcoded(site: Site) -> None:
    """Its label, its steps and where it is, from outside."""
    task = site.ended(site.submit("video.transcode", {"preset": "quarter"}))
    assert task["status"] == "completed", task["error"]
    assert task["label"] == "test.y4m to a quarter"
    assert [one["status"] for one in task["steps"]] == ["completed"] * 3
    ready = Path(task["result"]["path"])
    assert ready.parent == site.folder / "films" / "ready"
    assert ready.stat().st_size == task["result"]["bytes"] > 0


def test_wrong_film_is_refused_at_its_submission(site: Site) -> None:
    params = {"path": "../secret", "preset": "tiny"}
    refused = site.ask("/api/tasks", {"kind": "video.transcode", "params": params})
    assert refused["status"] == 422
    assert refused["errors"] == [
        "params.preset must be one of half, quarter",
        "params.path must be the name of a file, such as holiday.mkv",
    ]


def test_film_that_is_not_there_is_not_tried_again(site: Site) -> None:
    task = site.ended(site.submit("video.transcode", {"path": "lost.mkv"}))
    assert (task["status"], task["error"]) == ("failed", "there is no film lost.mkv")
    assert len(task["attempts"]) == 1


def test_frames_become_the_means_of_their_squares(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ffmpeg, "is_there", lambda: False)
    task = run_task(video.transcode, {"preset": "quarter"})
    ready = Path(task.result["path"]).read_bytes()
    head, _, made = ready.partition(b"FRAME\n")
    assert b"W16 H9" in head
    first = next(frames.read(folder / "test.y4m"))
    corner = [first[row * frames.WIDTH + column] for row in range(4) for column in range(4)]
    assert made[0] == sum(corner) // 16
    assert len(ready) == len(head) + frames.FRAMES * (len(b"FRAME\n") + 16 * 9)
    assert f"75 of {frames.FRAMES} frames" in messages_of(task.reports)
    assert [one for one in folder.iterdir() if one.name.startswith(".")] == []


def test_later_attempt_does_not_probe_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "is_there", lambda: False)
    first = run_task(video.transcode, {})
    assert first.kept == {"probe by frames": frames.FRAMES}
    second = run_task(video.transcode, {}, attempt=2, kept={"probe by frames": 300})
    assert "150 of 300 frames" in messages_of(second.reports)


def test_film_is_transcoded_by_ffmpeg(folder: Path) -> None:
    program("ffmpeg")
    task = run_task(video.transcode, {})
    assert task.result["made_by"] == "ffmpeg"
    assert Path(task.result["path"]).read_bytes()[4:8] == b"ftyp"


STAND_IN = """#!/bin/sh
case "$*" in
*-progress*) ;;
*) echo "  Duration: 00:01:40.00, start: 0.0" >&2; exit 1 ;;
esac
echo $$ > "$FFMPEG_PID"
echo out_time_us=N/A
echo out_time_us=42000000
while [ -e "$FFMPEG_PID" ]; do sleep 0.01; done
if [ -n "$FFMPEG_FAILS" ]; then echo 'the disk is full' >&2; exit 1; fi
for last; do :; done
echo film > "$last"
"""


@pytest.fixture
def ffmpeg_pid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for ffmpeg that tells 42 of 100 s and goes on until this file is removed."""
    stand_in = tmp_path / "bin" / "ffmpeg"
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN)
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(stand_in.parent), prepend=os.pathsep)
    monkeypatch.setenv("FFMPEG_PID", str(tmp_path / "pid"))
    return tmp_path / "pid"


def test_progress_of_ffmpeg_is_told(folder: Path, ffmpeg_pid: Path) -> None:
    async def work() -> Any:
        working = asyncio.create_task(run_task_async(video.transcode, {}))
        await until(lambda: ffmpeg_pid.exists() and ffmpeg_pid.read_text().strip())
        ffmpeg_pid.unlink()
        return await working

    task = asyncio.run(work())
    assert task.result["made_by"] == "ffmpeg"
    assert "42 of 100 s" in messages_of(task.reports)
    assert task.kept == {"probe by ffmpeg": 100.0}


def test_failure_of_ffmpeg_is_told_in_its_words(
    folder: Path, ffmpeg_pid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FFMPEG_FAILS", "1")

    async def work() -> Any:
        working = asyncio.create_task(run_task_async(video.transcode, {}))
        await until(lambda: ffmpeg_pid.exists() and ffmpeg_pid.read_text().strip())
        ffmpeg_pid.unlink()
        return await working

    task = asyncio.run(work())
    assert str(task.error) == "ffmpeg failed: the disk is full\n"
    assert [one for one in folder.iterdir() if one.suffix == ".mp4"] == []


def test_ffmpeg_ends_with_a_task_that_is_cancelled(folder: Path, ffmpeg_pid: Path) -> None:
    async def work() -> int:
        working = asyncio.create_task(run_task_async(video.transcode, {}))
        pid = await until(lambda: ffmpeg_pid.exists() and ffmpeg_pid.read_text().strip())
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        return int(pid)

    pid = asyncio.run(work())
    assert not Path(f"/proc/{pid}").exists()


def test_report_is_written_and_told(site: Site) -> None:
    task = site.ended(site.submit("report.nightly", {}))
    assert task["status"] == "completed", task["error"]
    best, *_ = task["result"]["figures"]
    assert best == {
        "symbol": "AAPL",
        "price": 223.02,
        "month": 0.0899,
        "year": 1.1216,
        "deviation": 0.07,
    }
    assert Path(task["result"]["path"]).read_text().splitlines()[1].startswith("AAPL,223.02")
    wait_until(lambda: "The nightly report is written" in site.titles())
    wait_until(lambda: "Nightly report: completed" in site.titles())


def test_report_goes_on_behind_what_it_has_done(site: Site) -> None:
    """The disk cannot be written at first; the second attempt writes what the first computed."""
    blocked = site.folder / "reports"
    if blocked.is_dir():
        blocked.rename(site.folder / "earlier reports")
    blocked.write_text("not a folder")
    task_id = site.submit("report.nightly", {"symbols": ["IBM"]})
    wait_until(lambda: site.task(task_id)["status"] == "delayed")
    blocked.unlink()
    task = site.ended(task_id)
    assert task["status"] == "completed", task["error"]
    assert [one["outcome"] for one in task["attempts"]] == ["error", "completed"]
    assert "FileExistsError" in task["attempts"][0]["error"]


def test_failed_report_is_told(site: Site) -> None:
    task = site.ended(site.submit("report.nightly", {"symbols": ["NOPE"]}))
    assert (task["status"], task["error"]) == ("failed", "there are no prices of NOPE")
    wait_until(lambda: "Nightly report: failed" in site.titles())


def test_schedule_of_the_report_makes_one_at_its_time_and_when_it_is_asked(admin: Site) -> None:
    address = "/api/schedules/report.nightly:nightly-report"
    schedule = admin.ask(f"{address}?user=operator")
    assert (schedule["source"], schedule["enabled"]) == ("code", True)
    due = datetime.fromisoformat(schedule["next_at"]).astimezone(ZoneInfo("Europe/Berlin"))
    assert (due.hour, due.minute) == (2, 30)
    made = admin.ask(f"{address}/run?user=operator", method="POST")
    task = admin.ended(made["task_id"])
    assert (task["status"], task["user_id"]) == ("completed", "operator")


def test_report_computes_each_step_once(folder: Path) -> None:
    task = run_task(nightly.report, {"symbols": ["IBM"]})
    assert list(task.kept) == ["read", "compute", "write"]
    again = run_task(nightly.report, {"symbols": ["NOPE"]}, attempt=2, kept=task.kept)
    assert again.result == task.result
    assert [one["title"] for one in again.notifications] == ["The nightly report is written"]


def test_report_is_due_at_half_past_two_in_berlin() -> None:
    [schedule] = nightly.report.schedules
    midsummer = datetime(2026, 6, 21, 12, tzinfo=ZoneInfo(schedule.timezone))
    assert next(CronSim(schedule.cron, midsummer)).isoformat() == "2026-06-22T02:30:00+02:00"


def test_three_kinds_run_in_one_worker(site: Site) -> None:
    invoice = {
        "customer": "Zoë",
        "items": [{"name": "tea", "price": "9.90", "count": 2}, {"name": "cup", "price": "5"}],
    }
    shelves = {"A": ["tea", "cup", "tea"], "B": ["cup"]}
    ids = [
        site.submit("invoice.write", invoice),
        site.submit("mail.send", {"to": "zoe@example.org", "subject": "Thank you"}, key="zoe"),
        site.submit("shelf.count", {"shelves": shelves}),
    ]
    written, sent, counted = (site.ended(one) for one in ids)
    assert written["result"]["gross"] == "29.51"
    assert written["label"] == "Invoice for Zoë"
    assert "Subject: Thank you" in Path(sent["result"]).read_text()
    assert (sent["total_steps"], sent["steps"], sent["to"]) == (0, [], "zoe@example.org")
    assert counted["result"] == {"tea": 2, "cup": 2}
    shares = [(one["description"], one["weight"]) for one in counted["steps"]]
    assert shares == [("Shelf A", 0.75), ("Shelf B", 0.25)]
    assert {one["kind"] for one in site.ask("/api/kinds")["items"]} >= {
        "invoice.write",
        "mail.send",
        "shelf.count",
    }


AN_AMOUNT = "params.items[0].price must be an amount such as 9.90"
NAMES = "the names in params.shelves must be one line of 1 to 200 characters"
FILE = "params.path must be the name of a file, such as holiday.mkv"


def bill(**item: Any) -> dict[str, Any]:
    return {"customer": "Zoë", "items": [{"name": "tea", "price": "1"} | item]}


def letter(**fields: str) -> dict[str, str]:
    return {"to": "zoe@example.org", "subject": "Hello"} | fields


ODD_PARAMS: list[tuple[str, dict[str, Any], str]] = [
    *[
        ("invoice.write", bill(price=price), AN_AMOUNT)
        for price in ("a lot", "NaN", "sNaN", "-Infinity", "1e5000000", "", " 5", "٣", "1" * 10)
    ],
    ("invoice.write", bill(count=2**62), "params.items[0].count must be at most 1000000"),
    ("invoice.write", bill(name="a\nb"), "params.items[0].name must be one line of text"),
    ("invoice.write", bill() | {"customer": ""}, "params.customer must be one line of text"),
    ("mail.send", letter(subject="a\u2028b"), "params.subject must be one line of text"),
    ("mail.send", letter(subject=""), "params.subject must be one line of text"),
    ("mail.send", letter(to="a\x0bb"), "params.to must be one line of text"),
    *[
        ("mail.send", letter(to=to), "params.to must be an address such as zoe@example.org")
        for to in ("a@", "<", "a@[", "=?utf-8?q?=0aBcc:x?=")
    ],
    *[
        ("shelf.count", {"shelves": {name: ["tea"]}}, NAMES)
        for name in ("", "a\n", "\u200b", "x" * 201)
    ],
    (
        "shelf.count",
        {"shelves": {str(number): [] for number in range(1001)}},
        "params.shelves must have at most 1000 fields",
    ),
    *[("video.transcode", {"path": path}, FILE) for path in ("é" * 101, "", "a\n", "..", "a/b")],
]


@pytest.mark.parametrize(("kind", "params", "fault"), ODD_PARAMS)
def test_odd_parameters_are_refused_at_their_submission(
    site: Site, kind: str, params: dict[str, Any], fault: str
) -> None:
    refused = site.ask("/api/tasks", {"kind": kind, "params": params})
    assert (refused["status"], refused["errors"]) == (422, [fault])


def test_empty_shelves_are_steps_of_the_same_weight(site: Site) -> None:
    task = site.ended(site.submit("shelf.count", {"shelves": {"A": [], "B": []}}))
    assert (task["status"], task["result"]) == ("completed", {})
    assert [(one["weight"], one["status"]) for one in task["steps"]] == [(0.5, "completed")] * 2


def test_longest_name_of_a_film_is_looked_for(folder: Path) -> None:
    task = run_task(video.transcode, {"path": "é" * 100})
    assert str(task.error) == f"there is no film {'é' * 100}"


def test_sum_of_the_largest_invoice_is_exact(folder: Path) -> None:
    item = {"name": "tea", "price": "999999999.9999", "count": 1_000_000}
    task = run_task(three_kinds.invoice, {"customer": "Zoë", "items": [item] * 800})
    assert task.result["net"] == "799999999999920000.0000"
    assert task.result["gross"] == "951999999999904800.00"


def test_mails_start_as_fast_as_their_rate_and_one_by_one_for_a_customer(site: Site) -> None:
    """5 at once, then 5 a second; two of one customer never run at the same time."""
    ids = [
        site.submit(
            "mail.send", {"to": "a@example.org", "subject": f"{n}"}, key=f"customer {n % 2}"
        )
        for n in range(12)
    ]
    mails = [site.ended(one) for one in ids]
    assert {one["status"] for one in mails} == {"completed"}
    starts = sorted(seconds_of(one["started_at"]) for one in mails)
    # Events that went out since then may be there at the beginning; times are cut to milliseconds.
    for first, seventh in zip(starts, starts[6:], strict=False):
        assert seventh - first > 0.19
    for key in ("customer 0", "customer 1"):
        own = sorted((one for one in mails if one["key"] == key), key=lambda one: one["started_at"])
        for earlier, later in itertools.pairwise(own):
            assert earlier["ended_at"] <= later["started_at"]


def test_three_kinds_in_unit_tests(folder: Path) -> None:
    items = [{"name": "tea", "price": "1.00"}]
    invoice = run_task(three_kinds.invoice, {"customer": "Zoë", "items": items})
    assert invoice.result["gross"] == "1.19"
    assert messages_of(invoice.reports)[:2] == ["add up", "1 of 1 items"]
    mail = run_task(three_kinds.mail, three_kinds.Mail("a@example.org", "Hello"))
    assert mail.result == str(folder / "mail-test.eml")
    with pytest.raises(ValueError, match=r"params\.subject"):
        run_task(three_kinds.mail, {"to": "a@example.org", "subject": "Hello\nBcc: all"})
    shelf = run_task(three_kinds.shelf, {"shelves": {"A": ["tea"], "B": ["tea"] * 3}})
    assert [one["progress"] for one in shelf.reports if one["message"] == "Shelf B"] == [25.0]


def readme_part(title: str) -> str:
    """Return a section of the README."""
    text = (ROOT / "README.md").read_text()
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def in_shell(script: str, folder: Path) -> "subprocess.Popen[str]":
    env = {name: value for name, value in os.environ.items() if not name.startswith("RT_")}
    return subprocess.Popen(
        ["sh", "-c", script], cwd=folder, env=env, stdout=subprocess.PIPE, text=True
    )


def test_kind_of_the_readme_runs_from_an_empty_folder(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Word for word, but for the port: the server beside it, the worker, then the requests."""
    part = readme_part("Your own tasks")
    [source] = blocks(part, "python")
    starts_worker, asks = blocks(part, "sh")[:2]
    checkout, port = make_checkout(tmp_path), str(free_port())
    folder = tmp_path / "mywork"
    folder.mkdir()
    (folder / "mywork.py").write_text(source)
    run_server = f"exec env RT_PORT={port} RT_DEMO_LOGIN=true .venv/bin/python run.py"
    server = in_shell(run_server, checkout)
    request.addfinalizer(lambda: _stop(server))
    wait_until(lambda: _is_ready(port), 60, "the server is ready")
    # The last command is the worker; `exec` lets it have the signal that ends it.
    *before, worker_command = starts_worker.strip().splitlines()
    worker = in_shell("\n".join([*before, f"exec {worker_command}"]), folder)
    request.addfinalizer(lambda: _stop(worker))
    bearer = token(checkout / "data", "bob")
    wait_until(lambda: "video.transcode" in _read(port, "/api/kinds", bearer), 60)
    assert "8888" in asks
    asking = in_shell(asks.replace("8888", port), folder)
    told, _ = asking.communicate(timeout=60)
    assert asking.returncode == 0
    assert '"total":105,"unit":"frames"' in told
    last = [line for line in told.splitlines() if line.startswith("data: ")][-1]
    ended = json.loads(last.removeprefix("data: "))
    assert ended["final_status"] == "completed", ended
    assert ended["result"] == {"path": "a.mkv.1080p.mp4", "frames": 105}


def test_kinds_of_the_documentation_are_what_a_worker_can_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the code in docs/work.md, in its order, is a module in which nothing is wrong."""
    source = "\n".join(blocks((ROOT / "docs/work.md").read_text(), "python"))
    (tmp_path / "kinds_of_the_documentation.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert check_kinds(str(tmp_path / "kinds_of_the_documentation.py"))[1] == []
    kinds = load_kinds(["kinds_of_the_documentation"])
    task = run_task(kinds["book.index"], {"books": {"a": 0}})
    assert (task.result, task.reports[-1]["progress"]) == (0, 100)
    for books in ({"": 1}, {"a\n": 1}, {"a": -1}, {"a": 10_000}):
        with pytest.raises(ValueError, match=r"params\.books must be names"):
            run_task(kinds["book.index"], {"books": books})


def test_protocol_names_each_code_of_what_a_task_waits_for() -> None:
    table = (ROOT / "docs/protocol.md").read_text().split("| code | it waits for |")[1]
    rows = table.strip().split("\n\n")[0].splitlines()
    codes = [code for row in rows for code in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(codes) == sorted({SHOWN.get(code, code) for code in WORDS})


def _is_ready(port: str) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).close()
    except OSError:
        return False
    return True


def _read(port: str, path: str, bearer: str) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {bearer}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        text: str = answer.read().decode()
        return text


def _stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    process.communicate(timeout=30)
