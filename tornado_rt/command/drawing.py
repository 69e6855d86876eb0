"""Shows a task: its steps drawn live on a terminal, a line an event elsewhere."""

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
from tornado_rt.command.client import Event
from tornado_rt.command.time_left import Pace, length
from tornado_rt.command.time_line import Drawn, bar, step_line, time_line
from tornado_rt.protocol import MessageType
from tornado_rt.work import clean_line

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
        self._pace = Pace()
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def show(self, event: Event) -> None:
        """Print its line."""
        self._pace.hear(event.data.get("timestamp"))
        if (snapshot := snapshot_of(event)) is not None:
            self._pace.take(snapshot)
            self._print(line_of(self._pace))
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
        self._pace = Pace()
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
        self._pace.hear(event.data.get("timestamp"))
        if (snapshot := snapshot_of(event)) is not None:
            self._pace.take(snapshot)
            self._live.refresh()
        elif event.type == MessageType.FINISHED:
            self._end = end_of(event.data)

    def _draw(self) -> RenderableType:
        task = self._pace.snapshot
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
    task = pace.snapshot
    parts = [f"{task.get('status', '')} {task.get('progress') or 0:5.1f}%", *words_of(task)]
    return clean_line("  ".join([*parts, *pace.words(), *pace.reasons()]), MOST_LINE)


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
    if name := task.get("current_step_name"):
        yield str(name)
    if task.get("done") is not None:
        yield counted(task)
    if (message := task.get("message")) and message != name:
        yield str(message)


def counted(task: Mapping[str, Any]) -> str:
    """Return what the current step counts, as "42 of 105 frames"."""
    total, unit = task.get("total"), task.get("unit") or ""
    return f"{task['done']}{f' of {total}' if total is not None else ''} {unit}".rstrip()


def _head(task: Mapping[str, Any]) -> Text:
    status = str(task.get("status"))
    head = Text(clean_line(task.get("label") or task.get("kind") or "", MOST_LINE), "bold")
    head.append(f"  {clean_line(task.get('kind'), MOST_LINE)}  {task.get('task_id')}  ", "dim")
    return head.append(status, COLOURS.get(status, "none"))  # type: ignore[call-overload]


def _bar(pace: Pace, drawn: Drawn) -> Group:
    done = float(pace.snapshot.get("progress") or 0)
    line = Table.grid(padding=(0, 2))
    line.add_row(bar(done, pace.left(), BAR_WIDTH, drawn), f"{done:.1f}%")
    elapsed = pace.elapsed()
    parts = [] if elapsed is None else [f"{length(elapsed)} so far"]
    return Group(line, Text(", ".join([*parts, *pace.words()]), "dim"))


def _steps(pace: Pace, spinner: Spinner, most: int, drawn: Drawn) -> Table:
    """Draw at most this many steps, the current one among them."""
    steps = pace.snapshot.get("steps") or ()
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
