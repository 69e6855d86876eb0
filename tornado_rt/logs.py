"""Log lines: JSON on stderr, readable on a terminal; never a token."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import structlog
from tornado.web import RequestHandler

from tornado_rt.metrics import Metrics, method_label

log = structlog.get_logger(__name__)

# A line holds no more of what a client wrote.
SHOWN_PATH = 200
METHOD_LENGTH = 20


def configure_logging(level: str) -> None:
    """Log from this severity on, for the whole process."""
    readable = sys.stderr.isatty()
    # Tracebacks without locals, which may hold tokens.
    plain = structlog.dev.plain_traceback
    form: list[Any] = [structlog.dev.ConsoleRenderer(exception_formatter=plain)]
    if not readable:
        form = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            _describe_error,
            *form,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # What libraries say, through the standard library: from warnings on.
    logging.basicConfig(level=max(logging.getLevelName(level), logging.WARNING))


def _describe_error(_: object, __: str, event: structlog.typing.EventDict) -> Any:
    """Write out what failed. The `repr` of redis-py's errors leaves the reason out."""
    error = event.get("error")
    if isinstance(error, BaseException):
        event["error"] = f"{type(error).__name__}: {error}".removesuffix(": ")
    return event


def access_log(metrics: Metrics) -> Callable[[RequestHandler], None]:
    """Return what Tornado calls at the end of each request."""

    def record(handler: RequestHandler) -> None:
        request, status = handler.request, handler.get_status()
        metrics.requests.labels(method_label(request.method), str(status)).inc()
        # The query may hold a token or a ticket: only the path is logged.
        log.info(
            "request",
            method=(request.method or "")[:METHOD_LENGTH],
            path=request.path[:SHOWN_PATH],
            status=status,
            seconds=round(request.request_time(), 4),
        )

    return record
