"""Log lines: JSON on stderr, readable on a terminal; never a token."""

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from prometheus_client import Counter, Histogram

from tornado_rt import tracing
from tornado_rt.log_stream import LogStream
from tornado_rt.metrics import Metrics, method_label
from tornado_rt.work import clean_text

log = structlog.get_logger(__name__)

STDERR = 2
# The name of our lines in the log of an application that we are inside of.
HOST_LOGGER = "tornado_rt"
MAX_ERROR_LENGTH = 2000

# A line holds no more of what a client wrote.
SHOWN_PATH = 200
METHOD_LENGTH = 20


def configure_logging(level: str) -> None:
    """Log from this severity on, for the whole process.

    No call of a logger raises or waits, whatever is logged and whether it can be written.
    """
    readable = sys.stderr is not None and sys.stderr.isatty()
    stream = LogStream(STDERR)
    # Tracebacks without locals, which may hold tokens.
    plain = structlog.dev.plain_traceback
    form: list[Any] = [structlog.dev.ConsoleRenderer(exception_formatter=plain)]
    if not readable:
        form = [
            _add_process,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    gathered: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        _describe_error,
    ]
    structlog.configure(
        processors=[*gathered, *form],
        wrapper_class=_make_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),  # type: ignore[arg-type]
    )
    # Libraries log through the standard library: from warnings on, in the same form.
    formatter = structlog.stdlib.ProcessorFormatter
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        formatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *gathered],
            processors=[formatter.remove_processors_meta, *form],
        )
    )
    logging.basicConfig(level=max(logging.getLevelName(level), logging.WARNING), handlers=[handler])
    # It would print what a record cannot be written for.
    logging.raiseExceptions = False


def _host_logger(*_: Any) -> logging.Logger:
    return logging.getLogger(HOST_LOGGER)


class _Hosted:
    """The number of servers inside of applications of this process."""

    count = 0


@contextlib.contextmanager
def logging_in_host() -> Iterator[None]:
    """Log by the standard library's logger `tornado_rt`, until the last such block ends.

    An application that has configured structlog gets our lines by its own configuration.
    """
    if not structlog.is_configured():
        plain = structlog.dev.plain_traceback
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.contextvars.merge_contextvars,
                _add_trace,
                _describe_error,
                structlog.dev.ConsoleRenderer(
                    colors=False, pad_event_to=0, exception_formatter=plain
                ),
            ],
            wrapper_class=_make_logger("DEBUG"),
            logger_factory=_host_logger,
        )
    _Hosted.count += 1
    try:
        yield
    finally:
        _Hosted.count -= 1
        if not _Hosted.count and structlog.get_config()["logger_factory"] is _host_logger:
            structlog.reset_defaults()


def _make_logger(level: str) -> type[structlog.typing.FilteringBoundLogger]:
    base: Any = structlog.make_filtering_bound_logger(level)

    class Logger(base):  # type: ignore[misc]
        """Writes nothing of what cannot be told: an object's `repr` may raise."""

        def _proxy_to_logger(self, method_name: str, event: Any = None, **fields: Any) -> Any:
            try:
                return super()._proxy_to_logger(method_name, event, **fields)
            except Exception as error:
                unsaid = type(error).__name__
            with contextlib.suppress(Exception):
                super()._proxy_to_logger(method_name, event, unsaid=unsaid)
            return None

    logger: type[structlog.typing.FilteringBoundLogger] = Logger
    return logger


def _describe_error(_: object, __: str, event: structlog.typing.EventDict) -> Any:
    """Write out what failed. The `repr` of redis-py's errors leaves the reason out."""
    error = event.get("error")
    if isinstance(error, BaseException):
        text = clean_text(error, MAX_ERROR_LENGTH)
        event["error"] = f"{type(error).__name__}: {text}".removesuffix(": ")
    return event


def _add_trace(_: object, __: str, event: structlog.typing.EventDict) -> Any:
    """Name the trace and the span that the line belongs to, where some are recorded."""
    event.update(tracing.ids())
    return event


def _add_process(_: object, __: str, event: structlog.typing.EventDict) -> Any:
    event["pid"] = os.getpid()
    return event


def access_log(metrics: Metrics) -> Callable[[Any], None]:
    """Return what Tornado calls at the end of each request, with its `BaseHandler`."""

    # There are few, and to look one up costs as much as to count.
    @functools.cache
    def counter(method: str, status: int) -> Counter:
        return metrics.requests.labels(method, str(status))

    @functools.cache
    def histogram(method: str) -> Histogram:
        return metrics.request_seconds.labels(method)

    # Bound once: a logger that is looked up makes a new one for each line.
    told = log.bind()

    def record(handler: Any) -> None:
        request, status = handler.request, handler.get_status()
        method, seconds = method_label(request.method), request.request_time()
        counter(method, status).inc()
        histogram(method).observe(seconds)
        line = told.debug if handler.is_probe else told.info
        identity = handler.current_user
        # The query may hold a token or a ticket: only the path is logged.
        line(
            "request",
            request_id=handler.request_id,
            user_id=None if identity is None else identity.user_id,
            address=request.remote_ip,
            method=(request.method or "")[:METHOD_LENGTH],
            path=request.path[:SHOWN_PATH],
            status=status,
            seconds=round(seconds, 4),
        )

    return record
