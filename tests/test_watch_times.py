"""The time left and the times of steps, as the command `watch` draws them."""

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.browsing import ask
from tests.conftest import ROOT, SECRET, ServerProcess
from tests.elements import submit
from tornado_rt.command.drawing import Drawing, line_of
from tornado_rt.command.pace import Pace, left_in_words, length, start_in_words
from tornado_rt.command.time_line import ASCII_LINES, LINES, Drawn, bar, step_line, time_line
from tornado_rt_client.events import BatchProgress, Progress
from tornado_rt_client.records import BatchSnapshot, Snapshot
from tornado_rt_client.time_left import ServerClock, TimeLeft

DRAWN = Drawn(LINES, 100)
STEPS = [
    {"status": "completed", "started_after": 0.0, "duration": 10.0, "usual_duration": 5.0},
    {"status": "skipped", "usual_duration": 5.0},
    {"status": "current", "started_after": 10.0, "usual_duration": 20.0},
    {"status": "pending", "usual_duration": 10.0},
    {"status": "pending"},
]


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def running(**more: Any) -> dict[str, Any]:
    band = {"remaining_time": 300.0, "remaining_low": 200.0, "remaining_high": 900.0}
    start = {"status": "processing", "attempt": 1, "progress": 20.0, "elapsed_time": 10.0}
    return start | band | {"updated_at": ago(0)} | more


def paced(*snapshots: dict[str, Any], timestamp: str | None = None) -> Pace:
    clock = ServerClock()
    clock.hear(timestamp, time.monotonic())
    pace = Pace(clock)
    for snapshot in snapshots:
        pace.take(Snapshot.read(snapshot))
    return pace


def left(seconds: float, low: float | None = None, high: float | None = None) -> TimeLeft:
    now = datetime.now(UTC)
    latest = None if high is None else now + timedelta(seconds=high)
    return TimeLeft(seconds, low, high, now + timedelta(seconds=seconds), latest)


