"""The link of an attempt to the queue: reports and reads, also while that is away.

It is long because reports, questions and leases of an attempt share one lock and one order.
"""

import asyncio
import contextlib
import math
import secrets
import threading
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import attrs
import structlog

from tornado_rt.work import LeaseLost, Pacer, Plan, Question, Submission
from tornado_rt.work.attempts.endings import text_of_error
from tornado_rt.work.attempts.lessons import Forecasts, Lesson, Outline, Times
from tornado_rt.work.attempts.models import Asked, Claim, Kept, Task
from tornado_rt.work.attempts.outages import OUTAGE_SECONDS, Outages
from tornado_rt.work.attempts.queue import NO_SUBMITTER, AttemptQueue, Submitter
from tornado_rt.work.forecast import Forecast
from tornado_rt.work.run import NO_STATE, ended_text

log = structlog.get_logger(__name__)

# The end of an attempt waits this long for the handler's last writes [s].
KEEP_SECONDS = 1.0
# A handler that waits for an answer looks for it this often, for a message can be lost [s].
LOOK_SECONDS = 60.0

T = TypeVar("T")


class Reported(Protocol):
    """A report of a run."""

    @property
    def plan(self) -> Plan | None:
        """Its plan as it is now."""
        ...

    def fragment_and_plan(self) -> tuple[bytes, float, Plan | None]:
        """Return the snapshot as JSON without its braces, how much is done (0 to 100), its plan.

        All three are of one moment.
        """
        ...

    def encoded_state(self) -> bytes:
        """Return what the handler keeps, as JSON."""
        ...

    def look_in(self) -> float | None:
        """Return after how many seconds without a report the time left is news; None: never."""
        ...


