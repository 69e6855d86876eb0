"""The run: how a handler reports, and keeps what is done.

It is long because a handler finds all its verbs in one class, which share one lock.
"""

import asyncio
import functools
import os
import threading
import time
from collections.abc import (
    AsyncIterable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sized,
)
from concurrent import futures
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from tornado_rt.work.awaiting import Turn, as_timeout, settled
from tornado_rt.work.clock import iso_now
from tornado_rt.work.course import Course, as_count, as_fraction
from tornado_rt.work.errors import LeaseLost
from tornado_rt.work.forecast import Estimate, Forecast
from tornado_rt.work.inside import Doing, Tracked
from tornado_rt.work.kept import as_kept
from tornado_rt.work.notes import Question, as_note, as_question
from tornado_rt.work.once import OnceResults
from tornado_rt.work.plan import MAX_STEP_LENGTH, Plan, Step, StepPath, Steps, plan_of
from tornado_rt.work.sink import Nowhere, Sink, Told
from tornado_rt.work.submitting import ID_BYTES, Ordinals, Submission, submission
from tornado_rt.work.timekeeper import (
    NOTHING_KNOWN,
    NOTHING_LEFT,
    NOTHING_SEEN,
    WHOLE,
    Sight,
    Timekeeper,
    first_look_in,
    times_shown,
)
from tornado_rt.work.values import (
    MOST_RESULT_BYTES,
    as_percent,
    clean_line,
    clean_text,
    is_count,
    json_of,
    require,
)

if TYPE_CHECKING:
    from tornado_rt.work.kind import Kind

MAX_MESSAGE_LENGTH = 2000
MOST_STATE_BYTES = 65_536
# Of why a state cannot be kept.
MOST_FAULT = 300
WAITING = "Waiting"

T = TypeVar("T")


# The state of a run that has stored none.
NO_STATE = b"{}"

# The step of the code that runs now: each coroutine and each thread has its own.
_standing: ContextVar[tuple["Run", StepPath] | None] = ContextVar("standing", default=None)
# The calls of `once` that the code runs in.
_making: ContextVar[tuple[tuple["Run", str], ...]] = ContextVar("making", default=())


