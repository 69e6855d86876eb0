"""The process of a task: runs its handler, and sends the reports to the worker."""

import asyncio
import ctypes
import inspect
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

from services.analysis import AnalysisTask, Step, read_update
from services.queue import Kept, Outcome, Task
from services.worker.channel import READ_BYTES, BadMessage, Unpacker, pack
from services.worker.endings import Ending, end_with_error, text_of_error
from services.worker.loading import import_function, import_kind
from services.worker.runs import make_run, read_params
from services.worker.target import Rules
from services.worker.threads import running_loop
from settings import Settings
from tornado_rt.children import PR_SET_PDEATHSIG
from tornado_rt.fork_guard import end_if_forked
from tornado_rt.work import LeaseLost, Pacer, Run, Told
from tornado_rt.work.handlers import call
from tornado_rt.work.run import NO_STATE, settled

log = structlog.get_logger(__name__)

# Of an answer to what was asked.
MOST_ANSWER_BYTES = 65536

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def run_handler(
    path: str,
    settings: Settings,
    rules: Rules,
    task: AnalysisTask,
    steps: list[Step],
    connection: Connection,
) -> None:
    """Run `MODULE:FUNCTION` of (task, progress), and send what comes of it."""
    _enter()
    process = os.getpid()
    pipe = Pipe(connection)
    progress = PipeProgress(steps, pipe)
    ending = _outcome(lambda: import_function(path, settings)(task, progress), rules)
    end_if_forked(process)
    pipe.send("ending", _fields_of(ending))


def run_kind(
    module: str, settings: Settings, rules: Rules, task: Task, kept: Kept, connection: Connection
) -> None:
    """Run the handler of a kind, and send what comes of it."""
    _enter()
    process = os.getpid()
    sink = PipeSink(Pipe(connection))

    def work() -> Any:
        kind = import_kind(task.kind, module, settings)
        params = read_params(kind, task)
        run = make_run(kind, params, task, sink, sink.wait, kept, rules)
        sink.begin(run, kept.state)
        assert kind.function is not None
        return call(kind.function, params, run)

    ending = _outcome(work, rules)
    end_if_forked(process)
    sink.end(ending)


