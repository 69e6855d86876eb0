"""The messages between a worker and the process of a kind's handler."""

import asyncio
import copy
import json
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from tornado_rt.work import LeaseLost, NotSubmitted, Plan, Question, Submission
from tornado_rt.work.attempts.channel import NOT_OURS, BadMessage, Channel
from tornado_rt.work.attempts.endings import Ending, text_of_error
from tornado_rt.work.attempts.link import Link
from tornado_rt.work.attempts.models import Kept
from tornado_rt.work.attempts.process import end_badly, read_ending
from tornado_rt.work.attempts.target import Rules
from tornado_rt.work.attempts.told_run import ToldRun
from tornado_rt.work.awaiting import as_timeout
from tornado_rt.work.forecast import Forecast
from tornado_rt.work.notes import as_note, as_question
from tornado_rt.work.once import MAX_ONCE_LENGTH
from tornado_rt.work.submitting import ID_BYTES, refusal_of
from tornado_rt.work.values import json_of, require

# A process may have this many questions that wait for an answer.
MOST_ASKED = 100


class KindTalk:
    """Does for a process what a run's sink does, and looks at all that it sends as at another's.

    `told` is None until the process has told something.
    """

    def __init__(
        self, link: Link, plan: Plan | None, kept: Kept, rules: Rules, forecast: Forecast
    ) -> None:
        self.told: ToldRun | None = None
        self._link = link
        self._plan = plan
        self._forecast = forecast
        self._kept = kept
        self._kept_bytes = sum(map(len, kept.results.values()))
        self._rules = rules
        self._channel: Channel | None = None
        # The questions of the process that wait for an answer.
        self._asking: set[asyncio.Task[None]] = set()
        self._stopping = False

    def stop(self) -> None:
        """Let `run.stopping` be true there."""
        self._stopping = True
        if self._channel is not None:
            self._channel.send("stop", None)

    async def follow(self, channel: Channel) -> Ending:
        """Do what the process asks for, until it tells how its handler ended. Raise LeaseLost."""
        self._channel = channel
        if self._stopping:
            self.stop()
        try:
            while True:
                kind, content = await channel.receive()
                if kind == "ending":
                    return self._end(content)
                await self._take(kind, content)
                # One that asks and does not read is not listened to.
                await channel.sent()
        except BadMessage as error:
            return end_badly(error)
        finally:
            for one in self._asking:
                one.cancel()

    async def _take(self, kind: Any, content: Any) -> None:
        if kind == "report":
            self._link.report(self._tell(content))
        elif kind == "keep":
            number, name, value = _parts(content, 3)
            await self._answer(number, self._keep(_name(name), _value(value)))
        elif kind == "note":
            number, *note = _parts(content, 4)
            await self._answer(number, self._link.notify(*_note(*note)))
        elif kind == "submit":
            number, name, task = _parts(content, 3)
            await self._answer(number, self._submit(Submission(_name(name), _value(task))))
        elif kind == "ask":
            number, timeout, *question = _parts(content, 7)
            # The process tells more while its user thinks.
            asking = self._link.ask(_question(*question), _timeout(timeout))
            self._hold(asyncio.create_task(self._answer(number, asking)))
        else:
            raise BadMessage(NOT_OURS)

    def _tell(self, report: Any) -> ToldRun:
        kept = self._kept
        told = self.told or ToldRun(
            self._plan, kept.state, self._forecast, resumes=bool(kept.results or kept.state)
        )
        told.take(*_parts(report, 4))
        self.told = told
        return told

    def _hold(self, asking: asyncio.Task[None]) -> None:
        if len(self._asking) >= MOST_ASKED:
            asking.cancel()
            raise BadMessage(NOT_OURS)
        self._asking.add(asking)
        asking.add_done_callback(self._forget)

    def _forget(self, asking: asyncio.Task[None]) -> None:
        self._asking.discard(asking)
        if not asking.cancelled():
            # The lease is lost: the process is killed.
            asking.exception()

    async def _answer(self, number: Any, asked: Coroutine[Any, Any, bytes | None]) -> None:
        fault, answer = "", None
        try:
            answer = await asked
        except LeaseLost:
            # The process is killed.
            raise
        except Exception as error:
            fault = text_of_error(error)
        if self._channel is not None:
            text = None if answer is None else answer.decode()
            self._channel.send("answer", (number, fault, text))

    async def _keep(self, name: str, value: bytes) -> None:
        """Keep a once-result. Raise ValueError when all are too large, LeaseLost."""
        with self._room(len(value)):
            await self._link.keep(name, value)

    async def _submit(self, submission: Submission) -> bytes:
        """Submit a task; return what the process is told. Raise as `_keep`."""
        try:
            with self._room(ID_BYTES):
                task_id = await self._link.submit(submission)
        except NotSubmitted as error:
            return json_of({"refused": refusal_of(error)})
        return json_of({"task_id": task_id})

    @contextmanager
    def _room(self, size: int) -> Iterator[None]:
        """Count these bytes of once-results, unless the block fails. Raise ValueError."""
        whole, most = self._kept_bytes + size, self._rules.result_bytes
        told = f"the results of once have {whole} bytes; at most {most} are allowed"
        require(not most or whole <= most, told)
        self._kept_bytes = whole
        try:
            yield
        except BaseException:
            self._kept_bytes -= size
            raise

    def _end(self, fields: Any) -> Ending:
        ending = read_ending(fields, any_json=self._rules.any_json)
        if (report := fields.get("report")) is not None:
            # The ack tells of it, and before that `flush` of a plan or a state that is new.
            told = self._tell(report)
            self._link.replace(told, is_news=bool(fields.get("is_news")))
            if (last := fields.get("last")) is not None:
                # The link has the last report, which is told as it was.
                self.told = copy.copy(told)
                self.told.take_last(last)
        return ending


def _parts(content: Any, count: int) -> list[Any]:
    if not isinstance(content, list) or len(content) != count:
        raise BadMessage(NOT_OURS)
    return content


def _question(name: Any, title: Any, content: Any, severity: Any, options: Any) -> Question:
    try:
        return as_question(name, title, content, severity, options)
    except (ValueError, TypeError):
        raise BadMessage(NOT_OURS) from None


def _timeout(timeout: Any) -> float | None:
    try:
        return as_timeout(timeout)
    except (ValueError, TypeError):
        raise BadMessage(NOT_OURS) from None


def _value(value: Any) -> bytes:
    """Return a once-result. Raise BadMessage for what is none."""
    try:
        json.loads(value)
        encoded: bytes = value.encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise BadMessage(NOT_OURS) from None
    return encoded


def _name(name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_ONCE_LENGTH:
        raise BadMessage(NOT_OURS)
    return name


def _note(title: Any, content: Any, severity: Any) -> tuple[str, str | None, str]:
    try:
        return as_note(title, content, severity)
    except (ValueError, TypeError):
        raise BadMessage(NOT_OURS) from None
