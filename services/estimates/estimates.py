"""Knows how long tasks take: reads what ended tasks have taught, and keeps what new ones teach."""

import asyncio
import math
import statistics
import time
from collections.abc import Sequence
from typing import Protocol

import attrs
import orjson
import structlog

from services.estimates.learner import Learner
from tornado_rt.batcher import Batcher
from tornado_rt.bounded import Bounded
from tornado_rt.work.attempts.endings import text_of_error
from tornado_rt.work.attempts.lessons import MOST_SEGMENTS, WHOLE, Lesson, Outline, Times
from tornado_rt.work.forecast import (
    LEAST_SECONDS,
    TENTHS,
    UNKNOWN_PACE,
    Forecast,
    name_of,
)
from tornado_rt.work.timekeeper import TENTH_NAMES

log = structlog.get_logger(__name__)

# Lessons are read again after this long [s].
FRESH_SECONDS = 2.0
# The start of a task waits this long for its estimate [s].
PATIENCE_SECONDS = 0.5
# Sorts of tasks that are remembered.
MOST_KNOWN = 1000
# A process tells what it has learned of one sort of task this often [s].
LESSON_SECONDS = 0.2
# More lessons than these are learned in a thread, so that the loop does not wait for them.
MOST_AT_ONCE = 4
READ_TOGETHER = 100
# The lessons that are kept of one sort of task, and of one kind.
MOST_LESSONS = 64
# The variance of the logs of lengths of tasks of other plans counts at least this much.
LEAST_OTHER_PACE = 0.1
# A length may differ from the expected one by this factor.
MOST_FACTOR = 1e6

Entries = tuple[list[bytes], list[bytes]]


class History(Protocol):
    """Where what tasks have taught is kept, the newest first."""

    async def read_lessons(self, sorts: Sequence[tuple[str, str]]) -> list[Entries]:
        """Return for each key and kind the entries of both."""
        ...


@attrs.frozen
class _Entry:
    """The lesson of a task: the times [s] of its segments, and the expected time of the whole."""

    task_id: str
    times: Times
    expected: float | None


@attrs.define(eq=False)
class _Known:
    """The knowledge of one sort of task, and when it was read (monotonic).

    `unit`: what the author expected of the first that asked [s]. The times of tasks of which
    another time was expected count in proportion: it may follow from parameters that are not
    telling.
    """

    learner: Learner
    unit: float | None
    ids: list[str] = attrs.field(factory=list)
    forecast: Forecast | None = None
    read_at: float = -math.inf


class Estimates:
    """Tells the estimate of a task from tasks like it, and the lessons to keep of those that
    complete.

    Its knowledge of a sort of task is at most two seconds old. It is used on one loop.
    """

    def __init__(self, history: History) -> None:
        self._known: Bounded[str, _Known] = Bounded(MOST_KNOWN)
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._taught: Bounded[str, float] = Bounded(MOST_KNOWN)
        self._batcher: Batcher[tuple[str, str], Entries] = Batcher(
            history.read_lessons, "estimates", together=READ_TOGETHER, common=(Exception,)
        )

    async def forecast(self, outline: Outline) -> Forecast | None:
        """Return what is known of tasks like one.

        None when it cannot be read now: then a task starts without it.
        """
        if (found := self.at_hand(outline)) is not None:
            return found
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.shield(self._read(outline))
        except Exception as error:
            # No fault of a history costs a task its start.
            log.info("history_unread", kind=outline.kind, error=text_of_error(error))
        # Older knowledge is better than none.
        return self._find(outline, math.inf)

    def at_hand(self, outline: Outline) -> Forecast | None:
        """Return what is known of tasks like one; None when it was not read lately."""
        return self._find(outline, FRESH_SECONDS)

    def _find(self, outline: Outline, most_age: float) -> Forecast | None:
        known = self._known.find(outline.key)
        if known is None or known.forecast is None or time.monotonic() > known.read_at + most_age:
            return None
        return known.forecast.scaled(_ratio(outline.expected, known.unit))

    def wants(self, outline: Outline) -> bool:
        """Say whether a task that completes now is to teach: five a second do of each sort."""
        told_at = self._taught.values.get(outline.key)
        return told_at is None or time.monotonic() >= told_at + LESSON_SECONDS

    def lesson(self, outline: Outline, task_id: str, times: Times) -> Lesson:
        """Return what a completed task has taught."""
        self._taught.put(outline.key, time.monotonic())
        whole = sum(seconds for _, seconds in times)
        if len(times) > MOST_SEGMENTS:
            times = [(WHOLE, whole)]
        return Lesson(
            outline.key,
            outline.kind,
            orjson.dumps(
                [task_id, [[name, _brief(seconds)] for name, seconds in times], outline.expected]
            ),
            orjson.dumps([_brief(whole), outline.expected]),
        )

    async def close(self) -> None:
        """End what is under way."""
        for reading in tuple(self._reading.values()):
            reading.cancel()
        await self._batcher.close()

    def _read(self, outline: Outline) -> "asyncio.Task[None]":
        """Read what is known of a sort of task; those who ask meanwhile share it."""
        reading = self._reading.get(outline.key)
        if reading is None:
            reading = asyncio.create_task(self._read_now(outline), name="history")
            self._reading[outline.key] = reading
            reading.add_done_callback(lambda done: self._over(outline.key, done))
        return reading

    def _over(self, key: str, done: "asyncio.Task[None]") -> None:
        del self._reading[key]
        if not done.cancelled():
            # Those who waited may be gone.
            done.exception()

    async def _read_now(self, outline: Outline) -> None:
        entries, others = await self._batcher.ask((outline.key, outline.kind))
        known = self._known.find(outline.key)
        lessons = [lesson for lesson in map(_read_entry, reversed(entries)) if lesson is not None]
        fresh = _after(lessons, known.ids) if known is not None else None
        if known is None or fresh is None:
            prior = _prior_of(others, outline.expected)
            known, fresh = _Known(_learner_of(outline, prior), outline.expected), lessons
        if len(fresh) > MOST_AT_ONCE:
            await asyncio.to_thread(_learn, known, fresh)
        else:
            _learn(known, fresh)
        known.ids = [lesson.task_id for lesson in lessons]
        if fresh or known.forecast is None:
            known.forecast = known.learner.forecast()
        known.read_at = time.monotonic()
        self._known.put(outline.key, known)