class Pipe:
    """The process's end of the channel, for all of its threads."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._process = os.getpid()
        self._sending = threading.Lock()

    def send(self, kind: str, content: Any) -> None:
        """Send one message, whole."""
        if os.getpid() != self._process:
            raise RuntimeError("a forked process cannot report; its parent can")
        rest = memoryview(pack(kind, content))
        with self._sending:
            while rest:
                rest = rest[os.write(self.connection.fileno(), rest) :]


class PipeProgress:
    """Reports of a handler of (task, progress), plain function or coroutine."""

    def __init__(self, steps: list[Step], pipe: Pipe) -> None:
        self.steps = steps
        self._connection = pipe.connection
        self._pipe = pipe

    def update_progress(self, progress_update: str | dict[str, Any]) -> Told:
        """Send one report; what is returned may be awaited or not. Raise StepUnknown."""
        step, message = read_update(progress_update, self.steps)
        if step is not None:
            self._pipe.send("step", (step, message))
        elif isinstance(progress_update, dict):
            self._pipe.send("message", {"message": message})
        else:
            self._pipe.send("message", message)
        return Told()


class PipeSink:
    """The sink of a run: its reports are merged here, and what is kept waits for its answer.

    A thread of its own reads what the worker sends, and sends the reports that wait. When the lease
    is lost the worker kills the process.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._pacer = Pacer()
        self._run: Run | None = None
        self._stopping = False
        self._told_state = NO_STATE
        self._told_plan: str | None = None
        # Held while a report is made and sent, so that none overtakes a later one.
        self._reporting = threading.Lock()
        self._asked: dict[int, futures.Future[None]] = {}
        self._unpacker = Unpacker(MOST_ANSWER_BYTES)
        self._loop = asyncio.new_event_loop()
        self._loop.add_reader(pipe.connection.fileno(), self._read)
        threading.Thread(target=self._loop.run_forever, name="worker", daemon=True).start()

    def begin(self, run: Run, state: bytes) -> None:
        """Tell of this run from now on; `state`: as it was kept."""
        self._run, self._told_state = run, state or NO_STATE
        if self._stopping:
            run.stop()

    def report(self, run: Run) -> None:
        """Send the state now, or with the next report."""
        wait = self._pacer.ask()
        if wait == 0:
            self._send(run)
        elif wait is not None:
            self._loop.call_soon_threadsafe(self._loop.call_later, wait, self._leave, run)

    def check(self) -> None:
        """Do nothing: this process is killed when nobody waits for it any more."""

    async def keep(self, name: str, value: bytes) -> None:
        """Have the worker keep a once-result, and wait until it has."""
        await self._ask("keep", name, value.decode())

    async def notify(self, title: str, content: str | None, severity: str) -> None:
        """Have the worker send a notification."""
        await self._ask("note", title, content, severity)

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end; any thread may call this."""
        if running_loop() is None:
            return asyncio.run(coroutine)
        # A plain function has a loop of its own here, and blocks it.
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def end(self, ending: Ending) -> None:
        """Send what has not been told, and how it ended."""
        fields, run = _fields_of(ending), self._run
        if run is not None:
            try:
                self._send(run)
                if ending.outcome == Outcome.COMPLETED:
                    run.complete()
                    fields["last"] = run.fragment().decode()
            except Exception as error:
                # Its handler has the run itself.
                log.error("progress_unreadable", error=text_of_error(error))
        self._pipe.send("ending", fields)

    def _leave(self, run: Run) -> None:
        self._pacer.leave()
        self._send(run)

    def _send(self, run: Run) -> None:
        with self._reporting:
            state, plan = run.encoded_state(), run.plan
            digest = None if plan is None else plan.digest
            content = (
                run.fragment().decode(),
                run.progress,
                None if state == self._told_state else state.decode(),
                None if plan is None or digest == self._told_plan else plan.text.decode(),
            )
            self._pipe.send("report", content)
            self._told_state, self._told_plan = state, digest

    async def _ask(self, kind: str, *content: Any) -> None:
        answer: futures.Future[None] = futures.Future()
        number = id(answer)
        self._asked[number] = answer
        self._pipe.send(kind, (number, *content))
        await asyncio.wrap_future(answer)

    def _read(self) -> None:
        try:
            data = os.read(self._pipe.connection.fileno(), READ_BYTES)
            self._unpacker.feed(data)
            while (message := self._unpacker.next()) is not None:
                self._take(*message)
        except (OSError, BadMessage):
            data = b""
        if not data:
            # The worker is gone, and nobody answers any more.
            self._loop.remove_reader(self._pipe.connection.fileno())
            for answer in tuple(self._asked.values()):
                if not answer.cancelled():
                    answer.set_exception(LeaseLost("the worker is gone"))

    def _take(self, kind: str, content: Any) -> None:
        if kind == "stop":
            self._stopping = True
            if self._run is not None:
                self._run.stop()
        elif kind == "answer":
            number, fault = content
            answer = self._asked.pop(number)
            if answer.cancelled():
                return
            if fault:
                answer.set_exception(RuntimeError(fault))
            else:
                answer.set_result(None)


def _enter() -> None:
    if _libc is not None:
        # With the fork server, which ends with the worker.
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _let_fork_server_end()
    # A group of its own: a signal that the handler sends to its group does not reach the worker.
    # A Ctrl-C in the terminal is for the worker too, which gives us the grace time.
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The fork server ignores it. Programs that the handler starts should not.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _let_fork_server_end() -> None:
    """Close our copy of the pipe by which the fork server sees that the worker is gone.

    multiprocessing hands it to each process, for processes that this one starts: those get a fork
    server of their own.
    """
    server: Any = forkserver._forkserver
    if server._forkserver_alive_fd is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None


def _outcome(call: Callable[[], Any], rules: Rules) -> Ending:
    try:
        result = call()
        if inspect.isawaitable(result):
            result = asyncio.run(settled(result))
        return rules.judge(result)
    except BaseException as error:
        return end_with_error(error)


def _fields_of(ending: Ending) -> dict[str, Any]:
    return {
        "outcome": ending.outcome,
        "result": ending.result,
        "error": ending.error,
        "delay": ending.delay,
        "trace": ending.trace,
        "cancelled": ending.cancelled,
    }
