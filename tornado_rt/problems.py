"""Errors as clients see them: RFC 9457 problem documents, and which error is which problem."""

import http
from collections.abc import Mapping
from typing import Any

import orjson
import structlog
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError
from tornado.web import HTTPError

from tornado_rt.auth import AuthError
from tornado_rt.backplane import BackplaneDown
from tornado_rt.census import TooManyConnections
from tornado_rt.keys import KeysUnavailable
from tornado_rt.locales import ENGLISH, Words
from tornado_rt.redis import is_full
from tornado_rt.work.texts import Text, msgid, phrase

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1
# The titles of problems, and details where nothing more is known (RFC 9110 section 15).
TITLES = {
    400: msgid("Bad Request"),
    401: msgid("Unauthorized"),
    403: msgid("Forbidden"),
    404: msgid("Not Found"),
    405: msgid("Method Not Allowed"),
    408: msgid("Request Timeout"),
    409: msgid("Conflict"),
    411: msgid("Length Required"),
    413: msgid("Request Entity Too Large"),
    414: msgid("Request-URI Too Long"),
    415: msgid("Unsupported Media Type"),
    416: msgid("Requested Range Not Satisfiable"),
    422: msgid("Unprocessable Entity"),
    426: msgid("Upgrade Required"),
    429: msgid("Too Many Requests"),
    431: msgid("Request Header Fields Too Large"),
    500: msgid("Internal Server Error"),
    503: msgid("Service Unavailable"),
}
DESCRIPTIONS = {
    400: msgid("Bad request syntax or unsupported method"),
    403: msgid("Request forbidden -- authorization will not help"),
    404: msgid("Nothing matches the given URI"),
    405: msgid("Specified method is invalid for this resource"),
}
STORE_ERRORS = (RedisError, PyMongoError, BackplaneDown, OSError)
# A log line holds no more of what a client wrote.
SHOWN_PATH = 200


class Problem(HTTPError):
    """An error answer: `application/problem+json` (RFC 9457); `more` has members of its own."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: list[str] | None = None,
        retry_after: float | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status, reason=http.HTTPStatus(status).phrase)
        self.detail = detail
        self.errors = errors
        self.more = more or {}
        self.retry_after = retry_after

    @property
    def retry_after_seconds(self) -> str:
        """The value of `Retry-After`: whole seconds, at least one."""
        return str(max(1, round(self.retry_after or 0)))

    def document(self, words: Words = ENGLISH) -> bytes:
        """Return the problem document as JSON, in a language."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": words.say(title_of(self.status_code)),
            "status": self.status_code,
            "detail": words.say(self.detail),
        }
        errors = {"errors": [words.say(one) for one in self.errors]} if self.errors else {}
        return orjson.dumps({**document, **errors, **self.more})


def title_of(status: int) -> Text:
    """Return the title of the problems of a status."""
    return Text(TITLES.get(status) or http.HTTPStatus(status).phrase)


def problem_of(
    error: BaseException | None, statuses: Mapping[type[BaseException], int], status: int = 500
) -> Problem:
    """Translate an error; `statuses` has those of the services, `status` is that of any other."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPError):
        status = error.status_code
        reason = DESCRIPTIONS.get(status) or http.HTTPStatus(status).description
        return Problem(status, error.get_message() or Text(reason))
    if error is not None and is_full(error):
        detail = phrase("Redis is full: nothing more can be stored until something goes")
        return Problem(503, detail, retry_after=RETRY_AFTER_SECONDS)
    if isinstance(error, STORE_ERRORS):
        detail = phrase("a store does not answer; try again")
        return Problem(503, detail, retry_after=RETRY_AFTER_SECONDS)
    if isinstance(error, KeysUnavailable):
        return Problem(503, str(error), retry_after=RETRY_AFTER_SECONDS)
    if isinstance(error, AuthError):
        return Problem(401, str(error))
    if isinstance(error, TooManyConnections):
        return Problem(429, str(error), retry_after=RETRY_AFTER_SECONDS)
    for kind, mapped in statuses.items():
        if isinstance(error, kind):
            return _problem_of_service(mapped, error)
    return Problem(status, title_of(status))


def _problem_of_service(status: int, error: BaseException) -> Problem:
    """Translate an error of a service: it may say when to come again, what is wrong, or more."""
    retry_after, more = getattr(error, "retry_after", None), getattr(error, "more", None)
    if faults := getattr(error, "faults", None):
        return Problem(status, phrase("the body is not valid"), errors=faults)
    return Problem(status, str(error), retry_after=retry_after, more=more)


def log_problem(problem: Problem, error: BaseException, **where: str) -> None:
    """Log a fault of the server, with its traceback; not one of the caller."""
    where = {name: text[:SHOWN_PATH] for name, text in where.items()}
    if problem.status_code == 500:
        log.error("request_failed", exc_info=error, **where)
    elif problem.status_code == 503:
        log.warning("request_refused", error=error, **where)
