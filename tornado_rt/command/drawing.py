"""Shows a task or a batch: its steps drawn live on a terminal, a line an event elsewhere."""

import json
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from services.queue import TaskState
from tornado_rt.command.pace import Pace, length
from tornado_rt.command.time_line import Drawn, bar, step_line, time_line
from tornado_rt.work import clean_line
from tornado_rt_client.events import BatchFinished, BatchProgress, Event, Finished, Progress
from tornado_rt_client.records import BatchSnapshot, Estimate, Snapshot
from tornado_rt_client.time_left import ServerClock

MOST_LINE = 200
MOST_RESULT = 10_000
BAR_WIDTH = 40
# Steps have their times on a line of time where there is room for it [columns].
LINE_WIDTH = 24
LEAST_WIDTH = 80
# The lines of a drawing that are no steps.
OTHER_LINES = 8
FEWEST_STEPS = 3
REFRESHES_PER_SECOND = 8
MARKS = {
    "pending": Text("·", "dim"),
    "completed": Text("✓", "green"),
    "skipped": Text("–", "dim"),
    "failed": Text("✗", "red"),
}
COLOURS = {
    TaskState.COMPLETED: "green",
    TaskState.PROCESSING: "cyan",
    TaskState.FAILED: "red",
    TaskState.DEAD: "red",
    TaskState.CANCELLED: "yellow",
}
# The ends of tasks that are no success.
UNGOOD = (TaskState.FAILED, TaskState.DEAD, TaskState.CANCELLED)


