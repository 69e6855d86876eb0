"""The messages between a worker and the process of a kind's handler."""

import copy
import json
from collections.abc import Coroutine
from typing import Any

from services.queue import Kept
from services.worker.channel import DIED, NOT_OURS, BadMessage, Channel
from services.worker.endings import Ending, errored, text_of_error
from services.worker.link import Link
from services.worker.process import read_ending
from services.worker.target import Rules
from services.worker.told_run import ToldRun
from tornado_rt.work import LeaseLost, Plan
from tornado_rt.work.once import MAX_ONCE_LENGTH
from tornado_rt.work.run import as_note


class KindTalk:
    """Does for a process what a run's sink does, and looks at all that it sends as at another's.

    `told` is None until the process has told something.
    """

    def __init__(self, link: Link, plan: Plan | None, kept: Kept, rules: Rules) -> None:
        self.told: ToldRun | None = None
        self._link = link
        self._plan = plan
        self._kept = kept
        self._kept_bytes = sum(map(len, kept.results.values()))
        self._rules = rules
        self._channel: Channel | None = None
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
            while (message := await channel.receive()) is not None:
                if message[0] == "ending":
                    return self._end(message[1])
                await self._take(*message)
                # One that asks and does not read is not listened to.
                await channel.sent()
        except BadMessage as error:
            return errored(str(error))
        return errored(DIED)

    async def _take(self, kind: Any, content: Any) -> None:
        if not isinstance(content, list):
            raise BadMessage(NOT_OURS)
        if kind == "report":
            self._report(*_parts(content, 4))
        elif kind == "keep":
            number, name, value = _parts(content, 3)
            await self._answer(number, self._link.keep(_name(name), self._value(value)))
        elif kind == "note":
            number, *note = _parts(content, 4)
            await self._answer(number, self._link.notify(*_note(*note)))
        else:
            raise BadMessage(NOT_OURS)

    def _report(self, fragment: Any, percent: Any, state: Any, plan: Any) -> None:
        told = self.told or ToldRun(self._plan, self._kept.state)
        told.take(fragment, percent, state, plan)
        self.told = told
        self._link.report(told)

    async def _answer(self, number: Any, asked: Coroutine[Any, Any, None]) -> None:
        fault = ""
        try:
            await asked
        except LeaseLost:
            # The process is killed.
            raise
        except Exception as error:
            fault = text_of_error(error)
        if self._channel is not None:
            self._channel.send("answer", (number, fault))

    def _value(self, value: Any) -> bytes:
        """Return a once-result. Raise BadMessage for what is none."""
        try:
            json.loads(value)
            encoded: bytes = value.encode()
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise BadMessage(NOT_OURS) from None
        self._kept_bytes += len(encoded)
        if 0 < self._rules.result_bytes < self._kept_bytes:
            raise BadMessage(NOT_OURS)
        return encoded

    def _end(self, fields: Any) -> Ending:
        ending = read_ending(fields, any_json=self._rules.any_json)
        if (last := fields.get("last")) is not None:
            # The link has the last report, which is told as it was.
            told = copy.copy(self.told) or ToldRun(self._plan, self._kept.state)
            told.take_last(last)
            self.told = told
        return ending


def _parts(content: list[Any], count: int) -> list[Any]:
    if len(content) != count:
        raise BadMessage(NOT_OURS)
    return content


def _name(name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_ONCE_LENGTH:
        raise BadMessage(NOT_OURS)
    return name


def _note(title: Any, content: Any, severity: Any) -> tuple[str, str | None, str]:
    try:
        return as_note(title, content, severity)
    except (ValueError, TypeError):
        raise BadMessage(NOT_OURS) from None