def _learn(known: _Known, lessons: Sequence[_Entry]) -> None:
    for lesson in lessons:
        ratio = _ratio(known.unit, lesson.expected)
        known.learner.learn([(name, seconds * ratio) for name, seconds in lesson.times])


def _ratio(one: float | None, other: float | None) -> float:
    """Return how often an expected time is another; 1 when one of them is not known."""
    return one / other if one and other else 1.0


def _learner_of(outline: Outline, prior: tuple[float | None, float]) -> Learner:
    leaves = outline.plan.leaves if outline.plan is not None else ()
    if len(leaves) > 1:
        shares = [(name_of(leaf.path), leaf.share) for leaf in leaves]
    else:
        shares = [(name, 1 / TENTHS) for name in TENTH_NAMES]
    length, pace = prior
    return Learner(shares, length, pace)


def _prior_of(others: Sequence[bytes], expected: float | None) -> tuple[float | None, float]:
    """Return the length [s] and the variance of its log that other tasks of a kind let expect."""
    logs = []
    for entry in others:
        try:
            whole, theirs = orjson.loads(entry)
            per = 1.0 if expected is None else float(theirs)
            logs.append(math.log(max(float(whole), LEAST_SECONDS) / per))
        except (ValueError, TypeError, ZeroDivisionError):
            # Another version wrote it, or the kind expected nothing then.
            continue
    if not logs:
        return expected, UNKNOWN_PACE
    # Half of the weight is that of the newest.
    middle = statistics.median(logs[: math.ceil(len(logs) / 2)])
    spread = statistics.pvariance(logs) + LEAST_OTHER_PACE + UNKNOWN_PACE / (1 + len(logs))
    factor = min(max(math.exp(middle), 1 / MOST_FACTOR), MOST_FACTOR)
    return (1.0 if expected is None else expected) * factor, min(spread, 2 * UNKNOWN_PACE)


def _read_entry(entry: bytes) -> _Entry | None:
    """Return what a task has taught; None for what is no entry."""
    try:
        task_id, times, expected = orjson.loads(entry)
        read = [(str(name), float(seconds)) for name, seconds in times[: MOST_SEGMENTS + 1]]
        lesson = _Entry(str(task_id), read, None if expected is None else float(expected))
    except (ValueError, TypeError):
        return None
    numbers = [seconds for _, seconds in read] + [lesson.expected or 0.0]
    is_good = read and all(math.isfinite(one) and one >= 0 for one in numbers)
    return lesson if is_good else None


def _after(lessons: Sequence[_Entry], ids: Sequence[str]) -> Sequence[_Entry] | None:
    """Return the lessons behind those that were learned; None when they do not follow on."""
    if not ids:
        return lessons
    for number in range(len(lessons) - 1, -1, -1):
        if lessons[number].task_id == ids[-1]:
            return lessons[number + 1 :]
    return None


def _brief(seconds: float) -> float:
    """Return a time to the millisecond."""
    return round(seconds, 3)
