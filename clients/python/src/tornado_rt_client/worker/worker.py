"""The worker: its slots, and the attempts that use them.

It is long because the options of a worker are documented and checked in one place.
"""

import asyncio
import contextlib
import functools
import logging
import multiprocessing
import os
import platform
import re
import secrets
import signal
import socket
import ssl as tls
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

import attrs

from tornado_rt_client.backoff import Backoff
from tornado_rt_client.tokens import AsyncToken, source_of
from tornado_rt_client.worker.connection import Connection, Transport
from tornado_rt_client.worker.items import Given, declaration_of
from tornado_rt_client.worker.kinds import Work
from tornado_rt_client.worker.parts import (
    ABANDON_SECONDS,
    HANDED_BACK,
    Ack,
    Attempt,
    BadParams,
    Ending,
    Kind,
    Link,
    NoSpans,
    Outages,
    Outcome,
    Reporter,
    attempt_spans,
    carry,
    carry_nothing,
    guard_tasks,
    loop_guarded,
    one_line,
    outcome_name,
)
from tornado_rt_client.worker.remote_queue import RemoteQueue
from tornado_rt_client.worker.session import Answered, Began, Key, Lost, Session, fault_of
from tornado_rt_client.worker.waiting import end_all, first_of

logger = logging.getLogger("tornado_rt_client")

SCOPE = "rt:work"
WORKER_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")
MOST_SLOTS = 1000
# After the grace time, how long the server may take to hear how the last attempts ended [s].
CLOSE_SECONDS = 5.0


