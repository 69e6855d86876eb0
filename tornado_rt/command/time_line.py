"""Draws times on a terminal: the bar of a task with its band, and its steps on a line of time."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import attrs
from rich.console import Console
from rich.text import Text

from tornado_rt.command.pace import length
from tornado_rt_client.time_left import TimeLeft, is_number

# Filled, the rest, where the end is expected, where it is most probably.
LINES = ("━", "─", "╌", "┼")
ASCII_LINES = ("#", "-", ".", "|")
STYLES = ("cyan", "bright_black", "blue", "bold blue")


@attrs.frozen
class Drawn:
    """The means of a console: its characters, and its width [columns]."""

    lines: tuple[str, str, str, str]
    width: int

    @classmethod
    def on(cls, console: Console) -> Self:
        """Return how this console draws."""
        is_plain = console.options.ascii_only or console.legacy_windows
        return cls(ASCII_LINES if is_plain else LINES, console.width)

    def text(self, cells: Sequence[int]) -> Text:
        """Return a line of cells, each a number of `lines`."""
        return Text.assemble(*((self.lines[cell], STYLES[cell]) for cell in cells))


@attrs.define
class LineSpan:
    """A step on the line of time [s from the start of the attempt]; None is unknown."""

    begin: float | None
    length: float | None
    usual: float | None
    is_running: bool = False

    def end(self) -> float:
        """Return when it ends, or will probably end."""
        usual = self.usual or 0.0 if self.is_running or self.length is None else 0.0
        return (self.begin or 0.0) + max(self.length or 0.0, usual)

    def words(self) -> str:
        """Return its times: "12 s, usually 10 s"."""
        parts = [] if self.length is None else [length(self.length)]
        return ", ".join(
            [*parts, *([] if self.usual is None else [f"usually {length(self.usual)}"])]
        )


def bar(percent: float, left: TimeLeft | None, width: int, drawn: Drawn) -> Text:
    """Return the bar of a task: how much is done, and where it may end within the band."""
    percent = min(max(percent, 0.0), 100.0)
    done = int(percent / 100 * width)
    cells = [0] * done + [1] * (width - done)
    if left is not None and left.high and left.low is not None:
        rest = width - done
        for index in range(done + int(rest * left.low / left.high), width):
            cells[index] = 2
        likely = done + int(rest * left.seconds / left.high)
        cells[min(likely, width - 1)] = 3 if done < width else 0
    return drawn.text(cells)


def time_line(
    steps: Sequence[Mapping[str, Any]], elapsed: float, *, is_running: bool
) -> tuple[list[LineSpan], float]:
    """Lay the steps out in time, those to come behind those that run; return the length too [s]."""
    spans = [_span(step, elapsed) for step in steps]
    end = max((span.end() for span in spans if span.begin is not None), default=0.0)
    for span in spans:
        if span.begin is None and span.usual is not None and is_running:
            span.begin = end
            end += span.usual
    drawn = [
        span.begin + max(span.length or 0.0, span.usual or 0.0)
        for span in spans
        if span.begin is not None
    ]
    return spans, max([end, *drawn])


def step_line(span: LineSpan, total: float, width: int, drawn: Drawn) -> Text:
    """Return the line of a step: its real length over its usual one."""
    cells = [1] * width
    if span.begin is None:
        return drawn.text(cells)
    for seconds, cell in ((span.usual, 2), (span.length, 0)):
        if seconds is not None:
            first = min(int(span.begin / total * width), width - 1)
            last = min(round((span.begin + seconds) / total * width), width)
            for index in range(first, max(last, first + 1)):
                cells[index] = cell
    return drawn.text(cells)


def _span(step: Mapping[str, Any], elapsed: float) -> LineSpan:
    names = ("started_after", "duration", "usual_duration")
    begin, told, usual = (one if is_number(one) else None for one in map(step.get, names))
    is_running = step.get("status") == "current" and begin is not None
    if told is None and is_running and begin is not None:
        told = max(elapsed - begin, 0.0)
    return LineSpan(begin, told, None if step.get("status") == "skipped" else usual, is_running)
