"""Shows a task: its steps drawn live on a terminal, a line an event elsewhere."""

import json
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from services.queue import TaskState
from tornado_rt.command.client import Event
from tornado_rt.protocol import MessageType
from tornado_rt.work import clean_line

MOST_LINE = 200
MOST_RESULT = 10_000
BAR_WIDTH = 40
# The lines of a drawing that are no steps.
OTHER_LINES = 6
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


class Board(Protocol):
    """Shows the events of a task, from its `with` on."""

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


def board_of(console: Console) -> Board:
    """Return what suits the output."""
    return Drawing(console) if console.is_terminal else Lines(console)


def snapshot_of(event: Event) -> Mapping[str, Any] | None:
    """Return the snapshot that an event brings."""
    if event.type == MessageType.PROGRESS:
        return event.data
    return event.data.get("snapshot") if event.type == MessageType.CONNECTED else None


class Lines:
    """Prints a line for each event that says something new."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def show(self, event: Event) -> None:
        """Print its line."""
        if (snapshot := snapshot_of(event)) is not None:
            self._print(line_of(snapshot))
        elif event.type == MessageType.FINISHED:
            self._print(end_of(event.data))

    def _print(self, line: str) -> None:
        if line != self._last:
            self._console.print(line, markup=False)
            self._console.file.flush()
        self._last = line


class Drawing:
    """Draws the steps, and draws them again with each event."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._end = ""
        self._snapshot: Mapping[str, Any] = {}
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
            self._snapshot = snapshot
            self._live.refresh()
        elif event.type == MessageType.FINISHED:
            self._end = end_of(event.data)

    def _draw(self) -> RenderableType:
        task = self._snapshot
        if not task:
            return Text("connecting …", "dim")
        most = max(self._console.height - OTHER_LINES, FEWEST_STEPS)
        return Group(
            _head(task),
            _bar(task),
            _steps(task.get("steps") or (), self._spinner, most),
            _foot(task),
        )


def line_of(task: Mapping[str, Any]) -> str:
    """Return a snapshot as one line."""
    parts = [f"{task.get('status', '')} {task.get('progress') or 0:5.1f}%", *words_of(task)]
    return clean_line("  ".join(parts), MOST_LINE)


def end_of(finished: Mapping[str, Any]) -> str:
    """Return how a task ended, with its result or error, as one line."""
    status, result = str(finished.get("final_status")), finished.get("result")
    told = finished.get("error")
    if result is not None:
        told = json.dumps(result, ensure_ascii=False)
    return clean_line(f"{status}: {told}" if told else status, MOST_RESULT)


def words_of(task: Mapping[str, Any]) -> Iterator[str]:
    """Yield what there is to say of a task besides its status."""
    if position := task.get("position"):
        yield f"position {position}"
    if starts := _range(task, "starts_in", "starts_in_low", "starts_in_high"):
        yield f"starts in {starts}"
    if name := task.get("current_step_name"):
        yield str(name)
    if task.get("done") is not None:
        yield counted(task)
    if (message := task.get("message")) and message != name:
        yield str(message)


def foreseen_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is foreseen of a task that would be submitted now."""
    if task_id := told.get("task_id"):
        yield f"is task {task_id} already"
    starts = _range(told, "starts_in", "starts_in_low", "starts_in_high")
    runs = _range(told, "remaining_time", "remaining_low", "remaining_high")
    yield f"starts in {starts}: {told['starts_at']}" if starts else "nobody knows when it starts"
    if held := told.get("waiting_for"):
        yield f"waits for {held['message']}"
    yield f"takes {runs}" if runs else "nobody knows how long it takes"
    if told.get("ends_at"):
        yield f"ends at {told['ends_at']} ({told['ends_at_low']} to {told['ends_at_high']})"


def _range(told: Mapping[str, Any], middle: str, low: str, high: str) -> str:
    """Return a duration and its bounds; "" when it is unknown."""
    seconds = [told.get(name) for name in (middle, low, high)]
    if None in seconds:
        return ""
    about, least, most = (_clock(one or 0.0) for one in seconds)
    return f"{about} ({least} to {most})"


def counted(task: Mapping[str, Any]) -> str:
    """Return what the current step counts, as "42 of 105 frames"."""
    total, unit = task.get("total"), task.get("unit") or ""
    return f"{task['done']}{f' of {total}' if total is not None else ''} {unit}".rstrip()


def _head(task: Mapping[str, Any]) -> Text:
    status = str(task.get("status"))
    head = Text(clean_line(task.get("label") or task.get("kind") or "", MOST_LINE), "bold")
    head.append(f"  {clean_line(task.get('kind'), MOST_LINE)}  {task.get('task_id')}  ", "dim")
    return head.append(status, COLOURS.get(status, "none"))  # type: ignore[call-overload]


def _bar(task: Mapping[str, Any]) -> Table:
    done = float(task.get("progress") or 0)
    line = Table.grid(padding=(0, 2))
    line.add_row(ProgressBar(100, done, width=BAR_WIDTH), f"{done:.1f}%", _times(task))
    return line


def _times(task: Mapping[str, Any]) -> Text:
    parts = [
        f"{_clock(task[name])} {word}"
        for name, word in (("elapsed_time", "so far"), ("remaining_time", "left"))
        if task.get(name) is not None
    ]
    return Text(", ".join(parts), "dim")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
    )


def _steps(steps: Sequence[Mapping[str, Any]], spinner: Spinner, most: int) -> Table:
    """Draw at most this many steps, the current one among them."""
    states = [step.get("status") for step in steps]
    current = states.index("current") if "current" in states else states.count("completed")
    first = max(0, min(current - most // 2, len(steps) - most))
    table = Table.grid(padding=(0, 1))
    for step in steps[first : first + most]:
        is_current = step.get("status") == "current"
        mark = spinner if is_current else MARKS.get(str(step.get("status")), Text(" "))
        table.add_row(mark, Text(_title(step), "bold" if is_current else ""))
    return table


def _title(step: Mapping[str, Any]) -> str:
    names = [*(step.get("group") or ()), step.get("description") or step.get("name")]
    return clean_line(" / ".join(map(str, names)), MOST_LINE)


def _foot(task: Mapping[str, Any]) -> Text:
    return Text(clean_line("  ".join(words_of(task)), MOST_LINE), "dim")
