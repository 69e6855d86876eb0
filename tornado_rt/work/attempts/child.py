"""The process of a task: runs its handler, and sends the reports to the worker."""

import asyncio
import contextlib
import ctypes
import inspect
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent import futures
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any

import structlog

from tornado_rt.work import Kind, LeaseLost, Pacer, Question, Run, Submission
from tornado_rt.work.attempts.cancelling import Cancelling
from tornado_rt.work.attempts.channel import READ_BYTES, BadMessage, Unpacker, pack
from tornado_rt.work.attempts.endings import Ending, end_with_error, text_of_error
from tornado_rt.work.attempts.fork_guard import end_if_forked
from tornado_rt.work.attempts.lessons import outline_of
from tornado_rt.work.attempts.models import Kept, Outcome, Task
from tornado_rt.work.attempts.runs import make_run, read_params
from tornado_rt.work.attempts.target import Rules
from tornado_rt.work.attempts.threads import running_loop
from tornado_rt.work.attempts.tracing import Carried
from tornado_rt.work.awaiting import settled
from tornado_rt.work.forecast import Forecast
from tornado_rt.work.handlers import call
from tornado_rt.work.run import NO_STATE
from tornado_rt.work.submitting import read_refusal

log = structlog.get_logger(__name__)

# Imports a kind by its name.
LoadKind = Callable[[str], Kind]

# Most bytes of an answer to a question of the child.
MOST_ANSWER_BYTES = 65536
GONE = "the worker is gone"
# Of prctl(2).
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def run_kind(
    load: LoadKind,
    rules: Rules,
    task: Task,
    kept: Kept,
    forecast: Forecast | None,
    carried: Carried | None,
    connection: Connection,
) -> None:
    """Run the handler of a kind in a carried trace, and send what comes of it."""
    cancelling = enter()
    process = os.getpid()
    sink = PipeSink(connection, cancelling)

    def work() -> Any:
        kind = load(task.kind)
        params = read_params(kind, task)
        wait = None if kind.is_async else sink.wait
        outline = outline_of(kind, params, task.params)
        run = make_run(outline, task, sink, wait, kept, rules, forecast)
        sink.begin(run, kept.state)
        assert kind.function is not None
        return call(kind.function, params, run)

    with carried or contextlib.nullcontext():
        ending = outcome_of(work, rules, cancelling)
        end_if_forked(process)
    with contextlib.suppress(LeaseLost):
        sink.end(ending)


class Pipe:
    """The process's end of the channel, for all of its threads.

    A thread of its own runs `loop`, and reads what the worker sends: `take` is called for each
    message. When the worker asks for it, or is gone, the handler is cancelled.
    """

    def __init__(
        self,
        connection: Connection,
        cancelling: Cancelling,
        take: Callable[[str, Any], None] | None = None,
    ) -> None:
        self.connection = connection
        self.loop = asyncio.new_event_loop()
        self._cancelling = cancelling
        self._take_other = take
        self._process = os.getpid()
        self._sending = threading.Lock()
        self._unpacker = Unpacker(MOST_ANSWER_BYTES)
        self.loop.add_reader(connection.fileno(), self._read)
        threading.Thread(target=self.loop.run_forever, name="worker", daemon=True).start()

    def send(self, kind: str, content: Any) -> None:
        """Send one message, whole. Raise LeaseLost when the worker is gone."""
        if os.getpid() != self._process:
            raise RuntimeError("a forked process cannot report; its parent can")
        rest = memoryview(pack(kind, content))
        with self._cancelling.held(), self._sending:
            try:
                while rest:
                    rest = rest[os.write(self.connection.fileno(), rest) :]
            except OSError:
                raise LeaseLost(GONE) from None

    def _read(self) -> None:
        try:
            data = os.read(self.connection.fileno(), READ_BYTES)
            self._unpacker.feed(data)
            while (message := self._unpacker.next()) is not None:
                self._take(*message)
        except (OSError, BadMessage):
            data = b""
        if not data:
            self.loop.remove_reader(self.connection.fileno())
            self._take("gone", None)

    def _take(self, kind: str, content: Any) -> None:
        if self._take_other is not None:
            self._take_other(kind, content)
        if kind in ("cancel", "gone"):
            self._cancelling.ask()


