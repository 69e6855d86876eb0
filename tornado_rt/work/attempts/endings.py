"""The end of an attempt: a handler's result or error in the form that the queue can keep.

A handler is another's code. Its result and its errors are objects that may do anything when they
are looked at, so nothing here raises, and what is kept is plain, bounded text and JSON.
"""

import asyncio
import math
import traceback
from datetime import timedelta
from typing import Any

import attrs
import orjson

from tornado_rt.work import Retry, TaskError, clean_text
from tornado_rt.work.attempts.models import Outcome
from tornado_rt.work.kept import NotKept, as_kept
from tornado_rt.work.params.bounds import OutOfBounds
from tornado_rt.work.texts import stored_phrase
from tornado_rt.work.values import cut

MAX_ERROR_LENGTH = 2000
MOST_RETRY_SECONDS = 30 * 86400.0
# At most this many errors of a group are looked at.
MOST_LEAVES = 100
MOST_FRAMES = 30
MAX_TRACEBACK_LENGTH = 16_000
MAX_TRACEBACK_LINE = 1000


# Without slots it is made in half the time.
@attrs.frozen(slots=False)
class Ending:
    """The end of an attempt.

    `outcome`: None when the attempt is no longer this worker's. `delay`: seconds before another,
    None for the kind's own. `trace`: the traceback of an error that the author did not mean.
    `cancelled`: the handler ended itself by a cancellation.
    """

    outcome: Outcome | None
    result: Any = None
    error: str = ""
    delay: float | None = None
    trace: str = ""
    cancelled: bool = False


# The task is another's, or ended: the queue says so, never a handler. These two are told apart by
# their identity.
LOST = Ending(None)
# The worker stops: another goes on with the task.
HANDED_BACK = Ending(None, cancelled=True)


def failed(reason: str) -> Ending:
    """Return a final failure with this reason."""
    return Ending(Outcome.FAILED, error=reason)


def errored(reason: str) -> Ending:
    """Return a failure that may be tried again."""
    return Ending(Outcome.ERROR, error=reason)


def end_with_result(result: object, most_bytes: int, *, any_json: bool = False) -> Ending:
    """Return how an attempt ends that returned this; `most_bytes` 0 for any size.

    Without `any_json` a result is a JSON object, {} for None. It is copied: what the handler does
    to it later changes nothing.
    """
    try:
        return Ending(Outcome.COMPLETED, _keep(result, most_bytes, any_json))
    except NotKept as error:
        return failed(one_line(error))
    except BaseException as error:
        return failed(
            stored_phrase("the result cannot be read: {error}", error=text_of_error(error))
        )


def end_with_error(error: BaseException) -> Ending:
    """Return how an attempt ends that raised this."""
    try:
        return _judge(error)
    except BaseException:
        return errored(stored_phrase("the handler failed with an error that cannot be read"))


def text_of_error(error: BaseException) -> str:
    """Return an error in one line, with its type unless its author wrote it for the user."""
    name = clean_text(type(error).__name__, MAX_ERROR_LENGTH)
    text = one_line(error)
    if isinstance(error, asyncio.CancelledError):
        return text or stored_phrase("the handler was cancelled")
    if isinstance(error, TaskError | Retry | OutOfBounds):
        return text or name
    return cut(f"{name}: {text}", MAX_ERROR_LENGTH) if text else name


def one_line(value: object) -> str:
    """Return any object as one line of text that can be kept."""
    return " ".join(clean_text(value, MAX_ERROR_LENGTH).split())


def retry_seconds(delay: object) -> float | None:
    """Return a handler's delay in seconds. Raise ValueError or TypeError for what is none."""
    if delay is None:
        return None
    if isinstance(delay, bool | str | bytes):
        raise TypeError("it is no number of seconds")
    try:
        seconds = float(delay.total_seconds() if isinstance(delay, timedelta) else delay)  # type: ignore[arg-type]
    except OverflowError:
        seconds = math.inf if delay > 0 else 0.0  # type: ignore[operator]
    if math.isnan(seconds):
        raise ValueError("it is no number of seconds")
    return min(max(seconds, 0.0), MOST_RETRY_SECONDS)


def _keep(result: object, most_bytes: int, any_json: bool) -> Any:
    if result is None:
        return None if any_json else {}
    if not any_json and not isinstance(result, dict):
        raise NotKept(f"the result is a dict or None, not {type(result).__name__}")
    return orjson.loads(as_kept("the result", result, most_bytes))


def _judge(error: BaseException) -> Ending:
    leaves = _leaves(error)
    if all(isinstance(one, Retry) for one in leaves):
        return _again(leaves)
    if all(isinstance(one, TaskError) for one in leaves):
        return failed(text_of_error(leaves[0]))
    reason = text_of_error(error)
    if isinstance(error, BaseExceptionGroup):
        reason = cut(f"{reason}: {text_of_error(leaves[0])}", MAX_ERROR_LENGTH)
    cancelled = all(isinstance(one, asyncio.CancelledError) for one in leaves)
    return Ending(Outcome.ERROR, error=reason, trace=_trace(error), cancelled=cancelled)


def _again(retries: list[BaseException]) -> Ending:
    """Return a retry after the longest of the delays, the kind's own when one is none."""
    reason = text_of_error(retries[0])
    try:
        # A subclass may not have called our `__init__`.
        given = [retry_seconds(getattr(one, "delay", None)) for one in retries]
    except Exception as error:
        why = stored_phrase(
            "bad delay of a Retry: {error}; it said: {reason}",
            error=text_of_error(error),
            reason=reason,
        )
        return Ending(Outcome.RETRY, error=cut(why, MAX_ERROR_LENGTH))
    delays = [delay for delay in given if delay is not None]
    return Ending(Outcome.RETRY, error=reason, delay=max(delays) if delays else None)


def _leaves(error: BaseException) -> list[BaseException]:
    """Return what stands in a group, at any depth; of anything else, itself."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting and len(found) < MOST_LEAVES:
        one = waiting.pop()
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(reversed(one.exceptions))
        else:
            found.append(one)
    return found


def _trace(error: BaseException) -> str:
    try:
        return _format(error)
    except BaseException as fault:
        # For example a SyntaxError without a line number: its reason is told all the same.
        return f"no traceback: {text_of_error(fault)}"


def _format(error: BaseException) -> str:
    told = traceback.TracebackException.from_exception(
        error, limit=-MOST_FRAMES, max_group_width=5, max_group_depth=3
    )
    lines: list[str] = []
    length = 0
    for line in told.format():
        if length > MAX_TRACEBACK_LENGTH:
            lines.append("…\n")
            break
        lines.append(line[:MAX_TRACEBACK_LINE])
        length += len(lines[-1])
    return "".join(lines).encode(errors="replace").decode().rstrip("\n")