class Reporter:
    """Sends the reports that are due, all together: calls of a moment share a round trip.

    `wrote` is called for each that was written.
    """

    def __init__(self, wrote: Callable[[], None] | None = None) -> None:
        self.wrote = wrote or _nothing
        # A dict, for it keeps their order.
        self._due: dict[Link, None] = {}
        self._wanted = asyncio.Event()

    def add(self, link: "Link") -> None:
        """Send what this one has to report."""
        self._due[link] = None
        self._wanted.set()

    async def run(self) -> None:
        """Send reports until it is cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            due, self._due = self._due, {}
            await asyncio.gather(*(link.send() for link in due))


@attrs.frozen
class _Report:
    """A state of a run; `state` and `plan` are None when they were told before."""

    fragment: bytes
    percent: float
    state: bytes | None
    plan: Plan | None


class Link:
    """The link of one attempt to the queue; the sink of its run.

    At most 10 reports a second leave: what is told in between goes with the next. A report that
    fails while the queue is away is told when it is back: the last one alone, for it holds all.
    When the lease is lost, `lost` is called. Once closed, nothing is told any more.
    """

    def __init__(
        self,
        queue: AttemptQueue,
        claim: Claim,
        reporter: Reporter,
        outages: Outages,
        forecasts: Forecasts | None = None,
        submitter: Submitter = NO_SUBMITTER,
    ) -> None:
        self.queue = queue
        self.claim = claim
        self.task = claim.task
        self.closed = False
        # Set by the code that runs the attempt.
        self.lost: Callable[[], None] = _nothing
        self._reporter = reporter
        self._outages = outages
        self._forecasts = forecasts
        self._submitter = submitter
        # The one timer: when the time left is news, though the handler reports nothing.
        self._silence: asyncio.TimerHandle | None = None
        self._look_at = 0.0
        self._pacer = Pacer()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._threads_closed = False
        self._run: Reported | None = None
        self._told_state = NO_STATE
        self._told_plan = claim.plan
        self._keeping: set[asyncio.Future[None]] = set()
        # Set when there may be an answer to what the handler asks.
        self._answers: set[asyncio.Event] = set()
        # Whether there is a report that nobody has begun to send, and what is being sent.
        self._unsent = False
        self._sending: bytes | None = None

    def begin(self, run: Reported, state: bytes = b"") -> None:
        """Tell of this run from now on; `state`: as it was kept."""
        self._run = run
        self._told_state = state or NO_STATE
        self._watch()

    def replace(self, run: Reported, *, is_news: bool) -> None:
        """Tell of this run from now on; what was told before was of the same.

        `is_news`: it has a report that was not told.
        """
        self._run = run
        self._unsent = self._unsent or is_news

    def close_threads(self) -> None:
        """Refuse reports of threads from now on: nobody waits for them any more."""
        self._threads_closed = True

    def close(self) -> None:
        """Tell nothing more: the attempt is over, whatever its handler still does."""
        self.closed = True
        self.lost, self._run = _nothing, None
        if self._silence is not None:
            self._silence.cancel()

    def report(self, run: Reported) -> None:
        """Report this run's state soon. In any thread; raise LeaseLost or CancelledError."""
        self.check()
        self._run, self._unsent = run, True
        wait = self._pacer.ask()
        if wait is None:
            return
        if self._on_loop():
            self._plan(wait)
            return
        try:
            self._loop.call_soon_threadsafe(self._plan, wait)
        except RuntimeError:
            # The loop is closed: the process ends.
            raise LeaseLost(self.task.task_id) from None

    def check(self) -> None:
        """Raise what `report` does, when nobody waits for the handler any more."""
        if self._on_loop():
            if self.closed:
                raise LeaseLost(ended_text(self.task.task_id))
        elif self.closed or self._threads_closed:
            # A handler that catches errors does not catch this one: its thread ends.
            raise asyncio.CancelledError(ended_text(self.task.task_id))

    async def keep(self, name: str, value: bytes) -> None:
        """Keep a once-result, however long the queue is away. Raise LeaseLost.

        A cancellation of the handler does not undo what it has done: `flush` waits for this.
        """
        task_id, token = self.task.task_id, self.claim.token
        keeping = asyncio.ensure_future(
            self._owned(lambda: self.queue.keep_result(task_id, token, name, value), "keep")
        )
        self._keeping.add(keeping)
        keeping.add_done_callback(self._kept)
        await asyncio.shield(keeping)

    async def notify(self, title: str, content: str | None, severity: str) -> None:
        """Have the user notified, however long the queue is away. Raise LeaseLost."""
        fields = {"title": title, "content": content, "severity": severity}
        task_id, token, note = self.task.task_id, self.claim.token, secrets.token_hex(8)
        await self._owned(lambda: self.queue.add_note(task_id, token, fields, note), "notify")

    async def ask(self, question: Question, timeout: float | None) -> bytes | None:
        """Have the user asked, and return the answer (JSON), however long the queue is away.

        Return None `timeout` seconds after it was first asked. Raise LeaseLost.
        """
        task_id, token, note = self.task.task_id, self.claim.token, secrets.token_hex(8)
        told = asyncio.Event()
        self._answers.add(told)
        try:
            while True:
                asked = await self._asked(lambda: self.queue.ask(task_id, token, question, note))
                left = math.inf if timeout is None else timeout - asked.age
                if asked.answer is not None:
                    return asked.answer
                if left <= 0:
                    break
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOOK_SECONDS)):
                        await told.wait()
                told.clear()
        finally:
            self._answers.discard(told)
        name = question.name
        return (await self._asked(lambda: self.queue.withdraw(task_id, token, name))).answer

    async def submit(self, submission: Submission) -> str:
        """Submit a task, however long the queue is away; return its id.

        Raise NotSubmitted, LeaseLost.
        """
        task, token, submitter = self.task, self.claim.token, self._submitter
        found = await self._surely(lambda: submitter.submit(task, token, submission), "submit")
        if found is None:
            self.lost()
            raise LeaseLost(task.task_id)
        return found

    def look_for_answers(self) -> None:
        """Look again for answers that the handler waits for."""
        for told in self._answers:
            told.set()

    async def read_kept(self) -> Kept:
        """Return what earlier attempts left. Raise LeaseLost."""
        return await self._surely(lambda: self.queue.read_kept(self.task.task_id), "read_kept")

    async def read_task(self) -> Task | None:
        """Return all that is known of the task. Raise LeaseLost."""
        return await self._surely(lambda: self.queue.get_task(self.task.task_id), "read_task")

    async def read_forecast(self, outline: Outline) -> Forecast | None:
        """Return what is known of tasks like this one; None when it cannot be had now."""
        if self._forecasts is None:
            return None
        return self._forecasts.at_hand(outline) or await self._forecasts.forecast(outline)

    def lesson(self, outline: Outline, times: Callable[[], Times | None]) -> Lesson | None:
        """Return what the completed task has taught, when that is wanted; None: nothing.

        `times` returns those of its segments.
        """
        if self._forecasts is None or not self._forecasts.wants(outline):
            return None
        found = times()
        return self._forecasts.lesson(outline, self.task.task_id, found) if found else None

    async def send(self) -> None:
        """Report the state as it is now, unless it cannot be told; again when the queue is away."""
        if (report := self._read()) is None:
            return
        try:
            owned = await self._tell(report)
        except Exception as error:
            self._outages.note(error, "report")
            if self._outages.is_outage(error):
                self._loop.call_later(OUTAGE_SECONDS, self._reporter.add, self)
            return
        self._outages.end("report")
        if not owned:
            self.lost()
        else:
            self._watch()

    async def flush(self, *, final: bool, handed_back: bool) -> None:
        """Report what the ack does not carry: the plan, and the state unless the end is `final`.

        The last report goes with the ack, which one that may be `handed_back` does not have. Wait
        first for what is being kept, `KEEP_SECONDS` at most. Raise LeaseLost.
        """
        if self._keeping:
            await asyncio.wait(self._keeping, timeout=KEEP_SECONDS)
        more = self._has_more(final) or (handed_back and self._unsent)
        if more and (report := self._read()) is not None:
            await self._owned(lambda: self._tell(report), "report")

    def last_report(self) -> bytes | None:
        """Return the fragment of the last report, None when it was told."""
        if self._unsent and (report := self._read()) is not None:
            return report.fragment
        return self._sending

    def _watch(self) -> None:
        """Report again by ourselves, once the time left is news without a report."""
        wait = None if self.closed or self._run is None else self._run.look_in()
        if wait is None:
            return
        self._look_at = self._loop.time() + wait
        if self._silence is None or self._silence.when() > self._look_at:
            self._plan_look()

    def _plan_look(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._silence = self._loop.call_at(self._look_at, self._look)

    def _look(self) -> None:
        self._silence = None
        if self._loop.time() < self._look_at:
            # There were reports meanwhile.
            self._plan_look()
        elif self._run is not None:
            self._reporter.add(self)

    def _kept(self, keeping: "asyncio.Future[None]") -> None:
        self._keeping.discard(keeping)
        if not keeping.cancelled():
            # Its caller may be gone.
            keeping.exception()

    def _on_loop(self) -> bool:
        return threading.get_ident() == self._thread

    def _plan(self, wait: float) -> None:
        if wait:
            self._loop.call_later(wait, self._leave)
        else:
            self._reporter.add(self)

    def _leave(self) -> None:
        self._pacer.leave()
        self._reporter.add(self)

    def _has_more(self, final: bool) -> bool:
        """Say whether there is something that only a report can carry."""
        run = self._run
        try:
            if run is None:
                return False
            if self._untold(run.plan) is not None:
                return True
            return not final and run.encoded_state() != self._told_state
        except BaseException:
            # Then it cannot be read either.
            return False

    def _untold(self, plan: Plan | None) -> Plan | None:
        return None if plan is None or plan.digest == self._told_plan else plan

    def _read(self) -> _Report | None:
        """Return the news to tell; None when there are none, or none that can be read."""
        run = self._run
        if self.closed or run is None:
            return None
        # First: what a thread reports from here on may not be in it.
        self._unsent = False
        try:
            state = run.encoded_state()
            fragment, percent, plan = run.fragment_and_plan()
            return _Report(
                fragment,
                percent,
                None if state == self._told_state else state,
                self._untold(plan),
            )
        except BaseException as fault:
            # Its handler has the run itself.
            log.error("progress_unreadable", task_id=self.task.task_id, error=text_of_error(fault))
            return None

    async def _tell(self, report: _Report) -> bool:
        self._sending = report.fragment
        owned = await self.queue.report_progress(
            self.task.task_id,
            self.claim.token,
            report.fragment,
            report.percent,
            state=report.state,
            plan=report.plan,
        )
        if self._sending is report.fragment:
            self._sending = None
        self._reporter.wrote()
        if report.state is not None:
            self._told_state = report.state
        if report.plan is not None:
            self._told_plan = report.plan.digest
        return owned

    async def _owned(self, call: Callable[[], Awaitable[bool]], what: str) -> None:
        if not await self._surely(call, what):
            self.lost()
            raise LeaseLost(self.task.task_id)

    async def _asked(self, call: Callable[[], Awaitable[Asked | None]]) -> Asked:
        if (asked := await self._surely(call, "ask")) is None:
            self.lost()
            raise LeaseLost(self.task.task_id)
        return asked

    async def _surely(self, call: Callable[[], Awaitable[T]], what: str) -> T:
        """Call until the queue answers. Raise LeaseLost once this is closed."""
        while not self.closed:
            try:
                answer = await call()
            except asyncio.CancelledError:
                if _is_being_cancelled():
                    raise
                # Another's cancellation has met the call that ours shared.
                await asyncio.sleep(0)
            except Exception as error:
                if not self._outages.is_outage(error):
                    raise
                await self._outages.outlast(error, what)
            else:
                self._outages.end(what)
                return answer
        raise LeaseLost(self.task.task_id)


def _nothing() -> None:
    """Do nothing."""


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