class Run:
    """The run of a task: a handler reports its progress here, and stores its results.

    The methods that report may be called in any thread of the handler, and never wait. `state` is a
    small dict of JSON that is kept with each report, and is there again on a later attempt. Reports
    raise ValueError while it cannot be kept. `kept`: the results of `once` by name, as JSON;
    `most_bytes` bounds all of them together. `forecast`: what is known of tasks like this one; None
    knows `expected_seconds` alone. `clock`: in seconds. `trace` has the headers `traceparent` and
    `tracestate` of the trace that the task was sent in, nothing when none was recorded.

    It is wide because each verb of a handler is a method.
    """

    # Made with the first task that is submitted: most handlers submit none.
    _ordinals: Ordinals | None = None

    def __init__(
        self,
        sink: Sink | None = None,
        *,
        task_id: str = "",
        kind: str = "",
        label: str = "",
        user_id: str = "",
        batch_id: str | None = None,
        attempt: int = 1,
        plan: Plan | None = None,
        expected_seconds: float | None = None,
        forecast: Forecast | None = None,
        kept: Mapping[str, bytes] | None = None,
        state: Mapping[str, Any] | None = None,
        most_bytes: int = MOST_RESULT_BYTES,
        clock: Callable[[], float] = time.monotonic,
        trace: Mapping[str, str] | None = None,
    ) -> None:
        self.task_id, self.kind, self.label = task_id, kind, label
        self.trace: Mapping[str, str] = trace or {}
        self.user_id, self.batch_id, self.attempt = user_id, batch_id, attempt
        self.state: dict[str, Any] = dict(state or {})
        self.status = "processing"
        self._sink: Sink = sink or Nowhere()
        self._once = OnceResults(kept or {}, most_bytes)
        self._clock = clock
        self._started = clock()
        self._ended: float | None = None
        self._first_plan = plan
        # Made with the first report: many tasks have none.
        self._begun_course: Course | None = None
        if forecast is None and expected_seconds is not None:
            forecast = Forecast({}, length=expected_seconds)
        self._forecast = forecast or NOTHING_KNOWN
        # Made with the first report, or the first look at the time left: many tasks have neither.
        self._keeper: Timekeeper | None = None
        self._sight = NOTHING_SEEN
        # The share that is done without work of this attempt, from 0 to 1; whether its first report
        # may repeat an earlier attempt's.
        self._given = 0.0
        self._resumes = bool(self.state)
        self._message = WAITING
        self._last: StepPath = ()
        self._state_text = json_of(self.state) if self.state else NO_STATE
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._stops = False
        # Made when somebody waits for it.
        self._stop: futures.Future[None] | None = None

    @property
    def plan(self) -> Plan | None:
        """The plan as it is now."""
        course = self._begun_course
        return self._first_plan if course is None else course.plan

    @property
    def forecast(self) -> Forecast:
        """The forecast for tasks like this one."""
        return self._forecast

    @property
    def progress(self) -> float:
        """The progress, from 0 to 100. It never decreases."""
        with self._lock:
            return self._course.progress() * 100

    @property
    def message(self) -> str:
        """The message of the last report."""
        return self._message

    @property
    def stopping(self) -> bool:
        """Whether the worker stops: the handler should store what it has and end soon.

        A thread that nobody waits for any more gets a CancelledError.
        """
        # On the loop a handler that was cancelled may ask while it cleans up.
        with suppress(LeaseLost):
            self._sink.check()
        return self._stops

    def update(
        self,
        fraction: float | str | None = None,
        message: object = None,
        *,
        done: float | None = None,
        total: float | None = None,
        unit: object = None,
    ) -> Told:
        """Report the progress of the current step, or of the whole task outside any step.

        `fraction` is from 0 to 1; a text in its place is the message. `done` of `total` `unit`s say
        the same in numbers. A message may be any object. Raise ValueError for an invalid number.
        """
        if isinstance(fraction, str):
            require(message is None, "a message is given twice")
            fraction, message = None, fraction
        count = as_count(done, total, unit)
        part = None if fraction is None else as_fraction(fraction)
        text = None if message is None else clean_text(message, MAX_MESSAGE_LENGTH)
        with self._changed() as course:
            self._last = self._standing_at() or course.here()
            place = course.places[self._last]
            if part is not None or count is not None:
                place.count = count
            if count is not None:
                part = count.fraction if part is None else part
                text = count.text if text is None else text
            with self._resumed(course) if part is not None else nullcontext():
                place.fraction = max(place.fraction, part or 0.0)
            self._message = self._message if text is None else text
        return self._tell()

    def step(self, name: str, title: str | None = None, weight: float | None = None) -> Doing:
        """Return a step that runs while one is in it, by `with` or `async with`.

        It is completed when the block ends. After an error it stays current. A name that the plan
        does not have is added to the plan, last in the step around it.
        """
        return Doing(self._do(Step(name, 1.0 if weight is None else weight, title or "")))

    def go_to(self, index: int, message: object = None) -> Told:
        """Complete all earlier leaves and start this one; `message`: by default its title.

        For a leaf already passed, only the message changes. Raise ValueError.
        """
        count = len(self._course.leaves)
        require(is_count(index, 0) and index < count, f"the plan has no step {index!r:.100}")
        text = None if message is None else clean_text(message, MAX_MESSAGE_LENGTH)
        with self._changed() as course:
            with self._resumed(course):
                course.go_to(index)
            self._last = course.here()
            self._message = course.leaves[index].title if text is None else text
        return self._tell()

    def skip(self, *names: str) -> Told:
        """Mark steps that this task does not do; they count as done. Raise ValueError."""
        with self._changed() as course, self._free(course):
            for name in names:
                path = course.find(clean_line(name, MAX_STEP_LENGTH), self._standing_at())
                if path is None:
                    raise ValueError(f"the plan has no step {name!r:.100}")
                course.end(path, "s")
        return self._tell()

    def set_plan(self, steps: Steps | None) -> Told:
        """Replace the plan; steps of both plans keep their progress. Raise ValueError."""
        plan = plan_of(steps)
        with self._changed() as course:
            course.replace(plan)
            self._last = course.here()
        return self._tell()

    def track(
        self,
        items: Iterable[T] | AsyncIterable[T],
        *,
        total: int | None = None,
        unit: object = None,
    ) -> Tracked[T]:
        """Return the items for `for` or `async for`; each is reported when it is done.

        `total`: by default their number, when they have one.
        """
        if total is None and isinstance(items, Sized):
            total = len(items)
        return Tracked(items, lambda done: self.update(done=done, total=total, unit=unit))

    async def once(
        self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Call a function once for the task: a later attempt gets the kept result.

        A result is JSON, and is returned as JSON gives it back. An awaitable is awaited. The result
        is kept before this returns. A second call of a name waits for the first. If the plan has a
        step of this name that has not begun, the call is that step. Raise ValueError for a result
        that cannot be kept, LeaseLost.
        """
        self._check()
        results = self._once
        turn = results.turn(name, asyncio.Lock)
        self._refuse_inside_itself(name, turn)
        async with turn:
            with self._step_of(name), self._inside(name):
                if name in results.kept:
                    return results.recall(name)
                # Without this check an abandoned thread would repeat the work of the next attempt.
                self._sink.check()
                value = await settled(function(*args, **kwargs))
                with results.keeping(name, value) as text:
                    await self._sink.keep(name, text)
        return results.recall(name)

    async def notify(self, title: object, content: object = None, severity: str = "info") -> None:
        """Send the task's user a notification of at most 200 and 2,000 characters."""
        await self._sink.notify(*as_note(title, content, severity))

    async def ask(
        self,
        name: str,
        title: object,
        options: Mapping[str, object],
        content: object = None,
        severity: str = "info",
        *,
        timeout: float | None = None,
    ) -> str:
        """Ask the task's user, once for the task, and return the id of the option that they chose.

        `options`: 1 to 5 labels by their ids, the buttons of a notification. The answer is kept as
        the result of `once` of this name: a later attempt gets it, or waits on. After `timeout`
        seconds from the first time that it was asked the notification is withdrawn, and this raises
        TimeoutError. Raise ValueError, LeaseLost.
        """
        self._check()
        question = as_question(name, title, content, severity, options)
        seconds = as_timeout(timeout)
        results = self._once
        turn = results.turn(name, asyncio.Lock)
        self._refuse_inside_itself(name, turn)
        async with turn:
            with self._step_of(name), self._inside(name):
                if name not in results.kept:
                    self._ask_first(question)
                    answer = await self._sink.ask(question, seconds)
                    self._learn(question, answer, seconds)
        return self._chosen(name)

    async def submit(
        self, kind: "Kind | str", params: Any = None, *, name: str | None = None, **more: Any
    ) -> str:
        """Submit a task of the same user, once for the task of this run; return its id.

        `more`: the other fields of `POST /api/tasks`. A later attempt that submits the same again
        gets the id of the task that there is: the same `name`, or without one the same kind and
        parameters as often as in this attempt. Raise NotSubmitted for what the server refuses,
        ValueError, LeaseLost.
        """
        self._check()
        with submission(self._numbers(), kind, params, name, more) as new:
            turn = self._once.turn(new.name, asyncio.Lock)
            self._refuse_inside_itself(new.name, turn)
            async with turn:
                if self._is_new(new):
                    self._learn_id(new, await self._sink.submit(new))
            return self._id_of(new)

    async def stopped(self) -> None:
        """Wait until the worker stops."""
        await asyncio.wrap_future(self._told_to_stop())

    def let_await(self) -> None:
        """Have the handler await what waits, as it does already."""

    def stop(self) -> None:
        """Tell the handler that the worker stops."""
        with self._lock:
            # First: a waiter looks at it at once.
            told, self._stops = self._stops, True
            if self._stop is not None and not told:
                self._stop.set_result(None)

    def complete(self, message: object = "Done") -> None:
        """End with everything done; nothing is reported, for the ack carries it."""
        with self._lock:
            if self._keeper is not None:
                self._keeper.finish()
            if self._begun_course is not None:
                self._begun_course.end(())
            self._end("completed", message)

    def fail(self, reason: object) -> None:
        """End where the work stands; nothing is reported."""
        with self._lock:
            self._end("failed", reason)

    def elapsed_seconds(self) -> float:
        """Return how long the attempt took so far."""
        return (self._clock() if self._ended is None else self._ended) - self._started

    def remaining_seconds(self) -> float | None:
        """Return how long the rest is expected to take: 0 once it has ended, None: unknown."""
        with self._lock:
            left = self._time_left(self.elapsed_seconds())
        return None if left is None else left.seconds

    def look_in(self) -> float | None:
        """Return after how many seconds without a report the time left is news; None: never."""
        with self._lock:
            if self._ended is not None:
                return None
            if self._keeper is None:
                return first_look_in(self._forecast)
            return self._keeper.look_in(self.elapsed_seconds())

    def lesson(self) -> list[tuple[str, float]] | None:
        """Return the times [s] of the segments of a completed run, None when it teaches nothing."""
        with self._lock:
            elapsed = self.elapsed_seconds()
            return [(WHOLE, elapsed)] if self._keeper is None else self._keeper.lesson(elapsed)

    def _time_left(self, elapsed: float) -> Estimate | None:
        return NOTHING_LEFT if self._ended is not None else self._kept_time().tell(elapsed)

    def _kept_time(self) -> Timekeeper:
        if self._keeper is None:
            self._see()
        assert self._keeper is not None
        return self._keeper

    def snapshot(self) -> dict[str, Any]:
        """Return the snapshot without task id, status and attempt."""
        with self._lock:
            elapsed = self.elapsed_seconds()
            left = self._time_left(elapsed)
            return {
                **self._standing(),
                "message": self._message,
                **times_shown(self._keeper, elapsed, left),
                "updated_at": iso_now(),
            }

    def _standing(self) -> Mapping[str, Any]:
        """Return where the work stands."""
        if self._begun_course is None and self.status == "completed":
            return _all_done(self._first_plan)
        course = self._course
        count = course.places[self._last].count
        return {
            **course.shown(),
            **self._seen_inside(),
            **(count.shown() if count else {}),
        }

    @property
    def _course(self) -> Course:
        """The progress of each step."""
        with self._lock:
            if self._begun_course is None:
                self._begun_course = Course(self._first_plan)
                self._begun_course.weigh(self._forecast)
                if self.status == "completed":
                    self._begun_course.end(())
            return self._begun_course

    def _seen_inside(self) -> dict[str, Any]:
        """Return how far the current step is, and whether more steps will be found."""
        fields: dict[str, Any] = {}
        if self._sight.marks and self._sight.fraction:
            fields["step_progress"] = as_percent(self._sight.fraction)
        if self._sight.is_open:
            fields["steps_open"] = True
        return fields

    def fragment(self) -> bytes:
        """Return `snapshot` as JSON without its braces, as the queue wants it."""
        return json_of(self.snapshot())[1:-1]

    def fragment_and_plan(self) -> tuple[bytes, float, Plan | None]:
        """Return the fragment, the progress and the plan of one moment, in any thread.

        Another thread of the handler may change the plan at any time, and a fragment names its own.
        """
        with self._lock:
            return self.fragment(), self.progress, self.plan

    def encoded_state(self) -> bytes:
        """Return `state` as JSON. If it cannot be kept, return the last that could."""
        self._read_state()
        return self._state_text

    def check_state(self) -> None:
        """Raise ValueError when `state` cannot be kept."""
        if fault := self._read_state():
            raise ValueError(f"run.state cannot be kept: {fault}")

    def _read_state(self) -> str:
        """Take `state` as it is now, and return "", or why it cannot be kept."""
        if type(self.state) is dict and not self.state:
            self._state_text = NO_STATE
            return ""
        try:
            require(isinstance(self.state, dict), f"it is no dict, but {type(self.state).__name__}")
            self._state_text = as_kept("it", self.state, MOST_STATE_BYTES)
        except Exception as error:
            # Its objects are another's, and may raise anything.
            return clean_line(error, MOST_FAULT) or type(error).__name__
        return ""

    @contextmanager
    def _free(self, course: Course) -> Iterator[None]:
        """Let what is gained here say nothing of the pace: it took no time."""
        before = course.progress()
        yield
        self._given += course.progress() - before

    @contextmanager
    def _resumed(self, course: Course) -> Iterator[None]:
        """Let a gain be free as the first of a run that has a state of an earlier attempt."""
        with self._free(course) if self._resumes else nullcontext():
            yield
        self._resumes = False

    @contextmanager
    def _do(self, step: Step, is_kept: bool = False) -> Iterator[None]:
        outside = _standing.get()
        with self._changed() as course:
            around = self._standing_at()
            path = course.find(step.name, around) or course.add(step, around)
            if path is not None:
                course.begin(path)
            self._last = around if path is None else path
            self._message = step.title if path is None else course.places[path].title
        try:
            _standing.set((self, self._last))
            self._tell()
            yield
        finally:
            _standing.set(outside)
        if path is not None:
            with self._changed() as course, self._free(course) if is_kept else nullcontext():
                course.end(path)
            self._tell()

    @contextmanager
    def _inside(self, name: str) -> Iterator[None]:
        outside = _making.get()
        _making.set((*outside, (self, name)))
        try:
            yield
        finally:
            _making.set(outside)

    def _ask_first(self, question: Question) -> None:
        """Say what the task waits for."""
        self._sink.check()
        self.update(question.title)

    def _learn(self, question: Question, answer: bytes | None, seconds: float | None) -> None:
        if answer is None:
            raise TimeoutError(f"nobody has answered {question.name!r} within {seconds or 0:g} s")
        self._once.learn(question.name, answer)

    def _numbers(self) -> Ordinals:
        with self._lock:
            if self._ordinals is None:
                self._ordinals = Ordinals()
            return self._ordinals

    def _is_new(self, new: Submission) -> bool:
        """Say whether to submit a task. Raise as `_sink.check`; ValueError for no room."""
        if new.name in self._once.kept:
            return False
        self._sink.check()
        self._once.check_room(new.name, ID_BYTES)
        return True

    def _learn_id(self, new: Submission, task_id: str) -> None:
        self._once.learn(new.name, json_of(task_id))

    def _id_of(self, new: Submission) -> str:
        task_id = self._once.recall(new.name)
        fault = f"the result of once {new.name!r} is no id of a task: submit has another name"
        require(isinstance(task_id, str), fault)
        return str(task_id)

    def _chosen(self, name: str) -> str:
        return str(self._once.recall(name))

    def _refuse_inside_itself(self, name: str, turn: "Turn") -> None:
        if (self, name) in _making.get() and turn.locked():
            raise RuntimeError(f"once {name!r} is called inside itself, and would wait for ever")

    def _step_of(self, name: str) -> AbstractContextManager[None]:
        """Return the pending step of this name, else a context that does nothing."""
        with self._changed() as course:
            path = course.find(name, self._standing_at())
            is_pending = path is not None and course.places[path].mark == "p"
        return self._do(Step(name), name in self._once.kept) if is_pending else nullcontext()

    @contextmanager
    def _changed(self) -> Iterator[Course]:
        # Before the lock, which another thread may have held when the process was forked.
        self._check()
        with self._lock:
            given = self._given
            yield self._course
            self._see(is_free=self._given > given)

    def _see(self, *, is_free: bool = False) -> None:
        """Show the timekeeper how far the course is."""
        course = self._course
        marks = course.marks
        at = course.current(marks)
        here = course.places[course.leaves[at].path] if marks else course.places[()]
        sight = Sight(course.leaves, marks, at, here.fraction, course.progress(), course.is_open)
        self._sight = sight
        if self._keeper is None:
            self._keeper = Timekeeper(self._forecast)
        self._keeper.see(sight, self.elapsed_seconds(), free=is_free)

    def _check(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError("a forked process cannot report; its parent can")
        if self._ended is not None:
            # A thread gets an error that it cannot take for one of its own work.
            self._sink.check()
            raise LeaseLost(ended_text(self.task_id))

    def _tell(self) -> Told:
        self._sink.report(self)
        self.check_state()
        return Told()

    def _told_to_stop(self) -> "futures.Future[None]":
        with self._lock:
            if self._stop is None:
                self._stop = futures.Future()
                # A waiter that gives up cannot cancel it.
                self._stop.set_running_or_notify_cancel()
                if self._stops:
                    self._stop.set_result(None)
            return self._stop

    def _standing_at(self) -> StepPath:
        standing = _standing.get()
        if standing is None or standing[0] is not self or standing[1] not in self._course.places:
            return ()
        return standing[1]

    def _end(self, status: str, message: object) -> None:
        self.status, self._ended = status, self._clock()
        if self._keeper is not None:
            self._see()
        self._message = clean_text(message, MAX_MESSAGE_LENGTH)


def ended_text(task_id: str) -> str:
    """Return what is said to a handler that reports too late."""
    return f"the attempt at task {task_id} has ended"


# Many tasks of a kind end without a report.
@functools.lru_cache(maxsize=256)
def _all_done(plan: Plan | None) -> Mapping[str, Any]:
    """Return where a task stands that is completed."""
    course = Course(plan)
    course.end(())
    return course.shown()