class PipeSink:
    """The sink of a run: its reports are merged here, and what is kept waits for its answer.

    The thread of the pipe sends the reports that wait. When the lease is lost the worker ends the
    process.
    """

    def __init__(self, connection: Connection, cancelling: Cancelling) -> None:
        self._cancelling = cancelling
        self._pacer = Pacer()
        self._run: Run | None = None
        self._stopping = False
        self._told_state = NO_STATE
        self._told_plan: str | None = None
        # Held while a report is made and sent, so that none overtakes a later one.
        self._reporting = threading.Lock()
        self._ended = False
        # Whether there is a report that was not sent.
        self._unsent = False
        self._asked: dict[int, futures.Future[bytes | None]] = {}
        self._pipe = Pipe(connection, cancelling, self._take)

    def begin(self, run: Run, state: bytes) -> None:
        """Tell of this run from now on; `state`: as it was kept."""
        self._run, self._told_state = run, state or NO_STATE
        if self._stopping:
            run.stop()

    def report(self, run: Run) -> None:
        """Send the state now, or with the next report."""
        self._unsent = True
        wait = self._pacer.ask()
        if wait == 0:
            self._send(run)
        elif wait is not None:
            loop = self._pipe.loop
            loop.call_soon_threadsafe(loop.call_later, wait, self._leave, run)

    def check(self) -> None:
        """Do nothing: this process is killed when nobody waits for it any more."""

    async def keep(self, name: str, value: bytes) -> None:
        """Have the worker keep a once-result, and wait until it has."""
        await self._ask("keep", name, value.decode())

    async def notify(self, title: str, content: str | None, severity: str) -> None:
        """Have the worker send a notification."""
        await self._ask("note", title, content, severity)

    async def ask(self, question: Question, timeout: float | None) -> bytes | None:
        """Have the worker ask the user, and wait for the answer."""
        asked = (question.name, question.title, question.content, question.severity)
        return await self._ask("ask", timeout, *asked, dict(question.options))

    async def submit(self, submission: Submission) -> str:
        """Have the worker submit a task, and wait for its id."""
        answer = await self._ask("submit", submission.name, submission.task.decode())
        told = json.loads(answer or b"{}")
        if (refused := told.get("refused")) is not None:
            raise read_refusal(refused)
        return str(told["task_id"])

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end; any thread may call this."""
        if running_loop() is None:
            return self._cancelling.run(coroutine)
        # A plain function has a loop of its own here, and blocks it.
        return asyncio.run_coroutine_threadsafe(coroutine, self._pipe.loop).result()

    def end(self, ending: Ending) -> None:
        """Send how it ended, with what has not been told. Raise LeaseLost."""
        fields, run = fields_of(ending), self._run
        with self._reporting:
            self._ended = True
            try:
                if run is not None:
                    fields["is_news"] = self._unsent
                    fields["report"] = self._news(run)
                    if ending.outcome == Outcome.COMPLETED:
                        run.complete()
                        fields["last"] = run.fragment().decode()
            except Exception as error:
                # Its handler has the run itself.
                log.error("progress_unreadable", error=text_of_error(error))
            self._pipe.send("ending", fields)

    def _leave(self, run: Run) -> None:
        self._pacer.leave()
        # Then the handler is cancelled.
        with contextlib.suppress(LeaseLost):
            self._send(run)

    def _send(self, run: Run) -> None:
        with self._cancelling.held(), self._reporting:
            if not self._ended:
                self._pipe.send("report", self._news(run))

    def _news(self, run: Run) -> tuple[str, float, str | None, str | None]:
        """Return the state now, with what of it has not been told: it is told then."""
        self._unsent = False
        state = run.encoded_state()
        fragment, percent, plan = run.fragment_and_plan()
        digest = None if plan is None else plan.digest
        told_state, self._told_state = self._told_state, state
        told_plan, self._told_plan = self._told_plan, digest
        return (
            fragment.decode(),
            percent,
            None if state == told_state else state.decode(),
            None if plan is None or digest == told_plan else plan.text.decode(),
        )

    async def _ask(self, kind: str, *content: Any) -> bytes | None:
        answer: futures.Future[bytes | None] = futures.Future()
        number = id(answer)
        self._asked[number] = answer
        self._pipe.send(kind, (number, *content))
        return await asyncio.wrap_future(answer)

    def _take(self, kind: str, content: Any) -> None:
        if kind == "gone":
            # Nobody answers any more.
            for answer in tuple(self._asked.values()):
                if not answer.cancelled():
                    answer.set_exception(LeaseLost(GONE))
        elif kind == "stop":
            self._stopping = True
            if self._run is not None:
                self._run.stop()
        elif kind == "answer":
            number, fault, text = content
            answer = self._asked.pop(number)
            if answer.cancelled():
                return
            if fault:
                answer.set_exception(RuntimeError(fault))
            else:
                answer.set_result(None if text is None else text.encode())


def enter() -> Cancelling:
    """Begin as the process of a task, which ends with its worker."""
    if _libc is not None:
        # With the fork server, which ends with the worker.
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _let_fork_server_end()
    # A group of its own: a signal that the handler sends to its group does not reach the worker.
    os.setpgid(0, 0)
    return Cancelling()


def _let_fork_server_end() -> None:
    """Close our copy of the pipe by which the fork server sees that the worker is gone.

    multiprocessing hands it to each process, for processes that this one starts: those get a fork
    server of their own.
    """
    server: Any = forkserver._forkserver
    if server._forkserver_alive_fd is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None


def outcome_of(call: Callable[[], Any], rules: Rules, cancelling: Cancelling) -> Ending:
    """Run a handler to its end, in the main thread."""
    try:
        with cancelling.handler():
            result = call()
            if inspect.isawaitable(result):
                result = cancelling.run(settled(result))
        return rules.judge(result)
    except BaseException as error:
        return end_with_error(error)


def fields_of(ending: Ending) -> dict[str, Any]:
    """Return an ending as it is sent."""
    return {
        "outcome": ending.outcome,
        "result": ending.result,
        "error": ending.error,
        "delay": ending.delay,
        "trace": ending.trace,
        "cancelled": ending.cancelled,
    }