class DrawnBoard(Protocol):
    """Shows the events of a task or batch, from its `with` on."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, event: Event) -> None:
        """Show what an event says."""
        ...


def board_of(console: Console, clock: ServerClock | None = None) -> DrawnBoard:
    """Return what suits the output; `clock` is that of the server."""
    return Drawing(console, clock) if console.is_terminal else Lines(console, clock)


def snapshot_of(event: Event) -> Snapshot | BatchSnapshot | None:
    """Return the snapshot that an event brings."""
    return event.snapshot if isinstance(event, Progress | BatchProgress) else None


def end_of(event: Event) -> str:
    """Return how a task or batch ended, as one line; "" for an event that is no end."""
    if isinstance(event, BatchFinished):
        return clean_line(f"{event.status}: {counts_of(event.data)}", MOST_LINE)
    if not isinstance(event, Finished):
        return ""
    told = event.error
    if event.result is not None:
        told = json.dumps(event.result, ensure_ascii=False)
    return clean_line(f"{event.status}: {told}" if told else event.status, MOST_RESULT)


class Lines:
    """Prints a line for each event that says something new."""

    def __init__(self, console: Console, clock: ServerClock | None = None) -> None:
        self._console = console
        self._pace = Pace(clock)
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def show(self, event: Event) -> None:
        """Print its line."""
        if (snapshot := snapshot_of(event)) is not None:
            self._pace.take(snapshot)
            self._print(line_of(self._pace))
        elif end := end_of(event):
            self._print(end)

    def _print(self, line: str) -> None:
        if line != self._last:
            self._console.print(line, markup=False)
            self._console.file.flush()
        self._last = line


class Drawing:
    """Draws the steps, and draws them again with each event."""

    def __init__(self, console: Console, clock: ServerClock | None = None) -> None:
        self._console = console
        self._end = ""
        self._pace = Pace(clock)
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            console=console,
            get_renderable=self._draw,
            refresh_per_second=REFRESHES_PER_SECOND,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if self._end:
            self._console.print(self._end, markup=False)

    def show(self, event: Event) -> None:
        """Draw the state that it brings; the end is printed below the last drawing."""
        if (snapshot := snapshot_of(event)) is not None:
            self._pace.take(snapshot)
            self._live.refresh()
        else:
            self._end = end_of(event) or self._end

    def _draw(self) -> RenderableType:
        task = self._pace.task
        if not task:
            return Text("connecting …", "dim")
        most = max(self._console.height - OTHER_LINES, FEWEST_STEPS)
        drawn = Drawn.on(self._console)
        return Group(
            _head(task),
            _bar(self._pace, drawn),
            *(Text(clean_line(one, MOST_LINE), "yellow") for one in self._pace.reasons()),
            _steps(self._pace, self._spinner, most, drawn),
            _foot(task),
        )


def line_of(pace: Pace) -> str:
    """Return the last snapshot as one line."""
    task = pace.task
    parts = [f"{task.get('status', '')} {task.get('progress') or 0:5.1f}%", *words_of(task)]
    return clean_line("  ".join([*parts, *pace.words(), *pace.reasons()]), MOST_LINE)


def words_of(task: Mapping[str, Any]) -> Iterator[str]:
    """Yield what there is to say of a task or batch besides its status."""
    if "total" in task and "queued" in task:
        yield counts_of(task)
        return
    if position := task.get("position"):
        yield f"position {position}"
    if name := task.get("current_step_name"):
        yield str(name)
    if task.get("done") is not None:
        yield counted(task)
    if (message := task.get("message")) and message != name:
        yield str(message)


def foreseen_lines(told: Estimate) -> Iterator[str]:
    """Yield what is foreseen of a task that would be submitted now."""
    if told.task_id:
        yield f"is task {told.task_id} already"
    starts = _between(told.starts_in, told.starts_in_low, told.starts_in_high)
    runs = _between(told.remaining_time, told.remaining_low, told.remaining_high)
    yield f"starts in {starts}: {told.starts_at}" if starts else "nobody knows when it starts"
    if told.waiting_for:
        yield f"waits for {told.waiting_for['message']}"
    yield f"takes {runs}" if runs else "nobody knows how long it takes"
    if told.ends_at:
        yield f"ends at {told.ends_at} ({told.ends_at_low} to {told.ends_at_high})"


def _between(middle: float | None, low: float | None, high: float | None) -> str:
    if middle is None or low is None or high is None:
        return ""
    return f"{_clock(middle)} ({_clock(low)} to {_clock(high)})"


def counts_of(batch: Mapping[str, Any]) -> str:
    """Return how many tasks of a batch have ended, and how, as "3 of 5 done, 1 failed"."""
    ended = {name: batch.get(name) or 0 for name in (TaskState.COMPLETED, *UNGOOD)}
    parts = [f"{sum(ended.values())} of {batch.get('total')} done"]
    parts += [f"{ended[name]} {name}" for name in UNGOOD if ended[name]]
    if running := batch.get("processing"):
        parts.append(f"{running} running")
    return ", ".join(parts)


def counted(task: Mapping[str, Any]) -> str:
    """Return what the current step counts, as "42 of 105 frames"."""
    total, unit = task.get("total"), task.get("unit") or ""
    return f"{task['done']}{f' of {total}' if total is not None else ''} {unit}".rstrip()


def _head(task: Mapping[str, Any]) -> Text:
    status = str(task.get("status"))
    kind, label = task.get("kind") or "", task.get("label")
    names = [*([kind] if label else ()), task.get("task_id") or task.get("batch_id")]
    head = Text(clean_line(label or kind, MOST_LINE), "bold")
    head.append(f"  {'  '.join(clean_line(one, MOST_LINE) for one in names)}  ", "dim")
    return head.append(status, COLOURS.get(status, "none"))  # type: ignore[call-overload]


def _bar(pace: Pace, drawn: Drawn) -> Group:
    done = float(pace.task.get("progress") or 0)
    line = Table.grid(padding=(0, 2))
    line.add_row(bar(done, pace.left(), BAR_WIDTH, drawn), f"{done:.1f}%")
    elapsed = pace.elapsed()
    parts = [] if elapsed is None else [f"{length(elapsed)} so far"]
    return Group(line, Text(", ".join([*parts, *pace.words()]), "dim"))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
    )


def _steps(pace: Pace, spinner: Spinner, most: int, drawn: Drawn) -> Table:
    """Draw at most this many steps, the current one among them."""
    steps = pace.task.get("steps") or ()
    states = [step.get("status") for step in steps]
    current = states.index("current") if "current" in states else states.count("completed")
    first = max(0, min(current - most // 2, len(steps) - most))
    spans, total = time_line(steps, pace.elapsed() or 0.0, is_running=pace.is_running)
    table = Table.grid(padding=(0, 1))
    for step, span in list(zip(steps, spans, strict=True))[first : first + most]:
        is_current = step.get("status") == "current"
        mark = spinner if is_current else MARKS.get(str(step.get("status")), Text(" "))
        cells: list[RenderableType] = [mark, Text(_title(step), "bold" if is_current else "")]
        if total and drawn.width >= LEAST_WIDTH:
            cells.append(step_line(span, total, LINE_WIDTH, drawn))
        table.add_row(*cells, Text(span.words(), "dim"))
    return table


def _title(step: Mapping[str, Any]) -> str:
    names = [*(step.get("group") or ()), step.get("description") or step.get("name")]
    return clean_line(" / ".join(map(str, names)), MOST_LINE)


def _foot(task: Mapping[str, Any]) -> Text:
    return Text(clean_line("  ".join(words_of(task)), MOST_LINE), "dim")