def test_time_left_runs_down_by_the_servers_clock() -> None:
    """The server's clock, as its messages tell it; this machine's may be an hour off."""
    pace = paced(running(updated_at=ago(-3600 + 60)), timestamp=ago(-3600))
    found = pace.left()
    assert found is not None
    assert (found.seconds, found.low, found.high) == pytest.approx((240, 140, 840), abs=1)
    assert pace.elapsed() == pytest.approx(70, abs=1)
    over = paced(running(updated_at=ago(5000))).left()
    assert over is not None
    assert (over.seconds, over.low, over.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("value", [None, "x", True, float("nan"), [1]])
def test_what_is_unknown_is_not_told(value: Any) -> None:
    pace = paced(running(remaining_time=value, elapsed_time=value, steps=[]))
    assert pace.left() is None
    assert list(pace.words()) == []
    assert line_of(pace) == "processing  20.0%"
    assert pace.elapsed() is None
    waiting = paced({"status": "queued", "starts_in": value})
    assert list(waiting.words()) == []


def seconds_of(pace: Pace) -> float:
    found = pace.left()
    assert found is not None
    return found.seconds


def test_finish_goes_no_later_without_a_reason() -> None:
    pace = paced(running(), running(remaining_time=306.0))
    assert seconds_of(pace) == pytest.approx(300, abs=0.5)
    later = running(remaining_time=306.0, revised="step b is slow", revised_at=ago(0))
    pace.take(Snapshot.read(later))
    assert seconds_of(pace) == pytest.approx(306, abs=0.5)
    assert [re.sub(r"\d", "0", one) for one in pace.reasons()] == ["00:00: step b is slow"]


def test_slow_and_silent_tasks_say_since_when() -> None:
    pace = paced(running(slow_since=ago(60), stalled_since=ago(30), revised_at="soon"))
    assert [re.sub(r"\d", "0", one) for one in pace.reasons()] == [
        "slow since 00:00",
        "no sign of life since 00:00",
    ]
    assert list(paced(running(status="failed", slow_since=ago(60))).reasons()) == []


def test_words_are_rough() -> None:
    assert left_in_words(left(20, 10, 45)) == "about 20 s left, at most 45 s"
    assert left_in_words(left(20)) == "about 20 s left"
    assert left_in_words(left(0.2, 0, 9)) == "any moment now"
    told = re.sub(r"\d\d:\d\d", "14:32", left_in_words(left(240, 100, 900)))
    assert told == "about 4 min left, about 14:32, at the latest 14:32"
    assert re.search(r"about \d{4}-\d\d-\d\d \d\d:\d\d$", left_in_words(left(2e5)))
    assert start_in_words(left(120, 60, 300)) == "starts in about 2 min, at the latest 5 min"
    assert start_in_words(left(0)) == "starts any moment now"
    assert [length(one) for one in (0.42, 12.4, 65, 3725)] == ["0.4 s", "12 s", "1:05", "1:02:05"]
    delayed = paced({"status": "delayed", "run_at": ago(-600)})
    assert list(delayed.words()) == ["starts in about 10 min"]


def test_bar_has_the_band_as_another_end() -> None:
    """The mark is where the end is most probable; without a band there is none."""
    assert bar(20, left(50, 25, 100), 20, DRAWN).plain == "━━━━────╌╌╌╌┼╌╌╌╌╌╌╌"
    assert bar(20, left(50), 20, DRAWN).plain == "━━━━" + "─" * 16
    assert bar(20, None, 10, Drawn(ASCII_LINES, 80)).plain == "##--------"
    assert bar(100, left(1, 1, 1), 10, DRAWN).plain == "━" * 10
    assert bar(0, left(9, 0, 9), 10, DRAWN).plain == "╌" * 9 + "┼"
    assert bar(150, left(1, 0, 0), 10, DRAWN).plain == "━" * 10


def test_steps_are_drawn_in_time_over_their_usual_length() -> None:
    spans, total = time_line(STEPS, 15.0, is_running=True)
    assert total == 40
    assert [step_line(span, total, 20, DRAWN).plain for span in spans] == [
        "━━━━━───────────────",
        "────────────────────",
        "─────━━━╌╌╌╌╌╌╌─────",
        "───────────────╌╌╌╌╌",
        "────────────────────",
    ]
    words = ["10 s, usually 5.0 s", "", "5.0 s, usually 20 s", "usually 10 s", ""]
    assert [span.words() for span in spans] == words
    ended, _ = time_line(STEPS, 15.0, is_running=False)
    assert ended[3].begin is None


@pytest.mark.parametrize("width", [60, 120])
def test_drawing_fits_any_width(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, height=30, force_terminal=True)
    drawing = Drawing(console)
    steps = [one | {"description": f"Step {number}"} for number, one in enumerate(STEPS)]
    with drawing:
        drawing.show(Progress(Snapshot.read(running(steps=steps, slow_since=ago(60)))))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "at the latest" in shown
    assert "slow since" in shown
    assert "usually 20 s" in shown


def test_batch_tells_its_time_left() -> None:
    console = Console(file=io.StringIO(), width=100, height=30, force_terminal=True)
    counts = {"batch_id": "b", "total": 3, "queued": 1, "completed": 1, "processing": 1}
    with Drawing(console) as drawing:
        drawing.show(BatchProgress(BatchSnapshot.read(running() | counts)))
    assert isinstance(console.file, io.StringIO)
    assert re.search(r"about 5 min left, about \d\d:\d\d, at the", console.file.getvalue())


def test_task_is_watched_with_its_times(
    client_server: ServerProcess, make_token: Any, tmp_path: Path
) -> None:
    """On a terminal: the band, the finish, the steps' times, and then the end."""
    gate = tmp_path / "gate.0"
    gate.touch()
    token = make_token("test_watch_times")
    params = {"gate": str(tmp_path / "gate")}
    task = submit(client_server, token, "client.timed", params=params)
    ours, theirs = pty.openpty()
    watching = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), "watch", task, "--url", client_server.url],
        env={
            **os.environ,
            "RT_JWT_SECRET": SECRET,
            "TERM": "xterm",
            "COLUMNS": "120",
            "LINES": "40",
        },
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown, until = "", time.monotonic() + 60
    while "at the latest" not in shown or "Decode" not in shown:
        assert time.monotonic() < until, shown
        shown += os.read(ours, 65536).decode(errors="replace")
    ask(client_server, "DELETE", f"/api/tasks/{task}", token)
    with contextlib.suppress(OSError):
        while piece := os.read(ours, 65536):
            shown += piece.decode(errors="replace")
    os.close(ours)
    assert watching.wait(60) == 1
    assert re.search(r"about \d+ min left, about \d\d:\d\d, at the latest \d\d:\d\d", shown)
    assert "╌" in shown
    assert "so far" in shown
    assert "cancelled" in shown