class Worker:
    """Runs at most `concurrency` tasks of some kinds at once, for a server elsewhere.

    `kinds` are objects, names of modules, or paths of files, as `run.py worker --kinds` takes them.
    `token` is one of the scope `rt:work`, or a function that returns one, asynchronous or not; with
    the server's `secret` the worker mints tokens of `user`. Tasks run on the loop, in threads, or
    with `processes` each in a process of its own. `timeout_seconds` bounds an attempt of a kind
    that has no bound of its own. At a stop tasks get `grace_seconds`; then they are handed back.
    `transport` is "websocket", "http", or "auto": HTTP where WebSockets do not get through. `ssl`
    is for a server with a certificate of its own. With `traces` each attempt has a span of
    OpenTelemetry, in the trace that the task was sent in, recorded by the provider that the program
    has set; spans that its handler makes are children of it.

    Raise KindError for kinds that cannot be used, ValueError for another invalid argument;
    ModuleNotFoundError for `traces` without the package opentelemetry-api.
    """

    def __init__(
        self,
        url: str,
        kinds: Iterable[Kind | str | Path],
        *,
        token: AsyncToken | None = None,
        secret: str | None = None,
        user: str | None = None,
        concurrency: int = 4,
        processes: bool = False,
        timeout_seconds: float = 0.0,
        grace_seconds: float = 20.0,
        worker_id: str | None = None,
        transport: str = Transport.AUTO,
        ssl: tls.SSLContext | None = None,
        backoff: Backoff | None = None,
        traces: bool = False,
    ) -> None:
        if not 1 <= concurrency <= MOST_SLOTS:
            raise ValueError(f"concurrency is from 1 to {MOST_SLOTS}, not {concurrency}")
        if timeout_seconds < 0 or grace_seconds < 0:
            raise ValueError("timeout_seconds and grace_seconds are 0 or more")
        self.worker_id = _own_id() if worker_id is None else worker_id
        if not WORKER_ID.fullmatch(self.worker_id):
            raise ValueError("a worker_id has 1 to 100 of A-Z, a-z, 0-9 and . _ : -")
        who = "worker" if user is None and secret is not None else user
        scopes: Sequence[str] = () if secret is None else (SCOPE,)
        self._connection = Connection(
            url,
            source_of(token, secret, who, scopes, (), 300.0),
            transport=Transport(transport),
            ssl=ssl,
            backoff=backoff or Backoff(most=10.0),
        )
        work = Work.of(kinds)
        for kind in work.kinds.values():
            if kind.schedules:
                logger.warning(
                    "the schedules of kind %r are kept by servers that load it", kind.name
                )
        self._targets = work.targets(
            timeout_seconds=timeout_seconds,
            result_bytes=0,
            processes=processes,
            carry=carry if traces else carry_nothing,
        )
        self._spans = attempt_spans(self.worker_id) if traces else NoSpans()
        self._wanted = asyncio.Event()
        self._session = Session(
            self.worker_id,
            [declaration_of(kind) for kind in work.kinds.values()],
            concurrency,
            {"host": socket.gethostname(), "pid": os.getpid(), "version": _version()},
            self._wanted.set,
        )
        self._grace_seconds = grace_seconds
        self._attempts: dict[Key, Attempt] = {}
        self._reporter = Reporter()
        # Nothing that is told fails since the server is away: it waits.
        self._outages = Outages(lambda _: False)
        self._stopped = asyncio.Event()
        self._hurried = asyncio.Event()
        # Set once the server has taken what the worker said of itself, and when all is over.
        self._known = asyncio.Event()
        self._ended = asyncio.Event()
        # Set when an attempt is over, or its end was taken.
        self._moved = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    def run(self) -> None:
        """Work until SIGTERM or SIGINT, in a loop of its own; a second one ends the grace time.

        Only the main thread hears signals. Raise ApiError when the server refuses this worker.
        """
        _check_main()
        with asyncio.Runner() as runner:
            guard_tasks(runner.get_loop())
            runner.run(self._run())

    async def serve(self) -> None:
        """Work until `stop`. Raise ApiError when the server refuses this worker."""
        with loop_guarded():
            connected = asyncio.ensure_future(
                self._connection.keep(self._session, self._wanted, self._take_news)
            )
            jobs = [
                connected,
                asyncio.ensure_future(self._reporter.run()),
                asyncio.ensure_future(self._extend()),
            ]
            try:
                await first_of(connected, self._stopped)
                await self._finish(connected)
            finally:
                # There are some if this was cancelled.
                for attempt in tuple(self._attempts.values()):
                    attempt.drop()
                await end_all(*jobs)
                self._ended.set()
            if connected.done() and not connected.cancelled():
                connected.result()

    @property
    def is_over(self) -> bool:
        """Whether it has stopped, or was refused, and nothing runs any more."""
        return self._ended.is_set()

    async def ready(self) -> None:
        """Wait until the server knows this worker and its kinds, or the worker has ended."""
        await first_of(self._known, self._ended)

    def stop(self) -> None:
        """Take no more tasks, and tell handlers; on the loop of the worker.

        Called again it ends the grace time.
        """
        if self._stopped.is_set():
            self._hurried.set()
            return
        self._stopped.set()
        self._session.drain()
        for attempt in tuple(self._attempts.values()):
            attempt.tell_stop()

    async def __aenter__(self) -> Self:
        """Work beside the block."""
        self._serving = asyncio.create_task(self.serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        if self._serving is not None:
            await self._serving

    async def _run(self) -> None:
        with _signals_heard(self.stop):
            await self.serve()

    async def _extend(self) -> None:
        while True:
            await asyncio.sleep(self._session.extend_seconds)
            self._session.extend()

    def _take_news(self) -> None:
        """Do for the attempts what the server has said."""
        if self._session.working:
            self._known.set()
        for one in self._session.take_news():
            if isinstance(one, Began):
                self._begin(one.given)
            elif (attempt := self._attempts.get(one.key)) is None:
                continue
            elif isinstance(one, Lost):
                attempt.drop()
            elif isinstance(one, Answered):
                attempt.look_for_answers()
        self._moved.set()

    def _begin(self, given: Given) -> None:
        claim = given.claim
        target = self._targets.get(claim.task.kind)
        if self._stopped.is_set() or target is None:
            self._session.release(given.key)
            return
        target.rules = attrs.evolve(target.rules, result_bytes=self._session.result_bytes)
        queue = RemoteQueue(self._session, given)
        link = Link(queue, claim, self._reporter, self._outages, submitter=queue)
        try:
            with self._spans.begun(claim):
                attempt = Attempt(target, link, functools.partial(self._over, given.key))
        except BadParams as error:
            self._spans.ended(claim, Outcome.FAILED)
            reason = one_line(f"bad params: {error}")
            self._end(Ack(claim.task.task_id, claim.token, Outcome.FAILED, error=reason))
            return
        self._attempts[given.key] = attempt

    def _over(self, key: Key, attempt: Attempt, ending: Ending) -> None:
        """Say how an attempt ended, or that another may go on."""
        self._attempts.pop(key, None)
        self._moved.set()
        handed_back = ending is HANDED_BACK or (ending.cancelled and self._stopped.is_set())
        outcome = outcome_name(ending, attempt.cancelled, handed_back=handed_back)
        self._spans.ended(attempt.claim, outcome)
        ack = None if handed_back else attempt.ack(ending)
        if ack is None:
            self._session.release(key)
        else:
            self._end(ack)

    def _end(self, ack: Ack) -> None:
        def told(answer: dict[str, Any]) -> None:
            if (fault := fault_of(answer)) is not None:
                logger.error("the end of task %s: %s", ack.task_id, fault)

        self._session.end(ack, told)

    async def _finish(self, connected: "asyncio.Future[None]") -> None:
        """Wait for what runs, the grace time at most; hand back what has not ended then."""
        self.stop()
        self._hurried.clear()
        if not connected.done():
            await self._until_idle(self._grace_seconds, connected)
        unfinished = tuple(self._attempts.values())
        for attempt in unfinished:
            attempt.hand_back()
        if unfinished:
            # A handler that swallows its cancellation is left behind.
            await asyncio.wait([one.job for one in unfinished], timeout=ABANDON_SECONDS)
        for attempt in unfinished:
            attempt.abandon()
        if not connected.done():
            await self._until_told(connected)

    async def _until_idle(self, seconds: float, connected: "asyncio.Future[None]") -> None:
        deadline = time.monotonic() + seconds
        while self._attempts and not (self._hurried.is_set() or connected.done()):
            left = deadline - time.monotonic()
            if left <= 0:
                return
            await self._pause(left, connected)

    async def _until_told(self, connected: "asyncio.Future[None]") -> None:
        """Wait until the server has heard of all ends."""
        deadline = time.monotonic() + CLOSE_SECONDS
        while self._session.held and not connected.done():
            left = deadline - time.monotonic()
            if left <= 0:
                # Their leases run out, and another worker takes them.
                logger.warning("the server has not heard of %d tasks", len(self._session.held))
                return
            await self._pause(left, connected)

    async def _pause(self, seconds: float, connected: "asyncio.Future[None]") -> None:
        """Wait until something moves."""
        self._moved.clear()
        events = [self._moved] if self._hurried.is_set() else [self._moved, self._hurried]
        await first_of(connected, *events, seconds=seconds)


def _check_main() -> None:
    """Raise RuntimeError in the process of a task that imports the program of its worker.

    multiprocessing does that for each process that it starts (its "safe importing of main module").
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "the process of a task has run the program of its worker again: put the worker under"
            " `if __name__ == '__main__':`"
        )


@contextlib.contextmanager
def _signals_heard(stop: Any) -> Any:
    loop = asyncio.get_running_loop()
    is_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGTERM, signal.SIGINT) if is_main else ()

    def heard(_: int, __: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop)

    before = {number: signal.signal(number, heard) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _own_id() -> str:
    host = re.sub(r"[^A-Za-z0-9._-]", "-", platform.node())[:60] or "worker"
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def _version() -> str:
    from tornado_rt_client import __version__

    return __version__
