"""Traces by OpenTelemetry, off by default: then nothing of it is imported, and all here do nothing.

As of log lines, there is one recorder a process: `opened` sets it, and code that has something to
record asks for it here. See docs/decisions/0020.
"""

import contextlib
import importlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol
from urllib.parse import unquote

import attrs

from settings import Settings, TracesTo
from tornado_rt.work.attempts.tracing import AttemptSpans, Carry, NoSpans, carry_nothing

Headers = Mapping[str, str]


class TracesUnavailable(ValueError):
    """Traces are asked for that cannot be recorded; the message says why."""


class Served(Protocol):
    """The span of a request."""

    def name_user(self, user_id: str) -> None:
        """Keep whose request it is, if the settings want that."""
        ...

    def end(self, status: int) -> None:
        """End it with the status of the answer; only the first time counts."""
        ...


class Call(Protocol):
    """A request of ours to another server; send it with these `headers`."""

    @property
    def headers(self) -> Headers:
        """The context that names its span."""
        ...

    def answered(self, status: int, error: str) -> None:
        """Keep the status of the answer, 0: none, and the type of the error, "": none."""
        ...


class Recorder(Protocol):
    """Records spans; its methods are the functions of this module."""

    def serving(self, request: Any, route: str, request_id: str) -> Served:
        """Begin the span of an HTTP request for the rest of this task."""
        ...

    def sending(
        self, destination: str, message_id: str, batch_id: str, count: int
    ) -> AbstractContextManager[Headers]:
        """Record that the block sends messages."""
        ...

    def calling(self, method: str, url: str) -> AbstractContextManager[Call]:
        """Record that the block asks another server."""
        ...

    def within(self, headers: Headers) -> AbstractContextManager[None]:
        """Let what the block records belong to a trace."""
        ...

    def attempt_spans(self, worker_id: str) -> AttemptSpans:
        """Return what records the attempts of a worker."""
        ...

    def ids(self) -> dict[str, str]:
        """Return the ids of the trace and the span of this moment."""
        ...


class _Here:
    """The tracer of this process; None: nothing is recorded."""

    recorder: Recorder | None = None


@attrs.frozen
class _NoCall:
    headers: Headers = attrs.field(factory=dict)

    def answered(self, status: int, error: str) -> None:
        """Do nothing."""


_no_headers: AbstractContextManager[Headers] = contextlib.nullcontext({})
_no_call: AbstractContextManager[Call] = contextlib.nullcontext(_NoCall())
_nothing: AbstractContextManager[None] = contextlib.nullcontext()


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[None]:
    """Record spans until the block ends, if the settings want that, and export them.

    What is not exported by then gets `traces_flush_seconds`. Raise TracesUnavailable.
    """
    if settings.tracing.traces is TracesTo.OFF:
        yield
        return
    export: Any = _module("export")
    async with export.exporting(settings) as recorder:
        before, _Here.recorder = _Here.recorder, recorder
        try:
            yield
        finally:
            _Here.recorder = before


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"{__package__}.{name}")
    except ModuleNotFoundError as error:
        raise TracesUnavailable(
            f"traces: {error.name} is not installed: pip install 'tornado-rt[traces]'"
        ) from None


def serving(request: Any, find_route: Callable[[], str], request_id: str) -> Served | None:
    """Begin the span of an HTTP request for the rest of this task; None when none is recorded.

    `find_route` returns the template of its address, "" for one that there is not.
    """
    recorder = _Here.recorder
    return None if recorder is None else recorder.serving(request, find_route(), request_id)


def template_of(path: str, arguments: Sequence[str], names: Sequence[str]) -> str:
    """Return a path with the names of its arguments in their places: `/api/tasks/{task_id}`.

    The arguments are parts of the path, in their order; those without a name are "id". Return ""
    for a path that does not have them: it would be a name of its own for each.
    """
    path = unquote(path)
    end, template = len(path), ""
    for number in reversed(range(len(arguments))):
        argument = arguments[number]
        start = path.rfind(argument, 0, end) if argument else end
        if start < 0:
            return ""
        name = names[number] if number < len(names) else "id"
        template = f"{{{name}}}{path[start + len(argument) : end]}{template}"
        end = start
    return path[:end] + template


def sending(
    destination: str, *, message_id: str = "", batch_id: str = "", count: int = 0
) -> AbstractContextManager[Headers]:
    """Record that the block sends a message, or `count` of a batch.

    Its value is what the messages carry to name this span; {} when none is recorded.
    """
    recorder = _Here.recorder
    if recorder is None:
        return _no_headers
    return recorder.sending(destination, message_id, batch_id, count)


def calling(method: str, url: str) -> AbstractContextManager[Call]:
    """Record that the block asks another server. Its value is told what came of it."""
    recorder = _Here.recorder
    return _no_call if recorder is None else recorder.calling(method, url)


def within(headers: Headers) -> AbstractContextManager[None]:
    """Let what the block records belong to the trace that these headers name, if they do."""
    recorder = _Here.recorder
    return _nothing if recorder is None else recorder.within(headers)


def attempt_spans(worker_id: str) -> AttemptSpans:
    """Return what records the attempts of a worker."""
    recorder = _Here.recorder
    return NoSpans() if recorder is None else recorder.attempt_spans(worker_id)


def carrying(settings: Settings) -> tuple[Carry, Sequence[str]]:
    """Return what makes the trace of a moment that of a process, and modules to have there.

    Raise TracesUnavailable.
    """
    if settings.tracing.traces is TracesTo.OFF:
        return carry_nothing, ()
    children: Any = _module("children")
    return children.ContextCarrier(settings.tracing.traces_flush_seconds), (children.__name__,)


def ids() -> dict[str, str]:
    """Return the ids of the trace and the span of this moment, for log lines; {} for none."""
    recorder = _Here.recorder
    return {} if recorder is None else recorder.ids()
