"""The time left in the Python client: run down by the clock, which the server's messages tell."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.client_forms import SECONDS, AsyncForm, SyncForm
from tests.conftest import ServerProcess
from tornado_rt_client import (
    BatchSnapshot,
    Progress,
    ServerClock,
    Snapshot,
    TimeLeft,
    starts_in,
    time_left,
)
from tornado_rt_client.following import Following

Form = SyncForm | AsyncForm
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
BAND = {"remaining_time": 100.0, "remaining_low": 50.0, "remaining_high": 200.0}
RUNNING = {"task_id": "t", "status": "processing", "updated_at": "2026-11-30T12:00:00.000Z"} | BAND


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def told(**more: Any) -> Snapshot:
    return Snapshot.read(RUNNING | more)


def test_time_left_runs_down_from_when_the_snapshot_was_made() -> None:
    """Never below zero, and nothing is added where the clocks differ a little."""
    assert time_left(told(), at(60)) == TimeLeft(40.0, 0.0, 140.0, at(100), at(200))
    assert time_left(told(), at(1000)) == TimeLeft(0.0, 0.0, 0.0, at(1000), at(1000))
    assert time_left(told(), at(-5)) == TimeLeft(100.0, 50.0, 200.0, at(95), at(195))
    bare = time_left(told(remaining_low=None, remaining_high=None), at(10))
    assert bare == TimeLeft(90.0, None, None, at(100), None)


@pytest.mark.parametrize(
    "more", [{"remaining_time": None}, {"status": "completed"}, {"status": "queued"}]
)
def test_what_is_unknown_or_does_not_run_is_none(more: dict[str, Any]) -> None:
    assert time_left(told(**more), at(0)) is None
    assert starts_in(told(), at(0)) is None


def test_moment_has_a_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        time_left(told(), datetime(2026, 11, 30, 12))


def test_clock_that_differs_changes_the_finish_alone() -> None:
    left = time_left(told(), at(3660), skew=-3600.0)
    assert left is not None
    assert (left.seconds, left.finish) == (40.0, at(3700))


def test_batches_and_waiting_tasks_count_from_when_they_came() -> None:
    batch = BatchSnapshot.read({"batch_id": "b", "status": "queued"} | BAND)
    left = time_left(batch, datetime.fromtimestamp(batch.received_at + 10, UTC))
    assert left is not None
    assert left.seconds == pytest.approx(90)
    band = {"starts_in": 20.0, "starts_in_low": 10.0, "starts_in_high": 60.0}
    waiting = told(status="queued", **band)
    start = starts_in(waiting, datetime.fromtimestamp(waiting.received_at + 5, UTC))
    assert start is not None
    assert (start.seconds, start.low, start.high) == pytest.approx((15, 5, 55))
    delayed = told(status="delayed", run_at="2026-11-30T12:00:30Z")
    start = starts_in(delayed, at(10), skew=5.0)
    assert start is not None
    assert (start.seconds, start.high) == (15.0, None)
    assert starts_in(told(status="queued"), at(0)) is None


def test_fastest_message_tells_the_clock_of_the_server() -> None:
    """Values that are no times are skipped; a clock that was set is known after eight messages."""
    clock, now = ServerClock(), time.monotonic()
    for wrong in (None, 7, "", "soon", "2026-11-30T12:00:00"):
        clock.hear(wrong, now)
    assert clock.skew() == 0.0
    ahead = datetime.now(UTC) + timedelta(hours=1)
    for late in (4.0, 0.0, 2.0):
        clock.hear((ahead - timedelta(seconds=late)).isoformat(), now)
    assert clock.skew() == pytest.approx(3600, abs=0.5)
    for _ in range(8):
        clock.hear(datetime.now(UTC).isoformat(), time.monotonic())
    assert clock.skew() == pytest.approx(0, abs=0.5)


def test_stream_tells_the_clock_by_each_of_its_heartbeats() -> None:
    following: Following[Any] = Following("/x", (Progress,), has_topics=True)
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    block = f'event: heartbeat\ndata: {{"timestamp": "{ahead}"}}\n\n'
    assert following.receive(block.encode(), time.monotonic()) == []
    assert following.clock.skew() == pytest.approx(3600, abs=0.5)
    # Data of a topic are the application's own.
    block = f'event: message\ndata: {{"topic": "room:1", "data": {{"timestamp": "{NOON}"}}}}\n\n'
    following.receive(block.encode(), time.monotonic())
    assert following.clock.skew() == pytest.approx(3600, abs=0.5)


@pytest.fixture(params=[SyncForm, AsyncForm], ids=["sync", "async"])
def form(request: pytest.FixtureRequest) -> Iterator[Form]:
    made = request.param()
    yield made
    made.close()


def test_task_tells_its_time_left(
    form: Form, client_server: ServerProcess, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """By each snapshot that comes, and while it waits when it starts."""
    client = form.client(client_server.url, user=request.node.name)
    gate = tmp_path / "gate.0"
    gate.touch()
    given = {"gate": str(tmp_path / "gate")}
    first, second = (form.call(client.submit("client.timed", given)) for _ in range(2))
    for event in form.each(first.watch(SECONDS)):
        if event.snapshot.status == "processing":
            break
    snapshot = event.snapshot
    left = first.time_left(snapshot)
    assert left.seconds == pytest.approx(600, abs=60)
    assert left.low <= left.seconds <= left.high
    assert left.finish <= left.latest
    assert abs(client.skew) < 5
    later = datetime.now(UTC) + timedelta(minutes=4)
    assert first.time_left(snapshot, later).seconds == pytest.approx(left.seconds - 240, abs=20)
    assert snapshot.steps[0]["started_after"] == 0.0
    waiting = form.call(second.read())
    assert second.time_left(waiting) is None
    start = second.starts_in(waiting)
    assert 0 < start.seconds < 700
    for task in (second, first):
        form.call(task.cancel())
    for _ in form.each(first.watch(SECONDS)):
        pass
